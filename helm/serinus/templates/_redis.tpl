{{/*
A Redis of one pod that keeps its append-only file on a claim, and its Service.
Takes (list . NAME OPTIONS): the key of its values, and arguments for the server.
*/}}
{{- define "serinus.redis" -}}
{{- $top := index . 0 }}{{ $name := index . 1 }}{{ $values := index $top.Values $name -}}
{{- $full := printf "%s-%s" (include "serinus.fullname" $top) $name -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ $full }}
  labels:
    {{- include "serinus.labels" (list $top $name) | nindent 4 }}
spec:
  selector:
    {{- include "serinus.selectorLabels" (list $top $name) | nindent 4 }}
  ports:
    - name: redis
      port: 6379
      targetPort: redis
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $full }}
  labels:
    {{- include "serinus.labels" (list $top $name) | nindent 4 }}
spec:
  serviceName: {{ $full }}
  replicas: 1
  selector:
    matchLabels:
      {{- include "serinus.selectorLabels" (list $top $name) | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "serinus.selectorLabels" (list $top $name) | nindent 8 }}
    spec:
      {{- include "serinus.pod" $top | nindent 6 }}
      # Redis is not the first process: that one reaps what probes leave, and a SIGKILL from inside ends Redis.
      shareProcessNamespace: true
      containers:
        - name: redis
          {{- include "serinus.image" (list $top "redis") | nindent 10 }}
          securityContext:
            {{- include "serinus.containerSecurity" $top | nindent 12 }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          command: [redis-server]
          args:
            - --bind
            - 0.0.0.0
            - --protected-mode
            - "no"
            - --dir
            - /data
            - --save
            - ""
            - --appendonly
            - "yes"
            - --maxmemory
            - {{ $values.maxMemory }}
            - --maxmemory-policy
            - noeviction
            {{- range index . 2 }}
            - {{ . | quote }}
            {{- end }}
            {{- if $values.existingSecret }}
            - --requirepass
            - $({{ upper $name }}_PASSWORD)
            {{- end }}
          {{- with $values.existingSecret }}
          env:
            {{- include "serinus.password" (list $top $name) | nindent 12 }}
            # For redis-cli in the probe.
            - name: REDISCLI_AUTH
              value: $({{ upper $name }}_PASSWORD)
          {{- end }}
          ports:
            - name: redis
              containerPort: 6379
          # One that still reads its file answers, too, but not with this.
          readinessProbe:
            exec:
              command: [sh, -c, "redis-cli ping | grep -q PONG"]
            periodSeconds: 2
            timeoutSeconds: 5
          livenessProbe:
            tcpSocket:
              port: redis
            periodSeconds: 10
            failureThreshold: 6
            timeoutSeconds: 5
          volumeMounts:
            - name: data
              mountPath: /data
  volumeClaimTemplates:
    - metadata:
        name: data
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $values.storageClassName }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ $values.storage }}
{{- end }}
