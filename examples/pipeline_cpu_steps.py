r"""Example 6: a pipeline of two stages on two IPUs, with pre- and postprocessing on the CPU.

Strings become numbers ("graphcore" is 1.0, any other a random number), go through `2x + 3` on the devices,
and the absolute values of the results are returned.

    python pipeline_cpu_steps.py [SavedModel directory]
    tensorflow_model_server --rest_api_port=8501 --model_name=my_model \
        --model_base_path="$(pwd)/my_saved_model_ipu"
    curl -d '{"instances": ["graphcore", "red", "blue", "graphcore", "green", "yellow"]}' \
        -X POST http://localhost:8501/v1/models/my_model:predict
"""

import sys

import tensorflow as tf
from tensorflow.python import ipu

SAVED_MODEL_DIRECTORY = sys.argv[1] if len(sys.argv) > 1 else "my_saved_model_ipu/001"

ITERATIONS = 10
INPUT_SHAPE = (6,)


@tf.function(input_signature=[tf.TensorSpec(shape=INPUT_SHAPE, dtype=tf.string)])
def preprocessing_step(text):
    """1.0 for "graphcore", a random number for anything else."""
    is_graphcore = tf.equal(text, "graphcore")
    return tf.where(is_graphcore, tf.ones(INPUT_SHAPE), tf.random.normal(INPUT_SHAPE))


def stage_0(x):
    """Doubles its input."""
    return x * 2


def stage_1(x):
    """Adds three."""
    return x + 3


@tf.function(input_signature=[tf.TensorSpec(shape=INPUT_SHAPE, dtype=tf.float32)])
def postprocessing_step(x):
    """Absolute values."""
    return tf.abs(x)


config = ipu.config.IPUConfig()
config.auto_select_ipus = 2
config.configure_ipu_system()

signature = (tf.TensorSpec(shape=INPUT_SHAPE, dtype=tf.float32),)
runtime_function = ipu.serving.export_pipeline(
    [stage_0, stage_1],
    SAVED_MODEL_DIRECTORY,
    ITERATIONS,
    device_mapping=[0, 1],
    predict_step_signature=signature,
    preprocessing_step=preprocessing_step,
    postprocessing_step=postprocessing_step,
    purge_export_dir=True,
)
print(f"SavedModel written to {SAVED_MODEL_DIRECTORY}")

words = tf.constant(["graphcore", "red", "blue", "graphcore", "green", "yellow"])
for _ in range(ITERATIONS):
    print(runtime_function(words).numpy())
