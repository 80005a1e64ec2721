{{/* Where the keys of clients are. Always a folder: a file that is mounted alone stays as it is when its Secret changes. */}}
{{- define "cim-gateway.keysFolder" -}}/run/cim-gateway/keys{{- end }}

{{/* Where the gateway's certificate is. */}}
{{- define "cim-gateway.tlsFolder" -}}/run/cim-gateway/tls{{- end }}

{{/* Where that is what the chart's own calls need: the authority of the gateway's certificate, and a certificate to show. */}}
{{- define "cim-gateway.clientFolder" -}}/run/cim-gateway/client{{- end }}

{{/* The Secret that has it. */}}
{{- define "cim-gateway.clientSecret" -}}
{{- default .Values.tls.existingSecret .Values.tls.clientSecret }}
{{- end }}

{{/* What the gateway's certificate is good for. */}}
{{- define "cim-gateway.serverName" -}}
{{- printf "%s.%s.svc" (include "cim-gateway.fullname" .) .Release.Namespace }}
{{- end }}

{{/* What a side of the Service speaks; takes `root` and `side`. */}}
{{- define "cim-gateway.appProtocol" -}}
{{- $usual := ternary "https" .side (ne .root.Values.tls.existingSecret "") }}
{{- default $usual (index .root.Values.service .side).appProtocol }}
{{- end }}

{{/* How a Prometheus asks the gateway; takes `root` and `monitor`. */}}
{{- define "cim-gateway.scraped" -}}
port: http
path: /metrics
{{- with .monitor.interval }}
interval: {{ . }}
{{- end }}
{{- if .root.Values.tls.existingSecret }}
scheme: https
tlsConfig:
  {{- if .monitor.tlsConfig }}
  {{- toYaml .monitor.tlsConfig | nindent 2 }}
  {{- else }}
  {{- $secret := include "cim-gateway.clientSecret" .root }}
  serverName: {{ include "cim-gateway.serverName" .root }}
  ca:
    secret: {name: {{ $secret }}, key: ca.crt}
  {{- if .root.Values.tls.clientCa }}
  cert:
    secret: {name: {{ $secret }}, key: tls.crt}
  keySecret: {name: {{ $secret }}, key: tls.key}
  {{- end }}
  {{- end }}
{{- end }}
{{- end }}
