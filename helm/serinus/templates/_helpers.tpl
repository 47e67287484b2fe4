{{/* Names, labels, and what several templates must say alike. */}}

{{- define "serinus.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Labels by which pods are selected: never the version. Takes (list . COMPONENT). */}}
{{- define "serinus.selectorLabels" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "serinus.labels" -}}
{{ include "serinus.selectorLabels" . }}
app.kubernetes.io/part-of: serinus
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end }}

{{/* Of every container: the `restricted` standard, and a root file system that nobody writes. */}}
{{- define "serinus.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Of every pod. Volumes of some drivers belong to root unless a pod asks for a group. */}}
{{- define "serinus.pod" -}}
automountServiceAccountToken: false
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
securityContext:
  fsGroup: 65532
{{- end }}

{{- define "serinus.image" -}}
image: {{ index (index . 0).Values.images (index . 1) }}
imagePullPolicy: {{ (index . 0).Values.images.pullPolicy }}
{{- end }}

{{/* The address of a Redis. Kubernetes puts the password in, where an environment variable of the container has it. */}}
{{- define "serinus.address" -}}
{{- $top := index . 0 }}{{ $name := index . 1 -}}
redis://{{ if (index $top.Values $name).existingSecret }}:$({{ upper $name }}_PASSWORD)@{{ end }}
{{- include "serinus.fullname" $top }}-{{ $name }}:6379/0
{{- end }}

{{/* That variable. Takes (list . NAME). */}}
{{- define "serinus.password" -}}
{{- with (index (index . 0).Values (index . 1)).existingSecret -}}
- name: {{ upper (index $ 1) }}_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: password
{{- end }}
{{- end }}

{{/* The service as documents and commands name it. KServe makes host names of both parts (serinus/core/names.py). */}}
{{- define "serinus.service" -}}
{{- $ref := printf "%s/%s" .Release.Namespace .Values.service.name -}}
{{- if gt (len $ref) 40 }}{{ fail (printf "service.name: %s is too long: name and namespace have at most 39 characters together" $ref) }}{{ end -}}
{{ $ref }}
{{- end }}

{{/* The problem whose model it serves. */}}
{{- define "serinus.problem" -}}
{{ .Values.service.problem | default .Values.service.name }}
{{- end }}

{{/* A constant of the service: from its names, so that one that is made anew gives everybody the same bucket. */}}
{{- define "serinus.salt" -}}
{{ .Values.service.salt | default (include "serinus.service" . | sha256sum | trunc 16) }}
{{- end }}

{{- define "serinus.environment" -}}
- name: HOME
  value: /tmp
- name: OMP_NUM_THREADS
  value: "1"
{{- end }}

{{/* The command line in a pod: its home, its online store, its registry. */}}
{{- define "serinus.commandLine" -}}
- name: HOME
  value: /tmp
- name: SERINUS_HOME
  value: /var/lib/serinus
{{- with include "serinus.password" (list . "features") }}
{{ . }}
{{- end }}
- name: SERINUS_ONLINE
  value: {{ include "serinus.address" (list . "features") }}
- name: SERINUS_SERVICE
  value: {{ include "serinus.service" . }}
- name: SERINUS_SALT
  value: {{ include "serinus.salt" . | quote }}
{{- with .Values.tracking.existingSecret }}
- name: SERINUS_TRACKING_URI
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: tracking_uri
{{- end }}
{{- end }}

{{- define "serinus.homeMounts" -}}
- name: home
  mountPath: /var/lib/serinus
- name: tmp
  mountPath: /tmp
{{- end }}

{{- define "serinus.homeVolumes" -}}
- name: home
  persistentVolumeClaim:
    claimName: {{ include "serinus.fullname" . }}-home
- name: tmp
  emptyDir: {}
{{- end }}

{{/* What a revision's name is made of beside its bundle: whatever else decides how it answers. */}}
{{- define "serinus.settings" -}}
{{- $settings := dict
  "service" (include "serinus.service" .)
  "salt" (include "serinus.salt" .)
  "storage_uri" "/mnt/models"
  "online" (include "serinus.address" (list . "features"))
  "events" (include "serinus.address" (list . "events"))
  "writers" "/tmp/writers"
  "host" "0.0.0.0"
  "http_port" 8080
  "grpc_port" 8081
  "accept_event_time" .Values.service.acceptEventTime
  "covariates" .Values.service.covariates
  "unit" .Values.service.unit -}}
{{- toJson $settings -}}
{{- end }}

{{/* Where the bundle of a revision is. Takes (list . REVISION). */}}
{{- define "serinus.bundlePath" -}}
bundles/{{ include "serinus.problem" (index . 0) }}/{{ (index . 1).bundle }}
{{- end }}

{{- define "serinus.storageUri" -}}
pvc://{{ include "serinus.fullname" (index . 0) }}-home/{{ include "serinus.bundlePath" . }}
{{- end }}

{{/* `<service>-v<version>-<hash6>`, as serinus.core.revision.revision_name makes it. */}}
{{- define "serinus.revision" -}}
{{- $top := index . 0 }}{{ $one := index . 1 -}}
{{- $runtime := include "serinus.runtime" $top | fromYaml -}}
{{- $template := toJson (list $runtime (include "serinus.settings" $top | fromJson)) -}}
{{- $hash := printf "%s\x00%s" (include "serinus.storageUri" .) $template | sha256sum | trunc 6 -}}
{{ $top.Values.service.name }}-v{{ $one.version }}-{{ $hash }}
{{- end }}
