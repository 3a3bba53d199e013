{{- define "videre.name" -}}
{{- /* Not only "videre": its variables (VIDERE_PORT) would be ours. */ -}}
{{- if contains "videre" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-videre{{ end -}}
{{- end }}

{{- define "videre.selector" -}}
app.kubernetes.io/name: videre
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "videre.labels" -}}
{{ include "videre.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "videre.prefixes" -}}
{{- $prefix := ternary .Values.config.Prefix "/echo" (hasKey .Values.config "Prefix") -}}
{{- if kindIs "string" $prefix }}{{ list $prefix | toJson }}{{ else }}{{ $prefix | toJson }}{{ end -}}
{{- end }}

{{- define "videre.check" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.engine.secretName) (not (hasPrefix "redis" (.Values.config.Engine | default ""))) (not (hasPrefix "valkey" (.Values.config.Engine | default ""))) -}}
{{- fail "several replicas need an Engine (a Valkey or Redis) to share rooms: set engine.secretName or config.Engine, or replicas to 1" -}}
{{- end -}}
{{- range list "Port" "LogFormat" "DrainSeconds" "AdminPort" "AdminHost" "AdminToken" "AdminTokenFile" "AdminTokenVariable" "Workers" "LogFile" -}}
{{- if hasKey $.Values.config . -}}
{{- fail (printf "config.%s: the chart sets it; see the values above and below config" .) -}}
{{- end -}}
{{- end -}}
{{- if .Values.config.TLS -}}
{{- fail "config.TLS: the probes and the Service speak plain HTTP; end TLS at the gateway" -}}
{{- end -}}
{{- if and .Values.admin.enabled (not .Values.admin.tokenSecretName) -}}
{{- fail "admin.enabled needs admin.tokenSecretName: others can reach the pod" -}}
{{- end -}}
{{- if and .Values.admin.podMonitor.enabled (not .Values.admin.enabled) -}}
{{- fail "admin.podMonitor.enabled needs admin.enabled" -}}
{{- end -}}
{{- if and .Values.route.enabled (not .Values.route.parentRefs) -}}
{{- fail "route.enabled needs route.parentRefs: the gateways" -}}
{{- end -}}
{{- end }}
