{{/* What no pod of the platform needs more than. */}}
{{- define "paas.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "paas.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Where a component's pods run. Takes a dict of `root`, `component` and `values`. Unless told otherwise, apart. */}}
{{- define "paas.placement" -}}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if gt (int (default 1 .values.replicas)) 1 }}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "paas.selectorLabels" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* A component's own environment variables. Takes its values. */}}
{{- define "paas.extraEnv" -}}
{{- range $name, $value := .env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Makes a volume the platform's, for provisioners that heed no fsGroup. Takes a dict of `root`, `volume` and `path`. */}}
{{- define "paas.ownVolume" -}}
{{- if .root.Values.volumePermissions.enabled }}
- name: own-volume
  {{- include "paas.image" .root | nindent 2 }}
  command: [chown, "10001:10001", {{ .path }}]
  securityContext:
    runAsUser: 0
    runAsNonRoot: false
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
      add: [CHOWN]
  volumeMounts:
    - name: {{ .volume }}
      mountPath: {{ .path }}
{{- end }}
{{- end -}}

{{/* The claim of a StatefulSet. Takes a dict of `name` and `persistence`. */}}
{{- define "paas.claim" -}}
- metadata:
    name: {{ .name }}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .persistence.storageClass }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .persistence.size }}
{{- end -}}

{{/* Lets a pod reach the chart's registry by the name that the nodes have for it: beside the container that does. */}}
{{- define "paas.registryProxy" -}}
{{- if .Values.registry.internal }}
- name: registry-proxy
  {{- include "paas.image" . | nindent 2 }}
  command:
    - socat
    - TCP-LISTEN:{{ .Values.registry.hostPort }},bind=127.0.0.1,fork,reuseaddr
    - TCP:{{ include "paas.fullname" . }}-registry:5000
  securityContext:
    {{- include "paas.containerSecurity" . | nindent 4 }}
  resources:
    {{- toYaml .Values.registry.proxy.resources | nindent 4 }}
{{- end }}
{{- end -}}
