r"""Example 7: export a functional Keras model of two inputs, which adds them, and run the exported function.

    python keras_functional.py [SavedModel directory]
    tensorflow_model_server --rest_api_port=8501 --model_name=my_model \
        --model_base_path="$(pwd)/my_saved_model_ipu"
    curl -d '{"instances": [{"input_1": [1.0, 2.0, 5.0, 7.0], "input_2": [0.0, 1.0, 0.0, 1.0]}]}' \
        -X POST http://localhost:8501/v1/models/my_model:predict
"""

import sys

import keras
import numpy as np
from tensorflow.python import ipu

SAVED_MODEL_DIRECTORY = sys.argv[1] if len(sys.argv) > 1 else "my_saved_model_ipu/001"

ITERATIONS = 16
BATCH_SIZE = 1
INPUT_SHAPE = (BATCH_SIZE, 4)

config = ipu.config.IPUConfig()
config.auto_select_ipus = 1
config.configure_ipu_system()

# Keras models for the IPU are made inside an IPU strategy.
strategy = ipu.ipu_strategy.IPUStrategy()
with strategy.scope():
    input_1 = keras.layers.Input(shape=INPUT_SHAPE[1:], batch_size=BATCH_SIZE, name="input_1")
    input_2 = keras.layers.Input(shape=INPUT_SHAPE[1:], batch_size=BATCH_SIZE, name="input_2")
    model = keras.Model(inputs=[input_1, input_2], outputs=keras.layers.Add()([input_1, input_2]))
    # Steps in one run of the main program.
    model.compile(steps_per_execution=ITERATIONS)

runtime_function = model.export_for_ipu_serving(SAVED_MODEL_DIRECTORY, purge_export_dir=True)
# Or: ipu.serving.export_keras(model, SAVED_MODEL_DIRECTORY, purge_export_dir=True)
print(f"SavedModel written to {SAVED_MODEL_DIRECTORY}")

for index in range(ITERATIONS):
    left, right = np.full(INPUT_SHAPE, index, np.float32), np.full(INPUT_SHAPE, 2, np.float32)
    print(runtime_function(left, right)[0].numpy())
