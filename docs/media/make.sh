#!/usr/bin/env bash
# Records docs/media/quickstart.svg: runs the real commands against this machine's installation (make up) and draws
# what they printed. Needs python3-venv; `rich` draws.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=scripts/common.sh
source scripts/common.sh
tools=$PWD/target/tools/media
[[ -x $tools/bin/python ]] || python3 -m venv "$tools"
"$tools/bin/pip" --quiet --disable-pip-version-check install 'rich>=14'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/bin"
ln -s "$(realpath "$binary")" "$work/bin/devsanctum"
export PATH=$work/bin:$PATH DEVSANCTUM_STATE=$state COLUMNS=110
url() { devsanctum get -n quickstart workspace/hello -o 'jsonpath={.status.services[0].url}'; }

# run COMMAND: shows a prompt and the command, and its output as on a terminal.
run() {
  printf '\e[1;32m$\e[0m \e[1m%s\e[0m\n' "$1"
  script -qec "stty cols 110; $1" /dev/null </dev/null | tr -d '\r'
  printf '\n'
}

{
  run "make up"
  run "devsanctum get all -A"
  run "curl -s $(url)"
  run "docker kill \$(docker ps -qf label=devsanctum.io/name=hello)"
  sleep 3
  run "curl -s $(url)"
  run "devsanctum events -n quickstart | tail -n 4"
} >"$work/cast"
"$tools/bin/python" docs/media/draw.py "$work/cast" docs/media/quickstart.svg
