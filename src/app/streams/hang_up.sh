# hang_up SESSION: what was started for a session that nobody listens to any more is told so, as by a terminal that is closed.
for dir in /proc/[0-9]*; do
  { read -r stat <"$dir/stat" && variables=$(tr '\0' '\n' <"$dir/environ"); } 2>/dev/null || continue
  set -f
  # shellcheck disable=SC2086
  set -- "$1" ${stat##*) }
  # What the engine starts has no parent here; what it started in turn may be meant to stay.
  [ "$3" = 0 ] || continue
  case "
$variables
" in
  *"
DEVSANCTUM_SESSION=$1
"*)
    pid=${dir#/proc/}
    kill -HUP -- "-$pid" 2>/dev/null || kill -HUP "$pid" ;;
  esac
done
