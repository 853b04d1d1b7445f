"""Matplotlib's canvases as bytes for artefacts. Knows no experiment."""

from __future__ import annotations

import io
from typing import Any


def png(canvas: Any) -> bytes:
    """A matplotlib figure as a PNG file's content."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
