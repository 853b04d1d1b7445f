"""Drawing with pygame where there is no display, at full speed.

Knows nothing of worlds. What it changes holds only while something is drawn.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_DRIVER = "SDL_VIDEODRIVER"
_FILES: dict[str, Any] = {}


@contextmanager
def undisplayed() -> Iterator[None]:
    """Let pygame, if it starts now, take SDL's dummy driver, unless the user chose one; and let pictures of its files
    be read from disk once (Pendulum-v1 reads one for every frame, which takes longer than the rest of it).
    """
    chosen = _DRIVER in os.environ
    os.environ.setdefault(_DRIVER, "dummy")
    pygame = sys.modules.get("pygame")
    load = None if pygame is None else pygame.image.load

    def once(file: Any, *rest: Any) -> Any:
        assert load is not None
        if not isinstance(file, str) or rest:
            return load(file, *rest)
        if file not in _FILES:
            _FILES[file] = load(file)
        return _FILES[file]

    try:
        if pygame is not None:
            pygame.image.load = once
        yield
    finally:
        if pygame is not None:
            pygame.image.load = load
        if not chosen:
            os.environ.pop(_DRIVER, None)
