"""Typed, spell-checked attributes in sections: what `IPUConfig` is made of."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import enum
import operator
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Generic, TypeVar, overload

import numpy as np

from tensorflow_ipu.integers import is_integer

T = TypeVar("T")


class UnknownOptionError(AttributeError, ValueError):
    """There is no such option; the message names the one that is spelled most like it."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """What values an option takes."""

    description: str
    accepts: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value


def is_bool(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _is_real(value: Any) -> bool:
    return is_integer(value) or isinstance(value, (float, np.floating))


def _is_int_or_ints(value: Any) -> bool:
    return is_integer(value) or (
        isinstance(value, (list, tuple, np.ndarray)) and all(is_integer(item) for item in value)
    )


def _int_or_ints(value: Any) -> Any:
    if is_integer(value):
        return operator.index(value)
    items = [operator.index(item) for item in value]
    return tuple(items) if isinstance(value, tuple) else items


def _is_options(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str) and (isinstance(item, str) or is_bool(item) or _is_real(item))
        for key, item in value.items()
    )


INT_OR_INTS = Kind("an int, or a list or tuple of ints", _is_int_or_ints, _int_or_ints)


def kind_of(default: Any) -> Kind:
    if isinstance(default, bool):
        return Kind("a bool", is_bool, bool)
    if isinstance(default, int):
        return Kind("an int", is_integer, operator.index)
    if isinstance(default, float):
        return Kind("a float", _is_real, float)
    if isinstance(default, enum.Enum):
        of = type(default)
        return Kind(f"a {of.__name__}", lambda value: isinstance(value, of))
    if isinstance(default, dict):
        return Kind("a dict of option names to values", _is_options)
    of_default = type(default)
    return Kind(f"a {of_default.__name__}", lambda value: isinstance(value, of_default))


class Option(Generic[T]):
    """One typed attribute of a section of the configuration."""

    def __init__(self, default: T, doc: str, *, kind: Kind | None = None, emulated: bool = False) -> None:
        """`emulated`: the emulator, or the file an export writes, depends on the option."""
        self.default = default
        self.kind = kind or kind_of(default)
        self.emulated = emulated
        self.name = ""
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, section: None, owner: type) -> Option[T]: ...
    @overload
    def __get__(self, section: Section, owner: type) -> T: ...
    def __get__(self, section: Section | None, owner: type) -> Option[T] | T:
        if section is None:
            return self
        return section.__dict__[self.name]

    def __set__(self, section: Section, value: T) -> None:
        if not self.kind.accepts(value):
            raise TypeError(
                f"{section.full_name(self.name)} must be {self.kind.description}, but {value!r}"
                f" ({type(value).__name__}) was given."
            )
        section.__dict__[self.name] = self.kind.convert(value)


class Section:
    """A group of options, some of which may be groups themselves."""

    _sections: ClassVar[dict[str, type[Section]]] = {}

    def __init_subclass__(cls, **sections: type[Section]) -> None:
        super().__init_subclass__()
        cls._sections = sections

    def __init__(self, path: str = "") -> None:
        self.__dict__["_path"] = path
        for name, option in self._options().items():
            self.__dict__[name] = copy.deepcopy(option.default)
        for name, section in self._sections.items():
            self.__dict__[name] = section(self.full_name(name))

    @classmethod
    def _options(cls) -> dict[str, Option[Any]]:
        return {name: value for name, value in vars(cls).items() if isinstance(value, Option)}

    def full_name(self, name: str) -> str:
        """The option's name from the root of the configuration: "floating_point_behaviour.inv"."""
        return f"{self._path}.{name}" if self._path else name

    def walk(self) -> Iterator[tuple[str, Section, Option[Any]]]:
        """All options from here down: full name, section and option."""
        for name, option in self._options().items():
            yield self.full_name(name), self, option
        for name in self._sections:
            yield from self.__dict__[name].walk()

    def _unknown(self, name: str) -> UnknownOptionError:
        known = [*self._options(), *self._sections]
        close = difflib.get_close_matches(name, known, n=1)
        where = f" of {self._path}" if self._path else ""
        hint = (
            f"Did you mean '{self.full_name(close[0])}'?"
            if close
            else f"There are: {', '.join(sorted(known))}."
        )
        return UnknownOptionError(f"'{name}' is not a valid attribute of this config{where}. {hint}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._unknown(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._sections:
            raise AttributeError(
                f"{self.full_name(name)} is a category and cannot be assigned to; set its attributes: "
                f"{', '.join([*self._sections[name]._options(), *self._sections[name]._sections])}."
            )
        if name not in self._options():
            raise self._unknown(name)
        super().__setattr__(name, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Section:
        clone = type(self).__new__(type(self))
        clone.__dict__.update({name: copy.deepcopy(value, memo) for name, value in self.__dict__.items()})
        return clone

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        changed = [
            f"{name}={getattr(section, option.name)!r}"
            for name, section, option in self.walk()
            if getattr(section, option.name) != option.default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"
