#!/usr/bin/env bash
# Runs every fuzz target, or those named, for SECONDS_EACH (60). What cargo-fuzz has a nightly compiler do, the stable one is
# told here by hand. Inputs that reached something new stay in fuzz/corpus; one that fails lies in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
targets=("$@")
((${#targets[@]})) || targets=(dockerfile manifest names patches rules selectors)
host=$(rustc -vV | sed -n 's/^host: //p')
# As the program is tested: the same versions of everything.
cp ../Cargo.lock Cargo.lock
# Naming the machine keeps these flags from build scripts.
RUSTFLAGS="--cfg fuzzing -Cdebug-assertions -Coverflow-checks -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares" cargo build --release --target "$host"
failed=0
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target" "artifacts/$target"
  log=$(mktemp)
  wrong=0
  "target/$host/release/$target" "corpus/$target" -artifact_prefix="artifacts/$target/" -max_total_time="${SECONDS_EACH:-60}" \
    -max_len=512 -print_final_stats=1 >"$log" 2>&1 || wrong=1
  runs=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
  ((!wrong)) || { failed=1 && tail -n 40 "$log"; }
  echo "proof: inputs to $target ${runs:-0} played, $wrong failed"
  rm "$log"
done
exit $failed
