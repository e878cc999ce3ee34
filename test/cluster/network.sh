#!/bin/sh
# The cluster's own network namespace, with a link to this machine. Outside of it there is nothing new
# but that link and two routes, which go with it.
set -eu
here=$(dirname "$0"); . "$here/env.sh"
if [ ! -e "/run/netns/$NS" ]; then
  ip netns add $NS
  ip link add "$HOST_LINK" type veth peer name resilver-node netns $NS
  ip addr add $HOST_IP/30 dev "$HOST_LINK"; ip link set "$HOST_LINK" up
  nsenter --net="/run/netns/$NS" sh -c "
    ip link set lo up; ip addr add $NODE_IP/30 dev resilver-node; ip link set resilver-node up
    ip route add default via $HOST_IP; sysctl -qw net.ipv4.ip_forward=1"
  ip route add $POD_CIDR via $NODE_IP   # so that a test on the host reaches pods
  ip route add $SVC_CIDR via $NODE_IP   # and service addresses
fi
