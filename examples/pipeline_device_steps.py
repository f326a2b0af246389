r"""Example 5: a pipeline of four stages on four IPUs: absolute values, 2x, +3, sum.

    python pipeline_device_steps.py [SavedModel directory]
    tensorflow_model_server --rest_api_port=8501 --model_name=my_model \
        --model_base_path="$(pwd)/my_saved_model_ipu"
    curl -d '{"inputs": [1.0, 2.0, 5.0, 7.0]}' -X POST http://localhost:8501/v1/models/my_model:predict
"""

import sys

import tensorflow as tf
from tensorflow.python import ipu

SAVED_MODEL_DIRECTORY = sys.argv[1] if len(sys.argv) > 1 else "my_saved_model_ipu/001"

ITERATIONS = 8
INPUT_SHAPE = (4,)


def preprocessing_stage(x):
    """Absolute values."""
    return tf.abs(x)


def stage_0(x):
    """Doubles its input."""
    return x * 2


def stage_1(x):
    """Adds three."""
    return x + 3


def postprocessing_stage(x):
    """The sum."""
    return tf.reduce_sum(x)


config = ipu.config.IPUConfig()
config.auto_select_ipus = 4
config.configure_ipu_system()

signature = (tf.TensorSpec(shape=INPUT_SHAPE, dtype=tf.float32),)
runtime_function = ipu.serving.export_pipeline(
    [preprocessing_stage, stage_0, stage_1, postprocessing_stage],
    SAVED_MODEL_DIRECTORY,
    ITERATIONS,
    device_mapping=[0, 1, 2, 3],
    predict_step_signature=signature,
    purge_export_dir=True,
)
print(f"SavedModel written to {SAVED_MODEL_DIRECTORY}")

for index in range(ITERATIONS):
    print(runtime_function(tf.fill(INPUT_SHAPE, -float(index)))[0].numpy())
