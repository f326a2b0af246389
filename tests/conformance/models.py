"""The models that the recorded traffic in this folder was made with.

As a program: `python models.py FOLDER` writes them and `models.config`, which serves them all.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.python.saved_model import signature_def_utils

IDENTITY_TYPES = (
    "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool string complex64 bfloat16"
).split()


def spec(shape: list[int | None], dtype: str, name: str = "x") -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.as_dtype(dtype), name=name)


class HalfPlusTwo(tf.Module):
    """y = x / 2 + 2 over a batch of floats."""

    def __init__(self) -> None:
        super().__init__()
        self.a = tf.Variable(0.5, name="a")
        self.b = tf.Variable(2.0, name="b")

    @tf.function(input_signature=[spec([None], "float32")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": self.a * x + self.b}


class Mlp(tf.Module):
    """784-512-512-10 with fixed random weights."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.RandomState(1)
        widths = [784, 512, 512, 10]
        self.weights = [
            tf.Variable((random.randn(rows, columns) / np.sqrt(rows)).astype("f"))
            for rows, columns in zip(widths, widths[1:], strict=False)
        ]
        self.biases = [tf.Variable((random.randn(width) * 0.1).astype("f")) for width in widths[1:]]

    @tf.function(input_signature=[spec([None, 784], "float32")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = tf.matmul(x, weight) + bias
            if layer < 2:
                x = tf.nn.relu(x)
        return {"scores": tf.nn.softmax(x)}


class AddConstant(tf.Module):
    """y = x + constant, to tell versions apart."""

    def __init__(self, constant: float) -> None:
        super().__init__()
        self.constant = tf.Variable(constant)

    @tf.function(input_signature=[spec([None], "float32")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + self.constant}


def identity(dtype: str) -> tf.types.experimental.GenericFunction:
    return tf.function(lambda x: {"y": tf.identity(x)}, input_signature=[spec([None, None], dtype)])


@tf.function(input_signature=[spec([None], "float32")])
def vector(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": tf.identity(x)}


@tf.function(input_signature=[spec([], "float32")])
def scalar(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": x * 2.0}


@tf.function(input_signature=[spec([None, None], "float32")])
def reduce_to_scalar(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"total": tf.reduce_sum(x)}


@tf.function(input_signature=[spec([None, 3], "float32")])
def fixed3(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": x + 1.0}


@tf.function(input_signature=[spec([None], "float32")])
def nonfinite(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": tf.stack([x / 0.0, tf.math.log(x - x - 1.0), -x / 0.0, tf.sqrt(x)], 1)}


@tf.function(
    input_signature=[spec([None], "float32", "a"), spec([None], "int64", "b"), spec([None], "string", "s")]
)
def wide(a: tf.Tensor, b: tf.Tensor, s: tf.Tensor) -> dict[str, tf.Tensor]:
    return {
        "sum": a + tf.cast(b, tf.float32),
        "twice": b * 2,
        "upper": tf.strings.upper(s),
        "blob_bytes": tf.strings.join([s, tf.constant(b"\xff\x00")]),
    }


@tf.function(input_signature=[spec([None], "string", "text")])
def text(text: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"length": tf.strings.length(text), "out": tf.strings.join(["<", text, ">"])}


@tf.function(input_signature=[spec([None], "string", "image_bytes")])
def blob(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"n": tf.strings.length(image_bytes), "echo_bytes": tf.identity(image_bytes)}


@tf.function(input_signature=[spec([None, 2, 2], "float32")])
def cube(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": tf.transpose(x, [0, 2, 1])}


@tf.function(input_signature=[spec([None], "float32")])
def mismatched_batch(x: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"y": x, "z": tf.concat([x, x], 0)}


@tf.function(input_signature=[spec([None], "float32")])
def raises(x: tf.Tensor) -> dict[str, tf.Tensor]:
    positive = tf.debugging.Assert(tf.reduce_all(x > 0.0), ["x must be positive", x])
    with tf.control_dependencies([positive]):
        return {"y": tf.sqrt(x)}


def write_types(path: Path) -> None:
    """One signature a dtype, and one for every shape of call that REST treats in its own way."""
    module = tf.Module()
    module.variable = tf.Variable(1.0)
    signatures = {f"id_{dtype}": identity(dtype) for dtype in IDENTITY_TYPES}
    signatures |= {
        "serving_default": vector,
        "scalar": scalar,
        "reduce_to_scalar": reduce_to_scalar,
        "fixed3": fixed3,
        "nonfinite": nonfinite,
        "wide": wide,
        "text": text,
        "blob": blob,
        "cube": cube,
        "mismatched_batch": mismatched_batch,
        "raises": raises,
    }
    tf.saved_model.save(module, str(path), signatures=signatures)


def write_examples(path: Path) -> None:
    """Classify and Regress over tf.Example, with TensorFlow 1 signatures."""
    tf1 = tf.compat.v1
    graph = tf1.Graph()
    with graph.as_default(), tf1.Session(graph=graph) as session:
        examples = tf1.placeholder(tf.string, [None], "examples")
        parsed = tf1.io.parse_example(
            examples,
            {
                "age": tf1.FixedLenFeature([1], tf.float32, default_value=[0.0]),
                "n": tf1.FixedLenFeature([1], tf.int64, default_value=[0]),
                "tag": tf1.FixedLenFeature([1], tf.string, default_value=[b"none"]),
            },
        )
        z = parsed["age"] * 0.1 + tf.cast(parsed["n"], tf.float32)
        scores = tf.nn.softmax(tf.concat([z, -z, 0.0 * z], 1))
        labels = tf.tile(tf.constant([["pos", "neg", "zero"]]), [tf.shape(z)[0], 1])
        tagged = tf.strings.join([labels, tf.tile(parsed["tag"], [1, 3])], "-")

        def signature(
            outputs: dict[str, tf.Tensor], method: str, input_name: str = "inputs"
        ) -> tf.compat.v1.MetaGraphDef:
            info = tf1.saved_model.utils.build_tensor_info
            return signature_def_utils.build_signature_def(
                {input_name: info(examples)},
                {name: info(tensor) for name, tensor in outputs.items()},
                f"tensorflow/serving/{method}",
            )

        builder = tf1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={
                "serving_default": signature({"classes": tagged, "scores": scores}, "classify"),
                "classes_only": signature({"classes": tagged}, "classify"),
                "scores_only": signature({"scores": scores}, "classify"),
                "regress": signature({"outputs": z}, "regress"),
                "predict": signature({"z": z, "label": tagged}, "predict", "examples"),
            },
        )
        builder.save()


def write_models(folder: Path) -> Path:
    """Writes all models and a config that serves them. Returns the config's path."""
    for name, module in (("hpt", HalfPlusTwo()), ("mlp", Mlp())):
        tf.saved_model.save(module, str(folder / name / "1"), signatures={"serving_default": module.serve})
    for version in (1, 2, 3):
        module = AddConstant(100.0 * version)
        path = folder / "versions" / str(version)
        tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    write_types(folder / "types" / "1")
    write_examples(folder / "examples" / "1")

    config = "model_config_list {\n"
    for name in ("hpt", "mlp", "types", "examples"):
        config += f'  config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}\n'
    config += f"""  config {{ name: "versions" base_path: "{folder / "versions"}" model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: 1 versions: 3 }} }}
    version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 3 }} }}
}}
"""
    path = folder / "models.config"
    path.write_text(config)
    return path


if __name__ == "__main__":
    print(write_models(Path(sys.argv[1]).resolve()))
