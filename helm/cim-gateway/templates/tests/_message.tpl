{{/* Id of the message that `helm test` sends: one for each revision, so that a test that is run again sends a repeat. */}}
{{- define "cim-gateway.testMessageId" -}}
helm-test-{{ .Release.Name }}-{{ .Release.Revision }}
{{- end }}

{{/* What both containers of the test have in common. */}}
{{- define "cim-gateway.testContainer" -}}
image: {{ include "cim-gateway.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
env:
  - name: CIM_SERVER
    value: http://{{ include "cim-gateway.fullname" . }}:{{ .Values.service.grpc.port }}
resources:
  requests: {cpu: 50m, memory: 32Mi, ephemeral-storage: 16Mi}
  limits: {cpu: 200m, memory: 64Mi, ephemeral-storage: 16Mi}
{{- end }}
