"""The folder that an export writes to."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

from tensorflow_ipu.local_path import local_path


def check_export_dir(export_dir: Any, purge_export_dir: bool) -> str:
    """The folder's absolute path.

    Raises:
      TypeError: it is not a path.
      ValueError: it is a file, holds files that are not to be purged, or is not on the local file system.
    """
    path = os.path.abspath(os.path.expanduser(local_path("export_dir", export_dir)))
    if os.path.exists(path) and not os.path.isdir(path):
        raise ValueError(f"The export directory {path} is a file.")
    if os.path.isdir(path) and os.listdir(path) and not purge_export_dir:
        raise ValueError(
            f"The export directory {path} is not empty. Choose another one, or pass purge_export_dir=True to "
            "replace what is in it."
        )
    return path


def replace_directory(source: str, target: str) -> None:
    """Moves `source` to `target`. What was in `target` is deleted only after the new contents are
    complete."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    retired = None
    if os.path.isdir(target) and os.listdir(target):
        retired = tempfile.mkdtemp(prefix=".purged-", dir=os.path.dirname(target))
        os.rename(target, os.path.join(retired, "old"))
    os.rename(source, target)
    if retired is not None:
        shutil.rmtree(retired)


def existing_parent(path: str) -> str:
    """The nearest folder above that exists: on the file system that `path` will be on."""
    parent = os.path.dirname(path)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    return parent
