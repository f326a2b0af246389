"""export_pipeline: stages, schedules and device mappings."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from export_models import serve
from tensorflow_ipu import serving
from tensorflow_ipu._runtime import native
from tensorflow_ipu.config import IPUConfig, reset_ipu_configuration
from tensorflow_ipu.pipelining_ops import PipelineSchedule, PipelineStageOptions

FOUR = tf.TensorSpec([4], tf.float32)


def double(x: tf.Tensor) -> tf.Tensor:
    return x * 2


def add_three(x: tf.Tensor) -> tf.Tensor:
    return x + 3


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "model")


@pytest.fixture(autouse=True)
def four_ipus() -> Iterator[None]:
    config = IPUConfig()
    config.auto_select_ipus = 4
    config.configure_ipu_system()
    yield
    reset_ipu_configuration()


def header_of(directory: str) -> dict[str, Any]:
    return json.loads(native.inspect(os.path.join(directory, "assets", "executable.ipu")))


@pytest.mark.parametrize("schedule", [None, *PipelineSchedule])
@pytest.mark.parametrize("stages", [2, 4])
def test_schedules(directory: str, schedule: PipelineSchedule | None, stages: int) -> None:
    functions = [double, add_three, double, add_three][:stages]
    run = serving.export_pipeline(
        functions, directory, 8, pipeline_schedule=schedule, predict_step_signature=[FOUR]
    )
    for value in range(20):
        expected = 2.0 * value + 3
        expected = expected if stages == 2 else 2 * expected + 3
        np.testing.assert_array_equal(run(tf.fill([4], float(value))), [[expected] * 4])
    header = header_of(directory)
    overlapped = schedule is not PipelineSchedule.Sequential
    assert header.get("hold", 0) == (stages - 1 if overlapped else 0)
    assert [stage.get("ipu", 0) for stage in header["stages"]] == list(range(stages))
    assert serve(directory)(x=[1] * 4)["output_0"][0] == (5 if stages == 2 else 13)


def test_stages_pass_several_tensors_on(directory: str) -> None:
    def first(a: tf.Tensor, b: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"sum": a + b, "difference": a - b}

    def second(difference: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return total, difference * total

    run = serving.export_pipeline([first, second], directory, 4, predict_step_signature=[FOUR, FOUR])
    total, product = run(tf.fill([4], 5.0), tf.fill([4], 3.0))
    assert (total[0], product[0]) == (8, 16)
    assert set(serve(directory)(a=[5] * 4, b=[3] * 4)) == {"output_0", "output_1"}


def test_constants_come_ahead_of_what_is_fed(directory: str) -> None:
    def first(scale: tf.Tensor, offset: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return x * scale + offset

    scale = tf.Variable(3.0)
    run = serving.export_pipeline(
        [first, double], directory, 4, inputs=[scale, 1.0], predict_step_signature=[FOUR]
    )
    scale.assign(0.0)
    assert run(tf.ones([4]))[0][0] == 8
    assert list(serve(directory)(x=[1] * 4)) == ["output_0"]


def three_parameters(scale: tf.Tensor, offset: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    return x * scale + offset


SCALAR = tf.TensorSpec([], tf.float32)


@pytest.mark.parametrize(
    "stage, signature",
    [
        (three_parameters, [SCALAR, SCALAR, FOUR]),
        (three_parameters, (FOUR,)),
        (tf.function(three_parameters, input_signature=[SCALAR, SCALAR, FOUR]), None),
        (tf.function(three_parameters, input_signature=[SCALAR, SCALAR, FOUR]), [FOUR]),
        (lambda *arguments: three_parameters(*arguments), [FOUR]),
    ],
    ids=["all", "fed", "tf.function", "tf.function and fed", "any number"],
)
def test_a_signature_with_constants(directory: str, stage: Callable, signature: Any) -> None:
    run = serving.export_pipeline(
        [stage, double], directory, 4, inputs=[3.0, 1.0], predict_step_signature=signature
    )
    assert run(tf.ones([4]))[0][0] == 8
    assert len(header_of(directory)["infeeds"]) == 1


def test_a_signature_of_constants_gives_their_dtype(directory: str) -> None:
    half = tf.TensorSpec([4], tf.float16)
    arguments = {"predict_step_signature": [tf.TensorSpec([], tf.float16), half]}
    run = serving.export_pipeline([lambda c, x: c * x, double], directory, 4, inputs=[3], **arguments)
    assert run(tf.ones([4], tf.float16))[0].numpy().tolist() == [6] * 4
    for wrong in (np.float32(3), tf.ones([2], tf.float16)):
        with pytest.raises(ValueError, match="in its place"):
            serving.export_pipeline(
                [lambda c, x: c * x, double], directory, 4, inputs=[wrong], purge_export_dir=True, **arguments
            )
    with pytest.raises(ValueError, match="constant inputs alone"):
        serving.export_pipeline(
            [lambda c: c, double], directory, 4, [3.0], predict_step_signature=[SCALAR], purge_export_dir=True
        )


def test_constants_beside_a_dataset_and_preprocessing(directory: str) -> None:
    dataset = tf.data.Dataset.from_tensors((tf.zeros([4]), tf.zeros([])))
    run = serving.export_pipeline(
        [lambda c, x, y: c * x + y, double],
        directory,
        4,
        inputs=[2.0],
        input_dataset=dataset,
        predict_step_signature=[SCALAR, FOUR, SCALAR],
        preprocessing_step=lambda x, y: (x * 10, y + 1),
    )
    assert run(tf.ones([4]), 2.0)[0].numpy().tolist() == [46] * 4


def test_host_steps_around_a_pipeline(directory: str) -> None:
    run = serving.export_pipeline(
        [double, add_three],
        directory,
        4,
        predict_step_signature=[FOUR],
        preprocessing_step=lambda text: tf.strings.to_number(text),
        preprocessing_step_signature=[tf.TensorSpec([4], tf.string)],
        postprocessing_step=tf.function(lambda y: tf.reduce_sum(y), input_signature=[FOUR]),
        output_names="sum",
    )
    assert run(tf.constant(["1", "2", "3", "4"]))["sum"] == 32
    assert serve(directory)(text=["1", "2", "3", "4"])["sum"] == 32


def test_rows_are_batched_in_a_pipeline(directory: str) -> None:
    run = serving.export_pipeline(
        [double, add_three], directory, 4, predict_step_signature=[FOUR], dynamic_batch=True
    )
    np.testing.assert_array_equal(run(tf.range(11, dtype=tf.float32)), [2 * np.arange(11) + 3])


def test_the_mapping_may_be_any(directory: str) -> None:
    run = serving.export_pipeline(
        [double, add_three, double], directory, 4, device_mapping=[3, 0, 3], predict_step_signature=[FOUR]
    )
    assert [stage.get("ipu", 0) for stage in header_of(directory)["stages"]] == [3, 0, 3]
    assert run(tf.ones([4]))[0][0] == 10


def test_stage_options_are_kept_for_people(directory: str) -> None:
    options = [PipelineStageOptions({"a": "b"}), PipelineStageOptions(None, {"c": "d"})]
    serving.export_pipeline(
        [double, add_three],
        directory,
        4,
        poplar_options=options,
        name="my pipeline",
        predict_step_signature=[FOUR],
    )
    header = header_of(directory)
    assert header["name"] == "my_pipeline"
    assert '"a"' in str(header["options"]) and '"c"' in str(header["options"])


@pytest.mark.parametrize(
    "stages, arguments, message",
    [
        ([double], {}, "two"),
        ([], {}, "two"),
        ([double, add_three], {"device_mapping": [0]}, "device_mapping"),
        ([double, add_three], {"device_mapping": [0, 1, 2]}, "device_mapping"),
        ([double, add_three], {"device_mapping": [0, 4]}, "IPU 4|4"),
        ([double, add_three], {"device_mapping": [0, -1]}, "-1"),
        ([double, add_three], {"poplar_options": [PipelineStageOptions()]}, "poplar_options"),
    ],
)
def test_layouts_that_cannot_be(
    directory: str, stages: list[Callable], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        serving.export_pipeline(stages, directory, 4, predict_step_signature=[FOUR], **arguments)


def test_signatures_are_deduced_from_the_first_stage(directory: str) -> None:
    with pytest.raises(ValueError, match="`input_signature` deduction from given"):
        serving.export_pipeline([double, add_three], directory, 4)
    with pytest.raises(ValueError, match="Both `predict_step_signature` and `input_dataset` cannot"):
        serving.export_pipeline(
            [double, add_three],
            directory,
            4,
            predict_step_signature=[FOUR],
            input_dataset=tf.data.Dataset.from_tensors([1.0] * 4),
        )
    run = serving.export_pipeline([tf.function(double, input_signature=[FOUR]), add_three], directory, 4)
    assert run(tf.ones([4]))[0][0] == 5


def test_a_stage_that_does_not_take_what_it_is_given(directory: str) -> None:
    with pytest.raises(ValueError, match=r"`computational_stages\[0\]`.*`computational_stages\[1\]`"):
        serving.export_pipeline([lambda x: (x, x), add_three], directory, 4, predict_step_signature=[FOUR])
    with pytest.raises(ValueError, match=r"`computational_stages\[0\]`.*`computational_stages\[1\]`"):
        serving.export_pipeline(
            [double, tf.function(add_three, input_signature=[tf.TensorSpec([5])])],
            directory,
            4,
            predict_step_signature=[FOUR],
        )


def test_each_stage_has_its_ipu_s_memory(directory: str) -> None:
    config = IPUConfig()
    config.auto_select_ipus = 2
    config.ipu_model.tiles_per_ipu = 10  # 6 MB an IPU
    config.configure_ipu_system()
    weights = [tf.random.normal([1024, 1024], seed=seed) for seed in range(2)]  # 4 MB each

    def stage(index: int) -> Callable:
        return lambda x: tf.linalg.matvec(weights[index], x)

    signature = [tf.TensorSpec([1024])]
    serving.export_pipeline([stage(0), stage(1)], directory, 4, predict_step_signature=signature)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        serving.export_pipeline(
            [stage(0), stage(1)],
            directory + "_on_one",
            4,
            device_mapping=[0, 0],
            predict_step_signature=signature,
        )
