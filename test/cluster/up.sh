#!/bin/sh
# Brings the whole cluster up; a part that runs already is left alone.
set -eu
here=$(dirname "$0"); . "$here/env.sh"
mkdir -p "$RUN"
# What the kubelet's container manager sets for the whole machine; down.sh sets it back.
[ -s "$RUN/sysctls" ] || sysctl -e vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops \
  kernel.keys.root_maxkeys kernel.keys.root_maxbytes >"$RUN/sysctls"
# Folders that parts of it make in places which they cannot be told; down.sh removes those that were not there.
[ -e "$RUN/folders" ] || for folder in /run/netns /run/containerd /var/lib/cni /var/lib/kubelet /usr/libexec/kubernetes \
  /var/log/pods /var/log/containers; do [ -e $folder ] || echo $folder; done >"$RUN/folders"
for part in certs network control-plane node; do sh "$here/$part.sh"; done
