"""Columns read off the states of an episode beside the truth, as curves: off what was observed, and off what was
imagined of it. Knows read-outs by their abstract class; fits nothing.

Shapes: T model steps, C columns of the log, M entries of a scene map.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core import Readout, Signature
from steersman.cost import column_names
from steersman.evaluation.imagined_film import Foreseen
from steersman.runs.artefacts import Line, Lines

MOST = 8
"""Columns that are drawn, at the most."""


@torch.inference_mode()
def readout_lines(told: Foreseen, readout: Readout, signature: Signature, name: str, what: str) -> list[Lines]:
    """A figure for each column of the read-out, the first few, named `name`-0, `name`-1, ….

    signature  of the log that the episode is of: what it has of the columns is the truth
    what       which episode that is, for people: "an episode …"
    """
    truth = _columns(told, signature)
    context = None if told.context is None else told.context[None]
    seen = readout.read(told.states[None], context)[0]
    meant = None if told.imagined is None else readout.read(told.imagined[None], context)[0]
    x = tuple(float(row) for row in told.rows)
    figures = []
    for i, column in enumerate(readout.columns[:MOST]):
        actual = truth.get(column)
        lines = [] if actual is None else [_line("truth", x, actual, "actual")]
        lines.append(_line("from frames", x, seen[:, i], "baseline" if actual is not None else "actual"))
        lines += [] if meant is None else [_line("imagined", x, meant[:, i], "imagined")]
        figures.append(Lines(
            name=f"{name}-{i}", title=column, x_title="rows of the log since the first moment", y_title=column,
            lines=tuple(lines), order=i, alt=f"{column}, read off the states, over an episode",
            caption=_caption(actual, seen[:, i], None if meant is None else meant[:, i], what)))
    return figures


def _columns(told: Foreseen, signature: Signature) -> dict[str, Tensor]:
    """Column -> (T+1,), of all vectors that the log has."""
    vectors = [told.moments[name] for name, spec in sorted(signature.observations.items()) if spec.kind == "vector"]
    if not vectors:
        return {}
    return dict(zip(column_names(signature), torch.cat(vectors, -1).unbind(-1), strict=True))


def _caption(actual: Tensor | None, seen: Tensor, meant: Tensor | None, what: str) -> str:
    against, other = (seen, "what is read from the frames") if actual is None else (actual, "the truth")
    told = [] if actual is None else [f"{_off(seen, actual)} read from the frames"]
    told += [] if meant is None else [f"{_off(meant, against)} imagined from the first moment alone"]
    told += [f"{_off(against[:1], against)} had nothing changed"] if told else []
    off = f" Off {other} by {', '.join(told)} (root mean square)." if told else ""
    return f"{what[0].upper()}{what[1:]}.{off}" + (" Its log does not tell the truth." if actual is None else "")


def _off(values: Tensor, truth: Tensor) -> str:
    return f"{float((values - truth).square().mean().sqrt()):.2g}"


def _line(label: str, x: tuple[float, ...], values: Tensor, role: str) -> Line:
    return Line(label=label, x=x, y=tuple(float(f"{v:.5g}") for v in values.tolist()), role=role)  # type: ignore[arg-type]
