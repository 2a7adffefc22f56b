"""A mail server that keeps what it is given: `smtp_server.py FOLDER CERTIFICATE KEY`. Prints the port it listens on.

Signs in `mailer` with the password `post horse`, and takes nothing from anybody else. Refuses refused@example.com for good,
and each mail to later@example.com once. STARTTLS is there.
"""

import asyncio
import pathlib
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

folder, certificate, key = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]


class Keep:
    def __init__(self):
        self.taken = 0
        self.put_off = set()

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address == "refused@example.com":
            return "550 5.1.1 there is nobody of that name"
        if address == "later@example.com" and address not in self.put_off:
            self.put_off.add(address)
            return "451 4.7.1 come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.taken += 1
        part = folder / f"{self.taken:04}.part"
        part.write_bytes(envelope.content)
        part.rename(folder / f"{self.taken:04}-{envelope.rcpt_tos[0]}.eml")
        return "250 taken"


def signed_in(server, session, envelope, mechanism, data):
    known = (data.login, data.password) == (b"mailer", b"post horse")
    return AuthResult(success=known, handled=False)


tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.load_cert_chain(certificate, key)
keep = Keep()


def connection():
    rules = {"authenticator": signed_in, "auth_required": True, "auth_require_tls": False, "tls_context": tls}
    return SMTP(keep, hostname="mail.example.com", loop=asyncio.get_running_loop(), **rules)


async def serve():
    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(serve())
