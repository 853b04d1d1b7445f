"""What the trials of guardrails look like: tables beside the unguarded agent, and ways among obstacles. Runs none.

Shapes: B episodes, N obstacles, T steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steersman.evaluation.intervals import wilson
from steersman.evidence import drawing
from steersman.evidence.guardrails_trial import Episodes
from steersman.runs.artefacts import Column, Figure, Picture, Row, Table
from steersman.worlds import HazardsConfig, HazardState, hazards

_LABELS = {"guarded": "as trained"}


def lengths(episodes: Episodes) -> Tensor:
    """Steps in which the point moved, (B,)."""
    return (episodes.path.diff(dim=1) != 0).any(2).sum(1)


def _share(count: int, n: int) -> Figure:
    low, high = wilson(count, n)
    return Figure(value=count / n if n else None, low=low, high=high, n=n)


def episode_table(figures: Mapping[str, Any], protocol: Mapping[str, Any]) -> Table:
    """Guarded beside unguarded."""
    n, hard = figures["episodes"], figures["adversarial_feasible"]
    row = lambda label, kind, hit, reached, trapped: Row(  # noqa: E731
        label=label, kind=kind, figures={
            "hit": _share(hit, n), "reached": _share(round(reached * n), n), "trapped": _share(trapped, hard)})
    return Table(
        name="guardrails", title="Hit something, or reached the goal",
        columns=(Column(key="hit", title="episodes with a violation", form="share", better="lower", target=0.0),
                 Column(key="reached", title="goal reached", form="share", better="higher"),
                 Column(key="trapped", title="adversarial states: violation", form="share", better="lower")),
        rows=(row("guarded", "agent", figures["violations"], figures["success"], figures["adversarial_violations"]),
              row("unguarded", "baseline", figures["unguarded_violations"], figures["unguarded_success"],
                  figures["adversarial_unguarded_violations"])),
        protocol={**protocol, "episodes": n, "with a way out": hard},
        notes=(f"Zero of {n} episodes leaves a rate below {figures['violation_bound']:.2%} standing (95%).",
               f"A way out is one that the true dynamics show to touch nothing, by however little; "
               f"{figures['adversarial_narrow']} of them keep less than the margin of one step "
               f"({1000 * figures['margin_first']:.2g} mm), of which {figures['adversarial_narrow_violations']} are "
               "hit."),
    )


def promise_table(
    promises: Mapping[str, tuple[float, float, float]], level: float, episodes: Mapping[str, Episodes]
) -> Table:
    """What the margins state beside what was counted, for the model as trained and for spoilt ones."""
    rows = [
        Row(label=_LABELS.get(name, name), kind="agent" if name == "guarded" else "ablation", figures={
            "held": Figure(value=share, low=low, high=high, n=len(episodes[name].missed)),
            "hit": _share(int(episodes[name].violated.sum()), len(episodes[name].violated)),
            "reached": _share(int(episodes[name].reached.sum()), len(episodes[name].reached)),
        })
        for name, (share, low, high) in promises.items()
    ]
    return Table(
        name="promises", title="Does what the margins state hold?",
        columns=(Column(key="held", title="certificates within the margins", form="share", target=level),
                 Column(key="hit", title="episodes with a violation", form="share", better="lower"),
                 Column(key="reached", title="goal reached", form="share", better="higher")),
        rows=tuple(rows),
        notes=("Noise: on every weight of the world model, 0.4% of its tensor's deviation. Shift: 15% less thrust and "
               "30% more drag than in the log. Margins are calibrated anew on logged windows; the model is not.",
               "Held: every 7th decision's whole certificate, carried out in the true world without looking again."),
    )


def picture(
    world: HazardsConfig, starts: HazardState, goals: Tensor, safe: Episodes, free: Episodes
) -> tuple[Picture, dict[str, bytes]]:
    """Six episodes in which the unguarded agent hit something and the guarded one arrived."""
    from matplotlib.patches import Circle

    canvas, places = drawing.canvas(9, 6, 2, 3)
    shown = (free.violated & safe.reached).nonzero()[:6, 0].tolist()
    for axes, b in zip(places.flat, shown, strict=False):
        state, ways = starts[b : b + 1], {"#d55e00": free.path[b], "#0072b2": safe.path[b]}
        times = torch.arange(free.path.shape[1]) * world.step
        tracks = torch.stack([hazards.obstacles_after(world, state, t)[0][0] for t in times.tolist()])  # (T, N, 2)
        apart = (tracks - free.path[b][:, None]).norm(dim=-1) - state.radius[0]
        apart[int(lengths(free)[b]) + 1 :] = torch.inf
        for i in range(world.obstacles):
            moment, moving = int(apart[:, i].argmin()), i >= world.still
            colour = "#e6a04c" if moving else "#70727f"
            axes.add_patch(Circle(_pair(tracks[moment, i]), float(state.radius[0, i]), color=colour, alpha=0.8))
            axes.plot(*tracks[:, i].T.tolist(), color=colour, linewidth=0.6)
        for colour, path in ways.items():
            axes.plot(*path.T.tolist(), color=colour, linewidth=1.4)
        axes.add_patch(Circle(_pair(goals[b]), hazards.SUCCESS_RADIUS, fill=False, color="#009e73", linewidth=1.5))
        axes.plot(*starts.position[b].tolist(), "ko", markersize=4)
        axes.set(xlim=(-world.half, world.half), ylim=(-world.half, world.half), aspect="equal", xticks=[], yticks=[])
    return drawing.picture(
        canvas, "episodes", "The same starts, guarded and unguarded",
        "paths among obstacles: unguarded ones go through, guarded ones around",
        "Blue guarded, orange unguarded; discs are obstacles, moving ones where they were when the unguarded path came "
        "nearest, with their tracks; the green ring is the goal.")


def _pair(point: Tensor) -> tuple[float, float]:
    return float(point[0]), float(point[1])
