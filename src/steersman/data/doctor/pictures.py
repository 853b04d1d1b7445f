"""Images of a log, looked at cheaply: a sample of frames, and neighbours of some of them.

Shapes: n frames.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steersman.data.doctor.report import Finding, some
from steersman.data.doctor.rows import Array, Rows

_SAMPLE = 400


def examine(rows: Rows) -> Iterator[Finding]:
    """Frames that are all the same, blank, or repeat the frame before."""
    starts = {stop - 1 for _, stop in rows.bounds}
    inner = np.array([i for i in range(len(rows.number) - 1) if i not in starts])
    if len(inner) < 10:
        return
    at = inner[np.linspace(0, len(inner) - 1, min(len(inner), _SAMPLE)).astype(int)]
    for name, (column, shape) in rows.images.items():
        if name not in rows.schema.of("observation"):
            continue
        now, after = (_frames(column, at + k, shape) for k in (0, 1))
        if (now == now[:1]).all():
            yield Finding(kind="constant-image", state="bad", columns=(name,), what=f"{name} shows one picture only",
                          fix="check the camera")
            continue
        blank = np.flatnonzero(now.max((1, 2, 3)) == now.min((1, 2, 3)))
        if len(blank):
            yield Finding(
                kind="blank-images", state="bad", columns=(name,), rows=some(rows.number[at[blank]].tolist()),
                what=f"{name} is blank in {len(blank) / len(at):.1%} of the frames looked at", fix="drop those rows",
                figures={"share": len(blank) / len(at)})
        same = (now == after).all((1, 2, 3))
        if same.mean() > 0.3:
            yield Finding(
                kind="repeated-images", state="warn", columns=(name,), rows=some(rows.number[at[same]].tolist()),
                what=f"{name} repeats the frame before in {same.mean():.0%} of the frames looked at: the camera is "
                     "slower than the log, or stood still",
                fix="log at the camera's rate", figures={"share": float(same.mean())})


def _frames(column: object, at: Array, shape: tuple[int, ...]) -> Array:
    buffers = [np.frombuffer(column[int(i)].as_buffer(), np.uint8) for i in at]  # type: ignore[index]
    return np.stack(buffers).reshape(len(at), *shape)
