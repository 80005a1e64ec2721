{{/* The gateway's settings: those of the values, and those that follow from what is around the gateway. */}}
{{- define "cim-gateway.config" -}}
{{- $own := dict
  "grpc" (dict "listen" (printf "%s:50051" .Values.listenAddress))
  "http" (dict "listen" (printf "%s:8080" .Values.listenAddress))
  "auth" (dict "insecure" true)
}}
{{- if eq .Values.config.store.engine "embedded" }}
{{- $_ := set $own "store" (dict "embedded" (dict "data_dir" (include "cim-gateway.dataDir" .))) }}
{{- end }}
{{- include "cim-gateway.toml" (dict "path" list "table" (mergeOverwrite (deepCopy .Values.config) $own)) | trim }}
{{- end }}
