"""Programs that tf.functions build, and programs of TensorFlow 1 graphs."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_ipu import loops, pipelining_ops
from tensorflow_ipu._runtime import native
from tensorflow_ipu.application_compile_op import experimental_application_compile_op as compile_op
from tensorflow_ipu.config import IPUConfig, reset_ipu_configuration
from tensorflow_ipu.embedded_runtime import (
    embedded_runtime_call,
    embedded_runtime_start,
    embedded_runtime_stop,
)
from tensorflow_ipu.ipu_infeed_queue import IPUInfeedQueue
from tensorflow_ipu.ipu_outfeed_queue import IPUOutfeedQueue


@pytest.fixture(autouse=True)
def two_ipus() -> Iterator[None]:
    config = IPUConfig()
    config.auto_select_ipus = 2
    config.configure_ipu_system()
    yield
    reset_ipu_configuration()


def feeds() -> tuple[IPUInfeedQueue, IPUOutfeedQueue]:
    return IPUInfeedQueue(tf.data.Dataset.from_tensors(tf.zeros([4])).repeat()), IPUOutfeedQueue()


def result_of(path: Any, value: float, startup: Any = ()) -> list[float]:
    context = embedded_runtime_start(path, startup, f"engine of {path}")
    (result,) = embedded_runtime_call([tf.fill([4], value)], context)
    embedded_runtime_stop(context)
    return result.numpy().tolist()


@pytest.mark.parametrize("whole", [tf.function, tf.function(autograph=False), lambda function: function])
@pytest.mark.parametrize("part", [tf.function, tf.function(autograph=False), lambda function: function])
def test_loops_and_bodies_may_be_functions(whole: Callable, part: Callable, tmp_path: Path) -> None:
    infeed, outfeed = feeds()
    weight = tf.Variable(3.0, name="weight")

    @part
    def body(x: tf.Tensor) -> None:
        outfeed.enqueue(x * weight)

    path = compile_op(
        whole(lambda: loops.repeat(4, body, [], infeed)),
        output_path=tmp_path / "a.exec",
        freeze_variables=True,
    )
    assert json.loads(native.inspect(path.numpy().decode()))["iterations"] == "4"
    assert result_of(path, 2.0) == [6.0] * 4


@pytest.mark.parametrize("freeze", [True, False])
def test_pipelines_and_stages_may_be_functions(freeze: bool, tmp_path: Path) -> None:
    infeed, outfeed = feeds()
    weight = tf.Variable(3.0, name="weight")

    @tf.function
    def first(c: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        if tf.reduce_sum(x) > 100.0:  # for autograph
            return x
        return x * weight + c

    @tf.function
    def program() -> None:
        pipelining_ops.pipeline(
            [first, tf.function(lambda x: x + weight)],
            np.int64(8),
            inputs=[42.0],
            infeed_queue=infeed,
            outfeed_queue=outfeed,
        )

    path = compile_op(program, output_path=tmp_path / "a.exec", freeze_variables=freeze)
    startup = {} if freeze else {"XLA_Args/weight": 3.0}
    assert result_of(path, 2.0, startup) == [51.0] * 4
    assert result_of(path, 30.0, startup) == [33.0] * 4


def test_a_function_with_inputs(tmp_path: Path) -> None:
    infeed, outfeed = feeds()

    @tf.function
    def program(scale: tf.Tensor) -> Any:
        return loops.repeat(2, lambda x: outfeed.enqueue(x * scale), [], infeed)

    path = compile_op(program, [tf.constant(2.0)], output_path=tmp_path / "a.exec")
    assert result_of(path, 3.0, {"XLA_Args/scale": 5.0}) == [15.0] * 4


def test_a_function_without_a_main_loop(tmp_path: Path) -> None:
    path = compile_op(tf.function(lambda: tf.constant([1.0, 2.0]) * 2.0), output_path=tmp_path / "a.exec")
    context = embedded_runtime_start(path, [], "no loop")
    assert embedded_runtime_call([], context)[0].numpy().tolist() == [2, 4]
    embedded_runtime_stop(context)


def run_graph_mode(program: str, *arguments: Any) -> str:
    """In a process of its own: it turns TensorFlow 2 off."""
    head = """
import sys
import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python import ipu
tf.disable_v2_behavior()
dataset = tf.data.Dataset.from_tensors(tf.constant(3.0, shape=[1, 4])).repeat()
infeed, outfeed = ipu.ipu_infeed_queue.IPUInfeedQueue(dataset), ipu.ipu_outfeed_queue.IPUOutfeedQueue()
def configure(ipus):
    config = ipu.config.IPUConfig()
    config.auto_select_ipus = ipus
    config.configure_ipu_system()
"""
    done = subprocess.run(
        [sys.executable, "-c", head + program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


CONFIGURE_AFTERWARDS = """
def net():
    return ipu.pipelining_ops.pipeline(
        [lambda x: x * 2, lambda x: x + 1], 4, infeed_queue=infeed, outfeed_queue=outfeed)
with ipu.scopes.ipu_scope("/device:IPU:0"):
    in_process = ipu.ipu_compiler.compile(net)
executable = ipu.application_compile_op.experimental_application_compile_op(net, output_path=sys.argv[1])
outfed = outfeed.dequeue()
with tf.Session() as session:
    session.run(infeed.initializer)
    try:
        session.run(executable)
    except tf.errors.OpError as error:
        assert "number of configured IPUs is 1" in str(error)
        configure(2)
        session.run(executable)
        session.run(in_process)
        print(session.run(outfed).tolist())
"""


def test_ipus_are_counted_when_a_graph_is_compiled(tmp_path: Path) -> None:
    printed = run_graph_mode(CONFIGURE_AFTERWARDS, tmp_path / "a.exec")
    assert json.loads(printed) == [[[7.0] * 4]] * 4
    assert (tmp_path / "a.exec").exists()


KERAS_LAYERS = """
import os
os.environ["TF_USE_LEGACY_KERAS"] = "1"
from tf_keras import layers
configure(2)
def first(x):
    return layers.Dense(4, kernel_initializer="ones", bias_initializer="ones")(x)
def second(x):
    return layers.Dense(2, kernel_initializer="ones", bias_initializer="ones")(x)
def pipeline():
    return ipu.pipelining_ops.pipeline([first, second], 4, infeed_queue=infeed, outfeed_queue=outfeed)
def loop():
    return ipu.loops.repeat(4, lambda x: outfeed.enqueue(second(first(x))), [], infeed)
freeze = sys.argv[3] == "True"
executable = ipu.application_compile_op.experimental_application_compile_op(
    pipeline if sys.argv[2] == "pipeline" else loop, output_path=sys.argv[1], freeze_variables=freeze)
names = [variable.op.name for variable in tf.global_variables()]
assert len(names) == len(set(names)) == 4, names
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    path = session.run(executable).decode()
    values = dict(zip(names, session.run(tf.global_variables())))
startup = {} if freeze else {"XLA_Args/" + name: value for name, value in values.items()}
context = ipu.embedded_runtime.embedded_runtime_start(path, startup, "engine")
call = ipu.embedded_runtime.embedded_runtime_call([tf.fill([1, 4], 3.0)], context)
with tf.Session() as session:
    print(session.run(call)[0].tolist())
"""


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("kind", ["pipeline", "loop"])
def test_keras_layers_in_a_graph(kind: str, freeze: bool, tmp_path: Path) -> None:
    assert json.loads(run_graph_mode(KERAS_LAYERS, tmp_path / "a.exec", kind, freeze)) == [[53.0, 53.0]]


SHARED_VARIABLE = """
def dense(x):
    with tf.variable_scope("dense", reuse=tf.AUTO_REUSE, use_resource=True):
        return tf.matmul(x, tf.get_variable("w", [4, 4], initializer=tf.ones_initializer()))
net = lambda: ipu.pipelining_ops.pipeline(
    [dense, dense], 4, infeed_queue=infeed, outfeed_queue=outfeed, device_mapping=[0, 0])
executable = ipu.application_compile_op.experimental_application_compile_op(net, output_path=sys.argv[1])
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    path = session.run(executable).decode()
context = ipu.embedded_runtime.embedded_runtime_start(
    path, {"XLA_Args/dense/w": np.ones([4, 4], np.float32)}, "engine")
call = ipu.embedded_runtime.embedded_runtime_call([tf.fill([1, 4], 3.0)], context)
with tf.Session() as session:
    print(session.run(call)[0].tolist())
"""


def test_stages_that_share_a_variable_in_a_graph(tmp_path: Path) -> None:
    assert json.loads(run_graph_mode(SHARED_VARIABLE, tmp_path / "a.exec")) == [[48.0] * 4]
