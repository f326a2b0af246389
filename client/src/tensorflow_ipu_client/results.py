"""What calls take and return besides arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Model:
    """Which model a call is for. Neither version nor label: the largest version that is available."""

    name: str
    version: int | None = None
    label: str | None = None
    signature: str = ""

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise ValueError(f"{self.name}: found a version and a label, expected one of them")


@dataclass(frozen=True)
class Task:
    """One part of a MultiInference call."""

    model: str
    method: Literal["classify", "regress"]
    signature: str = ""


@dataclass(frozen=True)
class Class:
    label: str
    score: float


@dataclass(frozen=True)
class VersionStatus:
    """`state` is START, LOADING, AVAILABLE, UNLOADING, END or UNKNOWN; the error is that of loading."""

    version: int
    state: str
    error_code: int
    error_message: str


@dataclass(frozen=True)
class TensorSpec:
    """`dtype` is TensorFlow's name ("float32", "string"). What is open in `shape`, or all of it, is None."""

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    method_name: str
