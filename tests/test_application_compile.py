"""Programs compiled without an export: feeds, loops, pipelines, variables, and the same program
in-process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_ipu import embedded_runtime, ipu_compiler, loops, pipelining_ops, scopes
from tensorflow_ipu._runtime import native
from tensorflow_ipu.application_compile_op import experimental_application_compile_op as compile_op
from tensorflow_ipu.config import IPUConfig, reset_ipu_configuration
from tensorflow_ipu.ipu_infeed_queue import IPUInfeedQueue
from tensorflow_ipu.ipu_outfeed_queue import IPUOutfeedMode, IPUOutfeedQueue
from tensorflow_ipu.ipu_strategy import IPUStrategy
from tensorflow_ipu.lowering import lower_function
from tensorflow_ipu.pipelining_ops import PipelineSchedule
from tensorflow_ipu.program import Carried, Program, Source, Stage, ValueRef, compile_program


@pytest.fixture(autouse=True)
def two_ipus() -> Iterator[None]:
    config = IPUConfig()
    config.auto_select_ipus = 2
    config.configure_ipu_system()
    yield
    reset_ipu_configuration()


def numbers(count: int = 100) -> tf.data.Dataset:
    """[0, 0, 0, 0], [1, 1, 1, 1], ..."""
    return tf.data.Dataset.range(count).map(lambda n: tf.fill([4], tf.cast(n, tf.float32)))


class Running:
    """An executable that was started, as a function of arrays; stopped at the end of the scope."""

    def __init__(self, path: Any, startup: Any = ()) -> None:
        file = path.numpy().decode() if isinstance(path, tf.Tensor) else os.fspath(path)
        self.header = json.loads(native.inspect(file))
        self._arguments = (file, startup if isinstance(startup, dict) else list(startup))

    def __enter__(self) -> "Running":
        self.context = embedded_runtime.embedded_runtime_start(*self._arguments, f"engine_{id(self)}")
        return self

    def __exit__(self, *exception: Any) -> None:
        embedded_runtime.embedded_runtime_stop(self.context)

    def __call__(self, *inputs: Any) -> list[np.ndarray]:
        tensors = [tf.constant(value, tf.float32) for value in inputs]
        return [result.numpy() for result in embedded_runtime.embedded_runtime_call(tensors, self.context)]


def names(header: dict, field: str) -> list[str]:
    return [entry["name"] for entry in header[field]]


def test_a_loop_with_feeds(tmp_path: Path) -> None:
    infeed, outfeed = IPUInfeedQueue(numbers()), IPUOutfeedQueue()

    def body(x: tf.Tensor) -> Any:
        return outfeed.enqueue({"result": x * 2})

    path = compile_op(
        lambda: loops.repeat(16, body, [], infeed), output_path=str(tmp_path / "a.exec"), name="doubler"
    )
    assert path.numpy().decode() == str(tmp_path / "a.exec")
    with Running(path) as run:
        assert run.header["name"] == "doubler"
        assert run.header["iterations"] == "16"
        assert names(run.header, "infeeds") == ["x"]
        assert names(run.header, "outfeeds") == ["result"]
        for value in range(40):
            np.testing.assert_array_equal(run([value] * 4), [[2 * value] * 4])


def test_a_temporary_file_by_default() -> None:
    path = compile_op(lambda x: x * 2, inputs=[tf.constant(1.0)], name="short").numpy().decode()
    assert os.path.basename(path).startswith("short") and path.endswith(".poplar_exec")
    os.remove(path)


@pytest.mark.parametrize("element", ["tuple", "dictionary"])
def test_feeds_of_several_tensors(element: str, tmp_path: Path) -> None:
    pair = (tf.zeros([2]), tf.zeros([3]))
    data = pair if element == "tuple" else {"second": pair[1], "first": pair[0]}
    infeed, outfeed = IPUInfeedQueue(tf.data.Dataset.from_tensors(data)), IPUOutfeedQueue()
    assert infeed.number_of_tuple_elements == 2

    def body(first: tf.Tensor, second: tf.Tensor) -> Any:
        return outfeed.enqueue((tf.reduce_sum(first), second))

    path = compile_op(lambda: loops.repeat(2, body, [], infeed), output_path=tmp_path / "a.exec")
    with Running(path) as run:
        assert names(run.header, "infeeds") == ["first", "second"]
        assert names(run.header, "outfeeds") == ["output_0", "output_1"]
        total, second = run([1, 2], [3, 4, 5])
        assert total == 3
        np.testing.assert_array_equal(second, [3, 4, 5])


@pytest.mark.parametrize("freeze", [True, False])
def test_variables(freeze: bool, tmp_path: Path) -> None:
    weight = tf.Variable([1.0, 2.0, 3.0, 4.0], name="weight")
    infeed, outfeed = IPUInfeedQueue(numbers()), IPUOutfeedQueue()

    def program() -> Any:
        return loops.repeat(4, lambda x: outfeed.enqueue(x * weight + weight), [], infeed)

    path = compile_op(program, output_path=tmp_path / "a.exec", freeze_variables=freeze)
    expected = np.float32([3, 6, 9, 12])
    weight.assign([0.0, 0.0, 0.0, 0.0])
    if freeze:
        with Running(path) as run:
            assert run.header["startup_inputs"] == []
            np.testing.assert_array_equal(run([2] * 4), [expected])
        return
    for startup in ({"XLA_Args/weight": tf.constant([1.0, 2, 3, 4])}, [tf.constant([1.0, 2, 3, 4])]):
        with Running(path, startup) as run:
            assert names(run.header, "startup_inputs") == ["XLA_Args/weight"]
            np.testing.assert_array_equal(run([2] * 4), [expected])
    with pytest.raises(Exception, match="Failed to find input tensor with name 'XLA_Args/weight'"):
        embedded_runtime.embedded_runtime_start(path.numpy().decode(), {}, "missing")


def test_inputs_become_startup_inputs(tmp_path: Path) -> None:
    infeed, outfeed = IPUInfeedQueue(numbers()), IPUOutfeedQueue()

    def program(scale: tf.Tensor, offset: tf.Tensor) -> Any:
        doubled = scale * 2  # computed from a start-up input ahead of the loop
        return loops.repeat(4, lambda x: outfeed.enqueue(x * doubled + offset), [], infeed)

    path = compile_op(program, inputs=[tf.zeros([4]), 1.0], output_path=tmp_path / "a.exec")
    with Running(path, {"XLA_Args/scale": tf.constant([1.0, 2, 3, 4])}) as run:
        assert names(run.header, "startup_inputs") == ["XLA_Args/scale"]  # 1.0 is a constant
        np.testing.assert_array_equal(run([1] * 4), [[3, 5, 7, 9]])


def test_a_function_without_a_loop(tmp_path: Path) -> None:
    weight = tf.Variable([1.0, 2.0], name="weight")
    path = compile_op(lambda x: (x * x, x + weight), inputs=[tf.zeros([2])], output_path=tmp_path / "a.exec")
    startup = {"XLA_Args/x": tf.constant([3.0, 4.0]), "XLA_Args/weight": tf.constant([1.0, 2.0])}
    with Running(path, startup) as run:
        square, total = run()
        np.testing.assert_array_equal(square, [9, 16])
        np.testing.assert_array_equal(total, [4, 6])


def test_carried_values_start_anew_with_every_run(tmp_path: Path) -> None:
    infeed, outfeed = IPUInfeedQueue(numbers()), IPUOutfeedQueue()

    def body(total: tf.Tensor, count: tf.Tensor, x: tf.Tensor) -> Any:
        total += x
        return total, count + 1, outfeed.enqueue({"total": total, "count": count})

    path = compile_op(
        lambda: loops.repeat(3, body, [tf.fill([4], 100.0), 7], infeed), output_path=tmp_path / "a.exec"
    )
    with Running(path) as run:
        seen = [run([value] * 4) for value in (1, 2, 3, 4, 5)]
    assert [result[0][0] for result in seen] == [101, 103, 106, 104, 109]
    assert [result[1] for result in seen] == [7, 8, 9, 7, 8]


def test_a_carried_value_that_starts_as_a_variable(tmp_path: Path) -> None:
    start = tf.Variable(tf.fill([4], 10.0), name="start")
    infeed, outfeed = IPUInfeedQueue(numbers()), IPUOutfeedQueue()

    def body(total: tf.Tensor, x: tf.Tensor) -> Any:
        return total + x, outfeed.enqueue(total + x)

    def program() -> Any:
        return loops.repeat(2, body, [start.read_value()], infeed)

    with Running(compile_op(program, output_path=tmp_path / "a.exec", freeze_variables=True)) as run:
        assert [run([1] * 4)[0][0] for _ in range(3)] == [11, 12, 11]
    path = compile_op(program, output_path=tmp_path / "b.exec")
    with Running(path, {"XLA_Args/start": tf.fill([4], 20.0)}) as run:
        assert [run([1] * 4)[0][0] for _ in range(3)] == [21, 22, 21]

    def computed() -> Any:
        return loops.repeat(2, body, [start * 2], infeed)

    with Running(compile_op(computed, output_path=tmp_path / "c.exec", freeze_variables=True)) as run:
        assert run([1] * 4)[0][0] == 21
    with pytest.raises(ValueError, match="computed from a start-up input or variable"):
        compile_op(computed, output_path=tmp_path / "d.exec")


def test_while_loop_with_a_counter(tmp_path: Path) -> None:
    infeed, outfeed = IPUInfeedQueue(numbers()), IPUOutfeedQueue()

    def body(step: tf.Tensor, x: tf.Tensor) -> Any:
        return step + 2, outfeed.enqueue(x * tf.cast(step, tf.float32))

    path = compile_op(
        lambda: loops.while_loop(lambda step: step < 7, body, [1], infeed), output_path=tmp_path / "a.exec"
    )
    with Running(path) as run:
        assert run.header["iterations"] == "3"
        assert [run([1] * 4)[0][0] for _ in range(4)] == [1, 3, 5, 1]
    bounded = compile_op(
        lambda: loops.while_loop(lambda step: step < 7, body, [1], infeed, maximum_iterations=2),
        output_path=tmp_path / "b.exec",
    )
    assert Running(bounded).header["iterations"] == "2"


def test_while_loop_errors(tmp_path: Path) -> None:
    infeed, outfeed = IPUInfeedQueue(numbers()), IPUOutfeedQueue()

    def body(total: tf.Tensor, x: tf.Tensor) -> Any:
        return total + tf.reduce_sum(x), outfeed.enqueue(x)

    with pytest.raises(ValueError, match="depends on what is fed"):
        compile_op(lambda: loops.while_loop(lambda total: total < 7, body, [0.0], infeed))
    with pytest.raises(ValueError, match="does not hold at the start"):
        compile_op(
            lambda: loops.while_loop(lambda n: n < 1, lambda n, x: (n + 1, outfeed.enqueue(x)), [1], infeed)
        )


def test_loops_inside_the_step(tmp_path: Path) -> None:
    infeed, outfeed = IPUInfeedQueue(numbers()), IPUOutfeedQueue()

    def body(x: tf.Tensor) -> Any:
        x = loops.repeat(3, lambda value: value * 2, [x])
        _, x = loops.while_loop(lambda n, _: n < 2, lambda n, value: (n + 1, value + 1), [0, x])
        return outfeed.enqueue(x)

    with Running(
        compile_op(lambda: loops.repeat(4, body, [], infeed), output_path=tmp_path / "a.exec")
    ) as run:
        np.testing.assert_array_equal(run([1] * 4), [[10] * 4])


def test_a_loop_around_a_loop_repeats_it(tmp_path: Path) -> None:
    infeed, outfeed = IPUInfeedQueue(numbers()), IPUOutfeedQueue()

    def inner() -> Any:
        return loops.repeat(3, lambda x: outfeed.enqueue(x), [], infeed)

    path = compile_op(lambda: loops.repeat(5, inner), output_path=tmp_path / "a.exec")
    assert Running(path).header["iterations"] == "15"


@pytest.mark.parametrize("schedule", [None, *PipelineSchedule])
def test_a_pipeline(schedule: PipelineSchedule | None, tmp_path: Path) -> None:
    weight = tf.Variable([1.0, 2.0, 3.0, 4.0], name="weight")
    infeed, outfeed = IPUInfeedQueue(numbers()), IPUOutfeedQueue()

    def first(scale: tf.Tensor, x: tf.Tensor) -> Any:
        return x * scale, x

    def second(scaled: tf.Tensor, x: tf.Tensor) -> Any:
        return {"sum": scaled + x * weight, "x": x}

    def program() -> Any:
        return pipelining_ops.pipeline(
            [first, second],
            gradient_accumulation_count=8,
            repeat_count=2,
            inputs=[3.0],
            infeed_queue=infeed,
            outfeed_queue=outfeed,
            device_mapping=[1, 0],
            pipeline_schedule=schedule,
            name="two",
        )

    path = compile_op(program, output_path=tmp_path / "a.exec")
    with Running(path, {"XLA_Args/weight": tf.constant([1.0, 2, 3, 4])}) as run:
        assert run.header["iterations"] == "16"
        assert [stage["ipu"] for stage in run.header["stages"]] == [1, 0]
        assert run.header["schedule"] == (schedule or PipelineSchedule.Grouped).name.upper()
        assert names(run.header, "outfeeds") == ["sum", "x"]
        for value in range(20):
            total, x = run([value] * 4)
            np.testing.assert_array_equal(total, value * np.float32([4, 5, 6, 7]))
            np.testing.assert_array_equal(x, [value] * 4)


def test_pipeline_errors() -> None:
    infeed, outfeed = IPUInfeedQueue(numbers()), IPUOutfeedQueue()
    stages = [lambda x: x, lambda x: x]

    def pipeline(*arguments: Any, **more: Any) -> Any:
        return pipelining_ops.pipeline(*arguments, infeed_queue=infeed, outfeed_queue=outfeed, **more)

    for argument in (
        "optimizer_function",
        "recomputation_mode",
        "backward_propagation_stages_poplar_options",
        "weight_update_poplar_options",
        "outfeed_loss",
        "accumulate_outfeed",
        "gradient_accumulation_dtype",
        "offload_weight_update_variables",
        "replicated_optimizer_state_sharding",
        "continuous_weight_updates",
    ):
        with pytest.raises(NotImplementedError, match=f"`{argument}` is used for training only"):
            pipeline(stages, 4, **{argument: True})
    with pytest.raises(NotImplementedError, match="batch_serialization_iterations"):
        pipeline(stages, 4, batch_serialization_iterations=2)
    with pytest.raises(ValueError, match="gradient_accumulation_count must be specified"):
        pipeline(stages)
    with pytest.raises(ValueError, match="at least two computational stages"):
        pipeline(stages[:1], 4)
    with pytest.raises(ValueError, match="Each stage must be mapped"):
        pipeline(stages, 4, device_mapping=[0])
    with pytest.raises(ValueError, match=r"IPUs \[2\]"):
        pipeline(stages, 4, device_mapping=[0, 2])
    with pytest.raises(TypeError, match="list or a tuple"):
        pipeline(lambda x: x, 4)
    with pytest.raises(TypeError, match="PipelineSchedule"):
        pipeline(stages, 4, pipeline_schedule="Grouped")
    with pytest.raises(TypeError, match="IPUInfeedQueue"):
        pipelining_ops.pipeline(stages, 4, infeed_queue=numbers())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="an `outfeed_queue` is required"):
        compile_op(lambda: pipelining_ops.pipeline(stages, 4, infeed_queue=infeed))


def test_program_errors() -> None:
    infeed, outfeed = IPUInfeedQueue(numbers()), IPUOutfeedQueue()

    def fed() -> Any:
        return loops.repeat(2, lambda x: outfeed.enqueue(x), [], infeed)

    for program, error, message in (
        (lambda: None, ValueError, "has no results"),
        (lambda: [fed(), fed()], ValueError, "one main loop or pipeline"),
        (lambda: loops.repeat(2, lambda x: None, [], infeed), ValueError, "puts nothing into an outfeed"),
        (
            lambda: loops.repeat(2, lambda x: [outfeed.enqueue(x), outfeed.enqueue(x)], [], infeed),
            ValueError,
            "can only be enqueued once",
        ),
        (lambda: outfeed.enqueue(tf.constant(1.0)), ValueError, "outside of the body of the main loop"),
        (lambda: loops.repeat(-1, lambda: None), ValueError, "must be an int that is not negative"),
        (lambda: loops.repeat(2, lambda x, y: x, [], infeed), TypeError, "1 additional inputs from infeed"),
        (lambda: loops.repeat(2, lambda a: 1.0, [1]), TypeError, "Mismatch between input types and output"),
        (lambda: loops.repeat(2, lambda x: x, [1], "queue"), TypeError, "must be an IPUInfeedQueue"),
        (
            lambda: loops.repeat(
                2, lambda a, x: (tf.zeros([2]), outfeed.enqueue(x)), [tf.zeros([3])], infeed
            ),
            ValueError,
            "changes its shape",
        ),
    ):
        with pytest.raises(error, match=message):
            compile_op(program)
    with pytest.raises(TypeError, match="must be a function"):
        compile_op("program")  # type: ignore[arg-type]


def test_an_operation_without_a_kernel_is_named_with_its_line(tmp_path: Path) -> None:
    infeed, outfeed = IPUInfeedQueue(numbers()), IPUOutfeedQueue()

    def body(x: tf.Tensor) -> Any:
        return outfeed.enqueue(tf.strings.length(tf.strings.as_string(x)))

    with pytest.raises(ValueError, match=r"AsString.*test_application_compile\.py:\d+"):
        compile_op(lambda: loops.repeat(2, body, [], infeed), output_path=tmp_path / "a.exec")


def test_queue_errors() -> None:
    with pytest.raises(TypeError, match="takes a tf.data.Dataset"):
        IPUInfeedQueue([1, 2, 3])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="drop_remainder=True"):
        IPUInfeedQueue(numbers().batch(3))
    with pytest.raises(ValueError, match="nest of tuples and dictionaries"):
        IPUInfeedQueue(tf.data.Dataset.from_tensors({"a": tf.ragged.constant([[1], []])}))
    for depth in (0, 256):
        with pytest.raises(ValueError, match="prefetch_depth"):
            IPUInfeedQueue(numbers(), prefetch_depth=depth)
    infeed = IPUInfeedQueue(numbers().batch(3, drop_remainder=True), prefetch_depth=3)
    with pytest.raises(ValueError, match="obsolete"):
        infeed.get_next()
    with pytest.raises(ValueError, match="IPUOutfeedMode"):
        IPUOutfeedQueue(outfeed_mode="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has not been enqueued"):
        IPUOutfeedQueue().dequeue()
    with pytest.raises(ValueError, match="keys in the outfeed dictionary"):
        IPUOutfeedQueue().enqueue({1: tf.constant(1.0)})
    with pytest.raises(ValueError, match="needs to be either a TensorFlow tensor"):
        IPUOutfeedQueue().enqueue("text")


def test_the_same_program_in_process(tmp_path: Path) -> None:
    """The outfeed of the program as TensorFlow runs it holds what the executable answers."""
    weight = tf.Variable([1.0, 2.0, 3.0, 4.0], name="weight")
    infeed, outfeed = IPUInfeedQueue(numbers()), IPUOutfeedQueue()

    def body(total: tf.Tensor, x: tf.Tensor) -> Any:
        total = total * 0.5 + tf.sin(x) * weight
        return total, outfeed.enqueue({"total": total, "sum": tf.reduce_sum(total)})

    def program() -> Any:
        return loops.repeat(10, body, [tf.zeros([4])], infeed)

    path = compile_op(program, output_path=tmp_path / "a.exec", freeze_variables=True)
    with Running(path) as run:
        answers = [run([value] * 4) for value in range(10)]

    with scopes.ipu_scope("/device:IPU:0"):
        (last,) = ipu_compiler.compile(program, inputs=[])
    outfed = outfeed.dequeue()
    np.testing.assert_allclose(outfed["total"], [answer[0] for answer in answers], rtol=1e-6)
    np.testing.assert_allclose(outfed["sum"], [answer[1] for answer in answers], rtol=1e-6)
    np.testing.assert_allclose(last, answers[-1][0], rtol=1e-6)
    assert outfeed.dequeue()["sum"].shape == [0]  # it was taken


def test_in_process_in_a_function_of_a_strategy() -> None:
    infeed = IPUInfeedQueue(numbers())
    outfeed = IPUOutfeedQueue(outfeed_mode=IPUOutfeedMode.LAST)

    @tf.function(jit_compile=True)
    def program() -> Any:
        return loops.repeat(5, lambda x: outfeed.enqueue(x * 2), [], infeed)

    strategy = IPUStrategy()
    with strategy.scope():
        for last in (8, 18):
            strategy.run(program)
            np.testing.assert_array_equal(outfeed.dequeue(), [last] * 4)
    _ = infeed.initializer  # starts the dataset afresh
    strategy.run(program)
    np.testing.assert_array_equal(outfeed.dequeue(), [8] * 4)


def test_a_pipeline_in_process() -> None:
    infeed, outfeed = IPUInfeedQueue(numbers()), IPUOutfeedQueue()
    ipu_compiler.compile(
        lambda: pipelining_ops.pipeline(
            [lambda x: (x * 2, x), lambda doubled, x: doubled + x],
            gradient_accumulation_count=3,
            repeat_count=2,
            infeed_queue=infeed,
            outfeed_queue=outfeed,
        )
    )
    np.testing.assert_array_equal(outfeed.dequeue(), [[3.0 * value] * 4 for value in range(6)])


GRAPH_MODE = """
import sys
import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow_ipu import application_compile_op, embedded_runtime, ipu_compiler, loops, scopes
from tensorflow_ipu.ipu_infeed_queue import IPUInfeedQueue
from tensorflow_ipu.ipu_outfeed_queue import IPUOutfeedQueue

tf.disable_v2_behavior()
freeze = sys.argv[2] == "True"
dataset = tf.data.Dataset.from_tensors(tf.constant(3.0, shape=[4])).repeat()
infeed, outfeed = IPUInfeedQueue(dataset), IPUOutfeedQueue()

def body(total, x):
    with tf.variable_scope("layer", reuse=tf.AUTO_REUSE, use_resource=True):
        weight = tf.get_variable("weight", shape=[4], initializer=tf.constant_initializer([1.0, 2.0, 3.0,
        4.0]))
    return total + x, outfeed.enqueue({"y": x * weight + total})

def program(scale):
    return loops.repeat(4, body, [tf.zeros([4]) * 2.0], infeed)

scale = tf.placeholder(tf.float32, [4])
executable = application_compile_op.experimental_application_compile_op(
    program, inputs=[scale], output_path=sys.argv[1], freeze_variables=freeze)
with scopes.ipu_scope("/device:IPU:0"):
    in_process = ipu_compiler.compile(program, inputs=[scale])
outfed = outfeed.dequeue()
(variable,) = tf.global_variables()
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    session.run(infeed.initializer)
    session.run(variable.assign([2.0, 2.0, 2.0, 2.0]))
    path = session.run(executable, {scale: np.ones(4)}).decode()
    session.run(in_process, {scale: np.ones(4)})
    expected = session.run(outfed)["y"]
    session.run(infeed.deleter)
assert path == sys.argv[1], path
startup = {} if freeze else {"XLA_Args/layer/weight": tf.fill([4], 2.0)}
context = embedded_runtime.embedded_runtime_start(path, startup, "engine")
call = embedded_runtime.embedded_runtime_call([tf.fill([4], 3.0)], context)
with tf.Session() as session:
    results = [session.run(call)[0] for _ in range(4)]
np.testing.assert_array_equal(results, expected)
np.testing.assert_array_equal(results, [[6.0 + 3 * step] * 4 for step in range(4)])
"""


@pytest.mark.parametrize("freeze", [True, False])
def test_graph_mode(freeze: bool, tmp_path: Path) -> None:
    """In a process of its own: it turns TensorFlow 2 off."""
    arguments = [sys.executable, "-c", GRAPH_MODE, str(tmp_path / "a.exec"), str(freeze)]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_initial_values_must_fit(tmp_path: Path) -> None:
    spec = tf.TensorSpec([4], tf.float32, "x")
    lowered = lower_function(lambda total, x: total + x, [spec, spec], "step")

    def compile_with(initial_values: list[bytes]) -> None:
        compile_program(
            Program(
                name="sum",
                stages=[
                    Stage("step", 0, lowered.hlo, [ValueRef(Source.CARRIED, 0), ValueRef(Source.INFEED, 0)])
                ],
                infeeds=[spec],
                outfeed_names=["y"],
                outfeed_values=[ValueRef(Source.STAGE_RESULT, 0)],
                carried=[Carried(spec, ValueRef(Source.WEIGHT, 0), ValueRef(Source.STAGE_RESULT, 0))],
                initial_values=initial_values,
            ),
            str(tmp_path / "a.exec"),
        )

    with pytest.raises(ValueError, match="starts as initial value 0, but there are 0"):
        compile_with([])
    with pytest.raises(ValueError, match="Found 8 bytes for the initial value.*expected 16"):
        compile_with([bytes(8)])
    compile_with([bytes(16)])
