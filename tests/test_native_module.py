"""The native module: one file that is the op library and the extension, quiet, with errors as StatusError."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_ipu._runtime import native, ops


def doubling_header(**changes: object) -> str:
    header = {
        "name": "doubling",
        "iterations": 4,
        "schedule": "SEQUENTIAL",
        "target": {
            "num_ipus": 1,
            "ipu": {
                "architecture": "ipu2",
                "tiles_per_ipu": 1472,
                "memory_per_tile": 638976,
                "cpu": "x86-64-v3",
            },
        },
        "infeeds": [{"name": "x", "type": "FLOAT32", "dims": [4]}],
        "outfeeds": [{"name": "y"}],
        "outfeed_values": [{"source": "STAGE_RESULT"}],
        "stages": [{"name": "body", "arguments": [{"source": "INFEED"}]}],
        "timeout_us": 5000,
    }
    return json.dumps(header | changes)


@pytest.fixture(scope="module")
def doubling_hlo() -> bytes:
    double = tf.function(lambda x: x * 2.0, jit_compile=True, autograph=False)
    return double.experimental_get_compiler_ir(tf.zeros([4]))(stage="hlo_serialized")


@pytest.fixture
def executable(tmp_path: Path, doubling_hlo: bytes) -> str:
    path = str(tmp_path / "doubling.ipu")
    native.compile(doubling_header(), [doubling_hlo], path)
    return path


def start(path: str, name: str) -> tf.Tensor:
    return ops.application_runtime(inputs=[], filename=path, engine_name=name)


def call(x: tf.Tensor, anchor: tf.Tensor, name: str) -> tf.Tensor:
    return ops.application_call(infeeds=[x], anchor=anchor, engine_name=name, outfeed_types=[tf.float32])[0]


def test_ops_and_functions_see_the_same_engines(executable: str) -> None:
    anchor = start(executable, "shared")
    np.testing.assert_array_equal(call(tf.constant([1.0, 2, 3, 4]), anchor, "shared"), [2, 4, 6, 8])
    assert "shared" in native.engine_names()
    statistics = native.engine_statistics("shared")
    assert statistics["calls"] == statistics["steps"] == statistics["call_time"]["count"] == 1
    assert statistics["fill"]["p50"] == 100
    native.stop_engine("shared")
    assert "shared" not in native.engine_names()
    with pytest.raises(tf.errors.FailedPreconditionError, match="Engine shared does not exist"):
        call(tf.zeros([4]), anchor, "shared")


def test_a_handle_keeps_an_engine_beyond_its_function(executable: str) -> None:
    @tf.function(autograph=False)
    def run(x: tf.Tensor) -> tf.Tensor:
        return call(x, start(executable, "kept"), "kept")

    run(tf.zeros([4]))
    handle = native.keep_engine("kept")
    assert (handle.name, handle.holds) == ("kept", True)
    del run
    assert "kept" in native.engine_names()
    handle.release()
    handle.release()
    assert not handle.holds
    assert "kept" not in native.engine_names()


def test_graph_of_unknown_executable_can_be_built() -> None:
    with tf.Graph().as_default():
        filename = tf.compat.v1.placeholder(tf.string)
        anchor = ops.application_runtime(inputs=[], filename=filename, engine_name="later")
        result = call(tf.zeros([2, 2]), anchor, "later")
    assert anchor.shape == [] and anchor.dtype == tf.int32
    assert result.shape.rank is None


def test_a_running_engine_needs_no_file(executable: str) -> None:
    anchor = start(executable, "no_file")
    handle = native.keep_engine("no_file")
    Path(executable).unlink()
    anchor = start(executable, "no_file")
    np.testing.assert_array_equal(call(tf.ones([4]), anchor, "no_file"), [2, 2, 2, 2])
    native.stop_engine("no_file")
    handle.release()


def test_a_stopped_engine_starts_again(executable: str) -> None:
    @tf.function(autograph=False)
    def run(x: tf.Tensor) -> tf.Tensor:
        return call(x, start(executable, "again"), "again")

    run(tf.ones([4]))
    native.stop_engine("again")
    np.testing.assert_array_equal(run(tf.ones([4])), [2, 2, 2, 2])


def test_errors_carry_code_and_message(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.ipu")
    for function in (native.inspect, native.digest, native.check_compatibility):
        with pytest.raises(native.StatusError, match="missing.ipu") as raised:
            function(missing)
        assert raised.value.code == tf.errors.NOT_FOUND
        assert raised.value.args == (raised.value.code, raised.value.message)
    for function in (native.keep_engine, native.engine_statistics, native.stop_engine):
        with pytest.raises(native.StatusError, match="nobody"):
            function("nobody")


def test_inspect_names_fields_as_the_proto_does(executable: str) -> None:
    header = json.loads(native.inspect(executable))
    assert header["infeeds"] == [{"name": "x", "type": "FLOAT32", "dims": ["4"]}]
    assert header["outfeeds"][0]["dims"] == ["4"]
    assert header["dynamic_batch"] is False
    assert len(native.digest(executable)) == 64
    native.check_compatibility(executable)
    identity = json.loads(native.runtime_identity())
    assert identity["build"] == header["build"]


def test_header_must_be_json_of_a_header(tmp_path: Path, doubling_hlo: bytes) -> None:
    for header in ("{", doubling_header(no_such_field=1)):
        with pytest.raises(native.StatusError, match="ExecutableHeader") as raised:
            native.compile(header, [doubling_hlo], str(tmp_path / "x.ipu"))
        assert raised.value.code == tf.errors.INVALID_ARGUMENT
    assert not (tmp_path / "x.ipu").exists()


def test_progress_is_told_and_may_raise(tmp_path: Path, doubling_hlo: bytes) -> None:
    told: list[tuple[str, float]] = []
    native.compile(
        doubling_header(),
        [doubling_hlo],
        str(tmp_path / "a.ipu"),
        progress=lambda what, done: told.append((what, done)),
    )
    assert told and all(what and 0 <= done <= 1 for what, done in told)

    def interrupt(what: str, done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        native.compile(doubling_header(), [doubling_hlo], str(tmp_path / "b.ipu"), progress=interrupt)


def test_loading_is_quiet() -> None:
    def output_of(program: str) -> list[str]:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]

    alone = output_of("import tensorflow")
    ours = output_of("import tensorflow; from tensorflow_ipu import _runtime")
    assert len(ours) == len(alone), "\n".join(ours)
