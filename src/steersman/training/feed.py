"""Brings windows to the step: the next ones are gathered in a thread while the step runs. Knows no model."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from steersman.core.types import Window


class Feed:
    """One window batch ahead. `submit` says what to gather next, `take` waits for it.

    waited  seconds spent waiting in `take`, in total
    """

    def __init__(self, *, threaded: bool) -> None:
        self._pool = ThreadPoolExecutor(1, "steersman-feed") if threaded else None
        self._next: Future[Window] | Callable[[], Window] | None = None
        self.waited = 0.0

    def submit(self, gather: Callable[[], Window]) -> None:
        self._next = self._pool.submit(gather) if self._pool else gather

    def take(self) -> Window:
        """The windows of the last `submit`. Raises what gathering raised."""
        pending, self._next = self._next, None
        assert pending is not None
        started = time.perf_counter()
        window = pending.result() if isinstance(pending, Future) else pending()
        self.waited += time.perf_counter() - started
        return window

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)
