# sftp: the server that OpenSSH brings; where distributions put it.
for program in /usr/lib/openssh/sftp-server /usr/lib/ssh/sftp-server /usr/libexec/openssh/sftp-server \
  /usr/libexec/sftp-server; do
  [ -x "$program" ] && exec "$program"
done
echo "this workspace's image has no sftp-server: add the package openssh-sftp-server to its template (scp -O does without)" >&2
exit 127
