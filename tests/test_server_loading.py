"""How versions are loaded: attempts after errors that may pass, and how many at the same time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from model_server import ModelServer, channel, threads
from served_models import (
    Gate,
    HangingLoad,
    predict,
    states,
    wait_until,
    write_adder,
    write_vocabulary,
    write_warmup,
)
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

RETRIED = "failed and will be tried again"
# A file that can be opened, and never has room for what is written.
FULL = Path("/dev/full")


def write_noting_model(base: Path, note: Path) -> None:
    """A model that is loaded when something can be written to the file `note`."""
    path = str(note)

    class Noting(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            with tf.control_dependencies([tf.io.write_file(path, "called")]):
                return {"y": tf.identity(x)}

    module = Noting()
    tf.saved_model.save(module, str(base / "1"), signatures={"serving_default": module.serve})
    write_warmup(base / "1", [1.0])


def flags(base: Path, *more: str) -> list[str]:
    return [f"--model_base_path={base}", "--model_name=m", *more]


def test_a_transient_error_that_heals_is_retried(tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.symlink_to(FULL)
    write_noting_model(tmp_path / "m", note)
    with ModelServer(
        *flags(tmp_path / "m", "--max_num_load_retries=1000000", "--load_retry_interval_micros=1000")
    ) as server:
        wait_until(lambda: server.log().count(RETRIED) > 3, "attempts")
        assert states(server.rest, "m")[1][0] == "LOADING"
        assert "No space left" in server.log()
        note.unlink()
        wait_until(lambda: predict(server.rest, "m", [1.5]) == (200, {"predictions": [1.5]}), "the model")
        assert states(server.rest, "m") == {1: ("AVAILABLE", "")}


@pytest.mark.parametrize("retries", [0, 2])
def test_attempts_are_as_many_as_the_flag_says(tmp_path: Path, retries: int) -> None:
    note = tmp_path / "note"
    note.symlink_to(FULL)
    write_noting_model(tmp_path / "m", note)
    with ModelServer(
        *flags(tmp_path / "m", f"--max_num_load_retries={retries}", "--load_retry_interval_micros=1000")
    ) as server:
        wait_until(lambda: states(server.rest, "m")[1][0] == "END", "the end of attempts")
        assert "No space left" in states(server.rest, "m")[1][1]
        assert server.log().count(RETRIED) == retries


def test_the_interval_between_attempts_is_waited_for(tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.symlink_to(FULL)
    write_noting_model(tmp_path / "m", note)
    # With an hour between them there is no second attempt, and the server starts after the first and ends.
    with ModelServer(*flags(tmp_path / "m", "--load_retry_interval_micros=3600000000")) as server:
        assert server.log().count(RETRIED) == 1
        assert states(server.rest, "m")[1][0] == "LOADING"
        assert server.stop() == 0


def test_a_permanent_error_is_final(tmp_path: Path) -> None:
    version = write_adder(tmp_path / "m", 1, 1.0)
    (version / "saved_model.pb").write_bytes(b"no SavedModel")
    with ModelServer(*flags(tmp_path / "m", "--load_retry_interval_micros=1000")) as server:
        assert states(server.rest, "m")[1][0] == "END"
        assert RETRIED not in server.log()


def test_caches_of_file_systems_may_be_kept(tmp_path: Path) -> None:
    write_adder(tmp_path / "m", 1, 1.0)
    # A local disk has none: that it is not asked to flush them can only be seen by the version being served.
    with ModelServer(*flags(tmp_path / "m", "--noflush_filesystem_caches")) as server:
        assert predict(server.rest, "m", [1.0]) == (200, {"predictions": [2.0]})


def write_config(folder: Path, names: Sequence[str]) -> Path:
    file = folder / "models.config"
    unfinished = folder / "models.unfinished"
    models = " ".join(f'config {{ name: "{name}" base_path: "{folder / name}" }}' for name in names)
    unfinished.write_text(f"model_config_list {{ {models} }}")
    unfinished.rename(file)
    return file


@pytest.mark.parametrize("count", [1, 2])
def test_versions_are_loaded_at_the_same_time(tmp_path: Path, count: int) -> None:
    names = ["a", "b", "c"]
    gates = {name: Gate(tmp_path / name, 1) for name in names}
    for name in names:
        write_warmup(tmp_path / name / "1", [1.0])
    config = write_config(tmp_path, names)
    with ModelServer(
        f"--model_config_file={config}", "--listen_while_loading", f"--num_load_threads={count}"
    ) as server:
        # All three were wanted before the server listened. A thread is in a version's warm-up until released.
        for name in names[:count]:
            gates[name].wait_for_call()
        # One more has the name: TensorFlow's thread for parts of operations, which a load thread made.
        assert threads(server, "load") == count + 1
        assert {states(server.rest, name)[1][0] for name in names} == {"LOADING"}
        for name in names[:count]:
            gates[name].release_call()
        for name in names[count:]:
            gates[name].wait_for_call()
            gates[name].release_call()
        for name in names:
            wait_until(lambda n=name: states(server.rest, n)[1][0] == "AVAILABLE", name)


@pytest.mark.parametrize("count", [1, 3])
def test_versions_are_unloaded_at_the_same_time(tmp_path: Path, count: int) -> None:
    version = write_adder(tmp_path / "source", 1, 1.0)
    names = [f"m{i}" for i in range(30)]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "1").symlink_to(version)
    config = write_config(tmp_path, names)
    with ModelServer(
        f"--model_config_file={config}",
        "--model_config_file_poll_wait_seconds=1",
        f"--num_unload_threads={count}",
    ) as server:
        # Threads are made when all others are busy, and stay: when that is depends on how fast each one is.
        for turn in range(1, 30):
            write_config(tmp_path, names[:1])
            wait_until(
                lambda turn=turn: server.log().count("Unloaded servable version") == 29 * turn,
                "the end of 29",
            )
            assert threads(server, "unload") <= count
            if threads(server, "unload") == count:
                break
            write_config(tmp_path, names)
            wait_until(
                lambda turn=turn: server.log().count("Successfully loaded") == 30 + 29 * turn, "all models"
            )
        assert threads(server, "unload") == count


def test_loads_that_hang_hold_up_nobody(tmp_path: Path) -> None:
    hanging = [HangingLoad(tmp_path / name, 1) for name in ("a", "b")]
    for name in ("c", "d"):
        write_adder(tmp_path / name, 1, 1.0)
    config = write_config(tmp_path, ["a", "b", "c"])
    # The server starts though both of its threads hang.
    with ModelServer(
        f"--model_config_file={config}", "--num_load_threads=2", "--load_timeout_seconds=1"
    ) as server:
        for name in ("a", "b"):
            state, reason = states(server.rest, name)[1]
            assert state == "LOADING" and "more than 1s" in reason
        assert "{name: a version: 1}: It has been loading for more than 1s" in server.log()
        assert predict(server.rest, "c", [1.0]) == (200, {"predictions": [2.0]})
        # Versions and models that come later are served, and reload calls answered.
        write_adder(tmp_path / "c", 2, 2.0)
        wait_until(lambda: predict(server.rest, "c", [1.0])[1] == {"predictions": [3.0]}, "version 2 of c")
        message = model_management_pb2.ReloadConfigRequest()
        for name in ("a", "b", "c", "d"):
            model = message.config.model_config_list.config.add(name=name)
            model.base_path, model.model_platform = str(tmp_path / name), "tensorflow"
        with channel(server) as connection:
            stub = model_service_pb2_grpc.ModelServiceStub(connection)
            assert stub.HandleReloadConfigRequest(message, timeout=60).status.error_code == 0
        assert predict(server.rest, "d", [1.0]) == (200, {"predictions": [2.0]})
        # One of them was only slow.
        with hanging[0].open():
            wait_until(lambda: predict(server.rest, "a", [1.0])[0] == 200, "model a")
        assert server.stop() == 0


def test_a_reload_call_tells_of_a_load_that_hangs(tmp_path: Path) -> None:
    HangingLoad(tmp_path / "a", 1)
    write_adder(tmp_path / "c", 1, 1.0)
    config = write_config(tmp_path, ["c"])
    with ModelServer(f"--model_config_file={config}", "--load_timeout_seconds=1") as server:
        message = model_management_pb2.ReloadConfigRequest()
        for name in ("a", "c"):
            model = message.config.model_config_list.config.add(name=name)
            model.base_path, model.model_platform = str(tmp_path / name), "tensorflow"
        with channel(server) as connection, pytest.raises(grpc.RpcError) as failed:
            model_service_pb2_grpc.ModelServiceStub(connection).HandleReloadConfigRequest(message, timeout=60)
        assert failed.value.code() == grpc.StatusCode.UNKNOWN
        assert "a (version 1: It has been loading for more than 1s" in failed.value.details()


def test_a_reload_call_does_not_keep_the_server_from_ending(tmp_path: Path) -> None:
    hanging = HangingLoad(tmp_path / "a", 1)
    write_adder(tmp_path / "c", 1, 1.0)
    config = write_config(tmp_path, ["c"])
    with ModelServer(f"--model_config_file={config}") as server:
        message = model_management_pb2.ReloadConfigRequest()
        model = message.config.model_config_list.config.add(name="a", base_path=str(tmp_path / "a"))
        model.model_platform = "tensorflow"
        with channel(server) as connection:
            call = model_service_pb2_grpc.ModelServiceStub(connection).HandleReloadConfigRequest.future(
                message
            )
            hanging.wait_for_call()
            assert server.stop() == 0
            assert call.code() == grpc.StatusCode.CANCELLED
            assert "shutting down" in call.details()


@pytest.mark.parametrize(
    "name",
    [
        "saved_model.pb",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
        "assets/words.txt",
        "assets.extra/tf_serving_warmup_requests",
        "fingerprint.pb",
        "batching_params.pbtxt",
    ],
)
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_only_regular_files_are_opened(tmp_path: Path, name: str, kind: str) -> None:
    if name.startswith("assets/"):
        version = write_vocabulary(tmp_path / "m", 1, ["a"])
    else:
        version = write_adder(tmp_path / "m", 1, 1.0)
    file = version / name
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    os.mkfifo(file) if kind == "pipe" else file.mkdir()
    with ModelServer(
        *flags(tmp_path / "m", "--enable_batching", "--enable_per_model_batching_parameters")
    ) as server:
        state, reason = states(server.rest, "m")[1]
        assert state == "END"
        assert f"{name} is a {'FIFO' if kind == 'pipe' else 'directory'}, expected a regular file" in reason
