{{/* The spec of the ServingRuntime: how any bundle is served. A revision's name is made of it. */}}
{{- define "serinus.runtime" -}}
supportedModelFormats:
  - name: serinus
    version: "2"
    autoSelect: false
protocolVersions: [v1, v2]
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
containers:
  - name: kserve-container
    {{- include "serinus.image" (list . "predictor") | nindent 4 }}
    securityContext:
      {{- include "serinus.containerSecurity" . | nindent 6 }}
    resources:
      {{- toYaml .Values.predictor.resources | nindent 6 }}
    command: [python, -m, serinus.wiring.serve]
    env:
      {{- include "serinus.environment" . | nindent 6 }}
      {{- range list "features" "events" }}
      {{- with include "serinus.password" (list $ .) }}{{ . | nindent 6 }}{{ end }}
      {{- end }}
    # The first is REST; a name with grpc or h2c makes a port of HTTP/2.
    ports:
      - name: http1
        containerPort: 8080
      - name: grpc-h2c
        containerPort: 8081
    startupProbe:
      {{- include "serinus.probe" (dict "path" (include "serinus.ready" .) "period" 1 "failures" 120) | nindent 6 }}
    readinessProbe:
      {{- include "serinus.probe" (dict "path" (include "serinus.ready" .) "period" 2 "failures" 3) | nindent 6 }}
    livenessProbe:
      {{- include "serinus.probe" (dict "path" "/v2/health/live" "period" 10 "failures" 6) | nindent 6 }}
    # The gateway stops sending while the pod still answers.
    lifecycle:
      preStop:
        sleep:
          seconds: {{ .Values.predictor.pauseSeconds }}
    volumeMounts:
      - name: tmp
        mountPath: /tmp
volumes:
  - name: tmp
    emptyDir: {}
{{- end }}

{{/* KServe fills in the label of the revision. */}}
{{- define "serinus.ready" -}}
/v2/models/{{ "{{index .Labels `serinus.dev/service`}}" }}/ready
{{- end }}

{{- define "serinus.probe" -}}
httpGet:
  path: {{ .path | quote }}
  port: 8080
periodSeconds: {{ .period }}
failureThreshold: {{ .failures }}
timeoutSeconds: 5
{{- end }}
