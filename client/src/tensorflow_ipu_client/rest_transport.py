"""Sends calls over HTTP/1.1, on connections that are kept."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import http.client
import json
import socket
import ssl
import threading
import time
from typing import TypeVar

from tensorflow_ipu_client.errors import Code, ServingError
from tensorflow_ipu_client.rest_calls import RestCall
from tensorflow_ipu_client.tls import TLS

T = TypeVar("T")
_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ABORTED,
    412: Code.FAILED_PRECONDITION,
    413: Code.INVALID_ARGUMENT,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}
# How many connections are kept for the next calls.
_IDLE_CONNECTIONS = 16


def seconds_of_retry_after(value: str | None) -> float | None:
    """A number of seconds or an HTTP date; None for anything else."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _serving_error(status: int, body: bytes, retry_after: str | None) -> ServingError:
    try:
        message = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace") or http.client.responses.get(status, f"HTTP status {status}")
    return ServingError(_CODES.get(status, Code.UNKNOWN), message, seconds_of_retry_after(retry_after))


class _NamedHTTPSConnection(http.client.HTTPSConnection):
    """Checks the certificate for another name than the address's."""

    def __init__(self, host: str, port: int, tls: TLS) -> None:
        self._tls_context = tls.ssl_context()
        self._server_name = tls.server_name or host
        super().__init__(host, port, context=self._tls_context)

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls_context.wrap_socket(self.sock, server_hostname=self._server_name)


class RestTransport:
    """Thread-safe: a call has its connection for itself."""

    def __init__(self, host: str, port: int, tls: TLS | None) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._closed = False

    def send(self, call: RestCall[T], timeout: float | None, headers: dict[str, str]) -> T:
        connection = self.take()
        try:
            return self.send_on(connection, call, timeout, headers)
        finally:
            self.give_back(connection)

    def send_on(
        self,
        connection: http.client.HTTPConnection,
        call: RestCall[T],
        timeout: float | None,
        headers: dict[str, str],
    ) -> T:
        deadline = None if timeout is None else time.monotonic() + timeout
        if connection.sock is not None and not _is_fresh(connection.sock):
            connection.close()
        try:
            status, body, retry_after = _exchange(connection, call, deadline, headers)
        except TimeoutError:
            connection.close()
            raise ServingError(Code.DEADLINE_EXCEEDED, f"no answer in {timeout} s") from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ServingError(Code.UNAVAILABLE, f"{self._host}:{self._port}: {error!r}") from None
        if status != 200:
            raise _serving_error(status, body, retry_after)
        return call.parse(body)

    def take(self) -> http.client.HTTPConnection:
        with self._lock:
            if self._closed:
                raise ValueError("The client is closed")
            if self._idle:
                return self._idle.pop()
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port)
        return _NamedHTTPSConnection(self._host, self._port, self._tls)

    def give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if connection.sock is not None and not self._closed and len(self._idle) < _IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def _is_fresh(sock: socket.socket) -> bool:
    """Nothing has arrived on it, its end neither."""
    sock.settimeout(0)
    try:
        sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        pass
    return False


def _limit(connection: http.client.HTTPConnection, deadline: float | None) -> None:
    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and left <= 0:
        raise TimeoutError
    connection.timeout = left
    if connection.sock is not None:
        connection.sock.settimeout(left)


def _exchange(
    connection: http.client.HTTPConnection, call: RestCall[T], deadline: float | None, headers: dict[str, str]
) -> tuple[int, bytes, str | None]:
    _limit(connection, deadline)
    if connection.sock is None:
        connection.connect()
        assert connection.sock is not None
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _limit(connection, deadline)
    method = "GET" if call.body is None else "POST"
    connection.request(method, call.path, call.body, {"Content-Type": "application/json", **headers})
    _limit(connection, deadline)
    with connection.getresponse() as response:
        parts = []
        while part := response.read1(1 << 20):
            parts.append(part)
            if connection.sock is not None:
                _limit(connection, deadline)
        return response.status, b"".join(parts), response.headers.get("Retry-After")


def _drop(connection: http.client.HTTPConnection, done: asyncio.Future[T]) -> None:
    """After a call that nobody waits for."""
    connection.close()
    if not done.cancelled():
        done.exception()


class AsyncRestTransport:
    """The same in threads. Cancelling a call closes its connection, which cancels it at the server."""

    def __init__(self, host: str, port: int, tls: TLS | None) -> None:
        self._transport = RestTransport(host, port, tls)

    async def send(self, call: RestCall[T], timeout: float | None, headers: dict[str, str]) -> T:
        connection = self._transport.take()
        running = asyncio.ensure_future(
            asyncio.to_thread(self._transport.send_on, connection, call, timeout, headers)
        )
        try:
            answer = await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(lambda done: _drop(connection, done))
            if (sock := connection.sock) is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            raise
        except BaseException:
            self._transport.give_back(connection)
            raise
        self._transport.give_back(connection)
        return answer

    async def close(self) -> None:
        self._transport.close()
