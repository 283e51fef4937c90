{{/* Name of the chart, for labels. */}}
{{- define "paas.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Beginning of every object's name: the release, with the chart's name where that does not hold it already. */}}
{{- define "paas.fullname" -}}
{{- $name := include "paas.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Beginning of the names of objects outside namespaces: two releases must not meet there. */}}
{{- define "paas.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "paas.fullname" .) -}}
{{- end -}}

{{/* What tells a component's pods from all others. Takes a dict of `root` and `component`. */}}
{{- define "paas.selectorLabels" -}}
app.kubernetes.io/name: {{ include "paas.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of a component's objects. Takes a dict of `root` and `component`. */}}
{{- define "paas.labels" -}}
{{ include "paas.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: paas
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* A full image name. Takes a dict of `root` and `image` (repository, tag). */}}
{{- define "paas.imageName" -}}
{{- $name := printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) -}}
{{- if .root.Values.image.registry -}}
{{- printf "%s/%s" (trimSuffix "/" .root.Values.image.registry) $name -}}
{{- else -}}
{{- $name -}}
{{- end -}}
{{- end -}}

{{/* The image of everything but the sidecar engine, with its pull policy. */}}
{{- define "paas.image" -}}
image: {{ include "paas.imageName" (dict "root" . "image" .Values.image) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{- define "paas.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Where the nodes, the builder and the controller find images: one name for all of them. */}}
{{- define "paas.registry" -}}
{{- if .Values.registry.internal -}}
{{- printf "127.0.0.1:%d" (int .Values.registry.hostPort) -}}
{{- else -}}
{{- required "registry.external.address is needed with registry.internal=false" .Values.registry.external.address -}}
{{- end -}}
{{- end -}}

{{- define "paas.gitHost" -}}
{{- default .Values.domain .Values.git.host -}}
{{- end -}}

{{/* The prefix of the variables by which Kubernetes tells pods of the controller's Service. */}}
{{- define "paas.controllerVariable" -}}
{{- printf "%s-controller" (include "paas.fullname" .) | upper | replace "-" "_" -}}
{{- end -}}

{{- define "paas.controllerUrl" -}}
{{- printf "http://%s-controller:8000" (include "paas.fullname" .) -}}
{{- end -}}

{{/* policy/v1 is there since Kubernetes 1.21. */}}
{{- define "paas.pdbVersion" -}}
{{- ternary "policy/v1" "policy/v1beta1" (semverCompare ">=1.21-0" .Capabilities.KubeVersion.Version) -}}
{{- end -}}

{{/* A peer of a network policy: a component's pods. Takes a dict of `root` and `component`. */}}
{{- define "paas.peer" -}}
- podSelector:
    matchLabels:
      {{- include "paas.selectorLabels" . | nindent 6 }}
{{- end -}}

{{/* Lets monitoring in, where a label says which namespaces that is. Takes a dict of `root` and `port`. */}}
{{- define "paas.monitoringPeer" -}}
{{- with .root.Values.networkPolicies.monitoringNamespaceSelector }}
- from:
    - namespaceSelector:
        matchLabels:
          {{- toYaml . | nindent 10 }}
  ports:
    - port: {{ $.port }}
      protocol: TCP
{{- end }}
{{- end -}}
