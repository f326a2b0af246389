"""Loops of programs: `repeat` and `while_loop`.

In a program that is compiled into an executable (application_compile_op), a loop that takes an infeed
queue, or whose
body puts something into an outfeed queue, is the main program: the device repeats its body, one batch a
step, and each run of the program starts with the loop's inputs. All other loops are TensorFlow loops.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

from tensorflow_ipu.integers import is_integer
from tensorflow_ipu.ipu_infeed_queue import IPUInfeedQueue, call_arguments
from tensorflow_ipu.lowering.graph_copy import copy_tensors, needed
from tensorflow_ipu.program.collect import (
    MainProgram,
    NotConstant,
    ProgramBuilder,
    TracedStage,
    capture_into_trace,
    constant_value,
    current_builder,
    inlined,
    runs_later,
    trace_stage,
)

__all__ = ["repeat", "while_loop"]

# A loop whose condition is still true after so many steps is taken to be endless.
_MOST_STEPS = 10_000_000


def repeat(
    n: int,
    body: Callable[..., Any],
    inputs: Any = None,
    infeed_queue: IPUInfeedQueue | None = None,
    use_while_v1: bool = True,
) -> Any:
    """Runs `body` n times.

    Args:
      n: an int, or an integer tensor. A main program has a number that is known, and at least 1.
      body: takes the values of the last step (at first `inputs`), then what is fed; returns the values for
        the next step, as many and of the same dtypes, then any operations that are to be run.
      inputs: initial values, or None.
      infeed_queue: of which each step takes one element.
      use_while_v1: accepted.

    Returns:
      The last values: a tensor, or a list of several; when there are none an operation, or None where
      operations run by themselves (in TensorFlow 2).

    Raises:
      TypeError: `body` takes another number of arguments, or returns other dtypes.
      ValueError: n is not a whole number, or negative; `body` returns operations ahead of tensors.
    """
    del use_while_v1
    return _loop(_count("The number of repetitions", n), None, body, inputs, infeed_queue)


def while_loop(
    condition: Callable[..., Any],
    body: Callable[..., Any],
    inputs: Any = None,
    infeed_queue: IPUInfeedQueue | None = None,
    maximum_iterations: int | None = None,
    use_while_v1: bool = True,
) -> Any:
    """Runs `body` as long as `condition` holds.

    A main program has a number of steps that is known when it is compiled. So its condition may depend on
    counters and other values that follow from constants, not on what is fed, on variables or on the
    program's inputs.

    Args:
      condition: takes the values of the last step (at first `inputs`) and returns a boolean.
      maximum_iterations: bound on the number of steps.
      The others: see repeat().

    Returns and raises: as repeat().
    """
    del use_while_v1
    bound = None if maximum_iterations is None else _count("maximum_iterations", maximum_iterations)
    return _loop(bound, condition, body, inputs, infeed_queue)


def _count(what: str, number: Any) -> Any:
    """The number as an int, or as an integer tensor when its value is not known."""
    value = tf.get_static_value(number) if tf.is_tensor(number) else number
    if value is None and tf.is_tensor(number):
        tensor = tf.convert_to_tensor(number)
        if not tensor.dtype.is_integer or tensor.shape.rank not in (0, None):
            raise ValueError(f"{what} must be an integer scalar, not {number!r}.")
        return tf.cast(tensor, tf.int32)
    if not is_integer(value) or value < 0:
        raise ValueError(f"{what} must be an int that is not negative, not {number!r}.")
    return operator.index(value)


def _loop(
    steps: Any,
    condition: Callable[..., Any] | None,
    body: Callable[..., Any],
    inputs: Any,
    infeed_queue: IPUInfeedQueue | None,
) -> Any:
    body = inlined(body)
    condition = None if condition is None else inlined(condition)
    if infeed_queue is not None and not isinstance(infeed_queue, IPUInfeedQueue):
        raise TypeError(f"infeed_queue must be an IPUInfeedQueue, not a {type(infeed_queue).__name__}.")
    values = [tf.convert_to_tensor(value) for value in _as_list([] if inputs is None else inputs)]
    _check_arity("body", body, values, infeed_queue)
    if condition is not None:
        _check_arity("condition", condition, values, None)
    builder = current_builder()
    if builder is not None and builder.depth < 2:
        done = _main_loop(builder, steps, condition, body, values, infeed_queue)
        if done:
            return _results(values, tf.no_op())
    return _tensorflow_loop(steps, condition, body, values, infeed_queue)


def _main_loop(
    builder: ProgramBuilder,
    steps: Any,
    condition: Callable[..., Any] | None,
    body: Callable[..., Any],
    values: list[Any],
    infeed_queue: IPUInfeedQueue | None,
) -> bool:
    """Makes the loop the main program. False when it is none: nothing is fed, and nothing is given out."""
    before = builder.main
    carried = [tf.TensorSpec(value.shape, value.dtype) for value in values]
    fed = infeed_queue._specs() if infeed_queue is not None else []

    def step(*arguments: Any) -> list[Any]:
        own, element = list(arguments[: len(carried)]), list(arguments[len(carried) :])
        positional: list[Any] = []
        named: dict[str, Any] = {}
        if infeed_queue is not None:
            infeed_queue._dequeued = True
            packed = tf.nest.pack_sequence_as(infeed_queue.element_spec, element)
            positional, named = call_arguments(packed)
        return _body_results(body(*own, *positional, **named), values)[0]

    stage, returned, enqueued = trace_stage(builder, "step", step, [*carried, *fed])
    if builder.main is not before:  # the body is a program itself
        assert builder.main is not None
        if values or infeed_queue is not None or enqueued or condition is not None or steps is None:
            raise ValueError(
                "A loop around another loop or pipeline with feeds can only repeat it: it has no inputs,"
                " condition,"
                " infeed queue or outfeed of its own."
            )
        builder.main.iterations *= _known_steps(steps)
        return True
    if infeed_queue is None and not enqueued:
        return False
    if not enqueued:
        raise ValueError(
            "The loop takes an infeed queue but puts nothing into an outfeed queue: the program would give no"
            " results. Return `outfeed_queue.enqueue(...)` from its body."
        )
    stage.results = [*returned, *enqueued.values()]
    for value, result in zip(values, returned, strict=True):
        if not value.shape.is_compatible_with(result.shape):
            raise ValueError(
                f"A value of the loop changes its shape from {value.shape} to {result.shape}. On the"
                f" device shapes are"
                " fixed."
            )
    if steps is not None:
        steps = _known_steps(steps)
    if condition is not None:
        steps = _trip_count(builder, condition, stage, values, returned, steps)
    assert steps is not None
    builder.set_main(
        MainProgram(
            iterations=steps,
            stages=[stage],
            infeed_names=infeed_queue._names(body, len(values)) if infeed_queue is not None else [],
            carried=values,
            outfeed_names=list(enqueued),
        )
    )
    return True


def _known_steps(steps: Any) -> int:
    """The number of steps of a main program.

    Raises:
      ValueError: it is not known, or 0.
    """
    if tf.is_tensor(steps):
        try:
            steps = int(constant_value(steps))
        except NotConstant as error:
            raise ValueError(
                "The number of steps of a main program has to be known when it is compiled, but it depends"
                f" on '{error}'."
            ) from None
    if steps < 1:
        raise ValueError(f"The main program would do nothing: its number of steps is {steps}.")
    return steps


def _trip_count(
    builder: ProgramBuilder,
    condition: Callable[..., Any],
    stage: TracedStage,
    values: Sequence[Any],
    returned: Sequence[Any],
    bound: int | None,
) -> int:
    """How often the condition holds, found by running what it depends on."""
    specs = [tf.TensorSpec(value.shape, value.dtype) for value in values]
    test, verdict, _ = trace_stage(builder, "condition", condition, specs)
    own = {id(tensor): position for position, tensor in enumerate(test.arguments)}
    steered = {id(tensor): position for position, tensor in enumerate(stage.arguments)}

    def leaves(results: Sequence[Any], places: dict[int, int]) -> set[int]:
        tensors = [
            *results,
            *(tensor for operation in needed(results, places) for tensor in operation.inputs),
        ]
        return {places[id(tensor)] for tensor in tensors if id(tensor) in places}

    wanted: set[int] = set()
    waiting = leaves([verdict], own)
    while waiting:
        position = waiting.pop()
        if position >= len(values):
            raise ValueError(
                "The condition of the loop depends on what is fed to it. The number of steps of a main"
                " program has to"
                " be known when it is compiled: use `maximum_iterations` and a condition on a counter."
            )
        if position not in wanted:
            wanted.add(position)
            waiting |= leaves([returned[position]], steered)
    order = sorted(wanted)
    bound = _MOST_STEPS if bound is None else bound

    def advance(*current: Any) -> list[Any]:
        given = {id(stage.arguments[position]): value for position, value in zip(order, current, strict=True)}
        results = [returned[position] for position in order]
        return copy_tensors(stage.graph, results, given, capture_into_trace(stage.graph, {}))

    def holds(*current: Any) -> Any:
        given = {id(test.arguments[position]): value for position, value in zip(order, current, strict=True)}
        return copy_tensors(test.graph, [verdict], given, capture_into_trace(test.graph, {}))[0]

    try:
        with context.eager_mode():
            initial = [tf.constant(constant_value(values[position])) for position in order]
            # Concrete ones: calls of tf.functions made here would count as retracings of one another.
            holds_now, next_values = (
                tf.function(function, autograph=False).get_concrete_function(*initial)
                for function in (holds, advance)
            )
            steps = 0
            while steps < bound and bool(holds_now(*initial)):
                initial = next_values(*initial)
                steps += 1
    except NotConstant as error:
        raise ValueError(
            f"The condition of the loop depends on '{error}', which is not known when the program is"
            f" compiled: use"
            " `maximum_iterations` and a condition on a counter."
        ) from None
    if steps == _MOST_STEPS:
        raise ValueError(f"The condition of the loop still holds after {_MOST_STEPS} steps.")
    if steps == 0:
        raise ValueError("The condition of the loop does not hold at the start: nothing would be done.")
    return steps


def _tensorflow_loop(
    steps: Any,
    condition: Callable[..., Any] | None,
    body: Callable[..., Any],
    values: list[Any],
    infeed_queue: IPUInfeedQueue | None,
) -> Any:
    def step(*arguments: Any) -> list[Any]:
        own = list(arguments)[: len(values)]
        positional: list[Any] = []
        named: dict[str, Any] = {}
        if infeed_queue is not None:
            positional, named = call_arguments(infeed_queue._dequeue())
        tensors, operations = _body_results(body(*own, *positional, **named), values)
        # A loop without values has one of its own, on which the operations can hang.
        tensors = tensors or [tf.zeros([], tf.int32)]
        with tf.control_dependencies(operations):
            return [tf.identity(tensor) for tensor in tensors]

    loop_values = values or [tf.zeros([], tf.int32)]
    results = tf.while_loop(
        lambda *arguments: True if condition is None else condition(*list(arguments)[: len(values)]),
        step,
        loop_values,
        maximum_iterations=steps,
        parallel_iterations=1,
    )
    results = list(results) if isinstance(results, (list, tuple)) else [results]
    return _results(results if values else [], getattr(results[0], "op", None) if not values else None)


def _results(values: list[Any], operation: Any) -> Any:
    if not values:
        return runs_later(operation)
    return values[0] if len(values) == 1 else values


def _body_results(returned: Any, values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """What a body returned: tensors, then operations."""
    items = [item for item in _as_list(returned) if item is not None]
    operations = [item for item in items if isinstance(item, tf.Operation)]
    tensors = [tf.convert_to_tensor(item) for item in items if not isinstance(item, tf.Operation)]
    if any(isinstance(item, tf.Operation) for item in items[: len(tensors)]):
        raise ValueError(
            "IPU loop body must return zero or more Tensor values followed by zero or more Operations."
        )
    expected = [value.dtype for value in values]
    found = [tensor.dtype for tensor in tensors]
    if expected != found:
        raise TypeError(
            "Mismatch between input types and output types for loop body:"
            f" {[dtype.name for dtype in expected]} vs {[dtype.name for dtype in found]}."
        )
    return tensors, operations


def _check_arity(
    what: str, function: Callable[..., Any], values: Sequence[Any], infeed_queue: IPUInfeedQueue | None
) -> None:
    """Raises TypeError when the function does not take the loop's values and what is fed."""
    fed = infeed_queue.element_spec if infeed_queue is not None else ()
    positional, named = call_arguments(fed)
    try:
        inspect.signature(function).bind(*values, *positional, **named)
    except TypeError as error:
        and_fed = (
            f" and {infeed_queue.number_of_tuple_elements} additional inputs from infeed"
            if infeed_queue
            else ""
        )
        raise TypeError(
            f"Supplied loop {what} function cannot be called with the specified inputs. You specified"
            f" {len(values)} inputs{and_fed}, but: {error}."
        ) from None
    except ValueError:
        pass  # a built-in function that tells nothing


def _as_list(values: Any) -> list[Any]:
    return list(values) if isinstance(values, (list, tuple)) else [values]
