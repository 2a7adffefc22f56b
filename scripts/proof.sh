#!/usr/bin/env bash
# Plays every fault there is, for hours, and writes docs/PROOF.md: what was really played, and how it ended.
set -euo pipefail
cd "$(dirname "$0")/.."
export DEVSANCTUM_POINTS=${POINTS:-1}
export DEVSANCTUM_DOUBLES=${DOUBLES:-10000} DEVSANCTUM_SEEDS=${SEEDS:-100000}
export DEVSANCTUM_KILLS=${KILLS:-1000} DEVSANCTUM_MODEL_STEPS=${STEPS:-1000000} DEVSANCTUM_REAL_PLANS=all
read -ra what <<<"${PROOF:-sim:: model::the_api store::kills store::cut store::backups store::migrating e2e::faults \
  engine_contract:: proxy_contract::}"
# The real runs wait most of the time.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) + 1))}
log=target/proof.log
commit=$(git describe --always --dirty)
begun=$(date +%s)
cargo test --locked --profile gate --test it -- --nocapture --include-ignored --skip a_simulation --skip sim::again "${what[@]}" 2>&1 |
  tee "$log" | grep --line-buffered -E 'proof:|FAILED|^test result' || true
SECONDS_EACH=${FUZZ:-600} scripts/fuzz.sh 2>&1 | tee -a "$log" | grep --line-buffered -E 'proof:|ERROR' || true
took=$(( $(date +%s) - begun ))
{
  echo '# Proof'
  echo
  echo "What \`make proof\` played on $(date -u +%F), commit $commit, in $((took / 60)) minutes on $(nproc) cores."
  echo 'What each line means is in [TESTING](TESTING.md).'
  echo
  echo '| what | played | failed |'
  echo '|---|---|---|'
  sed -n 's/^.*proof: \([a-z -]*\) \([0-9]*\) played, \([0-9]*\) failed.*/\1|\2|\3/p' "$log" |
    awk -F'|' '{n[$1] += $2; f[$1] += $3} END {for (w in n) printf "| %s | %d | %d |\n", w, n[w], f[w]}' | sort
  echo
  sed -n 's/^test result: /All tests of it: /p' "$log"
  echo
  echo '## What found the planted bugs'
  echo
  sed -n 's/^.*\b\([A-Z][A-Za-z]*\): in \([a-z-]*\), after \([0-9]*\) crash points: \(.*\)/- **\1**, in `\2` after \3 crash points: \4/p' "$log"
} > docs/PROOF.md
cat docs/PROOF.md
! grep -qE '^test result: FAILED|proof: .* [1-9][0-9]* failed' "$log"
