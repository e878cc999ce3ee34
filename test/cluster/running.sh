#!/bin/sh
# Succeeds when a part of the cluster runs.
set -u
here=$(dirname "$0"); . "$here/env.sh"; . "$here/lib.sh"
for file in "$RUN"/*.pid; do
  [ -e "$file" ] && runs "$(basename "$file" .pid)" && exit 0
done
exit 1
