"""When a call that failed is made again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tensorflow_ipu_client.errors import Code, ServingError


@dataclass(frozen=True)
class Retry:
    """How often a call is tried, and how long is waited in between.

    The wait before attempt n + 1 is a random time up to `initial_backoff * multiplier**(n - 1)`, at most
    `max_backoff` seconds, and never less than what the server asked for (Retry-After,
    grpc-retry-pushback-ms). A call whose deadline would pass meanwhile fails at once. `budget_ratio` bounds
    what retries add to the load of a server in trouble: each call earns that many retries, ten at most are
    saved up, and without one a call that fails is not made again.
    """

    attempts: int = 4
    initial_backoff: float = 0.05
    multiplier: float = 2.0
    max_backoff: float = 2.0
    codes: frozenset[Code] = frozenset({Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED})
    budget_ratio: float = 0.2


NO_RETRY = Retry(attempts=1)


class RetryBudget:
    """What the calls of one client have left for retries. Thread-safe."""

    LIMIT = 10.0

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._tokens = self.LIMIT
        self._lock = threading.Lock()

    def earn(self) -> None:
        with self._lock:
            self._tokens = min(self.LIMIT, self._tokens + self._ratio)

    def spend(self) -> bool:
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


class Attempts:
    """The attempts of one call, until a deadline `timeout` seconds from now. Does no waiting itself."""

    def __init__(
        self,
        retry: Retry,
        budget: RetryBudget,
        timeout: float | None,
        now: Callable[[], float] = time.monotonic,
        random_share: Callable[[], float] = random.random,
    ) -> None:
        self._retry, self._budget, self._now, self._random_share = retry, budget, now, random_share
        self._deadline = None if timeout is None else now() + timeout
        self._made = 0
        budget.earn()

    def left(self) -> float | None:
        """Seconds for the next attempt, or None for no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - self._now())

    def wait_after(self, error: ServingError) -> float:
        """How long to wait before the next attempt. Raises `error` where there is none."""
        self._made += 1
        error.attempts = self._made
        if error.code not in self._retry.codes or self._made >= self._retry.attempts:
            raise error
        longest = self._retry.initial_backoff * self._retry.multiplier ** (self._made - 1)
        wait = self._random_share() * min(longest, self._retry.max_backoff)
        if error.retry_after is not None:
            if error.retry_after < 0:  # gRPC's way to say: not again
                raise error
            wait = max(wait, error.retry_after)
        left = self.left()
        if (left is not None and wait >= left) or not self._budget.spend():
            raise error
        return wait
