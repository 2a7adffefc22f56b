# Clones a repository into a folder of its name, unless there is something in that.
# Arguments: folder, name, address, branch, branch where that is missing, commits ('' for all), then settings for git.
set -u
export LC_ALL=C GIT_TERMINAL_PROMPT=0 GIT_ALLOW_PROTOCOL=http:https:ssh
# A connection that stands still for a minute is given up.
export GIT_HTTP_LOW_SPEED_LIMIT=1 GIT_HTTP_LOW_SPEED_TIME=60
where=$1 name=$2 url=$3 branch=$4 default=$5 depth=$6
shift 6
dir=$where/$name
new=$where/.$name.cloning.$$

fail() {
  printf '%s\n' "$words" >&2
  exit 1
}
take() {
  words=$(git clone "$@" ${depth:+--depth "$depth"} -- "$url" "$new" 2>&1)
}
absent() {
  case $words in
  *"Remote branch $1 not found"*) return 0 ;;
  *) return 1 ;;
  esac
}
leave_what_is_there() {
  [ -n "$(ls -A "$dir" 2>/dev/null)" ] || return 0
  echo "there $(git -C "$dir" symbolic-ref --short -q HEAD 2>/dev/null)"
  exit 0
}
# Whether a process is a run of this for the same folder: after a restart, another may have the number.
is_run() {
  case $({ tr '\0' '\n' <"/proc/$1/cmdline"; } 2>/dev/null) in
  *"
clone
$where
$name
"*) return 0 ;;
  *) return 1 ;;
  esac
}
# Sets 'other' to the run with the smallest number above $1 that is under way beside this one, if one is, and removes what those
# that were broken off have left.
look_for_others() {
  other=
  for old in "$where/.$name.cloning."*; do
    pid=${old##*.}
    if [ "$pid" = $$ ]; then
      continue
    elif ! is_run "$pid"; then
      rm -rf "$old"
    elif [ "$pid" -gt "$1" ] && { [ -z "$other" ] || [ "$pid" -lt "$other" ]; }; then
      other=$pid
    fi
  done
}
wait_for_others() {
  seconds=0
  while look_for_others "$1" && [ -n "$other" ]; do
    words="an earlier run (process $other in the workspace) is still cloning it; if that hangs, restart the workspace"
    [ "$seconds" -lt 300 ] || fail
    seconds=$((seconds + 1))
    sleep 1
  done
}

# A run goes on when whoever began it is gone, and what a second one brings would be put over what the first one brought. Each
# makes its folder before it looks for others, so that of two at least one sees the other. Who sees nobody clones at once. Who
# sees a smaller number steps back; who sees larger ones alone waits until each of those has stepped back or is done. A smaller
# one that comes later waits in turn, and nobody waits for it, so that no two ever wait for each other.
trap 'rm -rf "$new"' EXIT
while :; do
  wait_for_others 0
  leave_what_is_there
  words="the image has no git: add the package 'git' to its template"
  command -v git >/dev/null || fail
  rm -rf "$new"
  words=$(mkdir "$new" 2>&1) || fail
  look_for_others 0
  [ -n "$other" ] || break
  if [ "$other" -gt $$ ]; then
    wait_for_others $$
    break
  fi
  rm -rf "$new"
done
leave_what_is_there
taken=$branch
if ! take "$@" --branch "$taken"; then
  absent "$taken" || fail
  taken=$default
  if ! take "$@" --branch "$taken"; then
    absent "$taken" || fail
    # Into one that nothing was pushed to yet, the first branch is still to come.
    [ -z "$(git "$@" ls-remote "$url" 2>/dev/null)" ] && take "$@" || fail
  fi
fi
# It took a while: somebody may have begun to work there.
leave_what_is_there
rmdir "$dir" 2>/dev/null
if [ -d "$dir" ]; then
  # A volume is mounted there. What git needs comes last: without it, it is not a clone.
  for file in "$new"/* "$new"/.[!.]*; do
    [ "$file" = "$new/.git" ] || [ ! -e "$file" ] || mv "$file" "$dir/"
  done
  mv "$new/.git" "$dir/"
else
  mv "$new" "$dir"
fi
echo "cloned $taken"
