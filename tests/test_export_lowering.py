"""From a function to HLO: what is folded, what is refused, and which line of the user's program is blamed."""

import ctypes
import gc
import inspect
import os
import re
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow_ipu.lowering import TracedFunction, fold, freeze, lower, lower_function, trace

EIGHT = tf.TensorSpec([8], tf.float32)


def operations(function: Any) -> Counter:
    return Counter(node.op for node in function.graph.as_graph_def().node)


def run(function: TracedFunction, x: Any) -> list[tf.Tensor]:
    return function.frozen(tf.constant(x), *map(tf.constant, function.weights))


def network(package: Any) -> Any:
    """Convolution, depthwise convolution and dense layer, each with batch normalisation behind it."""
    layers = package.layers
    inputs = package.Input((9, 9, 3))
    x = layers.Conv2D(8, 3)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization(epsilon=0.1)(x))
    x = layers.Conv2D(4, 1, use_bias=False)(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.Dense(5)(layers.Flatten()(x))
    model = package.Model(inputs, layers.BatchNormalization(center=False)(x))
    values = np.random.default_rng(1)
    model.set_weights(
        [values.uniform(0.5, 1.5, weight.shape).astype("float32") for weight in model.get_weights()]
    )
    return model


@pytest.mark.parametrize("package", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_batch_normalisation_moves_into_the_weights(package: Any) -> None:
    model = network(package)
    signature = [tf.TensorSpec([2, 9, 9, 3], tf.float32)]
    folded = fold(freeze(trace(lambda x: model(x, training=False), signature, "predict_step")))
    count = operations(folded.frozen)
    assert count["BiasAdd"] + count["AddV2"] == 4
    assert not {"Mul", "Sub", "Rsqrt", "FusedBatchNormV3", "_FusedConv2D", "_FusedMatMul"} & set(count)
    x = np.random.default_rng(2).normal(size=(2, 9, 9, 3)).astype("float32")
    np.testing.assert_allclose(run(folded, x)[0], model(x, training=False), rtol=1e-5, atol=1e-5)


def test_only_what_belongs_to_one_convolution_moves_into_its_weights() -> None:
    weights = tf.constant(np.random.default_rng(3).normal(size=(3, 3, 2, 2)), tf.float32)

    def shared(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        y = tf.nn.conv2d(x, weights, 1, "SAME")
        return y, y * tf.constant([2.0, 3.0]) + 1.0

    def along_another_axis(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(x, weights, 1, "SAME") * tf.constant([[2.0], [3.0], [4.0], [5.0]]) + 1.0

    def subtracted_from(x: tf.Tensor) -> tf.Tensor:
        return 5.0 - tf.nn.conv2d(x, weights, 1, "SAME") * tf.constant([2.0, 3.0])

    x = tf.random.stateless_normal([1, 4, 4, 2], [1, 2])
    for function in (shared, along_another_axis, subtracted_from):
        folded = fold(freeze(trace(function, [tf.TensorSpec(x.shape, x.dtype)], "f")))
        for result, expected in zip(run(folded, x), tf.nest.flatten(function(x)), strict=True):
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    assert operations(folded.frozen)["Mul"] == 0


def test_unused_parameters_and_repeated_and_constant_results_stay() -> None:
    lowered = lower_function(lambda x, unused: {"b": x, "a": (x, tf.constant(3))}, [EIGHT, EIGHT], "f")
    assert [spec.shape for spec in lowered.inputs] == [[8], [8]]
    assert [(spec.shape.as_list(), spec.dtype) for spec in lowered.results] == [
        ([8], tf.float32),
        ([], tf.int32),
        ([8], tf.float32),
    ]


def test_variables_that_are_not_frozen_become_parameters() -> None:
    first, second = tf.Variable([1.0] * 8, name="first"), tf.Variable(2.0, name="second")
    lowered = lower_function(lambda x: (x + second) * first, [EIGHT], "f", freeze_variables=False)
    assert {variable.name for variable in lowered.variables} == {"first:0", "second:0"}
    assert lower_function(lambda x: x * first, [EIGHT], "f").variables == ()


def test_freezing_leaves_the_original_alone() -> None:
    variable = tf.Variable(2.0)

    @tf.function
    def scaled(x: tf.Tensor) -> tf.Tensor:
        for _ in tf.range(3):
            x = x * variable
        return x

    lower_function(scaled, [EIGHT], "f")
    variable.assign(3.0)
    np.testing.assert_array_equal(scaled(tf.ones([8])), [27.0] * 8)


def data_dependent(x: tf.Tensor) -> tf.Tensor:
    return tf.where(x > 0)  # blamed


@tf.function
def nested(x: tf.Tensor) -> tf.Tensor:
    return tf.unique(x)[0]  # blamed


def in_a_branch(x: tf.Tensor) -> tf.Tensor:
    if tf.reduce_sum(x) > 0:
        y = tf.strings.length(tf.strings.as_string(x))  # blamed
    else:
        y = tf.cast(x, tf.int32)
    return y


def python_code(x: tf.Tensor) -> tf.Tensor:
    return tf.numpy_function(np.abs, [x], tf.float32)  # blamed


def shape_from_data(x: tf.Tensor) -> tf.Tensor:
    return tf.zeros(tf.cast(x[:2], tf.int32))  # blamed


@pytest.mark.parametrize(
    "function, message",
    [
        (data_dependent, r"dynamic shape.*'Where' \(Where\)"),
        (lambda x: nested(x), r"dynamic shape.*Unique"),
        (in_a_branch, r"no kernel for the device.*AsString"),
        (python_code, r"no kernel for the device.*PyFunc"),
        (shape_from_data, "dynamic shape"),
    ],
    ids=["where", "nested", "branch", "python", "shape"],
)
def test_the_line_at_fault_is_named(function: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message) as failure:
        lower_function(function, [EIGHT], "predict_step")
    assert "`predict_step`" in str(failure.value)
    location = re.search(r"made at (\S+?):(\d+)", str(failure.value))
    assert location is not None and location[1].endswith("test_export_lowering.py")
    with open(inspect.getfile(lower_function)) as library, open(__file__) as this:
        assert library.name != location[1]
        assert "# blamed" in this.readlines()[int(location[2]) - 1]


def test_no_result_and_no_tensor() -> None:
    with pytest.raises(ValueError, match="`f` returns no tensor"):
        lower_function(lambda x: None, [EIGHT], "f")
    with pytest.raises(TypeError, match="must return tensors"):
        lower_function(lambda x: tf.sparse.from_dense(x), [EIGHT], "f")


def test_variables_cannot_be_changed() -> None:
    counter = tf.Variable(0.0)

    @tf.function
    def count() -> None:
        counter.assign_add(1.0)  # blamed

    def step(x: tf.Tensor) -> tf.Tensor:
        count()
        return x + counter

    for freeze_variables in (True, False):
        with pytest.raises(ValueError, match="changes a variable in operation .*test_export_lowering.py:"):
            lower_function(step, [EIGHT], "f", freeze_variables)


def test_strings_belong_on_the_host() -> None:
    with pytest.raises(ValueError, match="dtype string, which the device cannot hold"):
        lower_function(tf.strings.to_number, [tf.TensorSpec([8], tf.string)], "f")


def test_tables_belong_on_the_host() -> None:
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([1], [2]), 0)
    with pytest.raises(ValueError, match="a resource that is no variable"):
        lower_function(table.lookup, [tf.TensorSpec([8], tf.int32)], "f")


def test_a_lowered_function_is_released() -> None:
    variable = tf.Variable(tf.ones([8]))
    traced = freeze(trace(lambda x: x * variable, [EIGHT], "f"))
    lower(fold(traced))
    graph = weakref.ref(traced.frozen.graph)
    del traced
    gc.collect()
    assert graph() is None


def test_one_function_gives_one_module() -> None:
    weights = tf.random.stateless_normal([8, 8], [1, 2])

    def step(x: tf.Tensor) -> tf.Tensor:
        for _ in tf.range(tf.cast(x[0], tf.int32)):
            x = tf.nn.softmax(tf.linalg.matvec(weights, x))
        return x

    first, second = (lower_function(step, [EIGHT], "step").hlo for _ in range(2))
    assert first == second
    assert b".py" not in first


def test_lowering_keeps_no_weights_in_the_process() -> None:
    weights = tf.ones([1024, 256])  # 1 MiB
    before = resident_bytes()
    for _ in range(40):
        lower_function(lambda x: tf.linalg.matvec(weights, x), [tf.TensorSpec([256])], "step")
    assert resident_bytes() - before < 30 << 20


def resident_bytes() -> int:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
