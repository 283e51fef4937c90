{{/* The controller's settings: the same for what migrates and for what serves. */}}
{{- define "paas.controllerEnv" -}}
- name: PAAS_LISTEN
  value: 0.0.0.0:8000
- name: PAAS_ADVERTISE
  value: $({{ include "paas.controllerVariable" . }}_SERVICE_HOST):$({{ include "paas.controllerVariable" . }}_SERVICE_PORT)
- name: PAAS_DATABASE_URL_FILE
  value: /run/paas/database/url
- name: PAAS_DATA
  value: /var/lib/paas
- name: PAAS_SEAL_KEY_FILE
  value: /run/paas/keys/seal.key
- name: PAAS_BUILDER_KEY_FILE
  value: /run/paas/keys/builder.key
- name: PAAS_ROUTER_TOKEN_FILE
  value: /run/paas/keys/router.token
- name: PAAS_DOMAIN
  value: {{ .Values.domain | quote }}
- name: PAAS_PUBLIC_PORT
  value: {{ .Values.publicPort | quote }}
- name: PAAS_GIT_URL
  value: ssh://git@{{ include "paas.gitHost" . }}:{{ .Values.git.port }}
- name: PAAS_REGISTRY
  value: {{ include "paas.registry" . | quote }}
{{- if and (not .Values.registry.internal) .Values.registry.external.pullSecret }}
- name: PAAS_REGISTRY_AUTH_FILE
  value: /run/paas/registry/config.json
{{- end }}
- name: PAAS_RESERVED_NAMES
  value: {{ include "paas.reservedNames" . | quote }}
- name: PAAS_REGISTRATION
  value: {{ .Values.controller.registration }}
- name: PAAS_LOG_LIMIT
  value: {{ .Values.controller.logLimit | quote }}
{{- with .Values.controller.trustedProxies }}
- name: PAAS_TRUSTED_PROXIES
  value: {{ prepend . "127.0.0.0/8" | join "," | quote }}
{{- end }}
- name: PAAS_SCHEDULER
  value: {{ .Values.kubernetes.scheduler }}
- name: PAAS_KUBERNETES_NAMESPACE_PREFIX
  value: {{ .Values.kubernetes.namespacePrefix | quote }}
- name: PAAS_KUBERNETES_ROUTING
  value: {{ .Values.routing }}
{{- with .Values.ingressClass }}
- name: PAAS_KUBERNETES_INGRESS_CLASS
  value: {{ . | quote }}
{{- end }}
{{- with .Values.apps.quota }}
- name: PAAS_KUBERNETES_QUOTA
  value: {{ toJson . | quote }}
{{- end }}
{{- with .Values.apps.limitRange }}
- name: PAAS_KUBERNETES_LIMIT_RANGE
  value: {{ toJson . | quote }}
{{- end }}
{{- if not .Values.kubernetes.clusterWideRole }}
- name: PAAS_KUBERNETES_ROLE
  value: {{ include "paas.clusterName" . }}-apps
- name: PAAS_KUBERNETES_ACCOUNT
  value: {{ .Release.Namespace }}:{{ include "paas.fullname" . }}-controller
{{- end }}
{{- include "paas.extraEnv" .Values.controller }}
{{- end -}}

{{- define "paas.controllerMounts" -}}
- name: data
  mountPath: /var/lib/paas
- name: tmp
  mountPath: /tmp
- name: keys
  mountPath: /run/paas/keys
  readOnly: true
- name: database
  mountPath: /run/paas/database
  readOnly: true
{{- if and (not .Values.registry.internal) .Values.registry.external.pullSecret }}
- name: registry
  mountPath: /run/paas/registry
  readOnly: true
{{- end }}
{{- end -}}

{{/* Names that no app may have: the platform's own, and one that would have the release's namespace. */}}
{{- define "paas.reservedNames" -}}
{{- $names := list "paas" "deis" "deis-builder" "deis-workflow-manager" "grafana" -}}
{{- $prefix := .Values.kubernetes.namespacePrefix -}}
{{- if and (hasPrefix $prefix .Release.Namespace) (ne $prefix .Release.Namespace) -}}
{{- $names = append $names (trimPrefix $prefix .Release.Namespace) -}}
{{- end -}}
{{- join "," ($names | uniq) -}}
{{- end -}}
