{{- define "accumulus.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The release's name if it contains the chart's, else both. */}}
{{- define "accumulus.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "accumulus.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "accumulus.selector" -}}
app.kubernetes.io/name: {{ include "accumulus.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "accumulus.labels" -}}
{{ include "accumulus.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/component: leader
app.kubernetes.io/part-of: accumulus
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "accumulus.grafana" -}}
{{- printf "%s-grafana" (include "accumulus.fullname" . | trunc 48 | trimSuffix "-") -}}
{{- end -}}

{{- define "accumulus.grafanaSelector" -}}
app.kubernetes.io/name: {{ include "accumulus.name" . | trunc 55 | trimSuffix "-" }}-grafana
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "accumulus.grafanaLabels" -}}
{{ include "accumulus.grafanaSelector" . }}
app.kubernetes.io/component: grafana
app.kubernetes.io/part-of: accumulus
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "accumulus.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "accumulus.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "accumulus.image" -}}
{{- include "accumulus.imageOf" (list .Values.image .Chart.AppVersion) -}}
{{- end -}}

{{/* The name of an image, of (list image tag), the tag for where it has none. */}}
{{- define "accumulus.imageOf" -}}
{{- $image := index . 0 -}}
{{- $name := $image.repository -}}
{{- if $image.registry -}}{{- $name = printf "%s/%s" $image.registry $image.repository -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default (index . 1) $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "accumulus.claim" -}}
{{- default (include "accumulus.fullname" .) .Values.persistence.existingClaim -}}
{{- end -}}

{{- define "accumulus.tokens" -}}
{{- default (printf "%s-tokens" (include "accumulus.fullname" .)) .Values.tokens.existingSecret -}}
{{- end -}}

{{- define "accumulus.initial" -}}
{{- if .Values.initial.existingConfigMap -}}
{{- .Values.initial.existingConfigMap -}}
{{- else if or .Values.initial.priceList.enabled .Values.initial.objects -}}
{{- printf "%s-initial" (include "accumulus.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "accumulus.scheme" -}}
{{- ternary "https" "http" (not (empty .Values.tls.existingSecret)) -}}
{{- end -}}

{{/* A probe, of (list root probe). */}}
{{- define "accumulus.probe" -}}
{{- $probe := index . 1 -}}
httpGet:
  path: {{ $probe.path }}
  port: http
  scheme: {{ include "accumulus.scheme" (index . 0) | upper }}
periodSeconds: {{ $probe.periodSeconds }}
timeoutSeconds: {{ $probe.timeoutSeconds }}
failureThreshold: {{ $probe.failureThreshold }}
{{- end -}}

{{/* The access file; empty where nothing of it is given. */}}
{{- define "accumulus.access" -}}
{{- $given := dict }}
{{- range $name, $value := .Values.access }}
{{- if $value }}
{{- $_ := set $given $name $value }}
{{- end }}
{{- end }}
{{- if $given }}
{{- toYaml $given }}
{{- end }}
{{- end }}

{{/* Whether the pod speaks with the API server of its own cluster. */}}
{{- define "accumulus.inCluster" -}}
{{- if or .Values.follower.local .Values.access.kubernetes }}true{{ end }}
{{- end }}
