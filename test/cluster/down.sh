#!/bin/sh
# Stops what up.sh started, by its pid files, and takes back what it changed on this machine. The
# cluster's data stays; `down.sh wipe` removes that too.
set -u
here=$(dirname "$0"); . "$here/env.sh"; . "$here/lib.sh"
stop() { # NAME [tenths of a second before SIGKILL]
  runs "$1" || { rm -f "$RUN/$1.pid"; return 0; }
  pid=$(cat "$RUN/$1.pid")
  kill "$pid" 2>/dev/null
  n=0; while runs "$1" && [ $n -lt "${2:-50}" ]; do sleep 0.1; n=$((n + 1)); done
  runs "$1" && kill -9 "$pid"
  rm -f "$RUN/$1.pid"
}
stop kubelet; stop hostpath-mode; stop kube-proxy; stop coredns
# Containers outlive containerd: end them through it first.
if [ -s "$RUN/containerd.pid" ]; then
  c="ctr -a $RUN/containerd.sock -n k8s.io"
  $c task ls -q | xargs -r -n 20 $c task rm -f >/dev/null 2>&1
  $c container ls -q | xargs -r -n 20 $c container rm >/dev/null 2>&1
fi
stop containerd; stop kube-scheduler; stop kube-controller-manager; stop kube-apiserver 5; stop etcd 5   # both would wait for their clients
# What was being started just then: container inits by containerd's own pid files, then all else in the namespace (shims).
for f in "$RUN"/containerd-state/io.containerd.runtime.v2.task/k8s.io/*/init.pid; do [ -s "$f" ] && kill -9 "$(cat "$f")" 2>/dev/null; done
[ -e "/run/netns/$NS" ] && ip netns pids $NS | xargs -r kill -9 2>/dev/null
grep " $RUN/" /proc/mounts | cut -d' ' -f2 | sort -r | xargs -r umount -l 2>/dev/null
ip link del "$HOST_LINK" 2>/dev/null              # the two routes go with it
[ -e "/run/netns/$NS" ] && ip netns del $NS     # and its bridge, veths and nft rules
for c in /sys/fs/cgroup/kubepods /sys/fs/cgroup/k8s.io /sys/fs/cgroup/*/kubepods /sys/fs/cgroup/*/k8s.io; do [ -d "$c" ] && find "$c" -depth -type d -exec rmdir {} \; 2>/dev/null; done
[ -s "$RUN/sysctls" ] && sed 's/ = /=/' "$RUN/sysctls" | xargs sysctl -qw && rm -f "$RUN/sysctls"
grep -ls "$RUN/" /var/lib/cni/results/* | xargs -r rm -f       # containerd cannot be told another place
for folder in $(cat "$RUN/folders" 2>/dev/null); do
  case $folder in
    /run/netns) [ -z "$(ls -A $folder 2>/dev/null)" ] && umount $folder 2>/dev/null ;;   # ip mounted it on itself
    /var/lib/kubelet) rm -f $folder/device-plugins/kubelet.sock ;;
  esac
  find "$folder" -depth -type d -empty -delete 2>/dev/null
done
rm -rf "$RUN/cni-ipam" "$RUN/containerd-state" "$RUN/folders"
if [ "${1-}" = wipe ]; then rm -rf "$RUN" "$VOLUMES"; fi
exit 0
