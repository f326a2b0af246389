"""Example 13: TensorFlow 1 graph mode. Compile a loop of 16 steps around `2x` with feeds, start it, call it
16 times.

    python embedded_runtime_graph_mode.py [executable]
"""

import os
import sys
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.ipu import (
    application_compile_op,
    embedded_runtime,
    ipu_infeed_queue,
    ipu_outfeed_queue,
    loops,
)
from tensorflow.python.ipu.config import IPUConfig

tf.disable_v2_behavior()

ELEMENTS = 4
STEPS = 16

directory = tempfile.TemporaryDirectory()
EXECUTABLE = sys.argv[1] if len(sys.argv) > 1 else os.path.join(directory.name, "application.poplar_exec")

# Of the dataset only shape and dtype matter when a program is compiled.
dataset = tf.data.Dataset.from_tensors(tf.constant(1.0, shape=[ELEMENTS])).repeat()
infeed_queue = ipu_infeed_queue.IPUInfeedQueue(dataset)
outfeed_queue = ipu_outfeed_queue.IPUOutfeedQueue()


def body(x):
    """A step: doubles what is fed."""
    return outfeed_queue.enqueue({"result": x * 2})


def my_program():
    """What the device runs."""
    return loops.repeat(STEPS, body, [], infeed_queue)


config = IPUConfig()
config.auto_select_ipus = 1
config.configure_ipu_system()

compile_op = application_compile_op.experimental_application_compile_op(my_program, output_path=EXECUTABLE)
with tf.Session() as session:
    path = session.run(compile_op).decode()
print(f"Executable written to {path}")

context = embedded_runtime.embedded_runtime_start(path, [], "my_engine")
value = tf.placeholder(tf.float32, [ELEMENTS])
call = embedded_runtime.embedded_runtime_call([value], context)
results = []
with tf.Session() as session:
    for index in range(STEPS):
        results.append(session.run(call, {value: np.full(ELEMENTS, index, np.float32)})[0])
        print(results[-1])
