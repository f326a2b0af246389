"""What a failed export tells its user: which operation, where in their Python code, and what to do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import errors as tf_errors

_NODE = re.compile(r"\{\{node ([^}]+)\}\}")
_UNSUPPORTED = re.compile(r"([A-Za-z0-9_>]+) \(No registered '([A-Za-z0-9_>]+)' OpKernel")
_LIBRARY_FOLDERS = tuple(
    os.path.realpath(os.path.dirname(path)) + os.sep for path in (tf.__file__, os.path.abspath(__file__))
) + (f"{os.sep}keras{os.sep}src{os.sep}", f"{os.sep}tf_keras{os.sep}src{os.sep}", f"{os.sep}contextlib.py")


class SourceLocations:
    """Knows for each operation of a traced function the line of the user's program that made it.

    Freezing and inlining keep the names of operations but not where they came from, so that this is taken
    from the function as it was traced.
    """

    def __init__(self, graph: tf.Graph) -> None:
        self._graph = graph
        self._by_name: dict[str, str] | None = None

    def of(self, node: str) -> str | None:
        """`file.py:12`, or None when nothing is known of an operation of that name."""
        if self._by_name is None:
            self._by_name = {}
            for operation in operations_of(self._graph):
                location = _user_line(operation)
                if location is not None:
                    self._by_name.setdefault(operation.name, location)
        parts = node.split("/")
        for start in range(len(parts)):  # inlining puts the caller's name in front
            location = self._by_name.get("/".join(parts[start:]))
            if location is not None:
                return location
        return None

    def describe(self, node: str, kind: str | None = None) -> str:
        """Names an operation: "operation 'Where' (Where), made at model.py:12"."""
        location = self.of(node)
        return (
            f"operation '{node}'"
            + (f" ({kind})" if kind else "")
            + (f", made at {location}" if location else "")
        )


def operations_of(graph: Any) -> Iterator[Any]:
    """All operations of a graph and of the functions it calls."""
    seen = set()
    waiting = [graph]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        operations = current.get_operations()
        yield from operations
        for operation in operations:
            for value in operation.node_def.attr.values():
                names = [value.func.name] if value.HasField("func") else [f.name for f in value.list.func]
                for name in names:
                    function = current._get_function(name) if name else None
                    waiting.append(getattr(function, "graph", None))


def _user_line(operation: Any) -> str | None:
    """The innermost line outside of TensorFlow, Keras and this package."""
    try:
        frames = list(operation.traceback or [])
    except (AttributeError, ValueError):
        return None
    for frame in reversed(frames):
        path = os.path.realpath(frame.filename)
        if not path.startswith(_LIBRARY_FOLDERS[:2]) and not any(
            part in path for part in _LIBRARY_FOLDERS[2:]
        ):
            return f"{frame.filename}:{frame.lineno}"
    return None


def lowering_error(error: Exception, program: str, locations: SourceLocations) -> ValueError:
    """Turns XLA's refusal of a graph into a ValueError that names the operations and their lines."""
    text = str(error)
    unsupported = _UNSUPPORTED.findall(text)
    nodes = list(dict.fromkeys(_NODE.findall(text)))
    if unsupported:
        kinds = dict(zip(nodes, (kind for _, kind in unsupported), strict=False))
        listing = "; ".join(locations.describe(node, kinds.get(node)) for node in nodes) or ", ".join(
            kind for _, kind in unsupported
        )
        return ValueError(
            f"`{program}` contains operations that have no kernel for the device: {listing}. Move them into "
            "the preprocessing or postprocessing step, which run on the CPU."
        )
    if "compile-time constant" in text:
        listing = "; ".join(locations.describe(node) for node in nodes)
        return ValueError(
            f"`{program}` has a dynamic shape: a shape or dimension given to {listing} depends on data, and "
            "must be known when the model is exported."
        )
    first = text.split("\n")[0].removeprefix("Failed getting HLO text: '")
    listing = "; ".join(locations.describe(node) for node in nodes)
    return ValueError(
        f"`{program}` cannot be compiled for the device{f': {listing}' if listing else ''}: {first}"
    )


def native_error(error: Any) -> Exception:
    """The TensorFlow exception for a _native.StatusError."""
    return tf_errors.exception_type_from_error_code(error.code)(None, None, error.message)


def plain_error(error: tf.errors.OpError) -> tf.errors.OpError:
    """The same error with the message of the op alone, without the graph and the lines it passed through."""
    message = re.sub(r"\n\t \[\[\{\{node .*", "", error.message, flags=re.DOTALL)
    message = re.sub(r'^Graph execution error:.*\n  File "[^\n]*\n+', "", message, flags=re.DOTALL)
    message = re.sub(r"^\{\{function_node [^}]*\}\} ", "", message)
    return type(error)(None, None, message)
