#!/bin/sh
# One CA and one key pair (server + client, group system:masters) for all components; a test cluster only.
set -eu
here=$(dirname "$0"); . "$here/env.sh"
mkdir -p "$RUN/pki"; cd "$RUN/pki"
[ -s ../kubeconfig ] && exit 0
openssl ecparam -name prime256v1 -genkey -noout -out ca.key
openssl req -x509 -new -key ca.key -subj /CN=resilver-test -days 365 -out ca.crt
openssl ecparam -name prime256v1 -genkey -noout -out all.key
openssl req -new -key all.key -subj /O=system:masters/CN=admin -out all.csr
cat > ext <<X
basicConstraints=CA:FALSE
keyUsage=digitalSignature
extendedKeyUsage=serverAuth,clientAuth
subjectAltName=IP:127.0.0.1,IP:$NODE_IP,IP:${SVC_CIDR%.*.*}.0.1,DNS:localhost,DNS:$NODE,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
X
openssl x509 -req -in all.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -extfile ext -out all.crt 2>/dev/null
cat > "$RUN/kubeconfig.new" <<X
apiVersion: v1
kind: Config
clusters: [{name: resilver-test, cluster: {server: "https://$NODE_IP:6443", certificate-authority: $RUN/pki/ca.crt}}]
users: [{name: resilver-test, user: {client-certificate: $RUN/pki/all.crt, client-key: $RUN/pki/all.key}}]
contexts: [{name: resilver-test, context: {cluster: resilver-test, user: resilver-test}}]
current-context: resilver-test
X
mv "$RUN/kubeconfig.new" "$RUN/kubeconfig"
