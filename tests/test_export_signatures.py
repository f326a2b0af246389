"""Where an export takes signatures from, and what it says of those that do not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow_ipu import serving
from tensorflow_ipu.export.signatures import deduce_signature, parameter_names

FOUR = tf.TensorSpec([4], tf.float32)


def double(x: tf.Tensor) -> tf.Tensor:
    return x * 2


def add(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    return x + y


def export(directory: Path, function: Callable = double, **arguments: Any) -> Any:
    return serving.export_single_step(function, str(directory / "model"), 2, **arguments)


def deduce(function: Callable, signature: Any = None, dataset: Any = None) -> list[tf.TensorSpec]:
    return deduce_signature(function, "predict_step", signature, "predict_step_signature", dataset)


def test_a_given_signature_is_named_by_the_parameters() -> None:
    assert deduce(add, (FOUR, tf.TensorSpec([1], tf.int32, "other"))) == [
        tf.TensorSpec([4], tf.float32, "x"),
        tf.TensorSpec([1], tf.int32, "y"),
    ]


def test_a_tf_function_brings_its_own_signature() -> None:
    function = tf.function(double, input_signature=[FOUR])
    assert deduce(function) == [tf.TensorSpec([4], tf.float32, "x")]


def test_a_dataset_describes_the_inputs() -> None:
    single = tf.data.Dataset.from_tensors([1.0, 2.0, 3.0, 4.0])
    assert deduce(double, dataset=single) == [tf.TensorSpec([4], tf.float32, "x")]
    pair = tf.data.Dataset.from_tensors(([1.0, 2.0], 3)).batch(5, drop_remainder=True)
    assert deduce(add, dataset=pair) == [
        tf.TensorSpec([5, 2], tf.float32, "x"),
        tf.TensorSpec([5], tf.int32, "y"),
    ]


def test_methods_defaults_and_variadic_parameters_have_names() -> None:
    class Model:
        def predict(self, x: Any, scale: float = 2.0) -> Any:
            return x * scale

    def variadic(first: Any, *rest: Any) -> Any:
        return first

    assert parameter_names(Model().predict, 1, "predict_step") == ["x"]
    assert parameter_names(variadic, 3, "predict_step") == ["first", "rest_0", "rest_1"]


@pytest.mark.parametrize(
    "function, message",
    [
        (double, r"`input_signature` deduction from given `predict_step` is not possible"),
        (tf.function(double), r"Empty `input_signature` inside provided tf.function"),
    ],
)
def test_no_way_to_get_a_signature(tmp_path: Path, function: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        export(tmp_path, function)


def test_a_host_step_needs_a_signature_as_well(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="deduction from given `preprocessing_step` is not possible"):
        export(tmp_path, predict_step_signature=[FOUR], preprocessing_step=tf.abs)
    with pytest.raises(ValueError, match="Empty `input_signature` inside provided tf.function"):
        export(tmp_path, predict_step_signature=[FOUR], postprocessing_step=tf.function(double))


def test_signature_and_dataset_exclude_each_other(tmp_path: Path) -> None:
    dataset = tf.data.Dataset.from_tensors([1.0, 2.0, 3.0, 4.0])
    with pytest.raises(
        ValueError, match="Both `predict_step_signature` and `input_dataset` cannot be provided"
    ):
        export(tmp_path, predict_step_signature=[FOUR], input_dataset=dataset)
    with pytest.raises(
        ValueError, match="Both `preprocessing_step_signature` and `input_dataset` cannot be provided"
    ):
        export(
            tmp_path,
            predict_step_signature=[FOUR],
            preprocessing_step=tf.abs,
            preprocessing_step_signature=[FOUR],
            input_dataset=dataset,
        )


@pytest.mark.parametrize(
    "arguments",
    [
        {"input_dataset": [1.0, 2.0]},
        {"predict_step_signature": FOUR},
        {"predict_step_signature": {"x": FOUR}},
        {"predict_step_signature": [(4, tf.float32)]},
        {
            "predict_step_signature": [FOUR],
            "preprocessing_step": tf.abs,
            "preprocessing_step_signature": FOUR,
        },
        {
            "predict_step_signature": [FOUR],
            "postprocessing_step": tf.abs,
            "postprocessing_step_signature": [4],
        },
        {"predict_step_signature": [FOUR], "output_names": 3},
        {"predict_step_signature": [FOUR], "output_names": [1]},
        {"predict_step_signature": [FOUR], "timeout_us": "soon"},
        {"predict_step_signature": [FOUR], "progress": "yes"},
    ],
)
def test_wrong_types(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        export(tmp_path, **arguments)


@pytest.mark.parametrize(
    "function, signature, message",
    [
        (double, [], "is empty"),
        (double, [FOUR, FOUR], "has 2 elements, but the function has 1 parameters"),
        (add, [FOUR], "has 1 elements, but the function has 2 parameters"),
    ],
)
def test_wrong_lengths(tmp_path: Path, function: Callable, signature: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        export(tmp_path, function, predict_step_signature=signature)


@pytest.mark.parametrize("names", [["a", "b"], []])
def test_number_of_output_names(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(ValueError, match="Length of output_names does not match"):
        export(tmp_path, predict_step_signature=[FOUR], output_names=names)


@pytest.mark.parametrize(
    "signature, function",
    [
        ([tf.TensorSpec([5], tf.float32)], lambda x: x),
        ([tf.TensorSpec([4], tf.int32)], lambda x: x),
        ([FOUR], lambda x: (x, x)),
    ],
    ids=["shape", "dtype", "count"],
)
def test_steps_that_do_not_fit_together(tmp_path: Path, signature: list, function: Callable) -> None:
    with pytest.raises(ValueError, match="`preprocessing_step` do not match the inputs of `predict_step`"):
        export(
            tmp_path,
            predict_step_signature=[FOUR],
            preprocessing_step=function,
            preprocessing_step_signature=signature,
        )
    if signature != [FOUR]:
        with pytest.raises(
            ValueError, match="`predict_step` do not match the inputs of `postprocessing_step`"
        ):
            export(
                tmp_path,
                predict_step_signature=[FOUR],
                postprocessing_step=function,
                postprocessing_step_signature=signature,
            )


def test_every_dimension_is_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'x'.*dynamic shape \(None,\)"):
        export(tmp_path, predict_step_signature=[tf.TensorSpec([None], tf.float32)])


@pytest.mark.parametrize("iterations", [0, -1])
def test_iterations_are_positive(tmp_path: Path, iterations: int) -> None:
    with pytest.raises(ValueError, match="`iterations` must be at least 1"):
        serving.export_single_step(double, str(tmp_path / "model"), iterations, [FOUR])


def test_a_directory_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "precious").write_text("data")
    with pytest.raises(ValueError, match="is not empty"):
        export(tmp_path, predict_step_signature=[FOUR])
    assert (tmp_path / "model" / "precious").read_text() == "data"


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "precious").write_text("data")
    with pytest.raises(ValueError, match="no kernel for the device"):
        export(tmp_path, tf.strings.as_string, predict_step_signature=[FOUR], purge_export_dir=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "precious"]


def test_row_batching_needs_rows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must have a leading dimension of known size"):
        export(tmp_path, predict_step_signature=[tf.TensorSpec([], tf.float32)], dynamic_batch=True)
    with pytest.raises(ValueError, match="must have the same leading dimension"):
        export(
            tmp_path, add, predict_step_signature=[FOUR, tf.TensorSpec([1], tf.float32)], dynamic_batch=True
        )
    with pytest.raises(ValueError, match=r"result 0 of `predict_step` has the shape \(\)"):
        export(tmp_path, tf.reduce_sum, predict_step_signature=[FOUR], dynamic_batch=True)
