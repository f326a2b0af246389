"""Keras models as pipelines: stages by PipelineStage and by assignment, of every kind of model."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_models import PACKAGES, check_export, package_name, random_array
from tensorflow_ipu import serving
from tensorflow_ipu.config import IPUConfig, reset_ipu_configuration
from tensorflow_ipu.ipu_strategy import IPUStrategy
from tensorflow_ipu.pipelining_ops import PipelineSchedule, PipelineStageOptions


@pytest.fixture(autouse=True)
def four_ipus() -> Iterator[None]:
    config = IPUConfig()
    config.auto_select_ipus = 4
    config.configure_ipu_system()
    yield
    reset_ipu_configuration()


@pytest.fixture(params=PACKAGES, ids=package_name)
def k(request: pytest.FixtureRequest) -> Any:
    """A Keras package."""
    return request.param


def ipus_of(header: dict[str, Any]) -> list[int]:
    return [stage["ipu"] for stage in header["stages"]]


def two_stages(k: Any) -> Any:
    """A functional model in which the second input is used in both stages."""
    left = k.layers.Input((4,), batch_size=1, name="input_1")
    right = k.layers.Input((4,), batch_size=1, name="input_2")
    with k.ipu.PipelineStage(0):
        x = k.layers.Multiply()([left, right])
    with k.ipu.PipelineStage(1):
        x = k.layers.Add()([x, right])
    return k.Model([left, right], x)


PAIR = [np.float32([[1, 2, 3, 4]]), np.float32([[5, 6, 7, 8]])]


@pytest.mark.parametrize("schedule", [None, *PipelineSchedule])
def test_functional_model(k: Any, schedule: PipelineSchedule | None, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = two_stages(k)
        model.set_pipelining_options(device_mapping=[3, 1], pipeline_schedule=schedule)
        model.compile(steps_per_execution=16)
    header = check_export(model, tmp_path / "m", PAIR)
    assert ipus_of(header) == [3, 1]
    assert header["target"]["num_ipus"] == 4
    assert header["iterations"] == "16"
    assert header["schedule"] == (schedule or PipelineSchedule.Grouped).name.upper()
    assert header["hold"] == (0 if schedule is PipelineSchedule.Sequential else 1)


def test_stages_of_layers_that_are_made_in_the_scope(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        with k.ipu.PipelineStage(0):
            first = k.layers.Dense(4)
        with k.ipu.PipelineStage(1):
            second = k.layers.Dense(4)
        inputs = k.layers.Input((4,), batch_size=1)
        x = second(first(inputs))
        with k.ipu.PipelineStage(2):  # where it is called counts
            x = first(x)
        model = k.Model(inputs, x)
        stages = [item.pipeline_stage for item in model.get_pipeline_stage_assignment()]
        assert stages == [0, 1, 2]
    assert ipus_of(check_export(model, tmp_path / "m", random_array([1, 4]))) == [0, 1, 2]


def test_sequential_model(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = k.Sequential(
            [k.layers.Dense(8, activation="relu"), k.layers.Dense(6), k.layers.Dense(4), k.layers.Dense(2)]
        )
        model.build((None, 5))
        assert [item.pipeline_stage for item in model.get_pipeline_stage_assignment()] == [None] * 4
        model.set_pipeline_stage_assignment([0, 0, 1, 1])
        assert [item.pipeline_stage for item in model.get_pipeline_stage_assignment()] == [0, 0, 1, 1]
    header = check_export(model, tmp_path / "m", random_array([2, 5]), batch_size=2)
    assert ipus_of(header) == [0, 1]
    model.reset_pipeline_stage_assignment()
    header = check_export(model, tmp_path / "n", random_array([2, 5]), batch_size=2)
    assert ipus_of(header) == [0]


def test_sequential_model_by_assignments(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = k.Sequential([k.layers.Input((5,), batch_size=1), k.layers.Dense(4), k.layers.Dense(2)])
        assignments = model.get_pipeline_stage_assignment()
        for stage, assignment in enumerate(assignments):
            assignment.pipeline_stage = stage
            assert "is assigned to pipeline stage" in str(assignment)
        model.set_pipeline_stage_assignment(assignments)
        model.set_pipelining_options(device_mapping=[1, 0])
    assert ipus_of(check_export(model, tmp_path / "m", random_array([1, 5]))) == [1, 0]


def test_functional_model_by_assignments(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        inputs = k.layers.Input((4,), batch_size=1)
        shared = k.layers.Dense(4)
        x = k.layers.ReLU()(shared(shared(inputs)))
        model = k.Model(inputs, x)
        assignments = model.get_pipeline_stage_assignment()
        assert [(item.layer, item.node_index) for item in assignments][:2] == [(shared, 0), (shared, 1)]
        assert assignments[1].inbound_layers == [shared]
        for assignment, stage in zip(assignments, [0, 1, 1], strict=True):
            assignment.pipeline_stage = stage
        model.set_pipeline_stage_assignment(assignments)
    assert ipus_of(check_export(model, tmp_path / "m", random_array([1, 4]))) == [0, 1]


def subclassed(k: Any) -> Any:
    class Model(k.Model):
        def __init__(self) -> None:
            super().__init__()
            self.flatten = k.layers.Flatten()
            self.first = k.layers.Dense(4)
            self.second = k.layers.Dense(8)

        def call(self, inputs: Any) -> Any:
            left, right = inputs
            with k.ipu.PipelineStage(0):
                left = self.flatten(left)
            with k.ipu.PipelineStage(1):
                right = self.flatten(right)
                left = tf.nn.relu(self.first(left)) * 2.0
                right = self.first(right)
            with k.ipu.PipelineStage(2):
                return self.second(left), self.second(right)

    return Model()


def test_subclassed_model(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = subclassed(k)
        with pytest.raises(RuntimeError, match="has not been built yet"):
            model.get_pipeline_stage_assignment()
        model.build([(1, 2, 3), (1, 2, 3)])
        model.set_pipelining_options(device_mapping=[0, 1, 1])
        stages = [item.pipeline_stage for item in model.get_pipeline_stage_assignment()]
        assert stages == [0, 1, 1, 1, 2, 2]
    arrays = [random_array([1, 2, 3]), random_array([1, 2, 3])]
    header = check_export(model, tmp_path / "m", arrays)
    assert ipus_of(header) == [0, 1, 1]


def test_subclassed_model_by_assignments(k: Any, tmp_path: Path) -> None:
    class Model(k.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = k.layers.Dense(4)
            self.last = k.layers.Dense(2)

        def call(self, inputs: Any) -> Any:
            return self.last(self.dense(self.dense(inputs)))

    with IPUStrategy().scope():
        model = Model()
        model.build((2, 4))
        assignments = model.get_pipeline_stage_assignment()
        assert [(item.layer, item.node_index) for item in assignments] == [
            (model.dense, 0),
            (model.dense, 1),
            (model.last, 0),
        ]
        for assignment, stage in zip(assignments, [0, 0, 1], strict=True):
            assignment.pipeline_stage = stage
        model.set_pipeline_stage_assignment(assignments)
    assert ipus_of(check_export(model, tmp_path / "m", random_array([2, 4]))) == [0, 1]


def test_a_model_inside_a_model(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        inner = k.Sequential([k.layers.Input((4,), batch_size=1), k.layers.Dense(4), k.layers.ReLU()])
        inner.set_pipeline_stage_assignment([0, 1])
        inputs = k.layers.Input((4,), batch_size=1)
        x = inner(inputs)
        with k.ipu.PipelineStage(2):
            x = k.layers.Dense(3)(x)
        model = k.Model(inputs, x)
    assert ipus_of(check_export(model, tmp_path / "m", random_array([1, 4]))) == [0, 1, 2]


def test_layers_with_loops_and_state(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        inputs = k.layers.Input((7,), batch_size=3, dtype="int32")
        with k.ipu.PipelineStage(0):
            x = k.layers.Embedding(10, 6)(inputs)
        with k.ipu.PipelineStage(1):
            x = k.layers.LSTM(5, return_sequences=True)(x)
        with k.ipu.PipelineStage(2):
            x = k.layers.BatchNormalization()(x)
            x = k.layers.GlobalAveragePooling1D()(x)
        model = k.Model(inputs, x)
    check_export(model, tmp_path / "m", random_array([3, 7], "int32"))


def test_an_operation_of_keras_takes_the_stage_of_its_input(tmp_path: Path) -> None:
    with IPUStrategy().scope():
        inputs = keras.layers.Input((4,), batch_size=1)
        with keras.ipu.PipelineStage(0):
            x = keras.layers.Dense(4)(inputs)
        x = x * 2 + 1
        with keras.ipu.PipelineStage(1):
            x = keras.layers.Dense(2)(x)
        model = keras.Model(inputs, x)
    check_export(model, tmp_path / "m", random_array([1, 4]))


def test_a_layer_without_a_stage(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        inputs = k.layers.Input((4,), batch_size=1)
        with k.ipu.PipelineStage(0):
            x = k.layers.Dense(4)(inputs)
        with k.ipu.PipelineStage(1):
            x = k.layers.Dense(4)(x)
        model = k.Model(inputs, k.layers.Dense(4, name="forgotten")(x))
    with pytest.raises(ValueError, match="All layers of a pipelined model.*forgotten has not been assigned"):
        serving.export_keras(model, str(tmp_path / "m"))


def test_a_stage_that_needs_a_later_one(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        inputs = k.layers.Input((4,), batch_size=1)
        with k.ipu.PipelineStage(1):
            x = k.layers.Dense(4)(inputs)
        with k.ipu.PipelineStage(0):
            x = k.layers.Dense(4)(x)
        model = k.Model(inputs, x)
    with pytest.raises(ValueError, match="can only use outputs from current or previous pipeline stages"):
        serving.export_keras(model, str(tmp_path / "m"))


def test_a_stage_that_is_left_out(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        inputs = k.layers.Input((4,), batch_size=1)
        with k.ipu.PipelineStage(0):
            x = k.layers.Dense(4)(inputs)
        with k.ipu.PipelineStage(2):
            x = k.layers.Dense(4)(x)
        model = k.Model(inputs, x)
    with pytest.raises(ValueError, match=r"preceding stages \[1\] had no assignments"):
        serving.export_keras(model, str(tmp_path / "m"))


def test_one_stage_is_no_pipeline(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        inputs = k.layers.Input((4,), batch_size=1)
        with k.ipu.PipelineStage(0):
            model = k.Model(inputs, k.layers.Dense(4)(inputs))
    with pytest.raises(ValueError, match="at least two stages"):
        serving.export_keras(model, str(tmp_path / "m"))


def test_an_operation_without_a_kernel_is_named_with_its_line(k: Any, tmp_path: Path) -> None:
    class Text(k.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return tf.strings.length(tf.strings.as_string(inputs))

    with IPUStrategy().scope():
        inputs = k.layers.Input((4,), batch_size=1)
        with k.ipu.PipelineStage(0):
            x = k.layers.ReLU()(inputs)
        with k.ipu.PipelineStage(1):
            x = Text()(x)
        model = k.Model(inputs, x)
    with pytest.raises(ValueError, match=r"stage 1 of .*AsString.*test_keras_pipeline\.py:\d+"):
        serving.export_keras(model, str(tmp_path / "m"))


def test_device_mapping_errors(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = two_stages(k)
        for mapping, message in (
            ([0], "1 entries, but there are 2 stages"),
            ([0, 1, 2], "3 entries, but there are 2 stages"),
            ([0, 4], r"names the IPUs \[4\], but the number of configured IPUs is 4"),
            ([-1, 0], r"names the IPUs \[-1\]"),
        ):
            model.set_pipelining_options(device_mapping=mapping)
            with pytest.raises(ValueError, match=message):
                serving.export_keras(model, str(tmp_path / "m"))
        for wrong in ("01", [0.5, 1.9], [0.0, 1.0], ["0", "1"], [True, False], 1, {0: 1}):
            with pytest.raises(ValueError, match="Expected `device_mapping` to be a list of integers"):
                model.set_pipelining_options(device_mapping=wrong)
        with pytest.raises(TypeError, match="must be a PipelineSchedule"):
            model.set_pipelining_options(pipeline_schedule="Grouped")
        with pytest.raises(TypeError, match="unexpected arguments"):
            model.set_pipelining_options(device_maping=[0, 1])
        reset_ipu_configuration()
        model.set_pipelining_options(device_mapping=(0, 1))
        with pytest.raises(ValueError, match="auto_select_ipus` to 2"):
            serving.export_keras(model, str(tmp_path / "m"))


def test_pipelining_options_are_kept_in_the_executable(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = two_stages(k)
        options = [PipelineStageOptions(matmul_options={"availableMemoryProportion": "0.1"})] * 2
        model.set_pipelining_options(
            gradient_accumulation_steps_per_replica=8, forward_propagation_stages_poplar_options=options
        )
    header = check_export(model, tmp_path / "m", PAIR)
    assert "availableMemoryProportion" in header["options"]["stage_1"]


def test_assignment_errors(k: Any) -> None:
    with IPUStrategy().scope():
        model = k.Sequential([k.layers.Input((4,), batch_size=1), k.layers.Dense(4), k.layers.Dense(2)])
        for given, message in (
            ([0], r"length of the provided `pipeline_stage_assignment` \(1\) does not match"),
            ([0, "1"], "must be instances of `SequentialLayerPipelineStageAssignment`"),
            ([0, None], "must be instances of"),
            (range(2), "needs to be a list, but a range was given"),
            ([1, 0], "first layer .* needs to be assigned to the 0th pipeline stage, .* assigned to 1"),
            ([0, 2], "assigned to pipeline stage 2, however the previous layer .* to pipeline stage 0"),
            ([0, -1], "must be instances of"),
            ([0, True], "must be instances of"),
        ):
            with pytest.raises(ValueError, match=message):
                model.set_pipeline_stage_assignment(given)
        assignments = model.get_pipeline_stage_assignment()
        assignments[0].pipeline_stage = 0
        with pytest.raises(ValueError, match="has not been assigned a pipeline stage"):
            model.set_pipeline_stage_assignment(assignments)
        with pytest.raises(
            ValueError, match="index 0 .* is for layer .*, but the layer in the Sequential model"
        ):
            model.set_pipeline_stage_assignment(assignments[::-1])
    outside = k.Sequential([k.layers.Input((4,), batch_size=1), k.layers.Dense(4)])
    for method in (outside.get_pipeline_stage_assignment, outside.set_pipelining_options):
        with pytest.raises(ValueError, match="IPU strategy"):
            method()


def test_summary_of_the_assignment(k: Any) -> None:
    with IPUStrategy().scope():
        model = two_stages(k)
        lines: list[str] = []
        model.print_pipeline_stage_assignment_summary(print_fn=lines.append)
        assert lines[0] == f'Model: "{model.name}"'
        assert {len(line) for line in lines[1:]} == {89}
        assert lines[2].split() == "Layer (type) (node index) Input Layers Pipeline Stage".split()
        product, total = model.layers[-2].name, model.layers[-1].name
        assert [line.split() for line in lines[4:9] if line.strip("_")] == [
            [product, "(Multiply)", "(0)", "input_1", "0"],
            ["input_2"],
            [total, "(Add)", "(0)", product, "1"],
            ["input_2"],
        ]
        assert lines[3] == lines[-1] == "=" * 89
        lines.clear()
        model.print_pipeline_stage_assignment_summary(line_length=10, print_fn=lines.append)
        assert max(map(len, lines[1:])) == 10


def test_summary_of_a_sequential_model(k: Any) -> None:
    with IPUStrategy().scope():
        inner = k.Sequential([k.layers.Dense(2, name="inner")], name="nested")
        model = k.Sequential([k.layers.Dense(3, name="first"), inner])
        model.set_pipeline_stage_assignment([0, 1])
        lines: list[str] = []
        model.print_pipeline_stage_assignment_summary(print_fn=lines.append)
    assert [line.split() for line in lines[4:] if line.strip("_=")] == [
        ["first", "(Dense)", "0"],
        ["nested", "(Sequential)"],
        ["inner", "(Dense)", "1"],
    ]


def test_methods_that_change_nothing_are_accepted(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = two_stages(k)
    model.set_infeed_queue_options(prefetch_depth=2)
    model.set_outfeed_queue_options(buffer_depth=2)
    model.set_asynchronous_callbacks(True)
    model.set_replication_options(replicated_metric_reduction_method="MEAN")
    model.set_gradient_accumulation_options(gradient_accumulation_steps_per_replica=1)
    model.set_gradient_accumulation_options()
    check_export(model, tmp_path / "m", PAIR)


def test_options_of_two_calls_add_up(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = two_stages(k)
        model.set_pipelining_options(device_mapping=np.array([np.int64(3), np.int32(1)]))
        model.set_pipelining_options(pipeline_schedule=PipelineSchedule.Sequential, accumulate_outfeed=True)
    header = check_export(model, tmp_path / "m", PAIR)
    assert ipus_of(header) == [3, 1]
    assert header["schedule"] == "SEQUENTIAL"


@pytest.mark.parametrize(
    "method, arguments",
    [
        ("set_gradient_accumulation_options", {"gradient_accumulation_steps_per_replica": 4}),
        ("set_gradient_accumulation_options", {"gradient_accumulation_reduction_method": "mean"}),
        ("set_gradient_accumulation_options", {"use_v2_gradient_accumulation_optimizer": True}),
        ("set_gradient_accumulation_options", {"offload_weight_update_variables": True}),
        ("set_pipelining_options", {"gradient_accumulation_reduction_method": "mean"}),
        ("set_pipelining_options", {"recomputation_mode": "Auto"}),
        ("set_pipelining_options", {"weight_update_poplar_options": object()}),
        ("set_pipelining_options", {"replicated_optimizer_state_sharding": True}),
    ],
)
def test_what_is_for_training_is_named(method: str, arguments: dict[str, Any]) -> None:
    with IPUStrategy().scope():
        model = two_stages(keras)
    with pytest.raises(NotImplementedError, match=rf"{method}\(\): `{next(iter(arguments))}` .* training"):
        getattr(model, method)(**arguments)


def test_arguments_that_keras_sets(k: Any) -> None:
    with IPUStrategy().scope():
        model = two_stages(k)
    for argument, message in (
        ("gradient_accumulation_count", "Set the `gradient_accumulation_steps_per_replica` argument"),
        ("repeat_count", "automatically set by Keras"),
        ("batch_serialization_iterations", "not compatible with Keras"),
    ):
        with pytest.raises(ValueError, match=f"Found `{argument}` key in `pipelining_kwargs`. .*{message}"):
            model.set_pipelining_options(**{argument: 10})
    for steps in (-1, 0, 1.5, True):
        with pytest.raises(ValueError, match=f"to be a positive integer, but got {steps!r} instead"):
            model.set_pipelining_options(gradient_accumulation_steps_per_replica=steps)
    with pytest.raises(ValueError, match="Found `dataset` key"):
        model.set_infeed_queue_options(dataset=None)
    with pytest.raises(ValueError, match="Found `outfeed_mode` key"):
        model.set_outfeed_queue_options(outfeed_mode=None)


def test_pipeline_stage_scopes(k: Any) -> None:
    with pytest.raises(RuntimeError, match="within an IPUStrategy context"), k.ipu.PipelineStage(0):
        pass
    with IPUStrategy().scope():
        for wrong in (-1, "0", True, 1.0):
            with pytest.raises(ValueError, match="not a valid pipeline stage"), k.ipu.PipelineStage(wrong):
                pass
        with k.ipu.PipelineStage(0):
            with pytest.raises(RuntimeError, match="must not be nested"), k.ipu.PipelineStage(1):
                pass
        with k.ipu.PipelineStage(1):  # the failed ones left nothing behind
            pass


def test_a_stage_inside_a_function(k: Any, tmp_path: Path) -> None:
    class Model(k.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = k.layers.Dense(4)

        @tf.function
        def call(self, inputs: Any) -> Any:
            with k.ipu.PipelineStage(0):
                inputs = self.dense(inputs)
            with k.ipu.PipelineStage(1):
                return self.dense(inputs)

    with IPUStrategy().scope():
        model = Model()
        model.build((1, 4))
    with pytest.raises(ValueError, match="inside a tf.function, a loop or a branch"):
        serving.export_keras(model, str(tmp_path / "m"))


def test_many_threads_get_their_own_answers(tmp_path: Path) -> None:
    threads, calls, engines = 4, 250, 2
    with IPUStrategy().scope():
        model = two_stages(keras)
        model.compile(steps_per_execution=16)
    runs = [serving.export_keras(model, str(tmp_path / str(number))) for number in range(engines)]
    wrong: list[Any] = []

    def client(number: int) -> None:
        for call in range(calls):
            left = np.full([1, 4], number * calls + call, np.float32)
            right = np.full([1, 4], call % 7, np.float32)
            result = runs[call % engines](left, right)[0].numpy()
            if not np.array_equal(result, left * right + right):
                wrong.append((number, call, result))

    workers = [threading.Thread(target=client, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
