r"""Example 1: export `x * 2` as a single step, and run the exported function.

    python single_step.py [SavedModel directory]
    tensorflow_model_server --rest_api_port=8501 --model_name=my_model \
        --model_base_path="$(pwd)/my_saved_model_ipu"
    curl -d '{"instances": [1.0, 2.0, 5.0, 7.0]}' -X POST http://localhost:8501/v1/models/my_model:predict
"""

import sys

import tensorflow as tf
from tensorflow.python import ipu

SAVED_MODEL_DIRECTORY = sys.argv[1] if len(sys.argv) > 1 else "my_saved_model_ipu/001"

ITERATIONS = 10
INPUT_SHAPE = (4,)


@tf.function
def predict_step(x):
    """Doubles its input."""
    return x * 2


config = ipu.config.IPUConfig()
config.auto_select_ipus = 1
config.configure_ipu_system()

signature = (tf.TensorSpec(shape=INPUT_SHAPE, dtype=tf.float32),)
runtime_function = ipu.serving.export_single_step(
    predict_step,
    SAVED_MODEL_DIRECTORY,
    ITERATIONS,
    predict_step_signature=signature,
    purge_export_dir=True,
)
print(f"SavedModel written to {SAVED_MODEL_DIRECTORY}")

for index in range(ITERATIONS):
    print(runtime_function(tf.fill(INPUT_SHAPE, float(index)))[0].numpy())
