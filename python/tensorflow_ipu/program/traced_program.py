"""From a traced program to an executable file: lowers its stages and lays out how values flow between
them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from tensorflow_ipu.config import export_target
from tensorflow_ipu.config.targets import PjrtTarget
from tensorflow_ipu.lowering import LoweredFunction, lower_function
from tensorflow_ipu.lowering.graph_copy import copy_tensors, needed
from tensorflow_ipu.program import Carried, DeviceTarget, Program, Source, Stage, ValueRef, compile_program
from tensorflow_ipu.program.collect import (
    MainProgram,
    NotConstant,
    ProgramGraph,
    TracedStage,
    capture_into_trace,
    outer_tensors,
    run_once,
    value_of,
)
from tensorflow_ipu.program.device_mapping import check_configured


@dataclass(frozen=True)
class StartupLeaf:
    """A tensor outside of the program whose value is given when an engine starts: an input or a variable's
    value.

    Tensors of one name are one start-up input.
    """

    name: str
    tensor: Any


def program_leaves(main: MainProgram) -> list[Any]:
    """The tensors outside of the program that it depends on."""
    return outer_tensors([*main.carried, *(result for stage in main.stages for result in stage.results)])


def compile_traced(
    main: MainProgram,
    name: str,
    path: str,
    constants: Mapping[int, np.ndarray],
    startup: Sequence[StartupLeaf],
    freeze_variables: bool,
    pjrt: PjrtTarget | None = None,
) -> None:
    """Compiles a program and writes the executable.

    Args:
      constants: values of the tensors outside of it that become part of it, by id.
      startup: those that become start-up inputs.
      freeze_variables: whether variables that the program reads itself become part of it; else they become
        start-up inputs. (In graph mode it reads none: their values are tensors outside of it.)
      pjrt: the target; None: the emulated IPUs of the configuration in force.

    Raises:
      ValueError, tf.errors.ResourceExhaustedError: as program.compile_program(); or a value that is handed
        from step to step starts as something computed from a start-up input.
    """
    with context.eager_mode():
        _Compiler(main, name, constants, startup, freeze_variables, pjrt).compile(path)


class _Compiler:
    def __init__(
        self,
        main: MainProgram,
        name: str,
        constants: Mapping[int, np.ndarray],
        startup: Sequence[StartupLeaf],
        freeze_variables: bool,
        pjrt: PjrtTarget | None,
    ) -> None:
        self._main = main
        self._pjrt = pjrt
        self._name = name
        self._constants = constants
        self._startup = startup
        self._freeze = freeze_variables
        self._inputs: dict[str, tf.TensorSpec] = {}  # start-up inputs by name, in the order of their index
        for leaf in startup:
            self._startup_index(leaf.name, leaf.tensor)
        self._initial: list[bytes] = []

    def _startup_index(self, name: str, like: Any) -> int:
        if name not in self._inputs:
            shape = tf.TensorShape(like.shape)
            if not shape.is_fully_defined():
                raise ValueError(
                    f"Start-up input '{name}' has the shape {shape}. On the device shapes are fixed."
                )
            self._inputs[name] = tf.TensorSpec(shape, like.dtype, name)
        return list(self._inputs).index(name)

    def compile(self, path: str) -> None:
        main = self._main
        if main.layout is not None and self._pjrt is None:
            check_configured(main.layout.device_mapping)
        lowered: list[LoweredFunction] = []
        stages: list[Stage] = []
        count = len(main.carried)
        for position, stage in enumerate(main.stages):
            function = self._lower(stage, position)
            arguments: list[ValueRef] = []
            for index in range(len(stage.arguments)):
                if position > 0:
                    arguments.append(ValueRef(Source.STAGE_RESULT, index, position - 1))
                elif index < count:
                    arguments.append(ValueRef(Source.CARRIED, index))
                else:
                    arguments.append(ValueRef(Source.INFEED, index - count))
            arguments += [
                ValueRef(Source.STARTUP_INPUT, self._startup_index(leaf.name, leaf.tensor))
                for leaf in self._startup_of(stage)
            ]
            arguments += [
                ValueRef(
                    Source.STARTUP_INPUT, self._startup_index(variable_input_name(variable.name), variable)
                )
                for variable in function.variables
            ]
            ipu = main.layout.device_mapping[position] if main.layout else 0
            stages.append(Stage(stage.name, ipu, function.hlo, arguments))
            lowered.append(function)

        carried = [
            Carried(
                tf.TensorSpec(value.shape, value.dtype, f"carried_{index}"),
                self._initial_value(value),
                ValueRef(Source.STAGE_RESULT, index, 0),
            )
            for index, value in enumerate(main.carried)
        ]
        first = main.stages[0].arguments[count:]
        last = len(stages) - 1
        behind = count if last == 0 else 0
        target = export_target()
        compile_program(
            Program(
                name=self._name,
                stages=stages,
                infeeds=[
                    tf.TensorSpec(tensor.shape, tensor.dtype, name)
                    for tensor, name in zip(first, main.infeed_names, strict=True)
                ],
                outfeed_names=list(main.outfeed_names),
                outfeed_values=[
                    ValueRef(Source.STAGE_RESULT, behind + index, last)
                    for index in range(len(main.outfeed_names))
                ],
                iterations=main.iterations,
                startup_inputs=list(self._inputs.values()),
                carried=carried,
                initial_values=self._initial,
                schedule=main.layout.schedule.name.upper() if main.layout else "GROUPED",
                hold=(main.layout.hold if main.layout else 0) or target.io_tiles_hold,
                target=DeviceTarget(
                    architecture=target.architecture,
                    num_ipus=main.layout.num_ipus if main.layout else 1,
                    tiles_per_ipu=target.tiles_per_ipu,
                    memory_per_tile=target.memory_per_tile,
                    remote_buffers=target.remote_buffers,
                    pjrt=self._pjrt,
                ),
                floating_point={"inv": target.inv, "div0": target.div0, "oflo": target.oflo},
                options={**target.options, **(main.layout.options if main.layout else {})},
            ),
            path,
        )

    def _startup_of(self, stage: TracedStage) -> list[StartupLeaf]:
        """The start-up inputs that a stage uses, each once."""
        used = {id(tensor) for tensor in outer_tensors(stage.results)}
        by_name = {leaf.name: leaf for leaf in self._startup if id(leaf.tensor) in used}
        return list(by_name.values())

    def _lower(self, stage: TracedStage, position: int) -> LoweredFunction:
        leaves = self._startup_of(stage)

        @tf.autograph.experimental.do_not_convert
        def function(*values: Any) -> list[Any]:
            own, started = values[: len(stage.arguments)], values[len(stage.arguments) :]
            by_name = {leaf.name: value for leaf, value in zip(leaves, started, strict=True)}
            outside: dict[int, Any] = {key: tf.constant(value) for key, value in self._constants.items()}
            outside.update(
                {id(leaf.tensor): by_name[leaf.name] for leaf in self._startup if leaf.name in by_name}
            )
            given = {id(tensor): value for tensor, value in zip(stage.arguments, own, strict=True)}
            return copy_tensors(stage.graph, stage.results, given, capture_into_trace(stage.graph, outside))

        function.source_graph = stage.graph  # for messages: lowering.trace()
        tensors = [*stage.arguments, *(leaf.tensor for leaf in leaves)]
        signature = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in tensors]
        return lower_function(function, signature, stage.name, self._freeze)

    def _initial_value(self, value: Any) -> ValueRef:
        """Where the initial value of something that is carried comes from."""
        origin = _origin(value)
        for leaf in self._startup:
            if leaf.tensor is origin:
                return ValueRef(Source.STARTUP_INPUT, self._startup_index(leaf.name, leaf.tensor))
        variable = _variable_read(origin)
        if variable is not None and not self._freeze:
            return ValueRef(
                Source.STARTUP_INPUT, self._startup_index(variable_input_name(variable.name), variable)
            )
        started = {id(leaf.tensor) for leaf in self._startup}
        if any(id(tensor) in started for tensor in outer_tensors([value])) or (
            not self._freeze and isinstance(value.graph, ProgramGraph) and _reads_variables(value)
        ):
            raise ValueError(
                "A value of the main loop starts as something computed from a start-up input or variable."
                " Pass what it"
                " is computed from to the loop and compute it in the body, or set freeze_variables=True."
            )
        try:
            array = run_once(lambda: value_of(value, self._constants)).numpy()
        except NotConstant as error:
            raise ValueError(f"A value of the main loop starts as '{error}', which is not known.") from None
        self._initial.append(np.ascontiguousarray(array).tobytes())
        return ValueRef(Source.WEIGHT, len(self._initial) - 1)


def variable_input_name(variable_name: str) -> str:
    """The start-up input that a variable becomes."""
    return f"XLA_Args/{variable_name.split(':')[0]}"


def _origin(tensor: Any) -> Any:
    """Follows a tensor through identities and captures to where it comes from."""
    while isinstance(getattr(tensor, "graph", None), ProgramGraph):
        outer = {id(inner): outer for outer, inner in tensor.graph.captures}.get(id(tensor))
        if outer is not None:
            tensor = outer
        elif tensor.op.type == "Identity":
            tensor = tensor.op.inputs[0]
        else:
            break
    return tensor


def _variable_read(tensor: Any) -> Any:
    """The variable whose value a tensor of a ProgramGraph is, or None."""
    if not isinstance(getattr(tensor, "graph", None), ProgramGraph) or tensor.op.type != "ReadVariableOp":
        return None
    outer = {id(inner): outer for outer, inner in tensor.graph.captures}.get(id(tensor.op.inputs[0]))
    return next((variable for variable in tensor.graph.variables if variable.handle is outer), None)


def _reads_variables(tensor: Any) -> bool:
    return any(operation.type == "ReadVariableOp" for operation in needed([tensor], {}))
