#!/bin/sh
# containerd, kubelet, kube-proxy and CoreDNS, as plain processes in the network namespace.
set -eu
here=$(dirname "$0"); . "$here/env.sh"; . "$here/lib.sh"
P=$RUN/pki
mkdir -p "$RUN/cni" "$RUN/kubelet"

cat > "$RUN/cni/10-bridge.conflist" <<X
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$RUN/cni-ipam", "ranges": [[{"subnet": "$POD_CIDR"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
X
cat > "$RUN/containerd.toml" <<X
version = 2
root = "$RUN/containerd"
state = "$RUN/containerd-state"
[grpc]
  address = "$RUN/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true   # no CAP_SYS_RESOURCE here: nothing may lower its oom_score_adj
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$RUN/cni"
[plugins."io.containerd.internal.v1.opt"]
  path = "$RUN/containerd-opt"
X
start containerd containerd --config "$RUN/containerd.toml"
wait_for 60 containerd ctr -a "$RUN/containerd.sock" version
for image in "$IMAGES"/*.tar; do
  ctr -a "$RUN/containerd.sock" -n k8s.io images import "$image"
done

: > "$RUN/resolv.conf"   # pods get no upstream resolver
cat > "$RUN/kubelet.yaml" <<X
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$RUN/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $P/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $P/all.crt
tlsPrivateKeyFile: $P/all.key
cgroupDriver: cgroupfs            # no systemd here
failCgroupV1: false               # this kernel has cgroup v1 controllers only; 1.35+ refuses them by default
failSwapOn: false
oomScoreAdj: 0                    # no CAP_SYS_RESOURCE
imageGCHighThresholdPercent: 100  # never collect the hand-made images: they cannot be pulled again
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
clusterDNS: [$NODE_IP]
clusterDomain: cluster.local
resolvConf: $RUN/resolv.conf
maxPods: 110
syncFrequency: 5s                 # until a pod has its ConfigMap's new content
X
start kubelet kubelet --config "$RUN/kubelet.yaml" --kubeconfig "$KUBECONFIG" --root-dir "$RUN/kubelet" \
  --hostname-override $NODE --node-ip $NODE_IP

# The host-path provisioner makes its directories 0750 root, and fsGroup does nothing to a hostPath:
# widen them, so that a pod that does not run as root can write to its claim.
# Only when one was added, and for a second after: with thousands of volumes this is half a core.
# What nothing was compared with yet has to be there: to some shells no folder is newer than a file
# that is missing.
touch -d @0 "$RUN/hostpath-seen"
start hostpath-mode sh -c 'while sleep 0.2; do
  [ "$1" -nt "$2" ] || continue
  touch -d "1 second ago" "$2"
  find "$1" -mindepth 1 -maxdepth 1 ! -perm 0777 -exec chmod 0777 {} +
done' hostpath-mode "$VOLUMES" "$RUN/hostpath-seen"

# Service addresses (a headless Service needs only DNS)
cat > "$RUN/kube-proxy.yaml" <<X
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $KUBECONFIG}
clusterCIDR: $POD_CIDR
hostnameOverride: $NODE
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}  # not settable in a namespace
X
start kube-proxy kube-proxy --config "$RUN/kube-proxy.yaml"

# CoreDNS as a plain process at the node's address; ttl 0 so that a test never sees an old address.
# The second block answers NXDOMAIN for all else (a refusal reads as EAI_AGAIN, not ENOTFOUND).
cat > "$RUN/Corefile" <<X
cluster.local:53 in-addr.arpa:53 {
  bind $NODE_IP
  errors
  ready $NODE_IP:8181
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $KUBECONFIG
    ttl 0
  }
}
.:53 {
  bind $NODE_IP
  template ANY ANY . {
    rcode NXDOMAIN
  }
}
X
start coredns coredns -conf "$RUN/Corefile"

wait_for 120 kubelet kubectl get node $NODE
kubectl wait --for=condition=Ready node/$NODE --timeout=120s
wait_for 60 coredns curl -sf http://$NODE_IP:8181/ready

kubectl apply -f - <<X
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: hostpath
  annotations: {storageclass.kubernetes.io/is-default-class: "true"}
provisioner: kubernetes.io/host-path
reclaimPolicy: Delete
X
