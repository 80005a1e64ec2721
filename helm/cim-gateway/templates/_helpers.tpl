{{/* Name of the chart in labels. */}}
{{- define "cim-gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of what the chart makes; cut so that `-headless` and the StatefulSet's suffixes still fit into 63 characters. */}}
{{- define "cim-gateway.fullname" -}}
{{- $name := include "cim-gateway.name" . }}
{{- if .Values.fullnameOverride }}
{{- $name = .Values.fullnameOverride }}
{{- else if not (contains $name .Release.Name) }}
{{- $name = printf "%s-%s" .Release.Name $name }}
{{- else }}
{{- $name = .Release.Name }}
{{- end }}
{{- $name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* Labels of everything. */}}
{{- define "cim-gateway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "cim-gateway.release" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What tells this release from others. */}}
{{- define "cim-gateway.release" -}}
app.kubernetes.io/name: {{ include "cim-gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* What selects the gateway's own pods, and not those of `helm test`. */}}
{{- define "cim-gateway.selector" -}}
{{ include "cim-gateway.release" . }}
app.kubernetes.io/component: gateway
{{- end }}

{{- define "cim-gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "cim-gateway.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "cim-gateway.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* Where the volume is. */}}
{{- define "cim-gateway.volume" -}}/var/lib/cim-gateway{{- end }}

{{/* Where the gateway keeps its files: a folder of its own, for a volume may come with others in it. */}}
{{- define "cim-gateway.dataDir" -}}{{ include "cim-gateway.volume" . }}/data{{- end }}

{{/* What of the HTTP side is for clients outside, in JSON: what its contract has, and not /metrics. */}}
{{- define "cim-gateway.paths" -}}
["/ccm", "/cim-messages", "/message", "/v1", "/openapi.json", "/healthz", "/readyz"]
{{- end }}
