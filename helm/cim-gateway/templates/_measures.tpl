{{/* Seconds of a time with units, such as "1m 30s", rounded up. */}}
{{- define "cim-gateway.seconds" -}}
{{- $units := dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 }}
{{- $seconds := 0.0 }}
{{- range regexFindAll "[0-9]+ ?(ms|s|m|h)" . -1 }}
{{- $number := regexFind "^[0-9]+" . }}
{{- $unit := regexFind "[a-z]+$" . }}
{{- $seconds = addf $seconds (mulf (float64 $number) (get $units $unit)) }}
{{- end }}
{{- ceil $seconds | int64 }}
{{- end }}

{{/* Bytes of a size with units, such as "256 MiB" of the gateway and "1Gi" or "500M" of Kubernetes. */}}
{{- define "cim-gateway.bytes" -}}
{{- $units := dict "" 1 "b" 1 "k" 1000 "m" 1000000 "g" 1000000000 "t" 1000000000000 "ki" 1024 "mi" 1048576 "gi" 1073741824 "ti" 1099511627776 }}
{{- $text := toString . }}
{{- $number := regexFind "^[0-9.]+" $text }}
{{- $unit := regexFind "[A-Za-z]*$" $text | lower }}
{{- mulf (float64 $number) (get $units (trimSuffix "b" $unit)) | int64 }}
{{- end }}
