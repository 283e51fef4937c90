{{- define "paas.registryConfig" -}}
version: "0.1"
# Every push asks for layers that are not there yet, which the registry calls an error.
log:
  level: error
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: /var/lib/registry
  delete:
    enabled: true
  cache:
    blobdescriptor: inmemory
http:
  addr: 0.0.0.0:5000
{{- end -}}
