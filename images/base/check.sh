#!/usr/bin/env bash
# Checks a base image on the engine of DOCKER_HOST: check.sh [tag]. Leaves nothing behind.
set -euo pipefail

image=${1:-devsanctum/base:tiny}
name=devsanctum-base-check-$$
work=$(mktemp -d)
trap 'docker rm -f "$name" >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
fail() {
  echo "FAILED: $*" >&2
  exit 1
}
inside() { docker exec "$name" "$@"; }
# Waits up to five seconds for a command to hold.
soon() {
  for _ in $(seq 50); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  return 1
}
served() { [[ $(inside s6-svstat -o up /run/service/web) = true ]]; }
restarted() { [[ $(inside s6-svstat -o pid /run/service/web) != "$1" ]] && served; }

# A service as a template would bring one, run by the unprivileged user; another that ignores SIGTERM.
mkdir -p "$work/web" "$work/deaf"
printf '#!/bin/sh\nexec s6-setuidgid dev sleep 100000\n' >"$work/web/run"
printf '#!/bin/sh\ntrap "" TERM\nwhile :; do sleep 1; done\n' >"$work/deaf/run"
chmod 755 "$work"/*/run
docker create --name "$name" --network none "$image" >/dev/null
docker cp "$work/." "$name:/etc/services.d/"
docker start "$name" >/dev/null

soon served || fail "the service does not run: $(docker logs "$name" 2>&1 | tail -3)"
[[ $(inside cat /proc/1/comm) = s6-svscan ]] || fail "PID 1 is $(inside cat /proc/1/comm)"
[[ $(inside id -u dev) = 1000 ]] || fail "user dev has not uid 1000"
pid=$(inside s6-svstat -o pid /run/service/web)
[[ $(inside stat -c %u "/proc/$pid") = 1000 ]] || fail "the service does not run as dev"
inside kill -9 "$pid"
soon restarted "$pid" || fail "a killed service does not come back"
inside sh -c 'sh -c "sleep 0.2 &" & wait; sleep 0.5'
! inside sh -c 'cat /proc/[0-9]*/stat' 2>/dev/null | grep -q ') Z ' || fail "there are zombies"
# The tiny image is also the probe on a server.
tools="sh df cat git curl"
[[ $image != *tiny* ]] || tools="sh df cat nc timeout httpd"
for tool in $tools; do inside sh -c "command -v $tool" >/dev/null || fail "no $tool"; done
for turn in first second; do
  start=$(date +%s%N)
  docker stop "$name" >/dev/null
  took=$((($(date +%s%N) - start) / 1000000))
  code=$(docker inspect -f '{{.State.ExitCode}}' "$name")
  [[ $code = 0 && $took -lt 4000 ]] || fail "the $turn stop took $took ms and exited with $code"
  [[ $turn = second ]] && break
  docker start "$name" >/dev/null
  soon served || fail "the service does not run after a restart"
  # The rest of the check is about a well-behaved service.
  inside s6-svc -dk /run/service/deaf
  sleep 0.5
done
[[ $took -lt 2000 ]] || fail "stopping well-behaved services took $took ms"
echo "$image: PID 1 is s6-svscan, services come back, stop took $took ms"
