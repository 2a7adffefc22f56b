#!/usr/bin/env bash
# Plays every fault there is, for hours: `scripts/proof.sh` all of it, `scripts/proof.sh days real` these parts. What was
# really played goes into docs/proof.tsv, line by line as it ends, and docs/PROOF.md is written from that. Days by chance go
# on where the last run ended, SEEDS of them; all else is played anew.
set -euo pipefail
cd "$(dirname "$0")/.."
ledger=docs/proof.tsv
export DEVSANCTUM_POINTS=${POINTS:-1} DEVSANCTUM_DOUBLES=${DOUBLES:-10000} DEVSANCTUM_KILLS=${KILLS:-1000}
export DEVSANCTUM_MODEL_STEPS=${STEPS:-1000000} DEVSANCTUM_REAL_PLANS=all
run=$(date -u +%FT%TZ)
commit=$(git rev-parse --short HEAD)
[[ -z $(git status --porcelain -- src tests migrations Cargo.lock) ]] || commit+=-dirty
logs=target/proof
mkdir -p "$logs"
# A simulation is a process of a second: it keeps what memory it has, and its threads, which wait for each other all the
# time, do not drive each other from the processor. Together a tenth less time for a day.
export MALLOC_CONF=background_thread:false,dirty_decay_ms:-1,muzzy_decay_ms:-1,narenas:1,thp:always
quietly() { chrt --batch 0 "$@"; }
# A copy, so that what is built meanwhile is not what is played.
it=$logs/it.$$ failed=$logs/failed.$$
trap 'rm -f "$it" "$failed"' EXIT
build() {
  cargo test --locked --profile gate --test it --no-run 2>&1 | tee "$logs/build.log"
  cp "$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$logs/build.log")" "$it"
}
# Fuzz targets are programs of their own.
[[ $* = fuzz ]] || build

# Adds a part's lines to the ledger: when it was begun, on which commit, how long it took, what, how many, how many failed.
note() {
  local part=$1 minutes=$2
  {
    sed -n 's/^.*proof: \([a-z -]*\) \([0-9]*\) played, \([0-9]*\) failed.*/\1\t\2\t\3/p' "$logs/$part.log"
    sed -n "s/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed.*/tests of $part\t\1\t\2/p" "$logs/$part.log"
  } | awk -F'\t' -v run="$run" -v commit="$commit" -v minutes="$minutes" \
    '{n[$1] += $2; f[$1] += $3} END {for (w in n) printf "%s\t%s\t%d\t%s\t%d\t%d\n", run, commit, minutes, w, n[w], f[w]}' |
    sort | tee -a "$ledger"
  flock "$logs/lock" scripts/proof-page.sh
}

# Plays the tests of these names, noting as `part` what they say; any that fails makes the proof fail.
play() {
  local part=$1 begun=$SECONDS
  shift
  quietly "$it" --nocapture --include-ignored --skip a_simulation --skip sim::again "$@" \
    >"$logs/$part.log" 2>&1 || { echo "$part failed: $logs/$part.log" | tee -a "$failed" && tail -n 20 "$logs/$part.log"; }
  note "$part" $(((SECONDS - begun) / 60))
}

# Days by chance, in blocks, so that one that is cut off has lost little.
days() {
  local left=${SEEDS:-100000} block=2500 first
  while ((left > 0)); do
    ((block < left)) || block=$left
    first=$(awk -F'\t' '$4 == "days" && $6 == 0 {n += $5} END {print n + 1}' "$ledger")
    DEVSANCTUM_FIRST_SEED=$first DEVSANCTUM_SEEDS=$block play days sim::days
    [[ ! -e $failed ]] || return 0
    left=$((left - block))
  done
}

fuzz() {
  local begun=$SECONDS
  SECONDS_EACH=${FUZZ:-600} scripts/fuzz.sh >"$logs/fuzz.log" 2>&1 ||
    { echo "fuzz failed: $logs/fuzz.log" | tee -a "$failed" && tail -n 20 "$logs/fuzz.log"; }
  note fuzz $(((SECONDS - begun) / 60))
}

part() {
  case $1 in
    real) RUST_TEST_THREADS=3 play real e2e::faults ;;
    store) RUST_TEST_THREADS=2 play store store::kills store::cut store::backups store::migrating store::opening ;;
    contract) play contract engine_contract:: proxy_contract:: ;;
    planted) play planted sim::planted sim::track_record sim::one_seed ;;
    points) play points sim::points ;;
    views) play views sim::views ;;
    model) play model model::the_api ;;
    days) days ;;
    fuzz) fuzz ;;
    *) echo "no part $1: real store contract planted points views model fuzz days" >&2 && exit 2 ;;
  esac
}

parts=("$@")
((${#parts[@]})) || parts=(real store contract planted points views model fuzz days)
# What waits for daemons most of the time is played beside what wants processors, which gives way to it.
set -m
(for p in "${parts[@]}"; do [[ $p == @(real|store|contract) ]] && part "$p"; done; true) &
waiting=$!
set +m
trap 'rm -f "$it" "$failed"; kill -- "-$waiting" 2>/dev/null || true' EXIT
renice -n 10 $$ >/dev/null
for p in "${parts[@]}"; do
  [[ $p == @(real|store|contract) ]] || part "$p"
done
wait "$waiting"
cat docs/PROOF.md
if [[ -e $failed ]]; then
  cat "$failed" >&2
  exit 1
fi
