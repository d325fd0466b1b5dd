{{- define "konigle-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* So short that the Service has room for its ending. */}}
{{- define "konigle-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 55 | trimSuffix "-" }}
{{- else }}
{{- $name := include "konigle-operator.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 55 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 55 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "konigle-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "konigle-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "konigle-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "konigle-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "konigle-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "konigle-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: name the ServiceAccount to use, for serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "konigle-operator.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag }}
{{- .Values.image.repository }}:{{ $tag }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "konigle-operator.leaseName" -}}
{{- default (include "konigle-operator.fullname" .) .Values.leaderElection.leaseName }}
{{- end }}

{{- define "konigle-operator.leaseNamespace" -}}
{{- default .Release.Namespace .Values.leaderElection.leaseNamespace }}
{{- end }}

{{/* A size as the operator reads it, such as 4GiB, in bytes. */}}
{{- define "konigle-operator.bytes" -}}
{{- $number := regexFind "^[0-9]+" . | int64 }}
{{- $unit := regexFind "[A-Za-z]+$" . | trimSuffix "B" }}
{{- $factors := dict "" 1 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 }}
{{- mul $number (get $factors $unit) }}
{{- end }}

{{/* What the kept artifacts take and, beside them, the four that may be fetched at once: in MiB, rounded up. */}}
{{- define "konigle-operator.artifactVolumeSize" -}}
{{- $kept := include "konigle-operator.bytes" .Values.artifacts.dirSize | int64 }}
{{- $largest := include "konigle-operator.bytes" .Values.artifacts.maxSize | int64 }}
{{- div (add $kept (mul 4 $largest) 1048575) 1048576 }}Mi
{{- end }}

{{/* All that the operator may do in the namespaces that it watches. */}}
{{- define "konigle-operator.rules" -}}
- apiGroups: [cloud.konigle.com]
  resources: [koniglespaces]
  verbs: [get, list, watch, patch] # patch: for the annotation cloud.konigle.com/released
- apiGroups: [cloud.konigle.com]
  resources: [koniglespaces/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [secrets]
  {{- with .Values.secretNames }}
  resourceNames: {{ toJson . }}
  {{- end }}
  verbs: [get] # by name, never listed or watched
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- if .Values.rbac.fluxSources }}
- apiGroups: [source.toolkit.fluxcd.io]
  resources: [gitrepositories, ocirepositories, buckets, externalartifacts]
  verbs: [list, watch] # for spec.source.sourceRef; asked for only once a KonigleSpace names one
{{- end }}
{{- end }}

{{- define "konigle-operator.subject" -}}
- kind: ServiceAccount
  name: {{ include "konigle-operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/*
Whether an object of another project's kind is made; empty when not. Takes a dict: context, key of the values, kind.
*/}}
{{- define "konigle-operator.isRendered" -}}
{{- $settings := get .context.Values .key }}
{{- $kind := printf "monitoring.coreos.com/v1/%s" .kind }}
{{- if $settings.enabled }}
{{- if or (eq $settings.renderMode "alwaysRender") (.context.Capabilities.APIVersions.Has $kind) }}
{{- true }}
{{- else if eq $settings.renderMode "failIfMissing" }}
{{- fail (printf "%s.renderMode is failIfMissing, and this cluster does not have %s: install the Prometheus operator first" .key $kind) }}
{{- end }}
{{- end }}
{{- end }}

{{/* What no schema can say of two values. */}}
{{- define "konigle-operator.validate" -}}
{{- if and (gt (int .Values.replicaCount) 1) (not .Values.leaderElection.enabled) }}
{{- fail "replicaCount: more than one replica needs leaderElection.enabled: true" }}
{{- end }}
{{- if and (gt (int .Values.replicaCount) 1) .Values.artifacts.existingClaim }}
{{- fail "artifacts.existingClaim: one replica uses it at a time; leave it empty with more than one" }}
{{- end }}
{{- if and .Values.extraCA.configMap .Values.extraCA.secret }}
{{- fail "extraCA: set either configMap or secret" }}
{{- end }}
{{- end }}
