"""Just enough of HTTP/2 to send what a gRPC client never would."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from types import TracebackType

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
# What HPACK makes of the letters of "grpc-status".
HUFFMAN = dict(
    zip("grpc-stau", "100110 101100 101011 00100 010110 01000 01001 00011 101101".split(), strict=True)
)
NO_TABLE = struct.pack(">HI", 1, 0)  # as settings: header fields are sent whole
NO_WINDOW = struct.pack(">HI", 4, 0)  # as settings: streams may send nothing


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def field(name: bytes, value: bytes) -> bytes:
    """A header field as a literal, without an index."""
    assert len(name) < 127 and len(value) < 127
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def message(body: bytes, compressed: bool = False) -> bytes:
    return bytes([compressed]) + struct.pack(">I", len(body)) + body


class RawHttp2:
    """A client's connection: what it sends is up to the test."""

    def __init__(self, port: int, settings: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, NO_TABLE + settings))
        self._received = self.socket.makefile("rb")
        # The server's windows are in force when its settings are acknowledged.
        next(kind for kind, *_ in self.frames() if kind == SETTINGS)
        self.send(frame(SETTINGS, ACK, 0))

    def __enter__(self) -> RawHttp2:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """Whether the server still takes it."""
        try:
            self.socket.sendall(data)
        except (ConnectionError, BrokenPipeError):
            return False
        return True

    def call(
        self, stream: int, path: str, fields: dict[str, str] | None = None, flags: int = END_HEADERS
    ) -> bool:
        block = field(b":method", b"POST") + field(b":scheme", b"http") + field(b":path", path.encode())
        block += (
            field(b":authority", b"x")
            + field(b"content-type", b"application/grpc")
            + field(b"te", b"trailers")
        )
        for name, value in (fields or {}).items():
            block += field(name.encode(), value.encode())
        return self.send(frame(HEADERS, flags, stream, block))

    def data(self, stream: int, payload: bytes, last: bool = False) -> bool:
        return self.send(frame(DATA, END_STREAM if last else 0, stream, payload))

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """What the server sends, until it closes."""
        try:
            while len(head := self._received.read(9)) == 9:
                size = int.from_bytes(head[:3], "big")
                number = int.from_bytes(head[5:9], "big")
                yield head[3], head[4], number, self._received.read(size)
        except ConnectionError:
            return

    def status_of(self, stream: int) -> int | None:
        """The gRPC status that ends a call; None when there is none."""
        for kind, flags, number, payload in self.frames():
            if kind == HEADERS and number == stream and flags & END_STREAM:
                bits = "".join(HUFFMAN[letter] for letter in "grpc-status")
                bits += "1" * (-len(bits) % 8)
                _, found, rest = payload.partition(int(bits, 2).to_bytes(len(bits) // 8, "big"))
                return int(rest[1 : 1 + rest[0]]) if found else None
        return None
