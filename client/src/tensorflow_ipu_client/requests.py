"""What both clients share: settings, and which bytes a call is over which API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

from tensorflow_ipu_client.address import Address, parse_address
from tensorflow_ipu_client.results import Model, Signature
from tensorflow_ipu_client.retry import Attempts, Retry, RetryBudget
from tensorflow_ipu_client.tls import TLS

ModelName = str | Model
Priority = Literal["high", "normal"]
DEFAULT_TIMEOUT = 60.0


ResultT_co = TypeVar("ResultT_co", covariant=True)


class Call(Protocol[ResultT_co]):
    """A call of either API: what its transport sends, and how the answer is read."""

    @property
    def parse(self) -> Callable[[bytes], ResultT_co]: ...


class UseDefault:
    """The client's own timeout."""

    def __repr__(self) -> str:
        return "the client's"


USE_DEFAULT = UseDefault()
Timeout = float | None | UseDefault


def model_of(model: ModelName) -> Model:
    return Model(model) if isinstance(model, str) else model


class Settings:
    """Address, retries, timeout and headers of a client. Thread-safe."""

    def __init__(
        self,
        address: str,
        tls: TLS | bool | None,
        retry: Retry,
        timeout: float | None,
        headers: Mapping[str, str] | None,
    ) -> None:
        self.address: Address = parse_address(address, tls)
        self._retry = retry
        self._budget = RetryBudget(retry.budget_ratio)
        self._timeout = timeout
        self._headers = {name.lower(): value for name, value in (headers or {}).items()}
        self._signatures: dict[Model, Signature] = {}

    def attempts(self, timeout: Timeout) -> Attempts:
        return Attempts(
            self._retry, self._budget, self._timeout if isinstance(timeout, UseDefault) else timeout
        )

    def headers(self, priority: Priority | None, headers: Mapping[str, str] | None) -> dict[str, str]:
        merged = {**self._headers, **{name.lower(): value for name, value in (headers or {}).items()}}
        if priority is not None:
            merged["x-priority"] = priority
        return merged

    def known_signature(self, model: Model) -> Signature | None:
        """REST's answers have no types: they are the signature's, asked for once."""
        return self._signatures.get(model)

    def learn_signature(self, model: Model, signatures: Mapping[str, Signature]) -> Signature:
        name = model.signature or "serving_default"
        # The server says what is wrong with a name that is not there.
        signature = signatures.get(name, Signature({}, {}, ""))
        if name in signatures:
            self._signatures[model] = signature
        return signature


def check_features(examples: Sequence[Any]) -> None:
    if isinstance(examples, Mapping):
        raise TypeError("Found one row of features, expected a list of rows")
