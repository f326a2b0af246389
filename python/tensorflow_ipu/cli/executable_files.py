"""Executables on disk: the file itself, or those among the assets of a SavedModel."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from tensorflow_ipu.cli.command_error import CommandError
from tensorflow_ipu.device_plugins import offer_installed_plugins
from tensorflow_ipu.local_path import local_path

_MAGIC = b"\x89TFIPU\r\n"

# protobuf's JSON writes 64-bit integers as strings.
_INTEGERS = {
    "dims",
    "file_size",
    "iterations",
    "max_wait_us",
    "memory_per_tile",
    "memory_used",
    "offset",
    "size",
    "temp_size",
    "timeout_us",
}


def native() -> ModuleType:
    """The native module. TensorFlow's Python, which takes seconds to import, is not needed for it."""
    if "tensorflow" in sys.modules:
        from tensorflow_ipu._runtime import native as module
    elif "tensorflow_ipu._native" in sys.modules or "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        from tensorflow_ipu import _native as module  # type: ignore[no-redef]
    else:
        with _without_log():
            from tensorflow_ipu import _native as module  # type: ignore[no-redef]
    offer_installed_plugins(module)
    return module


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """TensorFlow's libraries talk on stderr while they are loaded, whatever the level."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def find_executables(path: str) -> list[str]:
    """The executables at a path, at least one.

    Args:
      path: an executable file, a SavedModel, or a model's folder with a folder named by a number for each
        version, of which the largest is taken.

    Raises:
      CommandError: there is none.
    """
    try:
        path = local_path("PATH", path)
    except ValueError as error:
        raise CommandError(str(error)) from None
    if not os.path.exists(path):
        raise CommandError(f"{path} does not exist.")
    if not os.path.isdir(path):
        return [path]
    if os.path.exists(os.path.join(path, "saved_model.pb")):
        found = [
            os.path.join(folder, name)
            for folder, _, names in sorted(os.walk(os.path.join(path, "assets")))
            for name in sorted(names)
            if name.endswith(".ipu") or _has_magic(os.path.join(folder, name))
        ]
        if not found:
            raise CommandError(
                f"The SavedModel {path} has no executable among its assets: it is an ordinary model, or was "
                "exported without compiling it."
            )
        return found
    versions = [name for name in os.listdir(path) if name.isdigit()]
    if versions:
        return find_executables(os.path.join(path, max(versions, key=int)))
    raise CommandError(
        f"{path} is neither an executable, nor a SavedModel (there is no saved_model.pb in it), nor a folder "
        "of numbered versions."
    )


def only_executable(path: str) -> str:
    """The one executable at a path.

    Raises:
      CommandError: there is none, or more than one.
    """
    found = find_executables(path)
    if len(found) > 1:
        raise CommandError(f"{path} has {len(found)} executables; name one of them: {', '.join(found)}")
    return found[0]


def read_header(path: str) -> dict[str, Any]:
    """The header of an executable: fields named as in executable.proto, digests in hexadecimal.

    The target has the fields of its kind beside its own, and `kind`: "ipu" or "pjrt".

    Raises:
      CommandError: it is damaged, or no executable.
    """
    try:
        header = _plain(json.loads(native().inspect(path)))
        header["target"] = _flat_target(header["target"])
        return header
    except native().StatusError as error:
        raise CommandError(error.message) from None


def read_digest(path: str) -> str:
    """SHA-256 of an executable's contents. Raises CommandError as read_header() does."""
    try:
        return native().digest(path)
    except native().StatusError as error:
        raise CommandError(error.message) from None


def runtime_identity() -> dict[str, Any]:
    """What runs in this process: its build."""
    return _plain(json.loads(native().runtime_identity()))


def offers(kind: str) -> list[dict[str, Any]]:
    """Targets of a kind that can be run in this process, like those of headers, with `problem`: why one
    cannot be used after all, or ""."""
    found = [
        _flat_target(_plain(json.loads(target))) | {"problem": problem}
        for target, problem in native().offers()
    ]
    return [target for target in found if target["kind"] == kind]


def _flat_target(target: dict[str, Any]) -> dict[str, Any]:
    kind = next(name for name in ("ipu", "pjrt") if name in target)
    rest = {name: value for name, value in target.items() if name != kind}
    return {"kind": kind, **rest, **target[kind]}


def shape_text(spec: dict[str, Any]) -> str:
    """Type and shape: "float32[4,2]"."""
    return f"{spec['type'].lower()}[{','.join(map(str, spec['dims']))}]"


_ELEMENT_SIZES = {
    **dict.fromkeys(("UINT8", "INT8", "BOOL"), 1),
    **dict.fromkeys(("INT16", "UINT16", "FLOAT16", "BFLOAT16"), 2),
    **dict.fromkeys(("FLOAT32", "INT32", "UINT32"), 4),
    **dict.fromkeys(("FLOAT64", "INT64", "UINT64", "COMPLEX64"), 8),
    "COMPLEX128": 16,
}


def tensor_bytes(spec: dict[str, Any]) -> int:
    """Bytes of a tensor of a header."""
    size = _ELEMENT_SIZES[spec["type"]]
    for dim in spec["dims"]:
        size *= dim
    return size


def compiled_rows(header: dict[str, Any]) -> int:
    """Rows of one step: the leading dimension of the first feed, 1 when there is none."""
    feeds = header["infeeds"] or header["outfeeds"]
    return feeds[0]["dims"][0] if feeds and feeds[0]["dims"] else 1


def _has_magic(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        # The user's own options keep their text, whatever their names are.
        return {key: item if name == "options" else _plain(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, name) for item in value]
    if name in _INTEGERS:
        return int(value)
    if name == "sha256":
        return base64.b64decode(value).hex()
    return value
