{{/* A value of TOML on one line. Numbers and texts are the same in JSON. */}}
{{- define "cim-gateway.toml.value" -}}
{{- $parts := list }}
{{- if kindIs "slice" . }}
{{- range . }}{{ $parts = append $parts (include "cim-gateway.toml.value" .) }}{{ end -}}
[{{ join ", " $parts }}]
{{- else if kindIs "map" . }}
{{- range $key, $value := . }}
{{- $parts = append $parts (printf "%s = %s" (toJson $key) (include "cim-gateway.toml.value" $value)) }}
{{- end -}}
{ {{- join ", " $parts -}} }
{{- else }}{{ toJson . }}{{ end }}
{{- end }}

{{/* A table of TOML: first its own keys, then its tables. Takes `table` and the `path` to it. */}}
{{- define "cim-gateway.toml" -}}
{{- $path := .path }}
{{- range $key, $value := .table }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ $key }} = {{ include "cim-gateway.toml.value" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .table }}
{{- if kindIs "map" $value }}
{{- $below := append $path $key }}

[{{ join "." $below }}]
{{- include "cim-gateway.toml" (dict "table" $value "path" $below) }}
{{- end }}
{{- end }}
{{- end }}
