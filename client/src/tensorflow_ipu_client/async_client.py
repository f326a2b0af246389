"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorflow_ipu_client import grpc_calls, rest_calls
from tensorflow_ipu_client.errors import Code, ServingError
from tensorflow_ipu_client.examples import Features
from tensorflow_ipu_client.requests import (
    DEFAULT_TIMEOUT,
    USE_DEFAULT,
    Call,
    ModelName,
    Priority,
    Settings,
    Timeout,
    check_features,
    model_of,
)
from tensorflow_ipu_client.results import Class, Signature, Task, VersionStatus
from tensorflow_ipu_client.retry import Attempts, Retry
from tensorflow_ipu_client.tls import TLS

T = TypeVar("T")


class AsyncClient:
    """Client for one event loop: the same calls, awaited. Cancelling one cancels it at the server.

    Over REST, calls run in asyncio's threads.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: TLS | bool | None = None,
        retry: Retry = Retry(),  # noqa: B008
        timeout: float | None = DEFAULT_TIMEOUT,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = Settings(address, tls, retry, timeout, headers)
        where = self._settings.address
        self._is_rest = where.is_rest
        self._transport: Any
        if where.is_rest:
            from tensorflow_ipu_client.rest_transport import AsyncRestTransport

            self._transport = AsyncRestTransport(where.host, where.port, where.tls)
        else:
            from tensorflow_ipu_client.grpc_transport import AsyncGrpcTransport

            self._transport = AsyncGrpcTransport(where.target, where.tls)

    async def predict(
        self,
        model: ModelName,
        inputs: Mapping[str, ArrayLike],
        *,
        outputs: Sequence[str] = (),
        timeout: Timeout = USE_DEFAULT,
        priority: Priority | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """The model's outputs by name. Python's own numbers are sent as float32 and int32."""
        target = model_of(model)
        attempts, sent = self._settings.attempts(timeout), self._settings.headers(priority, headers)
        if not self._is_rest:
            return await self._run(grpc_calls.predict(target, inputs, outputs), attempts, sent)
        signature = self._settings.known_signature(target)
        if signature is None:
            learnt = await self._run(rest_calls.metadata(target), attempts, sent)
            signature = self._settings.learn_signature(target, learnt)
        return await self._run(rest_calls.predict(target, inputs, outputs, signature), attempts, sent)

    async def classify(
        self,
        model: ModelName,
        examples: Sequence[Features],
        *,
        context: Features | None = None,
        timeout: Timeout = USE_DEFAULT,
        priority: Priority | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> list[list[Class]]:
        """Classes with scores, for each row of features."""
        check_features(examples)
        call = (rest_calls if self._is_rest else grpc_calls).classify(model_of(model), examples, context)
        return await self._call(call, timeout, priority, headers)

    async def regress(
        self,
        model: ModelName,
        examples: Sequence[Features],
        *,
        context: Features | None = None,
        timeout: Timeout = USE_DEFAULT,
        priority: Priority | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> NDArray[np.float32]:
        """A value for each row of features."""
        check_features(examples)
        call = (rest_calls if self._is_rest else grpc_calls).regress(model_of(model), examples, context)
        return await self._call(call, timeout, priority, headers)

    async def multi_inference(
        self,
        tasks: Sequence[Task],
        examples: Sequence[Features],
        *,
        context: Features | None = None,
        timeout: Timeout = USE_DEFAULT,
        priority: Priority | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> list[list[list[Class]] | NDArray[np.float32]]:
        """For each task what classify or regress would return, from one run over the rows. Not over REST."""
        check_features(examples)
        if self._is_rest:
            raise ServingError(Code.UNIMPLEMENTED, "The REST API has no MultiInference: call over gRPC")
        return await self._call(
            grpc_calls.multi_inference(tasks, examples, context), timeout, priority, headers
        )

    async def status(
        self, model: ModelName, *, timeout: Timeout = USE_DEFAULT, headers: Mapping[str, str] | None = None
    ) -> list[VersionStatus]:
        """The state of each version."""
        call = (rest_calls if self._is_rest else grpc_calls).status(model_of(model))
        return await self._call(call, timeout, None, headers)

    async def metadata(
        self, model: ModelName, *, timeout: Timeout = USE_DEFAULT, headers: Mapping[str, str] | None = None
    ) -> dict[str, Signature]:
        """The signatures by name: what goes in and what comes out."""
        call = (rest_calls if self._is_rest else grpc_calls).metadata(model_of(model))
        return await self._call(call, timeout, None, headers)

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(
        self, call: Call[T], timeout: Timeout, priority: Priority | None, headers: Mapping[str, str] | None
    ) -> T:
        return await self._run(
            call, self._settings.attempts(timeout), self._settings.headers(priority, headers)
        )

    async def _run(self, call: Call[T], attempts: Attempts, headers: dict[str, str]) -> T:
        while True:
            try:
                answer: T = await self._transport.send(call, attempts.left(), headers)
                return answer
            except ServingError as error:
                await asyncio.sleep(attempts.wait_after(error))
