#!/usr/bin/env bash
# Stops the control plane and its Traefik. Workspaces go on, and so does the Docker engine that carries them.
#   ALL=1   stop the engine too, and with it every container, if up.sh started it; take the firewall rules away
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
[[ -d $state ]] || die "nothing to stop: there is no state folder $state (DEVSANCTUM_STATE names another)"
[[ -x $binary ]] || die "there is no $binary; name the program with DEVSANCTUM_BINARY"
state=$(realpath "$state")
export DEVSANCTUM_STATE=$state

# The engine that up.sh started, if it is the one that runs: a number in a file may be another process by now.
engine_pid() {
  local pid
  pid=$(cat "$state/dockerd.pid" 2>/dev/null) && [[ $pid = "$(cat /var/run/docker.pid 2>/dev/null)" ]] &&
    [[ $(cat "/proc/$pid/comm" 2>/dev/null) = dockerd ]] && say "$pid"
}

# dockerd takes its pid file away last.
engine_gone() {
  for _ in {1..300}; do
    [[ -e /var/run/docker.pid ]] || return 0
    sleep 0.2
  done
  return 1
}

"$binary" down
if pid=$(engine_pid); then
  if [[ ${ALL:-} = 1 ]]; then
    open_host
    kill "$pid"
    step "stopping the Docker engine" engine_gone
    rm -f "$state/dockerd.pid"
  else
    say "the Docker engine (pid $pid) goes on with its containers; 'make down ALL=1' stops it too"
  fi
elif [[ ${ALL:-} = 1 ]]; then
  say "the Docker engine was not started by 'make up': it is left alone, and so are the firewall rules"
fi
