"""Where a server is, and how it is spoken to."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass

from tensorflow_ipu_client.tls import TLS

_FORMS = "expected host:port, unix:/path, grpc://host:port, grpcs://host:port, http://host:port or https://host:port"


@dataclass(frozen=True)
class Address:
    """`target` is what gRPC takes; `host` and `port` are set for REST."""

    is_rest: bool
    target: str
    host: str
    port: int
    tls: TLS | None


def parse_address(text: str, tls: TLS | bool | None) -> Address:
    if tls is True:
        tls = TLS()
    elif tls is False:
        tls = None
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "grpc", text
    if scheme in ("https", "grpcs"):
        tls = tls or TLS()
    if scheme in ("grpc", "grpcs"):
        if not rest:
            raise ValueError(f'found "{text}", {_FORMS}')
        return Address(False, rest, "", 0, tls)
    if scheme not in ("http", "https"):
        raise ValueError(f'found "{text}", {_FORMS}')
    url = urllib.parse.urlsplit(text)
    if not url.hostname or url.path not in ("", "/") or url.query:
        raise ValueError(f'found "{text}", {_FORMS}')
    if scheme == "http" and tls is not None:
        raise ValueError(f'found "{text}" with TLS, expected https://')
    return Address(True, "", url.hostname, url.port or (443 if scheme == "https" else 80), tls)
