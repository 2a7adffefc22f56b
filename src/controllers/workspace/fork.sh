# Fills each folder below /to with what is in the one of the same name below /from, once.
# Argument: what comes before both (nothing, but in tests).
set -e
[ ! -e "$1/copied" ] || exit 0
for to in "$1"/to/*; do
  find "$to" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
  code=0
  words=$(LC_ALL=C cp -a "$1/from/${to##*/}/." "$to/" 2>&1) || code=$?
  [ "$code" != 0 ] || continue
  # What the other workspace removed meanwhile is no failure, and trying again would meet the next.
  failures=$(printf '%s\n' "$words" | grep -v "/from/[^/]*/\./.*: No such file or directory$") || true
  if [ "$code" != 1 ] || [ -z "$words" ] || [ -n "$failures" ]; then
    printf '%s\n' "${failures:-$words}" >&2
    exit "$code"
  fi
done
touch "$1/copied"
