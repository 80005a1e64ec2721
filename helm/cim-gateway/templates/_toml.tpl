{{/* A table of TOML: first its own keys, then its tables. Takes `table` and the `path` to it. Numbers, texts and lists of texts are the
     same in JSON. */}}
{{- define "cim-gateway.toml" -}}
{{- $path := .path }}
{{- range $key, $value := .table }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ $key }} = {{ toJson $value }}
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
