"""Matplotlib's canvases, and pictures of the report made of them. Knows no experiment."""

from __future__ import annotations

import io
from typing import Any

from steersman.runs.artefacts import Picture


def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **shared: Any) -> tuple[Any, Any]:
    """A matplotlib figure of so many inches and its axes, one or an array of them; `shared` as in `subplots`."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    return made, made.subplots(rows, columns, **shared)


def png(canvas: Any) -> bytes:
    """A matplotlib figure as a PNG file's content."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def picture(canvas: Any, name: str, title: str, alt: str, caption: str = "") -> tuple[Picture, dict[str, bytes]]:
    """A matplotlib figure as an artefact with its file."""
    file = f"{name}.png"
    return Picture(name=name, title=title, file=file, alt=alt, caption=caption), {file: png(canvas)}
