"""Whole numbers as scripts give them: of Python, of NumPy, or an eager scalar tensor."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np


def is_integer(value: Any) -> bool:
    """Whether it is a whole number; a bool is not one."""
    if isinstance(value, (bool, np.bool_)):
        return False
    try:
        operator.index(value)
    except (TypeError, ValueError):
        return False
    return True


def as_integer(argument: str, value: Any, least: int | None = None) -> int:
    """The value as an int.

    Args:
      argument: its name, for messages.
      least: the smallest value that is taken.

    Raises:
      TypeError: it is not a whole number.
      ValueError: it is below `least`.
    """
    if not is_integer(value):
        raise TypeError(
            f"`{argument}` must be an integer, but a {type(value).__name__} was given: {value!r}."
        )
    number = operator.index(value)
    if least is not None and number < least:
        raise ValueError(f"`{argument}` must be at least {least}, but is {number}.")
    return number
