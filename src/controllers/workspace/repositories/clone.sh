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
  rm -rf "$new"
  words=$(git clone "$@" ${depth:+--depth "$depth"} -- "$url" "$new" 2>&1)
}
absent() {
  case $words in
  *"Remote branch $1 not found"*) return 0 ;;
  *) return 1 ;;
  esac
}

if [ -n "$(ls -A "$dir" 2>/dev/null)" ]; then
  echo "there $(git -C "$dir" symbolic-ref --short -q HEAD 2>/dev/null)"
  exit 0
fi
words="the image has no git: add the package 'git' to its template"
command -v git >/dev/null || fail
# What a run that was broken off has left.
for old in "$where/.$name.cloning."*; do
  kill -0 "${old##*.}" 2>/dev/null || rm -rf "$old"
done
trap 'rm -rf "$new"' EXIT
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
