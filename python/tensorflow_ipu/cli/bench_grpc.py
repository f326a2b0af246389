"""A model on a server as the target of a benchmark. Needs tensorflow-serving-api."""

from __future__ import annotations

import json
import random
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from tensorflow_ipu.cli.bench_point import Load, Point, Setting
from tensorflow_ipu.cli.command_error import CommandError

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_REPORT_SECONDS = 0.1
# Calls that are due but not answered; when there are more, the next ones are made late, and count from when
# they were due.
_MAX_IN_FLIGHT = 2000


class ServedModel:
    """One signature of a model on a server.

    Raises:
      CommandError: no answer, no such model or signature, or tensorflow-serving-api is not installed.
    """

    def __init__(
        self, address: str, model: str, version: int | None, signature: str, rest: str | None = None
    ) -> None:
        try:
            import grpc
            from tensorflow_serving.apis import (
                get_model_metadata_pb2,
                predict_pb2,
                prediction_service_pb2_grpc,
            )
        except ImportError as error:
            raise CommandError(f"--server needs pip install 'tensorflow-ipu[client]': {error}") from None
        self._grpc = grpc
        self._predict_pb2 = predict_pb2
        self._stats_url = f"{rest.rstrip('/')}/v1/models/{model}/stats" if rest else None
        options = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        self._channels = [grpc.insecure_channel(address, options) for _ in range(4)]
        # The request is serialised once, and no answer is parsed: the client should not be what is measured.
        self._calls: list[Any] = [channel.unary_unary(_PREDICT) for channel in self._channels]
        self._request = predict_pb2.PredictRequest()
        self._request.model_spec.name = model
        self._request.model_spec.signature_name = signature
        if version is not None:
            self._request.model_spec.version.value = version
        ask = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        ask.model_spec.CopyFrom(self._request.model_spec)
        ask.model_spec.signature_name = ""
        try:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channels[0])
            answer = stub.GetModelMetadata(ask, timeout=30)
        except grpc.RpcError as error:
            raise CommandError(f"{address}: {error.code().name}: {error.details()}") from None
        signatures = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        if signature not in signatures.signature_def:
            raise CommandError(
                f"{model} has no signature {signature!r}; it has "
                f"{', '.join(sorted(signatures.signature_def))}."
            )
        self._inputs = dict(signatures.signature_def[signature].inputs)

    def drive(
        self,
        setting: Setting,
        load: Load,
        seconds: float,
        warm_up_seconds: float,
        progress: Callable[[float], object],
    ) -> Point:
        """Calls the server until the time is over, and waits for the answers.

        `progress` is called with the share of the time that is over.
        """
        request = self._predict_pb2.PredictRequest()
        request.CopyFrom(self._request)
        for name, info in self._inputs.items():
            request.inputs[name].CopyFrom(_random_tensor(info, load.rows or 1))
        driver = _Driver(self._calls, request.SerializeToString(), self._grpc, load, seconds, warm_up_seconds)
        before = self._statistics()
        warm = False

        def watch(share: float) -> None:
            nonlocal before, warm
            if not warm and share * (seconds + warm_up_seconds) >= warm_up_seconds:
                before, warm = self._statistics(), True
            progress(share)

        driver.run(watch)
        return driver.point(setting, _fill(before, self._statistics()))

    def _statistics(self) -> dict[str, int]:
        if self._stats_url is None:
            return {}
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(self._stats_url, timeout=10) as response:
                answer = json.load(response)
        except (OSError, ValueError) as error:
            raise CommandError(f"{self._stats_url}: {error}") from None
        return {name: _total(answer, name) for name in ("rows", "padded_rows")}


def _total(answer: Any, name: str) -> int:
    """The sum of a counter over all versions and signatures."""
    if isinstance(answer, Mapping):
        return sum(
            value if key == name and isinstance(value, int) else _total(value, name)
            for key, value in answer.items()
        )
    if isinstance(answer, list):
        return sum(_total(value, name) for value in answer)
    return 0


def _fill(before: dict[str, int], after: dict[str, int]) -> float | None:
    if not after:
        return None
    rows, padded = (after[name] - before[name] for name in ("rows", "padded_rows"))
    return rows / (rows + padded) if rows + padded > 0 else None


def _random_tensor(info: Any, rows: int) -> Any:
    import numpy as np
    import tensorflow as tf

    dims = [dim.size for dim in info.tensor_shape.dim]
    shape = [(rows if i == 0 else 1) if size < 0 else size for i, size in enumerate(dims)]
    dtype = tf.as_dtype(info.dtype)
    if dtype == tf.string:
        values = np.full(shape, b"", dtype=object)
    elif dtype.is_floating or dtype.is_complex:
        values = np.random.default_rng(1).random(shape).astype(dtype.as_numpy_dtype)
    else:  # may be indices
        values = np.zeros(shape, dtype.as_numpy_dtype)
    return tf.make_tensor_proto(values, dtype)


class _Driver:
    """One measurement. Answers come in gRPC's threads."""

    def __init__(
        self,
        calls: list[Any],
        request: bytes,
        grpc: Any,
        load: Load,
        seconds: float,
        warm_up_seconds: float,
    ) -> None:
        self._calls = calls
        self._request = request
        self._grpc = grpc
        self._load = load
        self._seconds = seconds
        self._warm_up_seconds = warm_up_seconds
        self._changed = threading.Condition()
        # Guarded by _changed:
        self._in_flight = 0
        self._made = 0
        self._stopping = False
        self._latencies: list[float] = []
        self._failed = 0
        self._failure = ""
        self._last_answer = 0.0

    def run(self, progress: Callable[[float], object]) -> None:
        self._start = time.perf_counter()
        self._measured_from = self._start + self._warm_up_seconds
        self._end = self._measured_from + self._seconds
        try:
            if self._load.rate:
                self._open_loop(self._load.rate, progress)
            else:
                for _ in range(self._load.concurrency or 1):
                    self._make(time.perf_counter())
                self._watch(progress)
        finally:
            with self._changed:
                self._stopping = True
                self._changed.wait_for(lambda: self._in_flight == 0)

    def point(self, setting: Setting, fill: float | None) -> Point:
        latencies = sorted(self._latencies)

        def quantile(share: float) -> float:
            return latencies[min(int(share * len(latencies)), len(latencies) - 1)] * 1e6 if latencies else 0.0

        seconds = max(self._last_answer - self._measured_from, 1e-9)
        per_second = len(latencies) / seconds if latencies else 0.0
        return Point(
            setting=setting,
            load=self._load,
            calls=len(latencies),
            failed=self._failed,
            failure=self._failure,
            calls_per_second=per_second,
            rows_per_second=per_second * (self._load.rows or 1),
            p50_us=quantile(0.5),
            p90_us=quantile(0.9),
            p99_us=quantile(0.99),
            max_us=quantile(1.0),
            fill=fill,
        )

    def _watch(self, progress: Callable[[float], object]) -> None:
        while (now := time.perf_counter()) < self._end:
            progress(self._share(now))
            with self._changed:
                if self._changed.wait_for(
                    lambda: self._in_flight == 0, min(_REPORT_SECONDS, self._end - now)
                ):
                    return  # failures have ended all calls

    def _open_loop(self, rate: float, progress: Callable[[float], object]) -> None:
        gaps = random.Random(1)
        due = reported = self._start
        while (due := due + gaps.expovariate(rate)) < self._end:
            while (now := time.perf_counter()) < due:
                if now - reported >= _REPORT_SECONDS:
                    progress(self._share(now))
                    reported = now
                time.sleep(min(due - now, _REPORT_SECONDS))
            with self._changed:
                self._changed.wait_for(lambda: self._in_flight < _MAX_IN_FLIGHT)
            self._make(due)

    def _share(self, now: float) -> float:
        return (now - self._start) / (self._end - self._start)

    def _make(self, due: float) -> None:
        with self._changed:
            self._in_flight += 1
            self._made += 1
            call = self._calls[self._made % len(self._calls)]
        future = call.future(self._request, timeout=300)
        future.add_done_callback(lambda answered: self._answer(answered, due))

    def _answer(self, future: Any, due: float) -> None:
        now = time.perf_counter()
        failure = (
            "" if future.code() == self._grpc.StatusCode.OK else f"{future.code().name}: {future.details()}"
        )
        with self._changed:
            if due >= self._measured_from:
                self._last_answer = max(self._last_answer, now)
                if failure:
                    self._failed += 1
                else:
                    self._latencies.append(now - due)
            if failure and not self._failure:
                self._failure = failure
            again = not (self._load.rate or failure or self._stopping or now >= self._end)
            if not again:
                self._in_flight -= 1
                self._changed.notify_all()
                return
            self._in_flight -= 1
        self._make(now)
