r"""Example 2: export `2x + 3` as a pipeline of two stages on two IPUs, and run the exported function.

    python pipeline.py [SavedModel directory]
    tensorflow_model_server --rest_api_port=8501 --model_name=my_model \
        --model_base_path="$(pwd)/my_saved_model_ipu"
    curl -d '{"instances": [1.0, 2.0, 5.0, 7.0]}' -X POST http://localhost:8501/v1/models/my_model:predict
"""

import sys

import tensorflow as tf
from tensorflow.python import ipu
from tensorflow.python.ipu.ops import pipelining_ops

SAVED_MODEL_DIRECTORY = sys.argv[1] if len(sys.argv) > 1 else "my_saved_model_ipu/001"

ITERATIONS = 10
INPUT_SHAPE = (4,)


def stage_0(x):
    """Doubles its input."""
    return x * 2


def stage_1(x):
    """Adds three."""
    return x + 3


config = ipu.config.IPUConfig()
config.auto_select_ipus = 2
config.configure_ipu_system()

signature = (tf.TensorSpec(shape=INPUT_SHAPE, dtype=tf.float32),)
runtime_function = ipu.serving.export_pipeline(
    [stage_0, stage_1],
    SAVED_MODEL_DIRECTORY,
    ITERATIONS,
    device_mapping=[0, 1],
    pipeline_schedule=pipelining_ops.PipelineSchedule.Grouped,
    predict_step_signature=signature,
    purge_export_dir=True,
)
print(f"SavedModel written to {SAVED_MODEL_DIRECTORY}")

for index in range(ITERATIONS):
    print(runtime_function(tf.fill(INPUT_SHAPE, float(index)))[0].numpy())
