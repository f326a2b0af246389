"""The modules and names of the original API: they are here, or say why they are not when they are used."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from export_models import check_numbers
from tensorflow.python import ipu
from tensorflow_ipu import not_provided
from tensorflow_ipu.gradient_accumulation import GradientAccumulationReductionMethod
from tensorflow_ipu.ipu_outfeed_queue import IPUOutfeedQueue

OPERATIONS = [
    "cross_replica_ops",
    "embedding_ops",
    "functional_ops",
    "image_ops",
    "internal_ops",
    "math_ops",
    "nn_ops",
    "normalization_ops",
    "rand_ops",
    "replication_ops",
]


@pytest.mark.parametrize("name", [*OPERATIONS, "rnn_ops", "custom_ops"])
def test_a_module_of_operations_is_one_object_under_all_names(name: str) -> None:
    places = ["tensorflow.python.ipu", "tensorflow.python.ipu.ops", "tensorflow_ipu", "tensorflow_ipu.ops"]
    modules = {id(importlib.import_module(f"{place}.{name}")) for place in places}
    modules |= {id(getattr(importlib.import_module(place), name)) for place in places}
    assert len(modules) == 1


@pytest.mark.parametrize("module", not_provided._MODULES)
def test_modules_that_are_not_provided_can_be_imported(module: str) -> None:
    imported = importlib.import_module(f"tensorflow.python.ipu.{module}")
    found: Any = ipu
    for part in module.split("."):
        found = getattr(found, part)
    assert found is imported
    for name in imported.__all__:
        stand_in = getattr(imported, name)
        for use in (stand_in, lambda stand_in=stand_in: stand_in.Member):
            with pytest.raises(
                NotImplementedError, match=rf"`ipu\.{module}\.{name}` is not provided: it .*\."
            ):
                use()
    with pytest.raises(AttributeError):
        _ = imported.no_such_name


@pytest.mark.parametrize("module", not_provided._NAMES)
def test_names_that_are_not_provided_can_be_imported(module: str) -> None:
    imported = importlib.import_module(f"tensorflow.python.ipu.{module}")
    for name in not_provided._NAMES[module]:
        with pytest.raises(NotImplementedError, match=rf"`ipu\.{module}\.{name}` is not provided"):
            getattr(imported, name)()
    assert not hasattr(imported, "no_such_name")


def test_what_never_was_is_not_found() -> None:
    assert not hasattr(ipu, "no_such_module") and not hasattr(ipu.ops, "no_such_module")
    for name in ("tensorflow.python.ipu.no_such_module", "tensorflow_ipu.ops.no_such_module"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)


def test_a_class_that_is_not_provided_may_be_derived_from() -> None:
    from tensorflow.python.ipu.optimizers import CrossReplicaOptimizer

    class Own(CrossReplicaOptimizer):
        pass

    with pytest.raises(NotImplementedError, match="is for training"):
        Own(None)


@pytest.mark.parametrize(
    "name",
    [
        "DeviceConnectionType",
        "IPUConfig",
        "MergeRemoteBuffersBehaviour",
        "SchedulingAlgorithm",
        "SelectionOrder",
        "StochasticRoundingBehaviour",
    ],
)
def test_names_of_utils_are_those_of_config(name: str) -> None:
    assert getattr(ipu.utils, name) is getattr(ipu.config, name)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype("float32")


TABLE = tf.reshape(tf.range(20.0), [10, 2])


@pytest.mark.parametrize(
    "function, inputs",
    [
        (lambda x: ipu.nn_ops.gelu(x), [normal(4)]),
        (lambda x: ipu.nn_ops.gelu(x, approximate=False), [normal(4)]),
        (lambda x: ipu.nn_ops.hard_sigmoid(x * 4), [normal(8)]),
        (lambda x: ipu.nn_ops.swish(x), [normal(4)]),
        (lambda x: ipu.nn_ops.softmax(x, stable=True), [normal(2, 4)]),
        (lambda i: ipu.embedding_ops.embedding_lookup(TABLE, i), [np.arange(3, dtype=np.int32)]),
        (lambda x: ipu.math_ops.serialized_matmul(x, x, 2, "b_rows", False, True), [normal(4, 4)]),
        (lambda x: ipu.math_ops.segment_sum(x, tf.constant([0, 0, 1]), 2), [normal(3, 2)]),
        (lambda x: ipu.cross_replica_ops.cross_replica_sum(x), [normal(4)]),
        (lambda x: ipu.internal_ops.remap(ipu.internal_ops.fifo(x, 0)), [normal(4)]),
        (lambda x: ipu.rand_ops.dropout(x, rate=0.0), [normal(4)]),
        (lambda x: ipu.image_ops.normalise_image(x, [1.0] * 3, [0.5] * 3, 2), [normal(2, 2, 2, 3)]),
    ],
)
def test_operations_compile(function: Callable, inputs: list[np.ndarray], tmp_path: Path) -> None:
    check_numbers(tmp_path, function, inputs)


def test_values_of_operations() -> None:
    x = tf.constant([-5.0, 0.0, 1.0, 5.0])
    np.testing.assert_allclose(ipu.nn_ops.hard_sigmoid(x), [0, 0.5, 0.7, 1], rtol=1e-6)
    np.testing.assert_allclose(ipu.nn_ops.gelu(x, approximate=False), tf.nn.gelu(x), rtol=1e-6)
    image = tf.constant([[[[10, 20, 30]]]], tf.uint8)
    result = ipu.image_ops.normalise_image(image, [1.0, 2.0, 3.0], [1.0, 0.5, 0.25], scale=0.5)
    assert result.dtype == tf.float16
    assert result.numpy().tolist() == [[[[4.0, 4.0, 3.0, 0.0]]]]
    with pytest.raises(ValueError, match="must divide"):
        ipu.embedding_ops.embedding_lookup(TABLE, tf.constant([1]), serialization_factor=3)
    with pytest.raises(ValueError, match="divide the dimension 'b_rows'"):
        ipu.math_ops.serialized_matmul(tf.ones([4, 4]), tf.ones([4, 3]), 2, "b_rows")
    with pytest.raises(ValueError, match="serialization_dimension"):
        ipu.math_ops.serialized_matmul(tf.ones([4, 4]), tf.ones([4, 4]), 2, "rows")
    with pytest.raises(NotImplementedError, match="dropout.*training"):
        ipu.rand_ops.dropout(x)
    with pytest.raises(NotImplementedError, match="fifo"):
        ipu.internal_ops.fifo(x, 2)


def test_outlined_functions_are_called() -> None:
    @ipu.outlined_function
    def add(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return x + y

    @ipu.functional_ops.outlined_function(name="times")
    def times(x: tf.Tensor) -> tf.Tensor:
        return x * 2

    @ipu.nn_ops.multi_conv(options={"a": "b"})
    def pair(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return x, times(x)

    assert [int(value) for value in (add(1, tf.constant(2)), *pair(tf.constant(3)))] == [3, 3, 6]


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("kind, groups", [("group_norm", 2), ("layer_norm", 1), ("instance_norm", 6)])
def test_normalisations(kind: str, groups: int, axis: int, strided: bool, tmp_path: Path) -> None:
    x = normal(2, 6, 3, 5) if axis == 1 else normal(2, 3, 5, 6)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        arguments: dict[str, Any] = {"channels_axis": axis, "training": False, "epsilon": 1e-3}
        arguments["param_initializers"] = {"beta": tf.constant_initializer(0.5)}
        if kind == "group_norm":
            arguments |= {"groups": np.int64(groups), "strided_channel_grouping": strided}
        result = getattr(ipu.normalization_ops, kind)(tf.constant(x), **arguments)
        names = [variable.op.name for variable in tf.compat.v1.global_variables()]
        session.run(tf.compat.v1.global_variables_initializer())
        found = session.run(result)
    scope = {"group_norm": "GroupNorm", "layer_norm": "LayerNorm", "instance_norm": "InstanceNorm"}[kind]
    assert names == [f"{scope}/beta", f"{scope}/gamma"]
    last = np.moveaxis(x, 1, -1) if axis == 1 else x
    expected = np.empty_like(last)
    for group in range(groups):
        per = 6 // groups
        if kind == "group_norm" and strided:
            channels = list(range(group, 6, groups))
        else:
            channels = list(range(group * per, (group + 1) * per))
        part = last[..., channels]
        mean, variance = part.mean((1, 2, 3), keepdims=True), part.var((1, 2, 3), keepdims=True)
        expected[..., channels] = (part - mean) / np.sqrt(variance + 1e-3) + 0.5
    expected = np.moveaxis(expected, -1, 1) if axis == 1 else expected
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_normalisation_errors() -> None:
    for arguments, message in (
        ({"groups": 4}, "not commensurate"),
        ({"channels_axis": 2}, "must be 1 or the last"),
        ({"groups": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            ipu.normalization_ops.group_norm(tf.ones([2, 3, 5, 6]), **arguments)


def test_defaults_of_training_arguments_are_taken_by_pipelines() -> None:
    def run(**arguments: Any) -> Any:
        outfeed = IPUOutfeedQueue()
        ipu.pipelining_ops.pipeline(
            [lambda x: x * 2, lambda x: x + 1],
            np.int64(2),
            inputs=[tf.constant(1.0)],
            outfeed_queue=outfeed,
            device_mapping=np.array([0, 0]),
            **arguments,
        )
        return outfeed.dequeue()[0].numpy()

    for arguments in (
        {"reduction_method": GradientAccumulationReductionMethod.SUM},
        {"reduction_method": "sum"},
        {"gradient_accumulation_for_captured_grads": True},
        {"recomputation_mode": ipu.pipelining_ops.RecomputationMode.Auto},
        {"outfeed_loss": np.bool_(False), "continuous_weight_updates": False, "outfeed_mask": None},
        {"replicated_optimizer_state_sharding": False, "batch_serialization_iterations": np.int32(1)},
    ):
        assert run(**arguments) == 3
    for name, value in (
        ("reduction_method", GradientAccumulationReductionMethod.MEAN),
        ("recomputation_mode", ipu.pipelining_ops.RecomputationMode.RecomputeThenBackpropagate),
        ("outfeed_loss", np.bool_(True)),
        ("gradient_accumulation_for_captured_grads", False),
        ("optimizer_function", print),
    ):
        with pytest.raises(NotImplementedError, match=name):
            run(**{name: value})


def test_arguments_of_a_wrong_type_are_named(tmp_path: Path) -> None:
    four = [tf.TensorSpec([4], tf.float32)]
    compile_op = ipu.application_compile_op.experimental_application_compile_op
    stages = [lambda x: x, lambda x: x]
    for call, message in (
        (lambda: ipu.ipu_compiler.compile(3), "`computation` must be a function, but a int"),
        (lambda: ipu.ipu_strategy.IPUStrategy().run(3), "`fn` must be a function, but a int"),
        (lambda: compile_op(lambda x: x, inputs={"x": 1.0}), "`inputs` must be a list"),
        (lambda: compile_op(lambda x: x, inputs=[1.0], name=3), "`name` must be a string"),
        (
            lambda: ipu.serving.export_pipeline(
                stages, str(tmp_path), 4, None, [0, 0], name=3, predict_step_signature=four
            ),
            "`name` must be a string",
        ),
        (
            lambda: ipu.serving.export_single_step(
                lambda x: x, str(tmp_path), 4, four, dynamic_batch=True, smaller_batches=3
            ),
            "`smaller_batches` must be a list",
        ),
        (
            lambda: ipu.serving.export_single_step(
                lambda a: a, str(tmp_path), 4, input_dataset=tf.data.Dataset.from_tensors({"a": 1.0})
            ),
            "elements of `input_dataset` must be a tensor, or a tuple",
        ),
    ):
        with pytest.raises(TypeError, match=message):
            call()
    with pytest.raises(ValueError, match="takes an IPU"):
        with ipu.scopes.ipu_scope(0):
            pass
