{{/* Full name of the release's objects. Names of pods and claims are built on it, so it is kept short. */}}
{{- define "hearth.name" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{/* Labels of every object; takes a dict of root and role, which may be missing. */}}
{{- define "hearth.labels" -}}
{{- $labels := include "hearth.selector" . | fromYaml -}}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") -}}
{{- $_ := set $labels "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $_ := set $labels "app.kubernetes.io/part-of" .root.Chart.Name -}}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- merge $labels .root.Values.commonLabels | toYaml -}}
{{- end -}}

{{/* Labels that select a role's pods, or without a role those of the whole release. */}}
{{- define "hearth.selector" -}}
app.kubernetes.io/name: {{ .root.Values.nameOverride | default .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .role }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* The roles that run, with blanks between them. */}}
{{- define "hearth.running" -}}
{{- range $role := list "gateway" "bridge" "engine" "optimizer" "controller" "api" "demo" -}}
{{- if (index $.Values.roles $role).enabled }}{{ $role }} {{ end -}}
{{- end -}}
{{- end -}}

{{/* The role that serves console and API. */}}
{{- define "hearth.console" -}}
{{ ternary "demo" "api" .Values.roles.demo.enabled }}
{{- end -}}

{{- define "hearth.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "hearth.name" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "hearth.image" -}}
{{- $image := .Values.image -}}
{{- with .Values.global.imageRegistry | default $image.registry }}{{ . }}/{{ end -}}
{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}
