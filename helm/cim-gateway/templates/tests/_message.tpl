{{/* Id of the message that `helm test` sends: one for each revision, so that a test that is run again sends a repeat. */}}
{{- define "cim-gateway.testMessageId" -}}
helm-test-{{ .Release.Name }}-{{ .Release.Revision }}
{{- end }}

{{/* Says yes if the test may send and read. */}}
{{- define "cim-gateway.testSends" -}}
{{- if or (not .Values.auth.existingSecret) .Values.auth.testKeySecret }}yes{{ end }}
{{- end }}

{{/* What the containers of the test have in common; takes `root`, and the `mounts` that a container has of its own. */}}
{{- define "cim-gateway.testContainer" -}}
{{- $tls := .root.Values.tls }}
{{- $folder := include "cim-gateway.clientFolder" .root }}
{{- with .root -}}
image: {{ include "cim-gateway.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
env:
  - name: CIM_SERVER
    {{- if $tls.existingSecret }}
    value: https://{{ include "cim-gateway.serverName" . }}:{{ .Values.service.grpc.port }}
  - name: CIM_CA_FILE
    value: {{ $folder }}/ca.crt
    {{- else }}
    value: http://{{ include "cim-gateway.fullname" . }}:{{ .Values.service.grpc.port }}
    {{- end }}
  {{- if $tls.clientCa }}
  - name: CIM_CLIENT_CERTIFICATE
    value: {{ $folder }}/tls.crt
  - name: CIM_CLIENT_KEY
    value: {{ $folder }}/tls.key
  {{- end }}
  {{- with .Values.auth.testKeySecret }}
  - name: CIM_API_KEY
    valueFrom:
      secretKeyRef: {name: {{ . }}, key: key}
  {{- end }}
resources:
  requests: {cpu: 50m, memory: 32Mi, ephemeral-storage: 16Mi}
  limits: {cpu: 200m, memory: 64Mi, ephemeral-storage: 16Mi}
{{- end }}
{{- if or $tls.existingSecret .mounts }}
volumeMounts:
  {{- if $tls.existingSecret }}
  - name: client
    mountPath: {{ $folder }}
    readOnly: true
  {{- end }}
  {{- range $name, $path := .mounts }}
  - name: {{ $name }}
    mountPath: {{ $path }}
    readOnly: true
  {{- end }}
{{- end }}
{{- end }}
