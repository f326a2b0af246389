"""Sends calls over gRPC."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import grpc

from tensorflow_ipu_client.errors import Code, ServingError
from tensorflow_ipu_client.grpc_calls import GrpcCall
from tensorflow_ipu_client.tls import TLS

T = TypeVar("T")
# Retries are the client's (retry.py): those of the library would multiply them.
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
]


def _credentials(tls: TLS) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)


def _options(tls: TLS | None) -> list[tuple[str, Any]]:
    if tls is None or tls.server_name is None:
        return list(_OPTIONS)
    return [*_OPTIONS, ("grpc.ssl_target_name_override", tls.server_name)]


def _serving_error(error: Any) -> ServingError:
    retry_after = None
    for key, value in error.trailing_metadata() or ():
        try:
            if key == "grpc-retry-pushback-ms":
                retry_after = float(value) / 1000
            elif key == "retry-after" and retry_after is None:
                retry_after = float(value)
        except ValueError:
            pass
    return ServingError(Code(error.code().value[0]), error.details() or "", retry_after)


class GrpcTransport:
    def __init__(self, target: str, tls: TLS | None) -> None:
        if tls is None:
            self._channel = grpc.insecure_channel(target, _options(tls))
        else:
            self._channel = grpc.secure_channel(target, _credentials(tls), _options(tls))

    def send(self, call: GrpcCall[T], timeout: float | None, headers: dict[str, str]) -> T:
        try:
            method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(call.method)
            answer = method(call.request, timeout=timeout, metadata=tuple(headers.items()))
        except grpc.RpcError as error:
            raise _serving_error(error) from None
        return call.parse(answer)

    def close(self) -> None:
        self._channel.close()


class AsyncGrpcTransport:
    """Its channel belongs to the loop of the first call."""

    def __init__(self, target: str, tls: TLS | None) -> None:
        self._target, self._tls = target, tls
        self._channel: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def _open(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._channel is None:
            self._loop = loop
            if self._tls is None:
                self._channel = grpc.aio.insecure_channel(self._target, _options(self._tls))
            else:
                self._channel = grpc.aio.secure_channel(
                    self._target, _credentials(self._tls), _options(self._tls)
                )
        if loop is not self._loop:
            raise RuntimeError("An AsyncClient belongs to one event loop: make one in each")
        return self._channel

    async def send(self, call: GrpcCall[T], timeout: float | None, headers: dict[str, str]) -> T:
        try:
            answer = await self._open().unary_unary(call.method)(
                call.request, timeout=timeout, metadata=tuple(headers.items())
            )
        except grpc.aio.AioRpcError as error:
            raise _serving_error(error) from None
        return call.parse(answer)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
