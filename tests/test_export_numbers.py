"""What an exported model computes equals what the original function does, to 1e-5."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from export_models import check_numbers
from tensorflow_ipu import serving


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def with_random_statistics(model: Any) -> Any:
    """Batch normalisation does something only when its statistics are not those of a new layer."""
    values = np.random.default_rng(5)
    for weight in model.weights:
        name = getattr(weight, "path", weight.name)
        if any(word in name for word in ("gamma", "variance")):
            weight.assign(values.uniform(0.6, 1.4, weight.shape))
        elif any(word in name for word in ("beta", "moving_mean")):
            weight.assign(values.normal(0.0, 0.2, weight.shape))
    return model


def test_perceptron(tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input([784]), *[keras.layers.Dense(512, "relu") for _ in range(2)], keras.layers.Dense(10)]
    )
    check_numbers(tmp_path, model, [normal(32, 784)])


@pytest.mark.parametrize("package", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_recurrent_network(tmp_path: Path, package: Any) -> None:
    model = package.Sequential(
        [
            package.Input([12, 8]),
            package.layers.Bidirectional(package.layers.LSTM(16, return_sequences=True)),
            package.layers.GRU(16),
            package.layers.Dense(4),
        ]
    )
    check_numbers(tmp_path, lambda x: model(x, training=False), [normal(3, 12, 8)])


def test_transformer(tmp_path: Path) -> None:
    tokens = keras.Input([16], dtype="int32")
    x = keras.layers.Embedding(100, 32)(tokens)
    for _ in range(2):
        attended = keras.layers.MultiHeadAttention(4, 8)(x, x, use_causal_mask=True)
        x = keras.layers.LayerNormalization()(x + attended)
        hidden = keras.layers.Dense(64, "gelu")(x)
        x = keras.layers.LayerNormalization()(x + keras.layers.Dense(32)(hidden))
    model = keras.Model(tokens, keras.layers.Dense(100)(x))
    ids = np.random.default_rng(1).integers(0, 100, (2, 16), dtype=np.int32)
    check_numbers(tmp_path, lambda tokens: model(tokens, training=False), [ids])


@pytest.mark.parametrize(
    "package, name, size",
    [(keras, "MobileNetV2", 96), (tf_keras, "MobileNetV2", 96), (keras, "ResNet50", 64)],
    ids=["keras-MobileNetV2", "tf_keras-MobileNetV2", "keras-ResNet50"],
)
def test_image_features(tmp_path: Path, package: Any, name: str, size: int) -> None:
    package.utils.set_random_seed(3)
    application = getattr(package.applications, name)
    model = with_random_statistics(
        application(weights=None, include_top=False, pooling="avg", input_shape=(size, size, 3))
    )
    images = normal(2, size, size, 3)
    features = np.asarray(model(images, training=False))
    assert features.std() > 1e-3  # the comparison says something
    check_numbers(tmp_path, lambda image: model(image, training=False), [images])


def test_detection(tmp_path: Path) -> None:
    """Best boxes of a grid by top_k, then non-maximum suppression to a fixed number."""
    backbone = keras.Sequential(
        [keras.Input([32, 32, 3]), keras.layers.Conv2D(8, 3, 4), keras.layers.Conv2D(5, 3, 1)]
    )

    def detect(image: tf.Tensor) -> dict[str, tf.Tensor]:
        cells = tf.reshape(backbone(image), [-1, 5])
        scores, indices = tf.math.top_k(tf.sigmoid(cells[:, 0]), 20)
        corner = tf.gather(cells[:, 1:3], indices)
        boxes = tf.concat([corner, corner + tf.exp(tf.gather(cells[:, 3:], indices))], axis=1)
        selected, count = tf.image.non_max_suppression_padded(
            boxes, scores, 10, iou_threshold=0.3, pad_to_max_output_size=True
        )
        valid = tf.range(10) < count
        return {
            "boxes": tf.where(valid[:, tf.newaxis], tf.gather(boxes, selected), 0.0),
            "scores": tf.where(valid, tf.gather(scores, selected), 0.0),
            "count": count,
        }

    check_numbers(tmp_path, detect, [normal(1, 32, 32, 3)])


def test_control_flow(tmp_path: Path) -> None:
    table = tf.constant(normal(4, 4))

    def step(x: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        for _ in tf.range(count):
            x = tf.tanh(tf.linalg.matvec(table, x))
        y = tf.sort(x) if tf.reduce_sum(x) > 0 else tf.cumsum(x)
        return y, tf.while_loop(lambda v: tf.norm(v) > 1.0, lambda v: [v / 2], [x * 10])[0]

    check_numbers(tmp_path, step, [normal(4), np.array(3, np.int32)])


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "int64", "bool", "float16", "float64", "complex64"]
)
def test_dtypes_pass_through(tmp_path: Path, dtype: str) -> None:
    values = np.random.default_rng(2).integers(0, 100, (3, 5)).astype(dtype)
    check_numbers(tmp_path, lambda x: (tf.transpose(x), tf.identity(x)), [values])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "float16", "bfloat16"])
def test_arithmetic_in_other_dtypes(tmp_path: Path, dtype: str) -> None:
    values = tf.cast(tf.constant(np.random.default_rng(2).integers(1, 6, (4, 4))), dtype)

    def step(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return x + x, x * x, tf.cast(x, tf.float32) / 3.0

    run = serving.export_single_step(step, str(tmp_path / "model"), 2, [tf.TensorSpec([4, 4], dtype)])
    for result, expected in zip(run(values), step(values), strict=True):
        assert result.dtype == expected.dtype
        np.testing.assert_allclose(tf.cast(result, tf.float32), tf.cast(expected, tf.float32), rtol=1e-6)


def test_quantised_input_and_output(tmp_path: Path) -> None:
    weights = tf.constant(normal(16, 4))

    def step(image: tf.Tensor) -> tf.Tensor:
        y = tf.linalg.matmul(tf.cast(image, tf.float32) / 255.0, weights)
        return tf.cast(tf.clip_by_value(tf.round(y * 32.0), -128, 127), tf.int8)

    image = np.random.default_rng(4).integers(0, 256, (2, 16), dtype=np.uint8)
    check_numbers(tmp_path, step, [image])


def test_scalars_and_empty_tensors(tmp_path: Path) -> None:
    check_numbers(
        tmp_path,
        lambda a, b: (a + 1, tf.concat([b, b], 0), tf.reduce_sum(b)),
        [np.array(2.0, np.float32), np.zeros([0, 3], np.float32)],
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_weights_of_every_dtype(tmp_path: Path, dtype: str) -> None:
    weights = tf.cast(tf.constant(normal(64, 32)), dtype)
    x = tf.cast(tf.constant(normal(4, 64)), dtype)
    run = serving.export_single_step(
        lambda x: x[:, :32] + weights[:4], str(tmp_path / "model"), 2, [tf.TensorSpec([4, 64], dtype)]
    )
    np.testing.assert_array_equal(
        tf.cast(run(x)[0], tf.float64), tf.cast(x[:, :32] + weights[:4], tf.float64)
    )
