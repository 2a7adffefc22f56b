# Makes the folder that repositories go into, and puts credentials where git is told to look for them. Run as root.
# Arguments: folder, owner ('' for root), then names and sizes of what comes in, one after the other.
set -eu
where=$1 owner=$2
shift 2
[ -e "$where" ] || mkdir -p "$where"
# Only while nothing is in it: later it is its owner's to hand on.
if [ -n "$owner" ] && [ ! -L "$where" ] && [ -z "$(ls -A "$where")" ]; then
  chown "$owner" "$where"
fi
[ $# -gt 0 ] || exit 0
if ! grep -q ' /run/devsanctum tmpfs ' /proc/mounts; then
  echo "its container was made before credentials could be kept in memory: recreate it" >&2
  exit 1
fi
keep=/run/devsanctum/git
mkdir -p "$keep"
chmod 711 "$keep"
umask 077
while [ $# -gt 0 ]; do
  # No byte more than its own may be read.
  dd bs=1 count="$2" of="$keep/.$1" 2>/dev/null
  [ -z "$owner" ] || chown "$owner" "$keep/.$1"
  mv "$keep/.$1" "$keep/$1"
  shift 2
done
