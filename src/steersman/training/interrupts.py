"""Ctrl-C and SIGTERM as a polite question: finish the step, save, leave. A second Ctrl-C does not wait."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Interrupts:
    """While entered, `asked` turns True at the first SIGINT or SIGTERM; earlier handlers come back at the end.

    Outside the main thread signals cannot be caught and `asked` stays False.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Interrupts:
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in self._SIGNALS}
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
