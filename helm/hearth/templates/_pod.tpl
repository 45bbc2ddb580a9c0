{{/* Variables of a container, each name once: the chart's own, then `env`, the role's `env`, and `extraEnv` of both. Takes
a dict of root, role and own (the role's own values). */}}
{{- define "hearth.env" -}}
{{- $values := .root.Values -}}
{{- $all := dict
  "HEARTH_CONFIG" (dict "value" "/etc/hearth/hearth.toml")
  "HEARTH_OPERATION__LOG_FORMAT" (dict "value" "json")
  "HEARTH_OPERATION__DRAIN_S_MAX" (dict "value" (toString $values.drainSeconds))
  "HEARTH_HTTP__LISTEN" (dict "value" (printf "0.0.0.0:%v" $values.ports.http)) -}}
{{- if eq .role "gateway" -}}
{{- $_ := set $all "HEARTH_GATEWAY__LISTEN" (dict "value" (printf "0.0.0.0:%v" $values.ports.mqtt)) -}}
{{- $_ := set $all "HEARTH_GATEWAY__AUTH" (dict "value" "mtls") -}}
{{- $_ := set $all "HEARTH_GATEWAY__CERT_FILE" (dict "value" "/etc/hearth/tls/tls.crt") -}}
{{- $_ := set $all "HEARTH_GATEWAY__KEY_FILE" (dict "value" "/etc/hearth/tls/tls.key") -}}
{{- $_ := set $all "HEARTH_GATEWAY__CLIENT_CA_FILE" (dict "value" "/etc/hearth/tls/ca.crt") -}}
{{- end -}}
{{- if has .role (list "gateway" "bridge") -}}
{{- $_ := set $all "HEARTH_INGEST__SPOOL_DIR" (dict "value" "/var/lib/hearth/spool") -}}
{{- end -}}
{{- if eq .role "bridge" -}}
{{- /* The broker keeps a session for it, which a restarted pod takes up again. */ -}}
{{- $_ := set $all "HEARTH_BRIDGE__MQTT__CLIENT_ID" (dict "value" (printf "%s.$(POD_NAME)" .root.Release.Namespace)) -}}
{{- end -}}
{{- if has .role (list "engine" "controller") -}}
{{- $_ := set $all (printf "HEARTH_%s__MEMBER" (upper .role)) (dict "value" "$(POD_NAME)") -}}
{{- end -}}
{{- range $values.secrets -}}
{{- $_ := set $all (printf "%s_FILE" .variable) (dict "value" (printf "/etc/hearth/secrets/%s" .variable)) -}}
{{- end -}}
{{- range $env := list $values.env (.own.env | default dict) -}}
{{- range $name, $value := $env -}}
{{- /* Numbers of values are floats, which would print as 1e+06. */ -}}
{{- $whole := and (kindIs "float64" $value) (eq (floor $value) $value) -}}
{{- $_ := set $all $name (dict "value" (toString (ternary (int64 $value) $value $whole))) -}}
{{- end -}}
{{- end -}}
{{- range concat $values.extraEnv (.own.extraEnv | default list) -}}
{{- $_ := set $all .name (omit . "name") -}}
{{- end -}}
{{- /* Others refer to it, so it stands first. */ -}}
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
{{- range $name, $entry := omit $all "POD_NAME" }}
- name: {{ $name }}
  {{- toYaml $entry | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What every container has; takes the same. */}}
{{- define "hearth.container" -}}
image: {{ include "hearth.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: { drop: [ALL] }
env:
  {{- include "hearth.env" . | nindent 2 }}
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

{{/* What every pod has. Takes also config (name of the ConfigMap), account, and claimed (whether the state's volume comes
from a claim). */}}
{{- define "hearth.pod" -}}
{{- $values := .root.Values -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with concat ($values.global.imagePullSecrets | default list) $values.imagePullSecrets | uniq }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  seccompProfile: { type: RuntimeDefault }
  {{- with $values.podSecurityContext }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .own.priorityClassName | default $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .own.nodeSelector | default $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.tolerations | default $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.affinity | default $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: config
    {{- if $values.configSecret }}
    secret: { secretName: {{ $values.configSecret }} }
    {{- else }}
    configMap: { name: {{ .config }} }
    {{- end }}
  {{- range $values.secrets }}
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
  {{- with $values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
