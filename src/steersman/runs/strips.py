"""Frames -> one compressed image strip per track of a film, for the browser to scrub through.

Knows pixels and files; does not know worlds, models, or how a film is shown.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from steersman.runs.artefacts import Film, write

if TYPE_CHECKING:
    import numpy as np


def strip(frames: np.ndarray, across: int = 10) -> bytes:
    """Frames (T, H, W, 3) uint8 -> one image, `across` cells a row, as WebP or PNG, whichever is smaller.

    The bytes say which: name the file with `strip_suffix(bytes)`.
    """
    import numpy as np
    from PIL import Image

    t, h, w = frames.shape[:3]
    down = math.ceil(t / across)
    sheet = np.zeros((down * across, h, w, 3), np.uint8)
    sheet[:t] = frames[..., :3]
    image = Image.fromarray(sheet.reshape(down, across, h, w, 3).swapaxes(1, 2).reshape(down * h, across * w, 3))
    return min((_encoded(image, "WEBP", quality=88, method=4), _encoded(image, "PNG", optimize=True)), key=len)


def strip_suffix(content: bytes) -> str:
    """The suffix that fits what `strip` returned."""
    return ".webp" if content[8:12] == b"WEBP" else ".png"


def _encoded(image: Any, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def thin(steps: int, most: int = 60) -> list[int]:
    """Indices of at most `most` of `steps` frames, evenly spaced, the first and the last always among them."""
    if steps <= most:
        return list(range(steps))
    return [round(i * (steps - 1) / (most - 1)) for i in range(most)]


def write_film(run: Path | str, film: Film, frames: Sequence[np.ndarray]) -> Path:
    """Write `film`, encoding `frames[i]` (T, H, W, 3) uint8 as the strip of its track i.

    The tracks' `file` and `across` are set here: give "" and 0.
    """
    tracks, images = [], {}
    for i, (track, strip_frames) in enumerate(zip(film.tracks, frames, strict=True)):
        across = min(10, len(strip_frames))
        content = strip(strip_frames, across)
        name = f"{film.name}.{i}{strip_suffix(content)}"
        images[name] = content
        tracks.append(msgspec.structs.replace(track, file=name, across=across))
    return write(run, msgspec.structs.replace(film, tracks=tuple(tracks)), images)
