#!/bin/sh
# Measures the release binary and prints one table; notes go to standard error. Takes about 15 minutes.
# Needs root, dockerd and traefik; docker-compose v2 in PATH is the peer and may be missing.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked -p devsanctum -p devsanctum-bench
bench=${CARGO_TARGET_DIR:-target}/release/devsanctum-bench
echo '| what | measured | beside | ratio | goal |'
echo '|---|---|---|---|---|'
"$bench" api
"$bench" rollout --count 50
"$bench" rollout --count 200 --runs 1
"$bench" repair
"$bench" route
"$bench" gateway
"$bench" idle
"$bench" many
"$bench" inside
"$bench" environments
"$bench" lifecycle
"$bench" placement
"$bench" access
