{{/* What every container has: image, security, configuration, secrets. Takes a dict of root, role, config (name of the
ConfigMap) and own (the role's own values). */}}
{{- define "hearth.container" -}}
image: {{ include "hearth.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [{{ .role }}]
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
env:
  - name: HEARTH_CONFIG
    value: /etc/hearth/hearth.toml
  - name: HEARTH_OPERATION__LOG_FORMAT
    value: json
  - name: HEARTH_HTTP__LISTEN
    value: 0.0.0.0:{{ .root.Values.ports.http }}
  {{- if eq .role "gateway" }}
  - name: HEARTH_GATEWAY__LISTEN
    value: 0.0.0.0:{{ .root.Values.ports.mqtt }}
  - name: HEARTH_GATEWAY__AUTH
    value: mtls
  - name: HEARTH_GATEWAY__CERT_FILE
    value: /etc/hearth/tls/tls.crt
  - name: HEARTH_GATEWAY__KEY_FILE
    value: /etc/hearth/tls/tls.key
  - name: HEARTH_GATEWAY__CLIENT_CA_FILE
    value: /etc/hearth/tls/ca.crt
  {{- end }}
  {{- if or (eq .role "gateway") (eq .role "bridge") }}
  - name: HEARTH_INGEST__SPOOL_DIR
    value: /var/lib/hearth/spool
  {{- end }}
  {{- if or (eq .role "engine") (eq .role "controller") }}
  - name: HEARTH_{{ upper .role }}__MEMBER
    valueFrom:
      fieldRef: { fieldPath: metadata.name }
  {{- end }}
  {{- range .root.Values.secrets }}
  - name: {{ .variable }}_FILE
    value: /etc/hearth/secrets/{{ .variable }}
  {{- end }}
  {{- range $name, $value := merge (dict) (.own.env | default dict) .root.Values.env }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
volumeMounts:
  - name: config
    mountPath: /etc/hearth/hearth.toml
    subPath: hearth.toml
    readOnly: true
  {{- range .root.Values.secrets }}
  - name: {{ include "hearth.secretVolume" . }}
    mountPath: /etc/hearth/secrets/{{ .variable }}
    subPath: value
    readOnly: true
  {{- end }}
  {{- if .own.tlsSecret }}
  - name: tls
    mountPath: /etc/hearth/tls
    readOnly: true
  {{- end }}
  - name: state
    mountPath: /var/lib/hearth
  {{- with .root.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "hearth.secretVolume" -}}
secret-{{ .variable | lower | replace "_" "-" | trunc -50 | trimPrefix "-" }}
{{- end -}}

{{/* What every pod has. */}}
{{- define "hearth.pod" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: config
    {{- if .root.Values.configSecret }}
    secret: { secretName: {{ .root.Values.configSecret }} }
    {{- else }}
    configMap: { name: {{ .config }} }
    {{- end }}
  {{- range .root.Values.secrets }}
  - name: {{ include "hearth.secretVolume" . }}
    secret:
      secretName: {{ .secret }}
      items: [{ key: {{ .key | quote }}, path: value }]
  {{- end }}
  {{- with .own.tlsSecret }}
  - name: tls
    secret: { secretName: {{ . }} }
  {{- end }}
  {{- if not .claimed }}
  - name: state
    emptyDir: {}
  {{- end }}
  {{- with .root.Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
