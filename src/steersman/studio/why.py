"""One recorded decision, explained: in sentences for the terminal, and as one page with pictures.

Reads what was written down when the decision was made; computes no plan. Never imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from steersman.runs import atomic_write
from steersman.runs.artefacts import Limit, Line, Lines
from steersman.runs.decisions import QUANTILES, Limits, Recorded, Session
from steersman.studio import blocks as b
from steersman.studio.images import data_uri, png
from steersman.studio.report import Page, Section, html


def sentences(
    record: Recorded, session: Session, problem: int = 0, units: Mapping[str, str] | None = None
) -> list[str]:
    """Why decision `record` chose what it chose for `problem`, most important first."""
    energy = {name: sum(rows[problem]) for name, rows in record.energy.items()}
    found = [_chosen(record, problem), _aim(record, energy), *_against(record, problem, sum(energy.values()))]
    for name, limits in record.limits.items():
        found.append(_limit(name, limits, problem))
    if not record.limits:
        found.append("No guardrail was set.")
    found += _course(record, problem, units or {})
    if record.surprise and record.surprise[problem] is not None:
        found.append(f"The moment differed from what had been foreseen of it by a latent energy of "
                     f"{record.surprise[problem]:.4g} (surprise, a mean over the latent).")
    calls = f"{record.calls[problem]:,} predictor calls"
    found.append(f"The planner ({session.planner_name}) said: {record.reason[problem]}." if record.reason else "")
    found.append(f"It took {1000 * record.seconds:.1f} ms and {calls}; seed {record.seeds[problem]}, decision "
                 f"{record.decision} of its episode; model {session.model[:12]}, checkpoint {session.checkpoint}.")
    return [x for x in found if x]


def _chosen(record: Recorded, problem: int) -> str:
    action = ", ".join(f"{x:.4g}" for x in record.actions[problem])
    if record.feasible[problem]:
        return f"The action was ({action})."
    return f"The action ({action}) is the declared fallback: NO PLAN MET EVERY GUARDRAIL."


def _aim(record: Recorded, energy: Mapping[str, float]) -> str:
    terms = ", ".join(f"{name} {value:.4g}" for name, value in sorted(energy.items(), key=lambda x: -abs(x[1])))
    weights = ", ".join(f"{name} × {weight:g}" for name, weight in record.weights.items() if weight)
    return f"The task was {record.goal} ({weights}); the chosen plan's energy is {terms or 'not known'}."


def _against(record: Recorded, problem: int, chosen: float) -> list[str]:
    """Where the chosen plan stands among what was weighed."""
    weighed = record.candidates
    if weighed is None or weighed.energy[problem][0] is None:
        return []
    row = [x for x in weighed.energy[problem] if x is not None]
    low, middle, high = row[0], row[QUANTILES.index(0.5)], row[-1]
    lost = weighed.scored[problem] - weighed.finite[problem]
    more = f", {lost} more were not finite" if lost > 0 else ""
    found = [f"{weighed.finite[problem]} candidates were weighed: energies from {low:.4g} (best) over {middle:.4g} "
             f"(median) to {high:.4g}{more}."]
    if record.limits and record.feasible[problem] and chosen > low + 1e-6 * max(1.0, abs(low)):
        found.append(f"A plan with {chosen - low:.4g} less energy was seen, but it broke a guardrail: staying inside "
                     "the limits cost that much.")
    return found


def _limit(name: str, limits: Limits, problem: int) -> str:
    refused, looked = limits.refused[problem], limits.looked[problem]
    words = f"Guardrail {name!r} refused {refused} of {looked} candidates"
    worst = limits.worst[problem]
    if refused and worst is not None:
        words += f", most of them first at step {limits.first[problem]}, the worst by {worst:.4g}"
    elif refused:
        words += ", some without a number (NaN or infinite)"
    if limits.chosen:
        margin = max(limits.chosen[problem])
        side = "inside by" if margin <= 0 else "OUTSIDE by"
        words += f"; the chosen plan stays {side} {abs(margin):.4g} at its closest"
    return f"{words}."


def _course(record: Recorded, problem: int, units: Mapping[str, str]) -> list[str]:
    if not record.expected:
        return []
    ends = ", ".join(
        f"{name} {rows[problem][0]:.4g} → {rows[problem][-1]:.4g}{' ' + units[name] if units.get(name) else ''}"
        for name, rows in record.expected.items()
    )
    steps = len(next(iter(record.expected.values()))[problem]) - 1
    return [f"It expected, over {steps} steps: {ends}."]


def _pictures(record: Recorded, problem: int) -> dict[str, Any]:
    """Name -> (H, W, C) uint8 of what the agent saw."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(record.tensors)
    except SafetensorError:
        return {}
    found = {k.removeprefix("observation."): v for k, v in arrays.items() if k.startswith("observation.")}
    return {name: value[problem] for name, value in found.items() if value.ndim == 4 and value.dtype == "uint8"}


def _picture(name: str, pixels: Any) -> b.Block:
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return {"title": "What it saw", "caption": "", "alt": f"the observation {name}", "pixels": True, "marks": "",
            "uri": data_uri("seen.png", png(image))}


# The page --------------------------------------------------------------------------------------------------------


def page(record: Recorded, session: Session, where: str, problem: int = 0) -> str:
    """One HTML file with everything in it."""
    when = datetime.fromtimestamp(record.when, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    seen = [_picture(name, pixels) for name, pixels in _pictures(record, problem).items()]
    whole = Page(
        title=f"Why decision {record.number}", over=f"{where}, episode {problem}, {session.world or 'a world'}, {when}",
        foot="Written by steersman from what was recorded when the decision was made.")
    whole.sections = [
        Section("why", "In words", blocks=[b.listed("Most important first", sentences(record, session, problem))]),
        Section("seen", "Pictures", blocks=[{"kind": "pictures", "pictures": seen}] if seen else []),
        Section("course", "Figures", blocks=b.chart_blocks(figures_of(record, problem))),
    ]
    whole.sections = [section for section in whole.sections if section.blocks]
    return html(whole)


def write_page(path: Path, record: Recorded, session: Session, where: str, problem: int = 0) -> Path:
    """Raises StorageError: the disk refused."""
    atomic_write(path, page(record, session, where, problem).encode())
    return path


def figures_of(record: Recorded, problem: int = 0) -> list[Lines]:
    """What the candidates cost, the chosen plan's energy by term, margins, and the course that was expected."""
    figures = [_spread(record, problem), _terms(record, problem), _margins(record, problem)]
    for i, (name, rows) in enumerate(record.expected.items()):
        course = rows[problem]
        line = Line(label="", x=_steps(course, 0), y=tuple(map(_finite, course)), role="imagined")
        figures.append(Lines(name=f"expected-{i}", title=f"{name}, expected", x_title="step", y_title=name,
                             lines=(line,), caption="As the model imagined the chosen plan; step 0 is the present."))
    return [figure for figure in figures if figure is not None]


def _spread(record: Recorded, problem: int) -> Lines | None:
    weighed = record.candidates
    if weighed is None or weighed.energy[problem][0] is None:
        return None
    chosen = sum(sum(rows[problem]) for rows in record.energy.values())
    line = Line(label="candidates", x=tuple(100 * q for q in QUANTILES), y=weighed.energy[problem], role="baseline")
    mine = Line(label="chosen", x=(0.0, 100.0), y=(_finite(chosen),) * 2, role="actual")
    return Lines(name="spread", title="Energy of what was weighed", x_title="share of the candidates (%)",
                 y_title="energy", lines=(line, mine),
                 caption="Energies of all candidates from least to most, and the chosen plan's. Lower is better.")


def _terms(record: Recorded, problem: int) -> Lines | None:
    lines = [Line(label=name, x=_steps(rows[problem], 1), y=tuple(map(_finite, rows[problem])))
             for name, rows in record.energy.items()]
    if not lines:
        return None
    return Lines(name="terms", title="Energy of the chosen plan, by term", x_title="step", y_title="energy",
                 lines=tuple(lines), caption="Weighted, at each imagined step.")


def _margins(record: Recorded, problem: int) -> Lines | None:
    lines = [Line(label=name, x=_steps(limits.chosen[problem], 1), y=tuple(map(_finite, limits.chosen[problem])))
             for name, limits in record.limits.items() if limits.chosen]
    if not lines:
        return None
    return Lines(name="margins", title="Guardrails along the chosen plan", x_title="step", y_title="margin",
                 lines=tuple(lines), limits=(Limit(label="limit", y=0.0),),
                 caption="At or below 0 is inside the limit; the unit is each guardrail's own.")


def facts(record: Recorded, session: Session, problem: int = 0) -> dict[str, Any]:
    """The same for machines."""
    return {
        "number": record.number, "decision": record.decision, "problem": problem, "action": record.actions[problem],
        "feasible": record.feasible[problem], "goal": record.goal, "weights": record.weights,
        "energy": {name: sum(rows[problem]) for name, rows in record.energy.items()},
        "calls": record.calls[problem], "kept": record.kept[problem], "seconds": record.seconds,
        "seed": record.seeds[problem],
        "candidates": None if record.candidates is None else {
            "scored": record.candidates.scored[problem], "finite": record.candidates.finite[problem],
            "quantiles": QUANTILES, "energy": record.candidates.energy[problem],
        },
        "guardrails": {
            name: {"looked": x.looked[problem], "refused": x.refused[problem], "worst": x.worst[problem],
                   "first_step": x.first[problem], "chosen": x.chosen[problem] if x.chosen else None}
            for name, x in record.limits.items()
        },
        "expected": {name: rows[problem] for name, rows in record.expected.items()},
        "surprise": record.surprise[problem] if record.surprise else None,
        "reason": record.reason[problem] if record.reason else "", "model": session.model,
        "checkpoint": session.checkpoint, "memory": record.memory, "planner": session.planner_name,
        "sentences": sentences(record, session, problem),
    }


def _steps(values: Sequence[float], first: int) -> tuple[float, ...]:
    return tuple(float(first + i) for i in range(len(values)))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
