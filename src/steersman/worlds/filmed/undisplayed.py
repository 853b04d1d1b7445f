"""Drawing with pygame where there is no display, at full speed, and without its greeting on standard output.

Knows nothing of worlds. What it changes holds only while something is drawn.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SET = {"SDL_VIDEODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
_FILES: dict[Any, Any] = {}


@contextmanager
def undisplayed() -> Iterator[None]:
    """Let pygame, if it starts now, take SDL's dummy driver; and let pictures of its files be read from disk once
    (Pendulum-v1 reads one for every frame). Whatever the user has set in the environment stays.
    """
    added = [name for name in _SET if name not in os.environ]
    os.environ.update({name: _SET[name] for name in added})
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
        for name in added:
            os.environ.pop(name, None)
