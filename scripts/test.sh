#!/usr/bin/env bash
# Runs every test. Simulations want nothing but processors; half of the others' time is waiting for daemons. So the two run side
# by side, and simulations give way: what measures its patience must not wait for them.
set -euo pipefail
cd "$(dirname "$0")/.."
test=(cargo test --locked --profile gate)
"${test[@]}" --no-run

log=target/tmp/simulations.log others=target/tmp/others.log
mkdir -p target/tmp
# A simulation is a process of a second: it keeps what memory it has (see scripts/proof.sh).
memory=background_thread:false,dirty_decay_ms:-1,muzzy_decay_ms:-1,narenas:1,thp:always
TIMEFORMAT='They took %R s, in which processors worked %U s for them, and %S s within the system.'
# A process group of its own: all of it ends with this script.
set -m
(time MALLOC_CONF=$memory RUST_TEST_THREADS=$(nproc) nice -n 10 chrt --batch 0 "${test[@]}" --test it -- sim:: --show-output) \
  >"$log" 2>&1 &
simulations=$!
set +m
trap 'kill -- "-$simulations" 2>/dev/null || true' EXIT
echo "Simulations run beside the other tests; what they say comes last ($log)."

failed=0
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}
"${test[@]}" -- --skip sim:: 2>&1 | tee "$others" || failed=1
tail -n +1 -f --pid="$simulations" "$log"
wait "$simulations" || failed=1
# What failed comes last, where it is looked for.
((failed)) && sed -n '/^failures:$/,/^test result: FAILED/p' "$others" "$log" >&2
exit $failed
