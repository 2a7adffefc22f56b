#!/bin/sh
# Has this host's Docker Engine listen for DevSanctum over TLS, beside its socket. Run it as root.
set -efu
own=/etc/docker/devsanctum
conf=/etc/docker/daemon.json
no() { echo "$1" >&2 && exit 1; }
by_hand() { no "$1, and stays: put $own/daemon.json into $conf, take -H off docker.service (systemctl edit), restart it"; }
ask() { docker info -f "$1" 2>/dev/null || :; }
dockerd=$(command -v dockerd) || no 'there is no dockerd: install Docker Engine 20.10 or newer'
[ "$(ask {{.Swarm.LocalNodeState}})" != active ] || no 'dockerd does not start in a swarm with live-restore: docker swarm leave'
mkdir -p $own
chmod 700 $own
theirs=
[ ! -e $conf ] || cmp -s $conf $own/daemon.json || theirs=1
FILES
[ -z "$theirs" ] || by_hand "$conf is yours"
unit=
flags=
if systemctl cat docker.service >/dev/null 2>&1; then
  show='systemctl show docker.service -p'
  unit=$($show ExecStart)
  unit=${unit#*]=}
  set -- ${unit%% ;*}
  while shift && [ $# -gt 0 ]; do
    case $1 in
    -H | --host) [ "${2-}" = fd:// ] && shift || by_hand "docker.service has $1 ${2-}" ;;
    --host=fd://) ;;
    --containerd=*) flags="$flags $1" ;;
    \$*)
      { $show Environment && cat /etc/default/docker /etc/sysconfig/docker; } 2>/dev/null |
        grep "^[^#]*${1#?}=.*-" >&2 && by_hand "docker.service has $1"
      flags="$flags $1"
      ;;
    *) by_hand "docker.service has $1" ;;
    esac
  done
fi
case $(ask {{.LiveRestoreEnabled}}{{.ContainersRunning}}) in
false[1-9]*) echo 'dockerd starts anew: this once, what runs here stops' ;;
esac
cp $own/daemon.json $conf
if [ -n "$unit" ]; then
  dir=/etc/systemd/system/docker.service.d
  mkdir -p $dir
  cat >$dir/devsanctum.conf <<END
[Service]
ExecStart=
ExecStart=$dockerd$flags
END
  systemctl daemon-reload
  systemctl restart docker.service
else
  echo 'there is no docker.service: start dockerd anew'
fi
