"""Code for fewer rows than the batch: what is made of it, and where there is none."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from export_models import serve
from tensorflow.python import ipu
from tensorflow_ipu import serving
from tensorflow_ipu._runtime import native
from tensorflow_ipu.export import row_independence

WEIGHTS = tf.constant(np.random.default_rng(1).normal(size=(3, 2)), tf.float32)
EIGHT = [tf.TensorSpec([8, 3])]


def header(directory: Path) -> dict[str, Any]:
    return json.loads(native.inspect(os.path.join(directory, "assets", "executable.ipu")))


def counts(directory: Path) -> list[int]:
    return [variant["rows"] for variant in header(directory)["row_variants"]]


def product(x: tf.Tensor) -> tf.Tensor:
    return tf.linalg.matmul(x, WEIGHTS)


@pytest.mark.parametrize(
    "batch, smaller, made",
    [(8, None, [1, 4]), (4, None, [1]), (1, None, []), (8, (), []), (8, (3, 2, 3), [2, 3])],
)
def test_code_is_made_for_fewer_rows(
    tmp_path: Path, batch: int, smaller: tuple[int, ...] | None, made: list[int]
) -> None:
    run = serving.export_single_step(
        product,
        str(tmp_path / "m"),
        4,
        [tf.TensorSpec([batch, 3])],
        dynamic_batch=True,
        smaller_batches=smaller,
    )
    assert counts(tmp_path / "m") == made
    for rows in (1, 2, 3, 4, 5, 8, 21):
        x = np.random.default_rng(rows).normal(size=(rows, 3)).astype("float32")
        np.testing.assert_allclose(run(tf.constant(x))[0], x @ WEIGHTS.numpy(), rtol=1e-5, atol=1e-5)


def test_weights_are_stored_once(tmp_path: Path) -> None:
    weights = tf.random.normal([64, 64])
    for name, smaller in (("one", ()), ("more", None)):
        serving.export_single_step(
            lambda x: tf.linalg.matmul(x, weights),
            str(tmp_path / name),
            1,
            [tf.TensorSpec([64, 64])],
            dynamic_batch=True,
            smaller_batches=smaller,
        )
    assert counts(tmp_path / "more") == [1, 4, 16]
    assert len(header(tmp_path / "more")["weights"]) == len(header(tmp_path / "one")["weights"])


def test_steps_compute_no_more_rows_than_the_variant(tmp_path: Path) -> None:
    before = set(native.engine_names())
    run = serving.export_single_step(product, str(tmp_path / "m"), 4, EIGHT, dynamic_batch=True)
    (name,) = set(native.engine_names()) - before
    for rows in (1, 3, 8):
        run(tf.ones([rows, 3]))
    statistics = native.engine_statistics(name)
    assert (statistics["steps"], statistics["rows"], statistics["padded_rows"]) == (3, 12, 1)


@pytest.mark.parametrize(
    "function, reason",
    [
        (lambda x: x / x.shape[0], "other values for 1 rows"),
        (lambda x: tf.reshape(tf.reshape(x, [24]), [8, 3]), "cannot be traced for 1 rows"),
        (lambda x: x + tf.ones([8, 3]), "another number of rows for 1 rows"),
    ],
    ids=["a number", "a shape", "broadcast"],
)
def test_a_program_that_depends_on_its_batch_has_none(
    tmp_path: Path, function: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tensorflow_ipu")
    run = serving.export_single_step(function, str(tmp_path / "m"), 1, EIGHT, dynamic_batch=True)
    assert counts(tmp_path / "m") == []
    assert any("few rows cost what 8 do" in text and reason in text for text in caplog.messages)
    x = tf.constant(np.random.default_rng(1).normal(size=(8, 3)), tf.float32)
    np.testing.assert_allclose(run(x)[0], function(x), rtol=1e-6)
    # Who asks for a variant is told that there is none.
    with pytest.raises(ValueError, match=reason):
        serving.export_single_step(
            function, str(tmp_path / "n"), 1, EIGHT, dynamic_batch=True, smaller_batches=[1]
        )


TABLE = tf.Variable(tf.reshape(tf.range(10.0), [5, 2]))
IDS = [tf.TensorSpec([8], tf.int32)]
REAL = [tf.TensorSpec([8], tf.float32)]


def positive_only(x: tf.Tensor) -> tf.Tensor:
    tf.debugging.assert_positive(x)
    return tf.math.log(x)


def above_hundred(x: tf.Tensor) -> tf.Tensor:
    tf.debugging.assert_greater(x, 100.0)
    return x * 2


def counts_to_its_input(x: tf.Tensor) -> tf.Tensor:
    """A loop that only ends with whole numbers above 9."""
    end = tf.reduce_max(x)
    return tf.while_loop(lambda i, y: tf.not_equal(i, end), lambda i, y: (i + 1, y + 1.0), [10.0, x])[1]


@pytest.mark.parametrize(
    "function, signature, arrays",
    [
        (lambda ids: tf.gather(TABLE, ids - 1), IDS, [[1, 2, 5]]),
        (lambda ids: tf.nn.embedding_lookup(TABLE, ids - 2), IDS, [[2, 3, 6]]),
        (lambda a, b: a // b, IDS * 2, [[7, 8, 9], [2, 3, 4]]),
        (lambda a, b: tf.math.floormod(a, b), IDS * 2, [[7, 8, 9], [2, 3, 4]]),
        (positive_only, REAL, [[1.0, 2.0, 3.0]]),
    ],
    ids=["gather", "embedding", "division", "remainder", "assertion"],
)
def test_other_values_are_tried_when_the_program_refuses_the_first(
    tmp_path: Path, function: Any, signature: Any, arrays: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run = serving.export_single_step(function, str(tmp_path / "m"), 1, signature, dynamic_batch=True)
    assert counts(tmp_path / "m") == [1, 4]
    assert "could not be tried" not in caplog.text
    tensors = [tf.constant(array, spec.dtype) for array, spec in zip(arrays, signature, strict=True)]
    np.testing.assert_allclose(run(*tensors)[0], function(*tensors), rtol=1e-6)


@pytest.mark.parametrize(
    "function, signature, array, reason",
    [
        (lambda ids: tf.gather(TABLE, ids - 2000), IDS, [2001, 2004], "is not in"),
        (lambda ids: 7 // (ids // 9), IDS, [9, 30], "division by zero"),
        (lambda x: tf.debugging.check_numerics(tf.math.log(x - 9), "bad"), REAL, [10.0, 11.0], "NaN"),
        (above_hundred, REAL, [200.0, 300.0], "assertion failed"),
    ],
    ids=["gather", "division", "check_numerics", "assertion"],
)
def test_a_program_that_refuses_all_values_is_exported_without_variants(
    tmp_path: Path, function: Any, signature: Any, array: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name, smaller in (("m", None), ("n", [2])):
        caplog.clear()
        run = serving.export_single_step(
            function, str(tmp_path / name), 1, signature, dynamic_batch=True, smaller_batches=smaller
        )
        assert counts(tmp_path / name) == []
        (warning,) = (text for text in caplog.messages if "could not be tried" in text)
        assert reason in warning
        tensor = tf.constant(array, signature[0].dtype)
        np.testing.assert_allclose(run(tensor)[0], function(tensor), rtol=1e-6)


def test_a_program_that_does_not_end_with_the_values_is_exported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_independence, "_LONGEST_TRY_S", 0.5)
    run = serving.export_single_step(counts_to_its_input, str(tmp_path / "m"), 1, REAL, dynamic_batch=True)
    assert counts(tmp_path / "m") == []
    assert "does not end" in caplog.text
    np.testing.assert_array_equal(run(tf.fill([8], 12.0))[0], [14.0] * 8)


def test_rows_that_depend_on_each_other_are_noticed_with_other_values(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serving.export_single_step(
        lambda ids: tf.reverse(tf.gather(TABLE, ids - 1), [0]),
        str(tmp_path / "m"),
        1,
        IDS,
        dynamic_batch=True,
    )
    assert "result 0 seem to depend on other rows" in caplog.text


@pytest.mark.parametrize(
    "arguments, error, reason",
    [
        ({"smaller_batches": [8]}, ValueError, "between 1 and 7"),
        ({"smaller_batches": [0]}, ValueError, "at least 1"),
        ({"smaller_batches": ["1"]}, TypeError, "integer"),
        ({"max_wait_us": -1}, ValueError, "at least 0"),
        ({"max_wait_us": 1.5}, TypeError, "integer"),
        ({"dynamic_batch": False, "smaller_batches": [1]}, ValueError, "dynamic_batch=True"),
        ({"dynamic_batch": False, "max_wait_us": 1}, ValueError, "dynamic_batch=True"),
    ],
)
def test_wrong_arguments(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        serving.export_single_step(
            product, str(tmp_path / "m"), 1, EIGHT, **{"dynamic_batch": True, **arguments}
        )


def test_the_waiting_time_is_in_the_executable(tmp_path: Path) -> None:
    serving.export_single_step(product, str(tmp_path / "m"), 1, EIGHT, dynamic_batch=True, max_wait_us=250)
    assert header(tmp_path / "m")["max_wait_us"] == "250"


@pytest.fixture
def two_ipus() -> Iterator[None]:
    config = ipu.config.IPUConfig()
    config.auto_select_ipus = 2
    config.configure_ipu_system()
    yield
    ipu.config.reset_ipu_configuration()


@pytest.mark.usefixtures("two_ipus")
def test_pipelines_have_variants(tmp_path: Path) -> None:
    run = serving.export_pipeline(
        [product, lambda y: y + 1.0],
        str(tmp_path / "m"),
        4,
        predict_step_signature=EIGHT,
        dynamic_batch=True,
        timeout_us=100,
    )
    assert counts(tmp_path / "m") == [1, 4]
    for rows in (1, 4, 6, 8, 30):
        x = np.random.default_rng(rows).normal(size=(rows, 3)).astype("float32")
        np.testing.assert_allclose(run(tf.constant(x))[0], x @ WEIGHTS.numpy() + 1, rtol=1e-5, atol=1e-5)


def test_keras_models_have_variants(tmp_path: Path) -> None:
    with ipu.ipu_strategy.IPUStrategy().scope():
        inputs = keras.Input((3,), batch_size=8)
        model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    serving.export_keras(model, str(tmp_path / "m"), dynamic_batch=True)
    assert counts(tmp_path / "m") == [1, 4]
    call = serve(tmp_path / "m")
    x = np.random.default_rng(1).normal(size=(3, 3)).astype("float32")
    (name,) = (
        tf.saved_model.load(str(tmp_path / "m")).signatures["serving_default"].structured_input_signature[1]
    )
    np.testing.assert_allclose(next(iter(call(**{name: x}).values())), model(x).numpy(), rtol=1e-5, atol=1e-5)
