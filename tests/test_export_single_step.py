"""export_single_step: the SavedModel it writes, and the function it returns."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from export_models import serve
from tensorflow_ipu import serving
from tensorflow_ipu._runtime import native

FOUR = tf.TensorSpec([4], tf.float32)


@tf.function(input_signature=[FOUR])
def double(x: tf.Tensor) -> tf.Tensor:
    return x * 2


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "model")


def test_the_returned_function_runs_the_executable(directory: str) -> None:
    run = serving.export_single_step(double, directory, 10)
    for value in range(25):  # more than one run of the main program
        np.testing.assert_array_equal(run(tf.fill([4], float(value))), [[2.0 * value] * 4])


def test_the_saved_model_is_complete_in_itself(directory: str, tmp_path: Path) -> None:
    serving.export_single_step(double, directory, 10)
    moved = str(tmp_path / "elsewhere" / "7")
    shutil.move(directory, moved)
    assert serve(moved)(x=[1, 2, 5, 7])["output_0"].tolist() == [2, 4, 10, 14]
    assert os.listdir(os.path.join(moved, "assets")) == ["executable.ipu"]


def test_another_process_only_has_to_import_the_package(directory: str) -> None:
    serving.export_single_step(double, directory, 10)
    program = f"""
import tensorflow as tf
import tensorflow_ipu
model = tf.saved_model.load({directory!r})
print(model.signatures["serving_default"](tf.constant([1.0, 2.0, 5.0, 7.0]))["output_0"].numpy().tolist())
"""
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=300
    )
    assert output.stdout.strip() == "[2.0, 4.0, 10.0, 14.0]"


def test_one_output_is_a_list_of_one(directory: str, tmp_path: Path) -> None:
    run = serving.export_single_step(double, directory, 4)
    for x in (tf.ones([4]), np.ones([4], np.float32), [1.0] * 4):
        results = run(x)
        assert isinstance(results, list)
        assert [result.numpy().tolist() for result in results] == [[2, 2, 2, 2]]
    named = serving.export_single_step(double, str(tmp_path / "named"), 4, output_names="doubled")
    results = named(tf.ones([4]))
    assert isinstance(results, dict)
    assert {name: result.numpy().tolist() for name, result in results.items()} == {"doubled": [2] * 4}


@pytest.mark.parametrize("output_names", [None, ["a", "b", "c"]])
@pytest.mark.parametrize("kind", ["tensor", "tuple", "list", "dictionary"])
def test_postprocessing_gives_the_result_its_structure(
    directory: str, kind: str, output_names: list[str] | None
) -> None:
    def after(y: tf.Tensor) -> Any:
        total = tf.reduce_sum(y)
        several: dict[str, Any] = {
            "tensor": total,
            "tuple": (total, -total, y),
            "list": [total, -total, y],
            "dictionary": {"total": total, "more": [-total, y]},
        }
        return several[kind]

    names = output_names[:1] if output_names and kind == "tensor" else output_names
    run = serving.export_single_step(
        double,
        directory,
        4,
        postprocessing_step=after,
        postprocessing_step_signature=[FOUR],
        output_names=names,
    )
    results, expected = run(tf.ones([4])), after(tf.fill([4], 2.0))
    if names is None:
        tf.nest.assert_same_structure(results, expected)
    else:
        assert list(results) == names
        results = list(results.values())
    for result, value in zip(tf.nest.flatten(results), tf.nest.flatten(expected), strict=True):
        np.testing.assert_array_equal(result, value)


def test_own_functions_do_not_warn_of_retracing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(7):
        run = serving.export_single_step(
            lambda x, number=number: x + float(number), str(tmp_path / str(number)), 1, [FOUR]
        )
        assert run(tf.ones([4]))[0][0] == 1 + number
    assert "retracing" not in caplog.text


def test_numbers_may_be_those_of_numpy(directory: str) -> None:
    serving.export_single_step(
        double,
        directory,
        np.int64(3),
        timeout_us=np.int32(777),
        replicas=np.uint8(2),
        dynamic_batch=np.bool_(True),
        max_wait_us=np.int16(5),
        smaller_batches=np.array([1, 2]),
        purge_export_dir=np.bool_(False),
    )
    header = json.loads(native.inspect(os.path.join(directory, "assets", "executable.ipu")))
    found = [header[name] for name in ("iterations", "timeout_us", "replicas", "max_wait_us")]
    assert found == ["3", "777", 2, "5"]
    for wrong in (True, np.bool_(True), 4.0, np.float32(4), "4", None):
        with pytest.raises(TypeError, match="`iterations` must be an integer"):
            serving.export_single_step(double, directory, wrong, purge_export_dir=True)


def test_names_of_inputs_and_outputs(directory: str, tmp_path: Path) -> None:
    def step(first: tf.Tensor, second: tf.Tensor) -> dict[str, Any]:
        return {"sum": first + second, "both": (first, second)}

    serving.export_single_step(step, directory, 1, [FOUR, FOUR])
    outputs = serve(directory)(first=[1] * 4, second=[2] * 4)
    assert {name: value[0] for name, value in outputs.items()} == {
        "output_0": 1,
        "output_1": 2,
        "output_2": 3,
    }

    run = serving.export_single_step(
        step, str(tmp_path / "named"), 1, [FOUR, FOUR], output_names=["a", "b", "c"]
    )
    outputs = serve(tmp_path / "named")(first=[1] * 4, second=[2] * 4)
    assert {name: value[0] for name, value in outputs.items()} == {"a": 1, "b": 2, "c": 3}
    results = run(tf.ones([4]), tf.ones([4]))
    assert {name: result.numpy()[0] for name, result in results.items()} == {"a": 1, "b": 1, "c": 2}

    serving.export_single_step(double, str(tmp_path / "one"), 1, output_names="doubled")
    assert list(serve(tmp_path / "one")(x=[1] * 4)) == ["doubled"]


def test_input_dataset(directory: str) -> None:
    dataset = tf.data.Dataset.from_tensor_slices(np.zeros([6, 2, 3], np.float32)).batch(
        2, drop_remainder=True
    )
    run = serving.export_single_step(
        lambda x: tf.reduce_sum(x, axis=[1, 2]), directory, 3, input_dataset=dataset
    )
    np.testing.assert_array_equal(run(tf.ones([2, 2, 3])), [[6, 6]])


def test_variables_and_captured_tensors_are_frozen(directory: str) -> None:
    variable, captured = tf.Variable([1.0, 2.0, 3.0, 4.0]), tf.constant(10.0)
    run = serving.export_single_step(lambda x: x * variable + captured, directory, 1, [FOUR])
    variable.assign([0.0] * 4)
    np.testing.assert_array_equal(run(tf.ones([4])), [[11, 12, 13, 14]])


def test_preprocessing_and_postprocessing_run_on_the_cpu(directory: str) -> None:
    words = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["graphcore"], [1.0]), -3.0)
    offset = tf.Variable(1.0)

    def preprocess(text: tf.Tensor) -> tf.Tensor:
        return words.lookup(text) + offset

    run = serving.export_single_step(
        lambda x: x * 2,
        directory,
        1,
        [FOUR],
        preprocessing_step=preprocess,
        preprocessing_step_signature=[tf.TensorSpec([4], tf.string)],
        postprocessing_step=lambda y: (tf.strings.as_string(tf.cast(tf.abs(y), tf.int32)), y),
        postprocessing_step_signature=[FOUR],
        output_names=["text", "value"],
    )
    offset.assign(5.0)
    text, value = run(tf.constant(["graphcore", "a", "b", "c"])).values()
    assert text.numpy().tolist() == [b"4", b"4", b"4", b"4"]
    assert value.numpy().tolist() == [4, -4, -4, -4]
    outputs = serve(directory)(text=["a", "graphcore", "b", "c"])
    assert outputs["text"].tolist() == [b"4"] * 4
    assert outputs["value"].tolist() == [-4, 4, -4, -4]


def test_a_dataset_describes_what_preprocessing_takes(directory: str) -> None:
    dataset = tf.data.Dataset.from_tensor_slices(["1", "2", "3", "4"]).batch(4, drop_remainder=True)
    run = serving.export_single_step(
        double,
        directory,
        1,
        input_dataset=dataset,
        preprocessing_step=lambda text: tf.strings.to_number(text),
    )
    np.testing.assert_array_equal(run(tf.constant(["1", "2", "3", "4"])), [[2, 4, 6, 8]])


def test_preprocessing_may_take_any_shape(directory: str) -> None:
    run = serving.export_single_step(
        double,
        directory,
        1,
        preprocessing_step=lambda x: tf.pad(x, [[0, 4 - tf.size(x)]]),
        preprocessing_step_signature=[tf.TensorSpec([None], tf.float32)],
    )
    np.testing.assert_array_equal(run(tf.constant([1.0, 2.0])), [[2, 4, 0, 0]])


def test_purging_replaces_the_whole_directory(directory: str) -> None:
    serving.export_single_step(double, directory, 1)
    stale = Path(directory, "stale")
    stale.write_text("old")
    old = serve(directory)
    run = serving.export_single_step(lambda x: x * 3, directory, 1, [FOUR], purge_export_dir=True)
    assert not stale.exists()
    assert serve(directory)(x=[1] * 4)["output_0"][0] == 3
    assert run(tf.ones([4]))[0][0] == 3
    assert old(x=[1] * 4)["output_0"][0] == 2  # a loaded model is not disturbed
    assert sorted(os.listdir(os.path.dirname(directory))) == ["model"]


def test_two_exports_of_one_function_do_not_meet(tmp_path: Path) -> None:
    functions = []
    for factor in (2.0, 3.0):

        def predict_step(x: tf.Tensor, factor: float = factor) -> tf.Tensor:
            return x * factor

        functions.append(serving.export_single_step(predict_step, str(tmp_path / str(factor)), 1, [FOUR]))
    assert [function(tf.ones([4]))[0].numpy()[0] for function in functions] == [2, 3]


def test_rows_are_batched(directory: str) -> None:
    weights = tf.constant(np.random.default_rng(1).normal(size=(3, 2)), tf.float32)
    run = serving.export_single_step(
        lambda x: tf.linalg.matmul(x, weights), directory, 4, [tf.TensorSpec([8, 3])], dynamic_batch=True
    )
    served = serve(directory)
    for rows in (1, 3, 8, 9, 40):
        x = np.random.default_rng(rows).normal(size=(rows, 3)).astype("float32")
        np.testing.assert_allclose(run(tf.constant(x))[0], x @ weights.numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(served(x=x)["output_0"], x @ weights.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "function, dependent",
    [
        (lambda x, i: (tf.tanh(x), tf.gather(tf.eye(3), i)), []),
        (lambda x, i: (tf.nn.softmax(x, axis=0), i), [0]),
        (lambda x, i: (x, tf.reverse(i, [0])), [1]),
    ],
    ids=["independent", "softmax over the batch", "reversed"],
)
def test_rows_that_depend_on_each_other_are_noticed(
    directory: str, function: Any, dependent: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    signature = [tf.TensorSpec([8, 3]), tf.TensorSpec([8], tf.int32)]
    serving.export_single_step(function, directory, 1, signature, dynamic_batch=True)
    warnings = [
        record.getMessage() for record in caplog.records if "depend on other rows" in record.getMessage()
    ]
    assert len(warnings) == len(dependent)
    assert all(f"result {position} " in warnings[0] for position in dependent)


def test_rows_are_batched_behind_host_steps(directory: str) -> None:
    run = serving.export_single_step(
        lambda x: x * 2,
        directory,
        1,
        [tf.TensorSpec([8], tf.float32)],
        preprocessing_step=lambda text: tf.strings.to_number(text),
        preprocessing_step_signature=[tf.TensorSpec([8], tf.string)],
        postprocessing_step=lambda y: tf.strings.as_string(tf.cast(y, tf.int32)),
        postprocessing_step_signature=[tf.TensorSpec([8], tf.float32)],
        dynamic_batch=True,
    )
    assert run(tf.constant(["1", "2", "3"])).numpy().tolist() == [b"2", b"4", b"6"]


def test_replicas_and_timeout_are_in_the_executable(directory: str) -> None:
    run = serving.export_single_step(
        double, directory, 7, replicas=2, timeout_us=1234, target_cpu="x86-64-v2"
    )
    header = json.loads(native.inspect(os.path.join(directory, "assets", "executable.ipu")))
    assert (header["iterations"], header["replicas"], header["timeout_us"]) == ("7", 2, "1234")
    assert header["target"]["ipu"]["cpu"] == "x86-64-v2"
    assert run(tf.ones([4]))[0][0] == 2


def test_progress_is_told_in_order(directory: str) -> None:
    told: list[tuple[str, float]] = []
    serving.export_single_step(double, directory, 1, progress=lambda what, done: told.append((what, done)))
    shares = [done for _, done in told]
    assert shares == sorted(shares) and shares[0] == 0.0 and shares[-1] == 1.0
    assert any("predict_step" in what for what, _ in told)


def test_a_progress_bar_is_for_terminals(directory: str, capsys: pytest.CaptureFixture) -> None:
    serving.export_single_step(double, directory, 1)
    assert "%" not in capsys.readouterr().err
    serving.export_single_step(double, directory, 1, purge_export_dir=True, progress=True)
    assert "100%" in capsys.readouterr().err


def test_a_model_larger_than_the_device_is_refused(directory: str) -> None:
    from tensorflow_ipu.config import IPUConfig, reset_ipu_configuration

    config = IPUConfig()
    config.auto_select_ipus = 1
    config.ipu_model.tiles_per_ipu = 4
    config.configure_ipu_system()
    try:
        weights = tf.random.normal([1024, 1024])
        with pytest.raises(tf.errors.ResourceExhaustedError, match=r"\d"):
            serving.export_single_step(
                lambda x: tf.linalg.matvec(weights, x), directory, 1, [tf.TensorSpec([1024])]
            )
    finally:
        reset_ipu_configuration()
    assert not os.path.exists(directory)


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
def test_a_bad_executable_fails_the_load(directory: str, tmp_path: Path, damage: str) -> None:
    serving.export_single_step(double, directory, 1)
    copy = shutil.copytree(directory, tmp_path / "copy")
    executable = copy / "assets" / "executable.ipu"
    contents = bytearray(executable.read_bytes())
    if damage == "cut":
        executable.write_bytes(contents[: len(contents) // 2])
    elif damage == "flipped":
        contents[-1] ^= 1
        executable.write_bytes(contents)
    else:
        executable.unlink()
    with pytest.raises((tf.errors.OpError, OSError)):
        tf.saved_model.load(str(copy))


def test_exports_need_eager_execution(directory: str) -> None:
    with tf.Graph().as_default(), pytest.raises(RuntimeError, match="eager execution"):
        serving.export_single_step(double, directory, 1)


def test_exports_in_several_threads(tmp_path: Path) -> None:
    """Two of them export the same model at the same time."""
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for step in range(3):
                run = serving.export_single_step(
                    lambda x, step=step: x * float(number) + step,
                    str(tmp_path / f"{threading.get_ident()}_{step}"),
                    1,
                    [FOUR],
                )
                if run(tf.ones([4]))[0][0] != number + step:
                    wrong.append((number, step))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number // 2,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
