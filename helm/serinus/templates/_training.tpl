{{/* The spec of the Job, which is named by it: a Job cannot be changed, so another image, say, is another Job. */}}
{{- define "serinus.training" -}}
backoffLimit: 2
# What no other try would change: wrong input, a gate or contract that refuses, something that is not there, a fault of the problem's code.
podFailurePolicy:
  rules:
    - action: FailJob
      onExitCodes:
        containerName: training
        operator: In
        values: [2, 3, 4, 7]
template:
  metadata:
    labels:
      {{- include "serinus.selectorLabels" (list . "training") | nindent 6 }}
  spec:
    {{- include "serinus.pod" . | nindent 4 }}
    restartPolicy: Never
    initContainers:
      # The run ends with loading the online store.
      - name: wait-for-features
        {{- include "serinus.image" (list . "redis") | nindent 8 }}
        securityContext:
          {{- include "serinus.containerSecurity" . | nindent 10 }}
        resources:
          requests: {cpu: 10m, memory: 16Mi}
          limits: {memory: 64Mi}
        {{- if .Values.features.existingSecret }}
        env:
          {{- with include "serinus.password" (list . "features") }}{{ . | nindent 10 }}{{ end }}
          - name: REDISCLI_AUTH
            value: $(FEATURES_PASSWORD)
        {{- end }}
        command:
          - sh
          - -c
          - until redis-cli -h {{ include "serinus.fullname" . }}-features ping | grep -q PONG; do sleep 1; done
    containers:
      - name: training
        {{- include "serinus.image" (list . "pipeline") | nindent 8 }}
        securityContext:
          {{- include "serinus.containerSecurity" . | nindent 10 }}
        resources:
          {{- toYaml .Values.training.resources | nindent 10 }}
        command:
          - sh
          - -c
          # A pod that takes the place of one that died goes on where that one was.
          - |
            run=$SERINUS_HOME/runs/$RUN
            if [ -f "$run/run.json" ]; then how=--resume; else rm -rf "$run"; how=--name; fi
            exec serinus pipeline run {{ include "serinus.problem" . }} --service {{ include "serinus.service" . }} --register {{ .Values.training.register }} "$how" "$RUN"
        env:
          {{- include "serinus.commandLine" . | nindent 10 }}
          # The name of the Job.
          - name: RUN
            valueFrom:
              fieldRef:
                fieldPath: metadata.labels['batch.kubernetes.io/job-name']
        volumeMounts:
          {{- include "serinus.homeMounts" . | nindent 10 }}
    volumes:
      {{- include "serinus.homeVolumes" . | nindent 6 }}
{{- end }}
