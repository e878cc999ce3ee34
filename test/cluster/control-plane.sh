#!/bin/sh
# etcd, API server, controllers, scheduler.
set -eu
here=$(dirname "$0"); . "$here/env.sh"; . "$here/lib.sh"
P=$RUN/pki
start etcd etcd --data-dir "$RUN/etcd" --unsafe-no-fsync --log-level warn \
  --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster default=http://127.0.0.1:2380
wait_for 60 etcd nsenter --net="/run/netns/$NS" curl -sf http://127.0.0.1:2379/readyz
start kube-apiserver kube-apiserver --etcd-servers http://127.0.0.1:2379 --bind-address 0.0.0.0 --advertise-address $NODE_IP \
  --service-cluster-ip-range $SVC_CIDR --authorization-mode Node,RBAC --allow-privileged \
  --tls-cert-file $P/all.crt --tls-private-key-file $P/all.key --client-ca-file $P/ca.crt \
  --kubelet-client-certificate $P/all.crt --kubelet-client-key $P/all.key --kubelet-preferred-address-types InternalIP \
  --service-account-issuer https://kubernetes.default.svc --service-account-key-file $P/all.key --service-account-signing-key-file $P/all.key
wait_for 120 kube-apiserver kubectl get --raw /readyz
start kube-controller-manager kube-controller-manager --kubeconfig "$KUBECONFIG" --leader-elect=false --bind-address 127.0.0.1 \
  --service-account-private-key-file $P/all.key --root-ca-file $P/ca.crt --enable-hostpath-provisioner \
  --kube-api-qps 500 --kube-api-burst 1000
start kube-scheduler kube-scheduler --kubeconfig "$KUBECONFIG" --leader-elect=false --bind-address 127.0.0.1 --kube-api-qps 500 --kube-api-burst 1000
wait_for 60 kube-controller-manager kubectl get serviceaccount default -n default
