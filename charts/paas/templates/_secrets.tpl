{{/*
The platform's secrets, made once. What the cluster has is kept; what it lacks is drawn anew, and remembered for the rest of
this rendering, so that all that is made of it agrees.
*/}}
{{- define "paas.secrets" -}}
{{- if not (hasKey .Release "paasSecrets") -}}
{{- $name := include "paas.fullname" . -}}
{{- $kept := dict -}}
{{- range $suffix := list "keys" "host-keys" "postgres" -}}
{{- $found := lookup "v1" "Secret" $.Release.Namespace (printf "%s-%s" $name $suffix) | default dict -}}
{{- $data := dict -}}
{{- range $key, $value := (get $found "data" | default dict) -}}
{{- $_ := set $data $key ($value | b64dec) -}}
{{- end -}}
{{- $_ := set $kept $suffix $data -}}
{{- end -}}
{{- $keys := get $kept "keys" -}}
{{- $keys = merge $keys (dict
  "seal.key" (printf "%s %s\n" (randAlphaNum 8 | lower) (randAlphaNum 64 | sha256sum))
  "builder.key" (randAlphaNum 64)
  "router.token" (randAlphaNum 64)) -}}
{{- $hostKeys := get $kept "host-keys" -}}
{{- if not $hostKeys -}}
{{- $hostKeys = dict "ssh_host_ed25519_key" (genPrivateKey "ed25519") -}}
{{- end -}}
{{- $postgres := get $kept "postgres" -}}
{{- if not (hasKey $postgres "password") -}}
{{- $_ := set $postgres "password" (randAlphaNum 48) -}}
{{- end -}}
{{- $_ := set $postgres "url" (printf "postgres://paas:%s@%s-postgres:5432/paas" (get $postgres "password") $name) -}}
{{- $_ := set .Release "paasSecrets" (dict "keys" $keys "host-keys" $hostKeys "postgres" $postgres) -}}
{{- end -}}
{{- end -}}

{{/* The data of a Secret. Takes a dict of `root` and `of`. */}}
{{- define "paas.secretData" -}}
{{- include "paas.secrets" .root -}}
{{- range $key, $value := get .root.Release.paasSecrets .of }}
{{ $key }}: {{ $value | b64enc }}
{{- end }}
{{- end -}}

{{- define "paas.keysSecret" -}}
{{- default (printf "%s-keys" (include "paas.fullname" .)) .Values.keys.existingSecret -}}
{{- end -}}

{{- define "paas.hostKeysSecret" -}}
{{- default (printf "%s-host-keys" (include "paas.fullname" .)) .Values.keys.existingHostKeys -}}
{{- end -}}

{{/* Name of the Secret that holds the database's URL, … */}}
{{- define "paas.databaseSecret" -}}
{{- if .Values.postgres.internal -}}
{{- printf "%s-postgres" (include "paas.fullname" .) -}}
{{- else if .Values.postgres.external.existingSecret -}}
{{- .Values.postgres.external.existingSecret -}}
{{- else -}}
{{- printf "%s-database" (include "paas.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* … and its key in it. */}}
{{- define "paas.databaseKey" -}}
{{- if and (not .Values.postgres.internal) .Values.postgres.external.existingSecret -}}
{{- .Values.postgres.external.key -}}
{{- else -}}
url
{{- end -}}
{{- end -}}

{{/* Keeps a Secret when the release is uninstalled. */}}
{{- define "paas.keep" -}}
{{- if .Values.keys.keep }}
annotations:
  helm.sh/resource-policy: keep
{{- end }}
{{- end -}}
