#!/bin/sh
# Brings the whole cluster up; a part that runs already is left alone.
set -eu
here=$(dirname "$0"); . "$here/env.sh"
mkdir -p "$RUN"
# The kubelet sets these three for the whole machine; down.sh sets them back.
[ -s "$RUN/sysctls" ] || sysctl vm.overcommit_memory kernel.panic kernel.panic_on_oops >"$RUN/sysctls"
for part in certs network control-plane node; do sh "$here/$part.sh"; done
