# start NAME COMMAND...: runs it in the cluster's network namespace, with a pid file and a log.
start() {
  n=$1; shift
  if runs "$n"; then return 0; fi
  setsid nohup nsenter --net="/run/netns/$NS" "$@" >"$RUN/$n.log" 2>&1 </dev/null &
  echo $! >"$RUN/$n.pid"
}

# runs NAME: whether it was started and has not ended. One that ended and was not reaped yet is a
# zombie, which `kill -0` takes for alive; and after a restart of this machine its number may be
# another program's, which does not have RUN in its environment.
runs() {
  [ -s "$RUN/$1.pid" ] || return 1
  p=/proc/$(cat "$RUN/$1.pid")
  grep -q '^State:.[^Z]' "$p/status" 2>/dev/null && grep -qz "^RUN=$RUN\$" "$p/environ" 2>/dev/null
}

# wait_for SECONDS NAME COMMAND...: until it succeeds; at once an error when NAME ended instead.
wait_for() {
  until=$(($(date +%s) + $1)); part=$2; shift 2
  until "$@" >/dev/null 2>&1; do
    if ! runs "$part"; then
      echo "$part ended; the end of $RUN/$part.log:" >&2
      tail -n 5 "$RUN/$part.log" >&2
      return 1
    fi
    if [ "$(date +%s)" -gt "$until" ]; then
      echo "$part: not ready in time: $*; see $RUN/$part.log" >&2
      return 1
    fi
    sleep 0.2
  done
}
