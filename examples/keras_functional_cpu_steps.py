r"""Example 10: as example 7, with strings turned into numbers before and absolute values after it, on the
CPU.

"graphcore" is 1.0, any other string a random number.

    python keras_functional_cpu_steps.py [SavedModel directory]
    tensorflow_model_server --rest_api_port=8501 --model_name=my_model \
        --model_base_path="$(pwd)/my_saved_model_ipu"
    curl -d '{"inputs": {"left": [["graphcore", "red", "blue", "yellow", "graphcore", "purple"]],
                         "right": [["graphcore", "pear", "graphcore", "plum", "fig", "date"]]}}' \
        -X POST http://localhost:8501/v1/models/my_model:predict
"""

import sys

import keras
import tensorflow as tf
from tensorflow.python import ipu

SAVED_MODEL_DIRECTORY = sys.argv[1] if len(sys.argv) > 1 else "my_saved_model_ipu/001"

ITERATIONS = 16
BATCH_SIZE = 1
INPUT_SHAPE = (BATCH_SIZE, 6)
TEXT = tf.TensorSpec(shape=INPUT_SHAPE, dtype=tf.string)
NUMBERS = tf.TensorSpec(shape=INPUT_SHAPE, dtype=tf.float32)


def to_numbers(text):
    """1.0 for "graphcore", a random number for anything else."""
    return tf.where(tf.equal(text, "graphcore"), tf.ones(INPUT_SHAPE), tf.random.uniform(INPUT_SHAPE))


@tf.function(input_signature=[TEXT, TEXT])
def preprocessing_step(left, right):
    """Runs on the CPU, which knows strings."""
    return to_numbers(left), to_numbers(right)


@tf.function(input_signature=[NUMBERS])
def postprocessing_step(result):
    """Absolute values, on the CPU."""
    return tf.abs(result)


config = ipu.config.IPUConfig()
config.auto_select_ipus = 1
config.configure_ipu_system()

strategy = ipu.ipu_strategy.IPUStrategy()
with strategy.scope():
    input_1 = keras.layers.Input(shape=INPUT_SHAPE[1:], batch_size=BATCH_SIZE, name="input_1")
    input_2 = keras.layers.Input(shape=INPUT_SHAPE[1:], batch_size=BATCH_SIZE, name="input_2")
    model = keras.Model(inputs=[input_1, input_2], outputs=keras.layers.Add()([input_1, input_2]))
    model.compile(steps_per_execution=ITERATIONS)

runtime_function = model.export_for_ipu_serving(
    SAVED_MODEL_DIRECTORY,
    preprocessing_step=preprocessing_step,
    postprocessing_step=postprocessing_step,
    purge_export_dir=True,
)
print(f"SavedModel written to {SAVED_MODEL_DIRECTORY}")

colours = tf.constant([["graphcore", "red", "blue", "yellow", "graphcore", "purple"]])
fruit = tf.constant([["graphcore", "pear", "graphcore", "plum", "fig", "date"]])
print(runtime_function(colours, fruit).numpy())
