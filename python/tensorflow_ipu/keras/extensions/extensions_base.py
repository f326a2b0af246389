"""What the models have in common that are made in an IPU strategy."""

from __future__ import annotations

import enum
from typing import Any

from tensorflow_ipu.keras import model_structure


class _OfKind(type):
    """A class whose instances are the models of some kinds: Keras' own classes, which are not replaced."""

    kinds: tuple[str, ...]

    def __instancecheck__(cls, instance: Any) -> bool:
        return model_structure.is_nested_model(instance) and model_structure.model_kind(instance) in cls.kinds


class KerasExtensionBase(metaclass=_OfKind):
    """The models that are made in an IPU strategy, for `isinstance()`."""

    kinds: tuple[str, ...] = ("sequential", "functional", "subclassed")


class ReplicatedMetricReductionMethod(enum.Enum):
    """What `set_replication_options()` takes. Models run on the host once, where all of them are the same."""

    NONE = "NONE"
    LIST = "LIST"
    SUM = "SUM"
    MEAN = "MEAN"
