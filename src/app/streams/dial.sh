# dial HOST PORT: a connection, with whatever the image has for it. Says "connected" once it stands.
if command -v bash >/dev/null; then
  exec bash -c '
    exec 3<>"/dev/tcp/$1/$2" 4<&0 || exit 1
    echo connected >&2
    cat <&4 >&3 &
    cat <&3
    kill $! 2>/dev/null' dial "$1" "$2"
fi
if command -v python3 >/dev/null; then
  exec python3 -c '
import os, socket, sys, threading
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
except OSError as e:
    sys.exit(str(e))
print("connected", file=sys.stderr, flush=True)
def inward():
    while data := os.read(0, 65536):
        s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=inward, daemon=True).start()
while data := s.recv(65536):
    while data:
        data = data[os.write(1, data):]
os._exit(0)' "$1" "$2"
fi
if command -v nc >/dev/null; then
  # It tells nothing once it stands; one that is refused ends at once, and in failure.
  exec 4<&0
  nc "$1" "$2" <&4 &
  sleep 0.1
  if kill -0 $! 2>/dev/null || wait $!; then
    echo connected >&2
  fi
  wait $!
  exit
fi
echo "the workspace's image has none of bash, python3 and nc, one of which connections are made with" >&2
exit 127
