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

{{/* Numbers come as floating point out of YAML, where TOML wants integers. Texts and lists of texts are the same in JSON. */}}
{{- define "cim-gateway.toml.value" -}}
{{- if kindIs "float64" . }}{{ int64 . }}{{ else }}{{ toJson . }}{{ end }}
{{- end }}
