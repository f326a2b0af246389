"""The embedded runtime: inputs, messages, and the life of engines, eagerly and inside tf.function."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_ipu import serving
from tensorflow_ipu.embedded_runtime import (
    RuntimeContext,
    embedded_runtime_call,
    embedded_runtime_start,
    embedded_runtime_start_and_call,
    embedded_runtime_stop,
)
from tensorflow_ipu.lowering import lower_function
from tensorflow_ipu.program import Program, Source, Stage, ValueRef, compile_program

SIGNATURE = [tf.TensorSpec([4], tf.float32), tf.TensorSpec([2], tf.int32)]


def step(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return x * 2, y + 1


def executable_of(directory: Path) -> str:
    return str(directory / "assets" / "executable.ipu")


@pytest.fixture(scope="module")
def executable(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("export") / "model"
    serving.export_single_step(step, str(directory), 4, SIGNATURE)
    return executable_of(directory)


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """x * scale + offset, with the two as start-up inputs."""
    scale, offset = tf.Variable([0.0] * 4, name="scale"), tf.Variable(0.0, name="offset")
    lowered = lower_function(
        lambda x: x * scale + offset, [tf.TensorSpec([4])], "scaled", freeze_variables=False
    )
    variables = [tf.TensorSpec(v.shape, v.dtype, f"XLA_Args/{v.name[:-2]}") for v in lowered.variables]
    program = Program(
        name="scaled",
        stages=[
            Stage(
                "scaled",
                0,
                lowered.hlo,
                [ValueRef(Source.INFEED, 0)]
                + [ValueRef(Source.STARTUP_INPUT, index) for index in range(len(variables))],
            )
        ],
        infeeds=[tf.TensorSpec([4], tf.float32, "x")],
        outfeed_names=["y"],
        outfeed_values=[ValueRef(Source.STAGE_RESULT, 0)],
        startup_inputs=variables,
    )
    path = str(tmp_path_factory.mktemp("scaled") / "scaled.ipu")
    compile_program(program, path)
    return path


@pytest.fixture
def context(executable: str, request: pytest.FixtureRequest) -> Any:
    context = embedded_runtime_start(executable, [], request.node.name)
    yield context
    embedded_runtime_stop(context)


X, Y = np.array([1, 2, 3, 4], np.float32), np.array([5, 6], np.int32)


@pytest.mark.parametrize(
    "inputs",
    [[X, Y], (X, Y), {"y": Y, "x": X}, [tf.constant(X), tf.constant(Y)], [[1, 2, 3, 4], [5, 6]]],
    ids=["list", "tuple", "dict", "tensors", "values"],
)
def test_calls(context: RuntimeContext, inputs: Any) -> None:
    doubled, incremented = embedded_runtime_call(inputs, context)
    assert doubled.numpy().tolist() == [2, 4, 6, 8]
    assert incremented.numpy().tolist() == [6, 7]


def test_a_context_tells_what_it_runs(context: RuntimeContext) -> None:
    assert context.name() == "test_a_context_tells_what_it_runs"
    assert context.output_types() == [tf.float32, tf.int32]
    assert context.signature().infeeds == [
        tf.TensorSpec([4], tf.float32, "x"),
        tf.TensorSpec([2], tf.int32, "y"),
    ]
    assert context.start_output().dtype == tf.int32


def test_inside_a_function(executable: str) -> None:
    @tf.function
    def run(x: tf.Tensor, y: tf.Tensor) -> Any:
        context = embedded_runtime_start(executable, [], "inside a function")
        outputs = embedded_runtime_call([x, y], context)
        assert [output.shape for output in outputs] == [[4], [2]]
        return outputs

    for value in range(3):
        assert run(X * value, Y)[0].numpy().tolist() == (X * value * 2).tolist()


def test_a_context_may_be_used_in_a_function(context: RuntimeContext) -> None:
    @tf.function
    def run(x: tf.Tensor) -> Any:
        total = tf.zeros([4])
        for _ in tf.range(5):
            total += embedded_runtime_call([x, Y], context)[0]
        return total

    assert run(X).numpy().tolist() == (X * 10).tolist()


def test_start_and_call(executable: str) -> None:
    outputs, context = embedded_runtime_start_and_call(executable, [], [X, Y], "start and call")
    assert outputs[0].numpy().tolist() == [2, 4, 6, 8]
    assert context.name() == "start and call"
    assert embedded_runtime_call([X * 2, Y], context)[0].numpy().tolist() == [4, 8, 12, 16]


@pytest.mark.parametrize("kind", [str, os.fsencode, Path, tf.constant, np.array])
def test_the_path_may_be_anything_that_holds_it(executable: str, kind: Callable) -> None:
    context = embedded_runtime_start(kind(executable), [], "paths", timeout=100)
    assert embedded_runtime_call([X, Y], context)[1].numpy().tolist() == [6, 7]


def test_start_up_inputs_are_given_once(scaled: str) -> None:
    inputs = {"XLA_Args/offset": 10.0, "XLA_Args/scale": tf.Variable([1.0, 2.0, 3.0, 4.0])}
    context = embedded_runtime_start(scaled, inputs, "scaled")
    try:
        assert embedded_runtime_call([X], context)[0].numpy().tolist() == [11, 14, 19, 26]
        attached = embedded_runtime_start(scaled, inputs, "scaled")
        assert embedded_runtime_call({"x": X * 0}, attached)[0].numpy().tolist() == [10] * 4
    finally:
        embedded_runtime_stop(context)


@pytest.mark.parametrize(
    "inputs, error, message",
    [
        ([X, Y, Y], ValueError, "Embedded application call expects 2 inputs, but 3 were provided."),
        ([], ValueError, "Embedded application call expects 2 inputs, but 0 were provided."),
        ({"x": X}, ValueError, "Failed to find input tensor with name 'y' in input dictionary."),
        (X, TypeError, "Expected the inputs to be a list."),
        (
            [X[:3], Y],
            ValueError,
            r"Mismatched input shape at position 0 \('x'\). Expected \[4\], but input 0 has shape \[3\].",
        ),
        (
            [X, Y.astype(np.float32)],
            TypeError,
            r"Mismatched input dtype at position 1 \('y'\). Expected tf.int32, but input 1 has dtype "
            r"tf.float32.",
        ),
    ],
)
def test_what_is_wrong_with_a_call(
    context: RuntimeContext, inputs: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        embedded_runtime_call(inputs, context)


@pytest.mark.parametrize(
    "inputs, message",
    [
        ([], "Embedded application runtime expects 2 inputs, but 0 were provided."),
        ({"offset": 1.0}, "Failed to find input tensor with name 'XLA_Args/.*' in input dictionary."),
        (None, "Expected the inputs to be a list."),
    ],
)
def test_what_is_wrong_with_a_start(scaled: str, inputs: Any, message: str) -> None:
    with pytest.raises(Exception, match=message):
        embedded_runtime_start(scaled, inputs, "wrong")


@pytest.mark.parametrize(
    ("name", "error"), [(5, TypeError), (None, TypeError), (b"engine", TypeError), ("", ValueError)]
)
def test_the_name_of_an_engine_is_a_string(executable: str, name: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="`name` must"):
        embedded_runtime_start(executable, [], name)


def test_start_up_inputs_are_checked(scaled: str) -> None:
    with pytest.raises(Exception, match=r"Mismatched input shape at position \d \('XLA_Args/offset'\)"):
        embedded_runtime_start(scaled, {"XLA_Args/offset": [1.0], "XLA_Args/scale": X}, "wrong")
    with pytest.raises(Exception, match=r"Mismatched input dtype at position \d \('XLA_Args/offset'\)"):
        embedded_runtime_start(scaled, {"XLA_Args/offset": tf.constant(1), "XLA_Args/scale": X}, "wrong")


def test_files_that_are_no_executables(executable: str, tmp_path: Path) -> None:
    with pytest.raises(tf.errors.NotFoundError):
        embedded_runtime_start(str(tmp_path / "nothing"), [], "bad file")
    contents = Path(executable).read_bytes()
    for name, data in {"cut": contents[:-10], "text": b"no executable", "empty": b""}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(tf.errors.OpError):
            embedded_runtime_start(str(tmp_path / name), [], "bad file")


def test_a_name_belongs_to_one_executable(context: RuntimeContext, scaled: str) -> None:
    with pytest.raises(tf.errors.AlreadyExistsError) as failure:
        embedded_runtime_start(scaled, {"XLA_Args/offset": 0.0, "XLA_Args/scale": X}, context.name())
    assert "\n" not in failure.value.message


def test_stopping(executable: str) -> None:
    context = embedded_runtime_start(executable, [], "stopping")
    embedded_runtime_stop(context)
    with pytest.raises(tf.errors.FailedPreconditionError, match="Engine stopping does not exist."):
        embedded_runtime_call([X, Y], context)
    with pytest.raises(tf.errors.NotFoundError):
        embedded_runtime_stop(context)
    again = embedded_runtime_start(executable, [], "stopping")
    assert embedded_runtime_call([X, Y], again)[0].numpy().tolist() == [2, 4, 6, 8]
    embedded_runtime_stop(again)


def test_an_engine_that_fails_recovers(tmp_path: Path) -> None:
    from tensorflow_ipu.config import IPUConfig, reset_ipu_configuration

    config = IPUConfig()
    config.auto_select_ipus = 1
    config.floating_point_behaviour.div0 = True
    config.configure_ipu_system()
    try:
        run = serving.export_single_step(lambda x: 1.0 / x, str(tmp_path / "model"), 4, [tf.TensorSpec([4])])
    finally:
        reset_ipu_configuration()
    with pytest.raises(tf.errors.InternalError, match="application_runtime_error"):
        run(tf.zeros([4]))
    np.testing.assert_array_equal(run(tf.fill([4], 2.0)), [[0.5] * 4])
