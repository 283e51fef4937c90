{{/* A Docker engine for the builder alone. Building takes mounts and namespaces: the container is privileged. */}}
{{- define "paas.engine" -}}
- name: engine
  image: {{ include "paas.imageName" (dict "root" . "image" .Values.builder.engine.image) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command:
    - paas-engine
    - --host=unix:///run/engine/docker.sock
    - --group=10001
    - --data-root=/var/lib/docker
    - --exec-root=/run/docker
    {{- range .Values.builder.engine.flags }}
    - {{ . | quote }}
    {{- end }}
  securityContext:
    privileged: true
    runAsUser: 0
    runAsNonRoot: false
  readinessProbe:
    exec:
      command: [docker, --host=unix:///run/engine/docker.sock, version]
    timeoutSeconds: 10
  resources:
    {{- toYaml .Values.builder.engine.resources | nindent 4 }}
  volumeMounts:
    - name: engine-socket
      mountPath: /run/engine
    - name: engine
      mountPath: /var/lib/docker
{{- end -}}
