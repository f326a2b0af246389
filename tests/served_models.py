"""Small SavedModels for tests of the server, and calls of its REST API."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2


def write_adder(base: Path, version: int, addend: float) -> Path:
    """A version of a model that adds `addend` to its input "x", float32 [None]. It appears whole."""

    class Adder(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.addend = tf.Variable(float(addend))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": x + self.addend}

    module = Adder()
    return _save(base, version, module, {"serving_default": module.serve})


class Gate:
    """A version of a model whose calls wait inside it until released, and then return their input."""

    def __init__(self, base: Path, version: int) -> None:
        base.mkdir(parents=True, exist_ok=True)
        # To write to a pipe is to wait until somebody reads it.
        self._entered, self._left = base / f"entered-{version}", base / f"left-{version}"
        os.mkfifo(self._entered)
        os.mkfifo(self._left)
        entered, left = str(self._entered), str(self._left)

        class Model(tf.Module):
            @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
            def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
                with tf.control_dependencies([tf.io.write_file(entered, "entered")]):
                    with tf.control_dependencies([tf.io.write_file(left, "left")]):
                        return {"y": tf.identity(x)}

        module = Model()
        _save(base, version, module, {"serving_default": module.serve})

    def wait_for_call(self) -> None:
        """Returns when a call is inside."""
        self._entered.read_text()

    def release_call(self) -> None:
        """Lets it go on."""
        self._left.read_text()

    @contextmanager
    def open(self) -> Iterator[None]:
        """As long as this lasts, calls wait for nothing."""
        readers = [os.open(pipe, os.O_RDWR | os.O_NONBLOCK) for pipe in (self._entered, self._left)]
        try:
            yield
        finally:
            for reader in readers:
                os.close(reader)


class HangingLoad(Gate):
    """A version of a model whose load waits inside it until released: its warm-up request is such a call."""

    def __init__(self, base: Path, version: int) -> None:
        super().__init__(base, version)
        write_warmup(base / str(version), [1.0])


def write_warmup(version: Path, x: list[float]) -> None:
    """One request before the version is served."""
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.name = "any"
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(x))
    folder = version / "assets.extra"
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


def write_vocabulary(base: Path, version: int, words: list[str]) -> Path:
    """A version that returns for each number of "x", float32 [None], its word in a file, an asset."""
    base.mkdir(parents=True, exist_ok=True)
    file = base / "words.txt"
    file.write_text("".join(f"{word}\n" for word in words))

    class Vocabulary(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = tf.lookup.StaticHashTable(
                tf.lookup.TextFileInitializer(
                    str(file),
                    tf.int64,
                    tf.lookup.TextFileIndex.LINE_NUMBER,
                    tf.string,
                    tf.lookup.TextFileIndex.WHOLE_LINE,
                ),
                "?",
            )

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"word": self.table.lookup(tf.cast(x, tf.int64))}

    module = Vocabulary()
    path = _save(base, version, module, {"serving_default": module.serve})
    file.unlink()
    return path


def write_batch_size(base: Path, version: int) -> Path:
    """A version of a model that returns for each row how many rows were run with it."""

    class BatchSize(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"rows": tf.fill(tf.shape(x), tf.shape(x)[0])}

    module = BatchSize()
    return _save(base, version, module, {"serving_default": module.serve})


def _save(base: Path, version: int, module: tf.Module, signatures: dict[str, Any]) -> Path:
    unfinished = base / f"unfinished-{version}"
    tf.saved_model.save(module, str(unfinished), signatures=signatures)
    path = base / str(version)
    unfinished.rename(path)
    return path


def request(url: str, body: Any = None, timeout: float = 60.0) -> tuple[int, Any]:
    """Status and decoded answer of a GET, or of a POST when there is a body. Status 0: no answer."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=timeout) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return 0, None


def predict(rest: str, model: str, instances: list[Any], where: str = "") -> tuple[int, Any]:
    """POST :predict. `where` is "/versions/3" or "/labels/stable"."""
    return request(f"{rest}/v1/models/{model}{where}:predict", {"instances": instances})


def states(rest: str, model: str) -> dict[int, tuple[str, str]]:
    """State and error message of each version; empty when the model is not known."""
    status, answer = request(f"{rest}/v1/models/{model}")
    if status != 200:
        return {}
    return {
        int(one["version"]): (one["state"], one["status"]["error_message"])
        for one in answer["model_version_status"]
    }


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 60.0) -> Any:
    """Waits for what happens in another process, and returns the condition's value."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.01)
    return value
