"""Paths as scripts write them: strings, bytes, path objects, `file://` URLs, tensors of known value."""

from __future__ import annotations

import os
import re
from typing import Any

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def local_path(argument: str, value: Any) -> str:
    """The path on this machine's file system.

    Args:
      argument: its name, for messages.

    Raises:
      TypeError: it is not a path.
      ValueError: it is a URL of something else than a local file; a tensor whose value is not known.
    """
    if hasattr(value, "numpy") or hasattr(value, "graph"):
        value = _tensor_value(argument, value)
    if hasattr(value, "item"):  # of NumPy
        value = value.item()
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"`{argument}` must be a path, but a {type(value).__name__} was given.")
    path = os.fsdecode(value)
    scheme = _SCHEME.match(path)
    if scheme is None:
        return path
    if scheme.group(1).lower() != "file":
        raise ValueError(f"`{argument}` must be on the local file system, but '{path}' was given.")
    host, slash, rest = path[scheme.end() :].partition("/")
    if host not in ("", "localhost") or not slash:
        raise ValueError(
            f"`{argument}` is '{path}', which names the host '{host}'. The URL of a local file is"
            " 'file:///path/from/the/root'."
        )
    return f"/{rest}"


def _tensor_value(argument: str, tensor: Any) -> Any:
    import tensorflow as tf

    value = tf.get_static_value(tensor)
    if value is None:
        raise ValueError(
            f"`{argument}` is a tensor whose value is not known yet. Run the tensor first, and pass the path"
            " that it gives."
        )
    return value
