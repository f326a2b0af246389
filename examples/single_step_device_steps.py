r"""Example 3: pre- and postprocessing inside the predict step, so that all of it runs on the device.

The absolute values of the inputs are doubled and summed.

    python single_step_device_steps.py [SavedModel directory]
    tensorflow_model_server --rest_api_port=8501 --model_name=my_model \
        --model_base_path="$(pwd)/my_saved_model_ipu"
    curl -d '{"inputs": [1.0, 2.0, 5.0, 7.0]}' -X POST http://localhost:8501/v1/models/my_model:predict
"""

import sys

import tensorflow as tf
from tensorflow.python import ipu

SAVED_MODEL_DIRECTORY = sys.argv[1] if len(sys.argv) > 1 else "my_saved_model_ipu/001"

ITERATIONS = 10
INPUT_SHAPE = (4,)


def preprocessing_step(x):
    """Absolute values."""
    return tf.abs(x)


def postprocessing_step(x):
    """The sum."""
    return tf.reduce_sum(x)


def application_step(x):
    """Doubles its input."""
    return x * 2


@tf.function(input_signature=[tf.TensorSpec(shape=INPUT_SHAPE, dtype=tf.float32)])
def predict_step(x):
    """All steps, one behind the other."""
    return postprocessing_step(application_step(preprocessing_step(x)))


config = ipu.config.IPUConfig()
config.auto_select_ipus = 1
config.configure_ipu_system()

runtime_function = ipu.serving.export_single_step(
    predict_step, SAVED_MODEL_DIRECTORY, ITERATIONS, purge_export_dir=True
)
print(f"SavedModel written to {SAVED_MODEL_DIRECTORY}")

for index in range(ITERATIONS):
    print(runtime_function(tf.fill(INPUT_SHAPE, -float(index)))[0].numpy())
