"""A graph that was taken apart into stages computes what it did whole."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_ipu.ipu_strategy import IPUStrategy
from tensorflow_ipu.keras import PipelineStage, graph_stages, model_trace


class Body:
    """Stands for a model: `call` makes operations, some in PipelineStage scopes."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def __call__(self, inputs: Any, training: bool) -> Any:
        assert not training
        with IPUStrategy().scope():
            return self.call(inputs)


def split(call: Any, signature: list[tf.TensorSpec]) -> tuple[Any, list[Any]]:
    @tf.autograph.experimental.do_not_convert
    def traced(*tensors: tf.Tensor) -> Any:
        return model_trace.trace_to_graph(Body(call), lambda: ([list(tensors)], {}))[0]

    concrete = tf.function(traced).get_concrete_function(*signature)
    return concrete, graph_stages.split(concrete.graph, concrete.inputs[: len(signature)], concrete.outputs)


def run(stages: list[Any], values: list[Any]) -> list[np.ndarray]:
    for stage in stages:
        specs = [tf.TensorSpec(value.shape, value.dtype) for value in values]
        values = tf.function(stage).get_concrete_function(*specs)(*values)
    return [value.numpy() for value in values]


@st.composite
def programs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, int, int | None]], list[int]]:
    """Number of stages; operations (kind, two operands, stage or None); outputs. Values 0 and 1 are fed."""
    count = draw(st.integers(2, 4))
    stages = [0, 0]  # the stage up to which each value is computed
    operations: list[tuple[int, int, int, int | None]] = []
    forced = list(range(count))  # each stage has at least one operation
    for _ in range(draw(st.integers(count, 14))):
        left, right = (draw(st.integers(0, len(stages) - 1)) for _ in range(2))
        least = max(stages[left], stages[right])
        stage = draw(st.none() | st.integers(least, count - 1))
        if forced and forced[0] >= least:
            stage = forced.pop(0)
        operations.append((draw(st.integers(0, 3)), left, right, stage))
        stages.append(least if stage is None else stage)
    while forced:
        operations.append((0, 0, 1, forced.pop(0)))
        stages.append(operations[-1][3] or 0)
    outputs = draw(st.lists(st.integers(0, len(stages) - 1), min_size=1, max_size=3))
    return count, operations, outputs


VARIABLE = tf.Variable([1.5, -0.5])


def compute(values: list[Any], kind: int, left: Any, right: Any) -> Any:
    if kind == 0:
        return left + right
    if kind == 1:
        return tf.tanh(left) * VARIABLE
    if kind == 2:
        return tf.reduce_max(tf.split(left - right, 2)[1]) + right * 0.5  # one of several results
    return tf.cond(tf.reduce_sum(left) > 0, lambda: left * 0.5, lambda: right - VARIABLE)


@given(programs())
@settings(max_examples=60, deadline=None)
def test_any_graph(program: Any) -> None:
    count, operations, outputs = program

    def call(inputs: list[Any]) -> list[Any]:
        values = list(inputs)
        for kind, left, right, stage in operations:
            if stage is None:
                values.append(compute(values, kind, values[left], values[right]))
            else:
                with PipelineStage(stage):
                    values.append(compute(values, kind, values[left], values[right]))
        return [tf.identity(values[index]) for index in outputs]

    concrete, stages = split(call, [tf.TensorSpec([2], tf.float32)] * 2)
    assert len(stages) == count
    fed = [tf.constant([1.0, -2.0]), tf.constant([0.25, 3.0])]
    for result, expected in zip(run(stages, fed), concrete(*fed), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)


def test_random_numbers_are_not_drawn_twice() -> None:
    """An operation that may give something else each time is in one stage, whatever stages need it."""

    def call(inputs: list[Any]) -> list[Any]:
        noise = tf.random.normal([2])
        with PipelineStage(0):
            first = inputs[0] + noise
        with PipelineStage(1):
            return [first, inputs[0] + noise]

    _, stages = split(call, [tf.TensorSpec([2], tf.float32)])
    first, second = run(stages, [tf.zeros([2])])
    np.testing.assert_array_equal(first, second)


def test_an_input_that_is_an_output() -> None:
    def call(inputs: list[Any]) -> list[Any]:
        with PipelineStage(0):
            x = inputs[0] * 2
        with PipelineStage(1):
            x = x + 1
        return [inputs[1], x, inputs[1]]

    concrete, stages = split(call, [tf.TensorSpec([2], tf.float32)] * 2)
    fed = [tf.constant([1.0, 2.0]), tf.constant([3.0, 4.0])]
    for result, expected in zip(run(stages, fed), concrete(*fed), strict=True):
        np.testing.assert_array_equal(result, expected)


def test_a_stage_that_needs_a_later_one() -> None:
    def call(inputs: list[Any]) -> list[Any]:
        with PipelineStage(1):
            x = inputs[0] * 2
        with PipelineStage(0):
            return [x + 1]

    with pytest.raises(ValueError, match="can only use outputs from current or previous pipeline stages"):
        split(call, [tf.TensorSpec([2], tf.float32)])
