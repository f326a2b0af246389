"""The client for programs without an event loop."""

from __future__ import annotations

import time
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


class Client:
    """Calls a server over gRPC ("host:port") or REST ("http://host:port"). Thread-safe.

    Close it, or use it in a `with`. Each call takes `timeout`, in seconds, for all of its attempts (None: no
    limit); `priority` ("high" goes before what waits for the device); and `headers`, which are gRPC metadata
    or HTTP headers, on top of the client's own. A call that fails raises ServingError.
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
            from tensorflow_ipu_client.rest_transport import RestTransport

            self._transport = RestTransport(where.host, where.port, where.tls)
        else:
            from tensorflow_ipu_client.grpc_transport import GrpcTransport

            self._transport = GrpcTransport(where.target, where.tls)

    def predict(
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
            return self._run(grpc_calls.predict(target, inputs, outputs), attempts, sent)
        signature = self._settings.known_signature(target)
        if signature is None:
            learnt = self._run(rest_calls.metadata(target), attempts, sent)
            signature = self._settings.learn_signature(target, learnt)
        return self._run(rest_calls.predict(target, inputs, outputs, signature), attempts, sent)

    def classify(
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
        return self._call(call, timeout, priority, headers)

    def regress(
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
        return self._call(call, timeout, priority, headers)

    def multi_inference(
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
        return self._call(grpc_calls.multi_inference(tasks, examples, context), timeout, priority, headers)

    def status(
        self, model: ModelName, *, timeout: Timeout = USE_DEFAULT, headers: Mapping[str, str] | None = None
    ) -> list[VersionStatus]:
        """The state of each version."""
        call = (rest_calls if self._is_rest else grpc_calls).status(model_of(model))
        return self._call(call, timeout, None, headers)

    def metadata(
        self, model: ModelName, *, timeout: Timeout = USE_DEFAULT, headers: Mapping[str, str] | None = None
    ) -> dict[str, Signature]:
        """The signatures by name: what goes in and what comes out."""
        call = (rest_calls if self._is_rest else grpc_calls).metadata(model_of(model))
        return self._call(call, timeout, None, headers)

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(
        self, call: Call[T], timeout: Timeout, priority: Priority | None, headers: Mapping[str, str] | None
    ) -> T:
        return self._run(call, self._settings.attempts(timeout), self._settings.headers(priority, headers))

    def _run(self, call: Call[T], attempts: Attempts, headers: dict[str, str]) -> T:
        while True:
            try:
                answer: T = self._transport.send(call, attempts.left(), headers)
                return answer
            except ServingError as error:
                time.sleep(attempts.wait_after(error))
