{{/* The gateway's settings: those of the values, and those that follow from what is around the gateway. */}}
{{- define "cim-gateway.config" -}}
{{- $own := dict
  "grpc" (dict "listen" (printf "%s:50051" .Values.listenAddress))
  "http" (dict "listen" (printf "%s:8080" .Values.listenAddress))
  "auth" (dict "insecure" true)
}}
{{- if .Values.auth.existingSecret }}
{{- $keys := printf "%s/%s" (include "cim-gateway.keysFolder" .) .Values.auth.secretEntry }}
{{- $_ := set $own "auth" (dict "keys_file" $keys "cleartext" .Values.auth.cleartext) }}
{{- end }}
{{- if .Values.tls.existingSecret }}
{{- $folder := include "cim-gateway.tlsFolder" . }}
{{- $tls := dict "certificate" (printf "%s/tls.crt" $folder) "key" (printf "%s/tls.key" $folder) }}
{{- if .Values.tls.clientCa }}
{{- $_ := set $tls "client_ca" (printf "%s/ca.crt" $folder) }}
{{- end }}
{{- $_ := set $own "tls" $tls }}
{{- end }}
{{- if eq .Values.config.store.engine "embedded" }}
{{- $_ := set $own "store" (dict "embedded" (dict "data_dir" (include "cim-gateway.dataDir" .))) }}
{{- end }}
{{- include "cim-gateway.toml" (dict "path" list "table" (mergeOverwrite (deepCopy .Values.config) $own)) | trim }}
{{- end }}
