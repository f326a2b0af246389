"""How a client proves the server, and itself."""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass


@dataclass(frozen=True)
class TLS:
    """PEM texts. `ca`: who signs servers' certificates, or None for those that the system trusts.
    `certificate` and `key`: the client's own, where the server asks for them. `server_name`: the name in the
    server's certificate, where it is not that of the address.
    """

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    server_name: str | None = None

    def ssl_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=None if self.ca is None else self.ca.decode())
        if self.certificate is not None and self.key is not None:
            # ssl takes a client's certificate from a file only.
            with tempfile.NamedTemporaryFile() as file:
                file.write(self.certificate + b"\n" + self.key)
                file.flush()
                context.load_cert_chain(file.name)
        return context
