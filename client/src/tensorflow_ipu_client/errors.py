"""What a call may end with."""

from __future__ import annotations

import enum


class Code(enum.IntEnum):
    """gRPC's status codes. REST's statuses are turned into them."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class ServingError(Exception):
    """A call failed: `code` says how, `message` is the server's, `attempts` how often it was tried.

    `retry_after` is how many seconds the server asked to wait, or None.
    """

    def __init__(self, code: Code, message: str, retry_after: float | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.attempts = 1

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"
