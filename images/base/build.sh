#!/usr/bin/env bash
# Makes a base image without a registry, from Debian's packages: build.sh tiny|debian [tag]
# tiny: busybox, s6 and execline, about 9 MB; debian: Debian with apt, git, ssh and s6, about 180 MB.
# Does nothing when the tag already holds an image made from the same inputs.
# For a machine without a package mirror, 'build.sh packages DIR' elsewhere puts what tiny is made of into a folder:
#   DEVSANCTUM_PACKAGES=DIR   make tiny from the packages in this folder
set -euo pipefail

usage() {
  echo "usage: $0 tiny|debian [tag], or $0 packages DIR" >&2
  exit 64
}
flavour=${1:-}
[[ $flavour =~ ^(tiny|debian|packages)$ ]] || usage
[[ $flavour != packages || -n ${2:-} ]] || usage
tag=${2:-devsanctum/base:$flavour}
# Absolute before the working folder changes: where packages are put, and where they are taken from.
[[ $flavour != packages ]] || to=$(realpath -m "$2")
from=''
[[ $flavour != tiny || -z ${DEVSANCTUM_PACKAGES:-} ]] || from=$(realpath "$DEVSANCTUM_PACKAGES")
cd "$(dirname "$0")"
suite=${SUITE:-bookworm}
# Times inside the image: a fixed moment, so that equal inputs give equal bytes.
export SOURCE_DATE_EPOCH=1700000000

say() { printf '[%3ds] %s\n' "$SECONDS" "$*"; }
die() {
  printf '%s: %s\n' "$0" "$*" >&2
  exit 1
}
need() { command -v "$1" >/dev/null || die "needs '$1'; install it (apt-get install $2)"; }

if [[ $flavour != packages ]]; then
  need docker docker.io
  need dpkg-deb dpkg
  [[ $flavour = tiny ]] || need mmdebstrap mmdebstrap
  docker version >/dev/null || die "no Docker engine answers; start it, or set DOCKER_HOST"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

tiny_packages=(busybox-static execline libc6 libexecline2.9 libs6-2.11 libskarnet2.13 s6)
debian_packages=(ca-certificates curl execline git less openssh-server procps s6 sudo tini)

# Versions that would be used now, with their checksums: together with these files they decide the image.
inputs() {
  cat build.sh
  find root tiny -type f -print0 | sort -z | xargs -0 sha256sum
  if [[ -n $from ]]; then
    (cd "$from" && sha256sum ./*.deb)
  elif [[ $flavour = tiny ]]; then
    apt-get --print-uris download "${tiny_packages[@]}" 2>/dev/null | awk '{print $2, $4}' | sort
  else
    apt-cache policy "${debian_packages[@]}" base-files libc6 | grep -E '^[a-z]|Candidate'
  fi
}

# Files of ours that both flavours carry.
add_ours() {
  cp -r root/. "$1/"
  chmod 755 "$1/init"
  mkdir -p "$1/etc/services.d" "$1/etc/cont-init.d" "$1/run/service"
}

# fetch DIR: downloads the packages that tiny is made of.
fetch() {
  say "fetching ${#tiny_packages[@]} packages"
  mkdir -p "$1"
  local download=(apt-get -qq -o APT::Sandbox::User=root download "${tiny_packages[@]}")
  # Lists that are too old name packages that are no longer there.
  (cd "$1" && { "${download[@]}" || { apt-get -qq update && "${download[@]}"; }; }) || die "cannot fetch Debian's packages"
}

build_tiny() {
  local root=$work/root lib
  lib=lib/$(uname -m)-linux-gnu
  local package packages=${from:-$work/packages}
  [[ -n $from ]] || fetch "$packages"
  for package in "${tiny_packages[@]}"; do
    compgen -G "$packages/${package}_*.deb" >/dev/null || die "$packages lacks package $package"
  done
  say "unpacking"
  mkdir -p "$work/all" "$root"/{bin,dev,etc,home/dev,lib,proc,root,run,sys,tmp,usr/bin,usr/lib,var}
  for package in "${tiny_packages[@]}"; do dpkg-deb -x "$packages/${package}"_*.deb "$work/all"; done
  cp "$work/all/bin/busybox" "$root/bin/"
  for applet in $("$root/bin/busybox" --list); do
    [[ $applet = busybox ]] || ln -s busybox "$root/bin/$applet"
  done
  cp -P "$work"/all/usr/bin/* "$root/usr/bin/"
  # Only what s6 is linked with, and what looks up users.
  mkdir -p "$root/$lib" "$root/lib64"
  cp -L "$work/all/$lib"/{libc.so.6,libnss_files.so.2} "$root/$lib/"
  find "$work/all" \( -name 'libskarnet.so.*' -o -name 'libs6.so.*' -o -name 'libexecline.so.*' \) -exec cp -P {} "$root/$lib/" \;
  cp -L "$work/all/$lib"/ld-linux* "$root/$lib/"
  find "$work/all/lib64" -name 'ld-linux*' -exec cp -L {} "$root/lib64/" \; 2>/dev/null || true
  cp -r tiny/. "$root/"
  add_ours "$root"
  chmod 1777 "$root/tmp"
  chown -R 0:0 "$root"
  chown 1000:1000 "$root/home/dev"
  pack "$root"
}

build_debian() {
  say "bootstrapping Debian $suite (about a minute of CPU)"
  mkdir "$work/ours"
  add_ours "$work/ours"
  mmdebstrap --quiet --variant=apt --include="$(
    IFS=,
    echo "${debian_packages[*]}"
  )" \
    --aptopt='Apt::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --customize-hook='chroot "$1" useradd -m -u 1000 -s /bin/bash dev' \
    --customize-hook='rm -rf "$1"/etc/ssh/ssh_host_* "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/log/*' \
    --customize-hook="cp -r '$work/ours/.' \"\$1/\"" \
    --customize-hook='printf "%s\n" "Dir::Cache::pkgcache \"\";" "Dir::Cache::srcpkgcache \"\";" >"$1/etc/apt/apt.conf.d/99no-cache-files"' \
    "$suite" "$work/root.tar"
}

# Sorted, with one time and numeric owners: equal trees give equal bytes.
pack() {
  tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --numeric-owner --format=gnu -C "$1" -cf "$work/root.tar" .
}

if [[ $flavour = packages ]]; then
  fetch "$to"
  exit 0
fi
digest() { inputs | sha256sum | cut -c1-64; }
label=io.devsanctum.base-inputs
if [[ $(docker image inspect -f "{{index .Config.Labels \"$label\"}}" "$tag" 2>/dev/null) = "$(digest)" ]]; then
  say "$tag is up to date"
  exit 0
fi
"build_$flavour"
say "importing $(($(stat -c %s "$work/root.tar") / 1000000)) MB as $tag"
docker import \
  -c 'CMD ["/init"]' \
  -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  -c "LABEL $label=$(digest)" \
  "$work/root.tar" "$tag" >/dev/null
say "made $tag ($(sha256sum "$work/root.tar" | cut -c1-12))"
