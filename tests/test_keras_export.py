"""export_keras of models that are no pipelines: all kinds, names, batch sizes, errors."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras_models import PACKAGES, check_export, inputs_of, outputs_of, package_name, random_array
from tensorflow_ipu import serving
from tensorflow_ipu.config import IPUConfig, reset_ipu_configuration
from tensorflow_ipu.ipu_strategy import IPUStrategy, IPUStrategyV1


@pytest.fixture(autouse=True)
def one_ipu() -> Iterator[None]:
    config = IPUConfig()
    config.auto_select_ipus = 1
    config.configure_ipu_system()
    yield
    reset_ipu_configuration()


@pytest.fixture(params=PACKAGES, ids=package_name)
def k(request: pytest.FixtureRequest) -> Any:
    """A Keras package."""
    return request.param


def two_outputs(k: Any) -> type:
    """A subclassed model with two outputs in a dictionary."""

    class Model(k.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first = k.layers.Dense(4, activation="relu")
            self.second = k.layers.Dense(3)

        def call(self, inputs: Any) -> Any:
            hidden = self.first(inputs)
            return {"hidden": hidden, "scores": self.second(hidden)}

    return Model


def test_functional_model_with_two_inputs(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        left = k.layers.Input((4,), batch_size=2, name="left")
        right = k.layers.Input((4,), batch_size=2, name="right")
        model = k.Model([left, right], k.layers.Dense(3)(k.layers.Add()([left, right])))
        model.compile(steps_per_execution=16)
    header = check_export(model, tmp_path / "m", [random_array([2, 4]), random_array([2, 4])])
    assert header["iterations"] == "16"
    assert {name: spec.shape for name, spec in inputs_of(tmp_path / "m").items()} == {
        "left": [2, 4],
        "right": [2, 4],
    }
    assert outputs_of(tmp_path / "m") == ["output_0"]


def test_functional_model_with_a_dictionary_of_inputs_and_two_outputs(k: Any, tmp_path: Path) -> None:
    with IPUStrategyV1().scope():
        inputs = {
            "b": k.layers.Input((2,), batch_size=1, name="b"),
            "a": k.layers.Input((2,), batch_size=1, name="a"),
        }
        difference = k.layers.Subtract()([inputs["a"], inputs["b"]])
        product = k.layers.Multiply()([inputs["a"], inputs["b"]])
        model = k.Model(inputs, [difference, product])
    arrays = {"a": random_array([1, 2]), "b": np.full([1, 2], 3, np.float32)}
    run = serving.export_keras(model, str(tmp_path / "m"), output_names=["difference", "product"])
    assert outputs_of(tmp_path / "m") == ["difference", "product"]
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    named = {name: tf.constant(array) for name, array in arrays.items()}
    results = loaded.signatures["serving_default"](**named)
    np.testing.assert_allclose(results["difference"], arrays["a"] - arrays["b"])
    np.testing.assert_allclose(results["product"], arrays["a"] * arrays["b"])
    assert list(run(*tf.nest.flatten(named))) == ["difference", "product"]


def test_sequential_model(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = k.Sequential([k.layers.Input((8, 8, 1)), k.layers.Conv2D(4, 3), k.layers.Flatten()])
        model.add(k.layers.Dense(5, activation="softmax"))
    header = check_export(model, tmp_path / "m", random_array([2, 8, 8, 1]), batch_size=2)
    assert header["iterations"] == "1"
    assert len(inputs_of(tmp_path / "m")) == 1


def test_sequential_model_without_an_input_layer(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = k.Sequential([k.layers.Dense(4), k.layers.Dense(3)])
        model.build((None, 6))
    check_export(model, tmp_path / "m", random_array([3, 6]), batch_size=3)


@pytest.mark.parametrize("built", ["by build", "by a call"])
def test_subclassed_model(k: Any, built: str, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = two_outputs(k)()
        if built == "by build":
            model.build((2, 6))
        else:
            model(random_array([2, 6]))
        model.compile(steps_per_execution=4)
    header = check_export(model, tmp_path / "m", random_array([2, 6]))
    assert header["iterations"] == "4"
    assert list(inputs_of(tmp_path / "m")) == ["input_1"]
    assert outputs_of(tmp_path / "m") == ["output_0", "output_1"]


def test_subclassed_model_that_takes_integers(k: Any, tmp_path: Path) -> None:
    class Lookup(k.Model):
        def __init__(self) -> None:
            super().__init__()
            self.table = k.layers.Embedding(10, 4)

        def call(self, inputs: Any) -> Any:
            return self.table(inputs)

    with IPUStrategy().scope():
        model = Lookup()
        model(tf.zeros([2, 3], tf.int32))
    check_export(model, tmp_path / "m", random_array([2, 3], "int32"))
    assert inputs_of(tmp_path / "m")["input_1"].dtype == tf.int32


def test_subclassed_model_with_several_inputs(k: Any, tmp_path: Path) -> None:
    class Sum(k.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = k.layers.Dense(4)

        def call(self, inputs: Any) -> Any:
            first, second = inputs
            return self.dense(first) + second

    with IPUStrategy().scope():
        model = Sum()
        model.build([(2, 3), (2, 4)])
    arrays = [random_array([2, 3]), random_array([2, 4])]
    check_export(model, tmp_path / "m", arrays)
    assert sorted(inputs_of(tmp_path / "m")) == ["input_1", "input_2"]


def test_layers_that_behave_otherwise_in_training(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        inputs = k.layers.Input((6, 6, 3), batch_size=1)
        x = k.layers.Conv2D(8, 3)(inputs)
        x = k.layers.BatchNormalization()(x)
        x = k.layers.Dropout(0.5)(x)
        model = k.Model(inputs, k.layers.GlobalAveragePooling2D()(x))
    model.layers[2].set_weights([random_array([8]) + offset for offset in (1, 0, 0)] + [np.full([8], 2.0)])
    check_export(model, tmp_path / "m", random_array([1, 6, 6, 3]))


def test_recurrent_model(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        inputs = k.layers.Input((5, 3), batch_size=2)
        model = k.Model(inputs, k.layers.LSTM(4, return_sequences=True)(inputs))
    check_export(model, tmp_path / "m", random_array([2, 5, 3]))


def test_variables_are_frozen(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = k.Sequential([k.layers.Input((3,), batch_size=1), k.layers.Dense(2)])
    run = serving.export_keras(model, str(tmp_path / "m"))
    before = run(random_array([1, 3]))[0].numpy()
    model.set_weights([weight * 0 for weight in model.get_weights()])
    np.testing.assert_array_equal(run(random_array([1, 3]))[0], before)


@pytest.mark.parametrize("size", [3, np.int64(3), tf.constant(3), tf.constant(3, tf.int64)])
def test_batch_size_may_be_an_int_or_a_scalar_tensor(size: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = keras.Sequential([keras.layers.Input((4,), batch_size=1), keras.layers.Dense(2)])
    run = model.export_for_ipu_serving(str(tmp_path / "m"), batch_size=size)
    assert run(random_array([3, 4]))[0].shape == [3, 2]


def test_batch_size_errors(tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="batch_size"):
        serving.export_keras(model, str(tmp_path / "m"))
    for wrong in ("3", 2.0, True, tf.constant([1, 2])):
        with pytest.raises(TypeError, match="batch_size"):
            serving.export_keras(model, str(tmp_path / "m"), batch_size=wrong)
    with pytest.raises(ValueError, match="at least 1"):
        serving.export_keras(model, str(tmp_path / "m"), batch_size=0)
    assert not (tmp_path / "m").exists()


def test_a_dimension_that_is_not_the_batch_must_be_known(tmp_path: Path) -> None:
    with IPUStrategy().scope():
        inputs = keras.layers.Input((None, 4), batch_size=1)
        model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    with pytest.raises(ValueError, match="All dimensions must be known"):
        serving.export_keras(model, str(tmp_path / "m"))


def test_a_model_made_outside_of_a_strategy(k: Any, tmp_path: Path) -> None:
    model = k.Sequential([k.layers.Input((4,), batch_size=1), k.layers.Dense(2)])
    with pytest.raises(ValueError, match="IPU strategy"):
        serving.export_keras(model, str(tmp_path / "m"))
    with IPUStrategy().scope(), pytest.raises(ValueError, match="IPU strategy"):
        model.export_for_ipu_serving(str(tmp_path / "m"))
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        other = k.Sequential([k.layers.Input((4,), batch_size=1), k.layers.Dense(2)])
    with pytest.raises(ValueError, match="IPU strategy"):
        serving.export_keras(other, str(tmp_path / "m"))
    with pytest.raises(ValueError, match="IPU strategy"):
        serving.export_keras(lambda x: x, str(tmp_path / "m"))


def test_a_subclassed_model_that_was_not_built(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = two_outputs(k)()
    with pytest.raises(ValueError, match="has not been built"):
        serving.export_keras(model, str(tmp_path / "m"))


def test_export_directory(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    with IPUStrategy().scope():
        model = keras.Sequential([keras.layers.Input((4,), batch_size=1), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="is not empty"):
        serving.export_keras(model, str(tmp_path))
    serving.export_keras(model, str(tmp_path), purge_export_dir=True)
    assert not (tmp_path / "old").exists()
    assert (tmp_path / "saved_model.pb").exists()


def test_cpu_steps_around_a_model(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = k.Sequential([k.layers.Input((3,), batch_size=2), k.layers.ReLU()])

    def parse(text: tf.Tensor) -> tf.Tensor:
        return tf.strings.to_number(text)

    def total(scores: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(scores, axis=1)

    run = serving.export_keras(
        model,
        str(tmp_path / "m"),
        preprocessing_step=parse,
        preprocessing_step_signature=[tf.TensorSpec([2, 3], tf.string)],
        postprocessing_step=total,
        postprocessing_step_signature=[tf.TensorSpec([2, 3], tf.float32)],
        output_names="total",
    )
    result = run(tf.constant([["1", "-2", "3"], ["4", "5", "-6"]]))
    np.testing.assert_array_equal(result["total"], [4, 9])
    assert list(inputs_of(tmp_path / "m")) == ["text"]
    assert outputs_of(tmp_path / "m") == ["total"]
    with pytest.raises(ValueError, match="preprocessing_step"):
        serving.export_keras(
            model,
            str(tmp_path / "n"),
            preprocessing_step=parse,
            preprocessing_step_signature=[tf.TensorSpec([2, 4], tf.string)],
        )


def test_row_batching(tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
    run = serving.export_keras(model, str(tmp_path / "m"), batch_size=4, dynamic_batch=True)
    for rows in (1, 4, 11):
        array = random_array([rows, 4])
        np.testing.assert_allclose(run(array)[0], model(array), rtol=1e-5, atol=1e-5)


def test_an_operation_without_a_kernel_is_named(tmp_path: Path) -> None:
    with IPUStrategy().scope():
        inputs = keras.layers.Input((4,), batch_size=1)
        model = keras.Model(inputs, keras.layers.Lambda(tf.strings.as_string, output_shape=(4,))(inputs))
    with pytest.raises(ValueError, match="AsString"):
        serving.export_keras(model, str(tmp_path / "m"))


def test_an_export_inside_the_scope(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = k.Sequential([k.layers.Input((4,), batch_size=1), k.layers.Dense(2)])
        run = model.export_for_ipu_serving(str(tmp_path / "m"))
        array = random_array([1, 4])
        np.testing.assert_allclose(run(array)[0], model(array), rtol=1e-5)


def test_a_model_that_was_saved_and_loaded(k: Any, tmp_path: Path) -> None:
    model = k.Sequential([k.layers.Input((4,), batch_size=1), k.layers.Dense(2)])
    model.save(str(tmp_path / "model.keras"))
    with IPUStrategy().scope():
        loaded = k.models.load_model(str(tmp_path / "model.keras"))
    array = random_array([1, 4])
    run = serving.export_keras(loaded, str(tmp_path / "m"))
    np.testing.assert_allclose(run(array)[0], model(array), rtol=1e-5)


def test_keras_ipu_is_the_same_in_both_packages() -> None:
    assert keras.ipu is tf_keras.ipu is tf.keras.ipu
    assert keras.ipu.PipelineStage.__module__.startswith("tensorflow_ipu.keras")
    from keras.ipu import PipelineStage

    assert PipelineStage is keras.ipu.PipelineStage


def test_strategy_runs_functions() -> None:
    strategy = IPUStrategy()
    with strategy.scope():
        variable = tf.Variable(2.0)
    assert strategy.run(lambda x: x * variable, args=[3.0]) == 6
    function = tf.function(lambda x: x * variable, jit_compile=True)
    assert strategy.run(function, args=(tf.constant(4.0),)) == 8
    assert strategy.num_replicas_in_sync == 1
    with pytest.raises(RuntimeError, match="Use `run` instead"):
        strategy.experimental_run_v2(function)


def test_models_still_train_and_predict(k: Any) -> None:
    with IPUStrategy().scope():
        model = k.Sequential([k.layers.Input((4,)), k.layers.Dense(1)])
        model.compile(optimizer="sgd", loss="mse", steps_per_execution=2)
    model.fit(random_array([8, 4]), random_array([8, 1]), batch_size=2, verbose=0)
    assert model.predict(random_array([8, 4]), batch_size=2, verbose=0).shape == (8, 1)


class TwoArguments:
    """Makes a subclassed model whose `call` takes two inputs, in two stages or none."""

    @staticmethod
    def of(k: Any, pipelined: bool = False) -> Any:
        scope = k.ipu.PipelineStage if pipelined else lambda stage: contextlib.nullcontext()

        class Model(k.Model):
            def __init__(self) -> None:
                super().__init__()
                self.dense = k.layers.Dense(3)

            def call(self, query: Any, value: Any, scale: float = 1.0, training: bool | None = None) -> Any:
                assert not training
                with scope(0):
                    query = self.dense(query) * scale
                with scope(1):
                    return self.dense(query[:, :1] * value)

        return Model()


@pytest.mark.parametrize("named", [False, True])
def test_a_model_that_takes_two_arguments(k: Any, named: bool, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = TwoArguments.of(k)
    query, value = random_array([2, 4]), random_array([2, 4]) + 1
    expected = model(query, value=value, scale=2.0) if named else model(query, value)
    run = serving.export_keras(model, str(tmp_path / "m"))
    assert sorted(inputs_of(tmp_path / "m")) == ["query", "value"]
    np.testing.assert_allclose(run(query, value)[0], expected, rtol=1e-5, atol=1e-5)
    serving.export_keras(model, str(tmp_path / "n"), batch_size=np.int64(5))
    assert {spec.shape[0] for spec in inputs_of(tmp_path / "n").values()} == {5}


def test_a_pipelined_model_that_takes_two_arguments(k: Any, tmp_path: Path) -> None:
    config = IPUConfig()
    config.auto_select_ipus = 2
    config.configure_ipu_system()
    with IPUStrategy().scope():
        model = TwoArguments.of(k, pipelined=True)
    query, value = random_array([2, 4]), random_array([2, 4]) + 1
    expected = model(query, value)
    assert [item.pipeline_stage for item in model.get_pipeline_stage_assignment()] == [0, 1]
    run = serving.export_keras(model, str(tmp_path / "m"))
    np.testing.assert_allclose(run(query, value)[0], expected, rtol=1e-5, atol=1e-5)


def subclassed_of(k: Any, function: Any, *layers: Any) -> Any:
    class Model(k.Model):
        def __init__(self) -> None:
            super().__init__()
            self.parts = list(layers)

        def call(self, inputs: Any) -> Any:
            return function(self.parts, inputs)

    return Model()


def test_keys_of_a_dictionary_are_the_names_of_inputs(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        left, right = (k.layers.Input((3,), batch_size=2, name=name) for name in ("first", "second"))
        functional = k.Model({"b": left, "a": right}, k.layers.Subtract()([left, right]))
        built = subclassed_of(k, lambda parts, inputs: parts[0](inputs["b"]) - inputs["a"], k.layers.Dense(3))
        built.build({"b": (2, 3), "a": (2, 3)})
        odd = subclassed_of(
            k, lambda parts, inputs: parts[0](inputs["class"]) - inputs["1st"], k.layers.Dense(3)
        )
        odd({"class": random_array([2, 3]), "1st": random_array([2, 3])})
    values = {"b": random_array([2, 3]), "a": random_array([2, 3]) * 2}
    for number, (model, keys) in enumerate(((functional, "ab"), (built, "ab"))):
        check_export(model, tmp_path / str(number), values)
        assert sorted(inputs_of(tmp_path / str(number))) == list(keys)
    check_export(odd, tmp_path / "odd", {"class": values["b"], "1st": values["a"]})
    assert sorted(inputs_of(tmp_path / "odd")) == ["input_1st", "input_class"]


def test_build_with_input_objects(k: Any, tmp_path: Path) -> None:
    def tokens() -> Any:
        return k.Input((4,), batch_size=2, dtype="int32")

    with IPUStrategy().scope():
        one = subclassed_of(k, lambda parts, ids: parts[0](ids), k.layers.Embedding(8, 3))
        one.build(tokens())
        several = subclassed_of(
            k, lambda parts, ids: parts[0](ids[0]) + parts[0](ids[1]), k.layers.Embedding(8, 3)
        )
        several.build([tokens(), tokens()])
        keyed = subclassed_of(k, lambda parts, ids: parts[0](ids["a"]), k.layers.Embedding(8, 3))
        keyed.build({"a": tokens()})
        sequential = k.Sequential([k.layers.Embedding(8, 3), k.layers.LSTM(4)])
        sequential.build(tokens())
    ids = random_array([2, 4], "int32")
    for number, (model, inputs) in enumerate(
        ((one, ids), (several, [ids, ids]), (keyed, {"a": ids}), (sequential, ids))
    ):
        check_export(model, tmp_path / str(number), inputs)
        specs = inputs_of(tmp_path / str(number))
        assert {(spec.dtype, *spec.shape) for spec in specs.values()} == {(tf.int32, 2, 4)}


@pytest.mark.parametrize("batch", [tf.constant(8), np.int64(8), np.int32(8)])
def test_build_with_tensors_as_dimensions(k: Any, batch: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = subclassed_of(k, lambda parts, inputs: parts[0](inputs[0]) + inputs[1], k.layers.Dense(3))
        model.build([(batch, 4), (batch, np.int64(1))])
        assert len(model.weights) == 2
        keyed = subclassed_of(k, lambda parts, inputs: parts[0](inputs["a"]), k.layers.Dense(3))
        keyed.build({"a": [batch, 4]})
    check_export(model, tmp_path / "m", [random_array([2, 4]), random_array([2, 1])], batch_size=2)
    check_export(keyed, tmp_path / "k", {"a": random_array([8, 4])})


def test_a_model_that_was_called_with_float64(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = subclassed_of(k, lambda parts, inputs: parts[0](inputs), k.layers.Dense(3))
    model(np.ones([2, 4]))  # NumPy's default, which Keras turns into float32
    check_export(model, tmp_path / "m", random_array([2, 4]))
    assert [spec.dtype for spec in inputs_of(tmp_path / "m").values()] == [tf.float32]


def test_a_deferred_sequential_model_takes_any_batch(k: Any, tmp_path: Path) -> None:
    config = IPUConfig()
    config.auto_select_ipus = 2
    config.configure_ipu_system()
    for number, assigned_first in enumerate((True, False)):
        with IPUStrategy().scope():
            model = k.Sequential([k.layers.Dense(3), k.layers.Activation("relu")])
            if assigned_first:
                model.set_pipeline_stage_assignment([0, 1])
            model.build((5, 4))
            if not assigned_first:
                model.set_pipeline_stage_assignment([0, 1])
        header = check_export(model, tmp_path / str(number), random_array([2, 4]), batch_size=2)
        assert len(header["stages"]) == 2


def test_a_recurrent_model_with_state_is_refused(tmp_path: Path) -> None:
    with IPUStrategy().scope():  # tf_keras refuses it in the scope of any strategy
        inputs = keras.layers.Input((5, 4), batch_size=2)
        model = keras.Model(inputs, keras.layers.GRU(3, stateful=True)(inputs))
    with pytest.raises(ValueError, match="changes a variable in operation .*stateful=False"):
        serving.export_keras(model, str(tmp_path / "m"))


def test_operations_between_layers_follow_their_inputs(k: Any, tmp_path: Path) -> None:
    config = IPUConfig()
    config.auto_select_ipus = 2
    config.configure_ipu_system()
    with IPUStrategy().scope():
        inputs = k.layers.Input((4,), batch_size=2)
        with k.ipu.PipelineStage(0):
            x = k.layers.Dense(3)(inputs)
        x = x * 2.0
        with k.ipu.PipelineStage(1):
            x = k.layers.Activation("tanh")(x)
        model = k.Model(inputs, [x * 3.0 + 1.0, x])
    assert len(check_export(model, tmp_path / "m", random_array([2, 4]))["stages"]) == 2


@pytest.mark.parametrize("legacy", ["0", "1"])
def test_keras_ipu_by_the_names_of_tensorflow(legacy: str) -> None:
    script = """
import tensorflow as tf
from tensorflow.python import ipu
with ipu.ipu_strategy.IPUStrategy().scope():
    model = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(2)])
assert hasattr(model, "export_for_ipu_serving")
from tensorflow.keras.ipu import PipelineStage
from tensorflow.keras.ipu.extensions import SequentialExtension
from tensorflow.keras.ipu.extensions.pipeline_stage_assignment import PipelineStage as again
assert PipelineStage is again is tf.keras.ipu.PipelineStage
assert isinstance(model, SequentialExtension)
print(type(model).__module__.split(".")[0])
"""
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": legacy}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["tf_keras" if legacy == "1" else "keras"], done.stderr


@pytest.mark.parametrize("packages", ["tf_keras, keras", "keras, tf_keras"])
def test_both_keras_packages_in_either_order(packages: str) -> None:
    script = f"""
from tensorflow.python import ipu
import {packages}
assert keras.Model.export_for_ipu_serving is tf_keras.Model.export_for_ipu_serving
with ipu.ipu_strategy.IPUStrategy().scope():
    for package in (keras, tf_keras):
        with package.ipu.PipelineStage(0):
            layer = package.layers.Dense(2)
            model = package.Sequential([package.Input((4,)), layer])
        model.set_replication_options(package.ipu.ReplicatedMetricReductionMethod.MEAN)
        assert isinstance(model, package.ipu.SequentialExtension)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
