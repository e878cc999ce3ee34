# Addresses and folders of the test cluster; sourced by the others, which .scripts/cluster.mjs runs
# with BIN (the cluster's programs), RUN (everything made at run time) and IMAGES set.
: "${BIN:?}" "${RUN:?}" "${IMAGES:?}"
NS=resilver-cluster          # network namespace that holds the whole cluster
HOST_LINK=resilver-host
NODE=node1
HOST_IP=10.201.0.1           # this machine's end of the link
NODE_IP=10.201.0.2           # the cluster's end: API server, kubelet, name server
POD_CIDR=10.244.0.0/24
SVC_CIDR=10.96.0.0/16
# Where Kubernetes' host-path provisioner makes volumes; it cannot be told another place.
VOLUMES=/tmp/hostpath_pv
PATH=$BIN:$PATH:/usr/sbin:/sbin
KUBECONFIG=$RUN/kubeconfig
export KUBECONFIG PATH
