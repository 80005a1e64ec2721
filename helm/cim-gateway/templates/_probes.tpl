{{/*
A question of the kubelet; takes `root`, the `service` of grpc.health.v1 to ask about, and the `path` that answers the same. The kubelet
asks by gRPC in plain text only, and shows no certificate: where it would have to, the gateway's own executable asks.
*/}}
{{- define "cim-gateway.question" -}}
{{- if not .root.Values.tls.existingSecret -}}
grpc:
  port: 50051
  {{- with .service }}
  service: {{ . }}
  {{- end }}
{{- else if not .root.Values.tls.clientCa -}}
httpGet:
  path: {{ .path }}
  port: http
  scheme: HTTPS
{{- else -}}
{{- $folder := include "cim-gateway.clientFolder" .root -}}
exec:
  command:
    - /cim-gateway
    - health
    - --server=https://127.0.0.1:50051
    - --server-name={{ include "cim-gateway.serverName" .root }}
    - --ca-file={{ $folder }}/ca.crt
    - --client-certificate={{ $folder }}/tls.crt
    - --client-key={{ $folder }}/tls.key
    {{- with .service }}
    - --service={{ . }}
    {{- end }}
{{- end }}
{{- end }}
