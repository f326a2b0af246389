"""Infeed and outfeed queues, and how often loops run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_ipu import loops
from tensorflow_ipu._runtime import native
from tensorflow_ipu.application_compile_op import experimental_application_compile_op as compile_op
from tensorflow_ipu.embedded_runtime import (
    embedded_runtime_call,
    embedded_runtime_start,
    embedded_runtime_stop,
)
from tensorflow_ipu.ipu_infeed_queue import IPUInfeedQueue
from tensorflow_ipu.ipu_outfeed_queue import IPUOutfeedMode, IPUOutfeedQueue
from tensorflow_ipu.ipu_strategy import IPUStrategy


def numbers() -> IPUInfeedQueue:
    """0, 1, 2, ..."""
    return IPUInfeedQueue(tf.data.Dataset.range(100).map(lambda n: tf.cast(n, tf.float32)))


def run_steps(infeed: IPUInfeedQueue, outfeed: IPUOutfeedQueue, steps: int) -> None:
    @tf.function
    def program() -> Any:
        return loops.repeat(steps, lambda x: outfeed.enqueue({"x": x, "double": x * 2}), [], infeed)

    IPUStrategy().run(program)


def test_iterating_over_an_outfeed_queue() -> None:
    infeed, outfeed = numbers(), IPUOutfeedQueue()
    assert list(outfeed) == []
    run_steps(infeed, outfeed, 3)
    elements = iter(outfeed)
    assert [(int(element["x"]), int(element["double"])) for element in elements] == [(0, 0), (1, 2), (2, 4)]
    run_steps(infeed, outfeed, 2)
    assert [int(element["x"]) for element in elements] == [3, 4]
    assert list(outfeed) == []
    run_steps(infeed, outfeed, 1)
    assert int(next(iter(outfeed))["x"]) == 5
    with tf.Graph().as_default(), pytest.raises(RuntimeError, match="eager execution"):
        iter(outfeed)


def test_arguments_of_queues_by_position() -> None:
    dataset = tf.data.Dataset.range(3).map(lambda n: tf.cast(n, tf.float32))
    infeed, outfeed = IPUInfeedQueue(dataset, 0, np.int64(2)), IPUOutfeedQueue(IPUOutfeedMode.LAST, None, 2)
    run_steps(infeed, outfeed, 3)
    assert int(outfeed.dequeue()["x"]) == 2
    for device_ordinal in (-1, 1.5, "feed"):
        for queue in (
            lambda ordinal: IPUInfeedQueue(dataset, ordinal),
            lambda ordinal: IPUOutfeedQueue(None, ordinal),
        ):
            with pytest.raises(ValueError, match="Device ordinal must be an integer"):
                queue(device_ordinal)


def test_the_last_value() -> None:
    infeed, outfeed = numbers(), IPUOutfeedQueue(outfeed_mode=IPUOutfeedMode.LAST)
    with pytest.raises(ValueError, match="has not been enqueued"):
        outfeed.dequeue()
    run_steps(infeed, outfeed, 3)
    assert int(outfeed.dequeue()["x"]) == 2
    dequeue = tf.function(lambda: outfeed.dequeue())
    for nothing in (outfeed.dequeue, dequeue):
        with pytest.raises(tf.errors.FailedPreconditionError, match="before anything was put into it"):
            nothing()
    run_steps(infeed, outfeed, 2)
    assert int(dequeue()["double"]) == 8
    run_steps(infeed, outfeed, 2)
    assert [int(element["x"]) for element in outfeed] == [6]


LAST_IN_GRAPH_MODE = """
import tensorflow.compat.v1 as tf
from tensorflow_ipu import ipu_compiler, loops
from tensorflow_ipu.ipu_outfeed_queue import IPUOutfeedMode, IPUOutfeedQueue
tf.disable_v2_behavior()
outfeed = IPUOutfeedQueue(outfeed_mode=IPUOutfeedMode.LAST)
def body(x):
    return x + 1, outfeed.enqueue(x)
program = ipu_compiler.compile(lambda: loops.repeat(3, body, [tf.constant(0)]))
last = outfeed.dequeue()
with tf.Session() as session:
    try:
        session.run(last)
    except tf.errors.FailedPreconditionError as error:
        assert "before anything was put into it" in str(error)
        session.run(program)
        print(session.run(last))
"""


def test_the_last_value_in_graph_mode() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LAST_IN_GRAPH_MODE], capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == "2", done.stderr


@pytest.mark.parametrize("kind", ["dictionary", "tuple"])
def test_elements_that_are_nests(kind: str, tmp_path: Path) -> None:
    parts: dict[str, Any] = {
        "a": {"y": tf.ones([2]) * 3, "x": tf.ones([2])},
        "b": (tf.ones([2]), tf.ones([2]) * 5),
    }
    element = parts if kind == "dictionary" else (parts["a"], parts["b"])
    infeed = IPUInfeedQueue(tf.data.Dataset.from_tensors(element).repeat())
    outfeed = IPUOutfeedQueue()
    assert infeed.number_of_tuple_elements == 2

    def body(a: dict[str, tf.Tensor], b: tuple[tf.Tensor, tf.Tensor]) -> Any:
        return outfeed.enqueue((a["x"] + 2 * a["y"], b[0] - b[1]))

    def program() -> Any:
        return loops.repeat(2, body, [], infeed)

    path = compile_op(program, output_path=tmp_path / "a.exec").numpy().decode()
    header = json.loads(native.inspect(path))
    assert [feed["name"] for feed in header["infeeds"]] == ["a/x", "a/y", "b/0", "b/1"]
    context = embedded_runtime_start(path, [], f"nests {kind}")
    feeds = {"a/x": 1.0, "a/y": 3.0, "b/0": 1.0, "b/1": 5.0}
    total, difference = embedded_runtime_call(
        {name: tf.fill([2], value) for name, value in feeds.items()}, context
    )
    embedded_runtime_stop(context)
    assert (total.numpy().tolist(), difference.numpy().tolist()) == ([7, 7], [-4, -4])
    IPUStrategy().run(tf.function(program))
    np.testing.assert_array_equal(outfeed.dequeue()[0], [[7, 7]] * 2)


def test_elements_are_tensors() -> None:
    with pytest.raises(ValueError, match="are tensors"):
        IPUInfeedQueue(tf.data.Dataset.from_tensors({"a": {"b": tf.ragged.constant([[1], []])}}))


@pytest.mark.parametrize(
    "count, expected",
    [(0, 1), (3, 4), (np.int64(3), 4), (np.array(3), 4), (tf.constant(3), 4), (tf.constant(0, tf.int64), 1)],
)
def test_how_often_a_loop_repeats(count: Any, expected: int) -> None:
    assert loops.repeat(count, lambda x: x + 1, [1]).numpy() == expected

    @tf.function
    def counted(n: tf.Tensor) -> Any:  # n is a tensor whose value is not known
        bounded = loops.while_loop(lambda x: x < 100, lambda x: x + 1, [1], maximum_iterations=n)
        return loops.repeat(n, lambda x: x + 1, [1]), bounded

    assert [int(result) for result in counted(tf.constant(count))] == [expected, expected]


@pytest.mark.parametrize(
    "count", [-1, 2.5, "3", True, None, np.float32(2), tf.constant(2.0), tf.constant([2])]
)
def test_what_is_not_a_count(count: Any) -> None:
    with pytest.raises(ValueError, match="number of repetitions must be"):
        loops.repeat(count, lambda x: x, [1])


@pytest.mark.parametrize("count", [4, np.int32(4), tf.constant(4)])
def test_the_number_of_steps_of_a_main_program(count: Any, tmp_path: Path) -> None:
    outfeed = IPUOutfeedQueue()

    def body(x: tf.Tensor) -> Any:
        return outfeed.enqueue(
            loops.repeat(0, lambda y: y + 1, [x]) + loops.repeat(count, lambda y: y + 1, [x])
        )

    path = compile_op(lambda: loops.repeat(count, body, [], numbers()), output_path=tmp_path / "a.exec")
    assert json.loads(native.inspect(path.numpy().decode()))["iterations"] == "4"
    context = embedded_runtime_start(path, [], f"steps {type(count)}")
    assert embedded_runtime_call([tf.constant(1.0)], context)[0].numpy() == 6
    embedded_runtime_stop(context)


def test_a_main_program_has_at_least_one_step_and_a_known_number() -> None:
    def program(n: Any) -> Any:
        return loops.repeat(n, lambda x: IPUOutfeedQueue().enqueue(x), [], numbers())

    with pytest.raises(ValueError, match="would do nothing"):
        compile_op(lambda: program(0))

    def counted(n: tf.Tensor) -> Any:
        return program(n + tf.cast(tf.random.uniform([]), tf.int32))

    with pytest.raises(ValueError, match="integer scalar|has to be known"):
        compile_op(
            lambda n: program(tf.cast(tf.reduce_sum(tf.shape(tf.where(n > 0))), tf.float32)), [tf.ones([3])]
        )


def test_compiling_loops_does_not_warn_of_retracing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(7):
        infeed, outfeed = numbers(), IPUOutfeedQueue()

        def body(i: tf.Tensor, total: tf.Tensor, x: tf.Tensor, outfeed: IPUOutfeedQueue = outfeed) -> Any:
            return i + 1, total + x, outfeed.enqueue(total)

        path = compile_op(
            lambda infeed=infeed, body=body, number=number: loops.while_loop(
                lambda i, total: i < 4 + number, body, [tf.constant(0), tf.ones([]) * 2.0], infeed
            ),
            output_path=tmp_path / "a.exec",
        )
        assert json.loads(native.inspect(path.numpy().decode()))["iterations"] == str(4 + number)
    assert "retracing" not in caplog.text
