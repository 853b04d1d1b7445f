"""Images inside the page: data URIs, marks over pixels as vectors, a scalar map as a coloured image.

Knows pixels and roles; does not know what the pixels mean.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Any

from steersman.runs.artefacts import Mark

_TYPES = {"png": "image/png", "webp": "image/webp", "jpg": "image/jpeg", "svg": "image/svg+xml"}

# Nine colours of viridis (CC0, matplotlib), dark to light: monotone in lightness, readable without colour vision.
_RAMP = [(68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129), (92, 200, 99),
         (170, 220, 50), (253, 231, 37)]
_COVER = 190  # of 255: the highest value of a map that fades still lets the picture through


def data_uri(name: str, content: bytes) -> str:
    """An image's content as a `data:` address."""
    return f"data:{_TYPES[name.rsplit('.', 1)[-1]]};base64,{base64.b64encode(content).decode()}"


def colour(share: float) -> tuple[int, int, int]:
    """0..1 -> a colour of the ramp."""
    at = min(max(share, 0.0), 1.0) * (len(_RAMP) - 1)
    i = min(int(at), len(_RAMP) - 2)
    a, b = _RAMP[i], _RAMP[i + 1]
    red, green, blue = (round(x + (y - x) * (at - i)) for x, y in zip(a, b, strict=True))
    return red, green, blue


def ramp_css() -> str:
    """The ramp as a CSS gradient, for the map's scale."""
    return "linear-gradient(to right, " + ", ".join(f"rgb({r},{g},{b})" for r, g, b in _RAMP) + ")"


def map_png(values: Sequence[Sequence[float | None]], low: float, high: float, fades: bool = False) -> bytes:
    """A grid of values as a PNG, one pixel a value; None is transparent, and with `fades` what is low nearly so."""
    from PIL import Image

    span = high - low or 1.0

    def pixel(value: float | None) -> tuple[int, int, int, int]:
        if value is None:
            return 0, 0, 0, 0
        share = (value - low) / span
        return *colour(share), round(_COVER * min(max(share, 0.0), 1.0) ** 0.5) if fades else 255

    image = Image.new("RGBA", (len(values[0]), len(values)))
    image.putdata([pixel(value) for row in values for value in row])
    return png(image)


def png(image: Any) -> bytes:
    """An image of Pillow as a PNG file's content."""
    file = io.BytesIO()
    image.save(file, "png", optimize=True)
    return file.getvalue()


def marks_svg(marks: Sequence[Mark], size: tuple[int, int], frames: int = 1) -> str:
    """Marks over an image of `size` pixels, whose pixel centres are at whole numbers.

    A mark that lives for some frames, or grows, carries data attributes that the page's script reads.
    """
    if not marks:
        return ""
    width, height = size
    thin = max(width, height) / 160
    body = "".join(_mark(mark, thin, frames) for mark in marks)
    return (f'<svg class="marks" viewBox="-0.5 -0.5 {width} {height}" style="stroke-width:{thin:.3g}" '
            f'aria-hidden="true">{body}</svg>')


def _mark(mark: Mark, thin: float, frames: int) -> str:
    kind = f'class="r-{mark.role} mark {mark.shape}"'
    title = f"<title>{escape(mark.label)}</title>" if mark.label else ""
    life = f' data-first="{mark.frames[0]}" data-last="{mark.frames[1]}"' if mark.frames else ""
    if not mark.points:
        return ""
    if mark.shape in ("path", "polygon"):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in mark.points)
        tag = "polyline" if mark.shape == "path" else "polygon"
        if mark.grows:
            if all(a == b for a, b in pairwise(mark.points)):
                return ""
            life += ' data-grows=""'
        return f'<{tag} {kind}{life} points="{points}">{title}</{tag}>'
    x, y = mark.points[0]
    if mark.shape == "cross":
        r = mark.radius or 3 * thin
        d = 2 * r
        way = f"M{x - r:.1f} {y - r:.1f}l{d:.1f} {d:.1f}m0 {-d:.1f}l{-d:.1f} {d:.1f}"
        return f'<path {kind}{life} d="{way}">{title}</path>'
    r = mark.radius if mark.shape == "circle" else mark.radius or 1.6 * thin
    return f'<circle {kind}{life} cx="{x:.1f}" cy="{y:.1f}" r="{r:.2f}">{title}</circle>'
