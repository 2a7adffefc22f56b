# Shared by up.sh and down.sh: where things are, and how progress is told. Sourced, not run.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.."
state=${DEVSANCTUM_STATE:-/var/lib/devsanctum}
# shellcheck disable=SC2034
binary=${DEVSANCTUM_BINARY:-${CARGO_TARGET_DIR:-target}/release/devsanctum}
# The quickstart's server is this machine's own engine, wherever the docker command points by default.
export DOCKER_HOST=unix:///var/run/docker.sock
# dockerd and iptables live in sbin, which a plain user's PATH lacks.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# As in src/proxy/traefik.rs.
oldest_traefik=3.7.9

say() { printf '%s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# step WORDS COMMAND…: runs a command; its output goes to a log, and is shown when it fails.
step() {
  local words=$1 began=$SECONDS log=$state/up.log
  shift
  (set -e && "$@") >>"$log" 2>&1 </dev/null &
  local pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    ((SECONDS - began < 2)) || { [[ -t 2 ]] && printf '\r%s … %d s ' "$words" $((SECONDS - began)) >&2; } || true
    sleep 0.1
  done
  [[ -t 2 ]] && printf '\r\033[K' >&2
  if ! wait "$pid"; then
    tail -n 15 "$log" >&2
    die "$words: failed; the whole output is in $log"
  fi
  ((SECONDS - began < 2)) || say "$words: done in $((SECONDS - began)) s"
}

# fits FILE: it is a Traefik that can be used.
fits() {
  local version
  version=$("$1" version 2>/dev/null | sed -n 's/^Version: *v\{0,1\}//p')
  [[ $version = [0-9]* ]] && printf '%s\n' "$oldest_traefik" "$version" | sort -CV
}

# Takes the firewall rules away, those of a version that kept them as lines in `firewall` too.
open_host() {
  local chain rule
  [[ ! -e $state/firewall.sh ]] || sh "$state/firewall.sh" open || return 1
  while read -r chain rule; do
    # shellcheck disable=SC2086
    while iptables -w -D "$chain" $rule 2>/dev/null; do :; done
  done < <(cat "$state/firewall" 2>/dev/null)
  rm -f "$state/firewall" "$state/firewall.sh"
}

engine_answers() { docker version >/dev/null 2>&1; }
