{{/* All that the chart knows of the operator's command line and environment. */}}
{{- define "resilver.operatorArgs" -}}
{{- if eq (int .Values.ports.health) (int .Values.ports.metrics) }}
{{- fail (printf "ports.metrics is %v, as ports.health is; allowed: another port" .Values.ports.metrics) }}
{{- end -}}
- operator
- --health-port={{ .Values.ports.health }}
- --metrics-port={{ .Values.ports.metrics }}
- --workers={{ .Values.operator.workers }}
- --log-level={{ .Values.operator.logLevel }}
- --image={{ .Values.sidecarImage | default (include "resilver.image" .) }}
{{- end -}}

{{/* WATCH_NAMESPACE: names with commas between them; empty: all. */}}
{{- define "resilver.operatorEnv" -}}
- name: WATCH_NAMESPACE
  value: {{ join "," .Values.watchNamespaces | quote }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: NODE_ENV
  value: production
{{- end -}}

{{/* The Lease is named by the operator, see OPERATOR_NAME in operator/kube. */}}
{{- define "resilver.leaseName" -}}
resilver-operator
{{- end -}}
