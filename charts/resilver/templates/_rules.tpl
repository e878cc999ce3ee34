{{/* What the operator may do where its stores are: each verb is one that it uses. */}}
{{- define "resilver.operatorRules" -}}
- apiGroups: [resilver.io]
  resources: [replicatedstores]
  verbs: [get, list, patch, watch]
- apiGroups: [resilver.io]
  resources: [storeshards]
  verbs: [create, delete, get, list, update, watch]
- apiGroups: [resilver.io]
  resources: [replicarecoveries]
  verbs: [create, delete, get, list, watch]
- apiGroups: [resilver.io]
  resources: [replicatedstores/status, storeshards/status, replicarecoveries/status]
  verbs: [patch]
# Some clusters ask for this of whoever makes an object that keeps its owner from being deleted.
- apiGroups: [resilver.io]
  resources: [replicatedstores/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [create, delete, list, patch, watch]
- apiGroups: [""]
  resources: [configmaps, serviceaccounts, services]
  verbs: [create, list, patch, watch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [create, list, patch, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [delete, get, list, watch]
- apiGroups: [""]
  resources: [pods/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [delete, get, list, patch, watch]
# Of a store that another release looks after: whether that one still works.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "resilver.leaseName" . }}]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* For stores with recovery.onNodeLoss Replace: where a volume is, and whether that machine is there. */}}
{{- define "resilver.nodeLossRules" -}}
- apiGroups: [""]
  resources: [persistentvolumes]
  verbs: [get]
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, list]
{{- end -}}

{{/* What people may be given: to look. Records (storeshards) are nobody's to write. */}}
{{- define "resilver.viewerRules" -}}
- apiGroups: [resilver.io]
  resources: [replicatedstores, storeshards, replicarecoveries]
  verbs: [get, list, watch]
- apiGroups: [resilver.io]
  resources: [replicatedstores/status, storeshards/status, replicarecoveries/status]
  verbs: [get]
{{- end -}}

{{/* And to change. */}}
{{- define "resilver.editorRules" -}}
{{ include "resilver.viewerRules" . }}
- apiGroups: [resilver.io]
  resources: [replicatedstores, replicarecoveries]
  verbs: [create, delete, deletecollection, patch, update]
- apiGroups: [resilver.io]
  resources: [replicatedstores/scale]
  verbs: [get, patch, update]
{{- end -}}
