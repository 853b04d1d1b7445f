"""What the reactor's trials look like: a table beside its peers, and trajectories. Knows no controller."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from steersman.cost import Margins
from steersman.evidence import drawing
from steersman.evidence.reactor_trials import WARM, Trial
from steersman.runs.artefacts import Column, Figure, Picture, Row, Table
from steersman.studio import quantities as q
from steersman.worlds import reactor
from steersman.worlds.reactor import LIMIT, SCALE, TARGETS

_COLOURS = {"steersman": "#0072b2", "without guardrail": "#e69f00", "do-mpc": "#009e73", "PID": "#999999"}
_LABELS = {
    "steersman": ("learned model, guardrail", "agent"), "without guardrail": ("the same without guardrail", "ablation"),
    "do-mpc": ("do-mpc: NMPC and Kalman filter, true equations", "baseline"), "PID": ("PID, tuned", "baseline"),
}
_SHOWN = 2


def table(trials: Mapping[str, Trial], found: Mapping[str, Any], margins: Margins | None) -> Table:
    """One row a controller. found: the figures that are there."""
    times = {"steersman": found.get("ms_per_step"), "do-mpc": found.get("ms_per_step_nmpc")}
    kept = () if margins is None else (
        f"The guardrail keeps a margin from {LIMIT:g} °C: {margins.promise}. "
        f"Measured on new episodes: {found.get('measured_probability', math.nan):.4f}.",)
    rows = []
    for name, trial in trials.items():
        label, kind = _LABELS[name]
        figures = {
            "error": q.mean([1e3 * x for x in trial.error.tolist()]),
            "violations": Figure(value=float(trial.violations.sum())),
            "episodes": Figure(value=float((trial.violations > 0).sum())),
            "hottest": Figure(value=float(trial.hottest.max())),
        }
        if name in times:
            figures["ms"] = Figure(value=times[name])
        rows.append(Row(label=label, kind=kind, figures=figures))  # type: ignore[arg-type]
    episodes, periods = next(iter(trials.values())).target.shape
    return Table(
        name="reactor", title="A stirred-tank reactor: product set-point through disturbances, under a limit",
        columns=(
            Column(key="error", title="tracking error", unit="mmol h/l", better="lower"),
            Column(key="violations", title="periods above", better="lower", target=0.0),
            Column(key="episodes", title="episodes above", better="lower", target=0.0),
            Column(key="hottest", title="hottest", unit="°C", better="lower", target=LIMIT),
            Column(key="ms", title="decision", unit="ms", better="lower"),
        ),
        rows=tuple(rows),
        protocol={"episodes": episodes, "periods": periods, "warm-up": WARM, "limit": LIMIT,
                  "set-points": f"{TARGETS[0]:g} to {TARGETS[1]:g} mol/l",
                  "not measured": ", ".join(reactor.CONDITIONS)},
        notes=(
            *kept,
            "Error: integral of |C_b - set-point|; intervals: 95%, normal approximation over episodes.",
            "do-mpc's controller has the limit as a soft constraint, without a margin, as in its published example.",
        ),
    )


def picture(trials: Mapping[str, Trial]) -> tuple[Picture, dict[str, bytes]]:
    """Product, temperature and both inputs of the first episodes."""
    shown = min(_SHOWN, len(next(iter(trials.values())).target))
    canvas, axes = drawing.canvas(5.5 * shown, 8, 4, shown, sharex=True, sharey="row", squeeze=False)
    for name, trial in trials.items():
        minutes = [60 * reactor.PERIOD * t for t in range(trial.target.shape[1])]
        for i in range(shown):
            lines = (trial.states[i, :, 1], trial.states[i, :, 2], trial.inputs[i, :, 0], trial.inputs[i, :, 1] / 1e3)
            for row, line in zip(axes[:, i], lines, strict=True):
                row.plot(minutes, line.tolist(), color=_COLOURS[name], linewidth=1.1, label=name)
            if name == "steersman":
                axes[0, i].step(minutes, trial.target[i].tolist(), color="#000000", linewidth=0.8, linestyle="--",
                                where="post", label="set-point")
    for i in range(shown):
        axes[1, i].axhline(LIMIT, color="#d55e00", linewidth=1, linestyle="--")
        axes[0, i].set_title(f"episode {i}")
        axes[3, i].set_xlabel("minutes")
    for row, text in zip(axes[:, 0], ("C_b, mol/l", "T_R, °C", "F, 1/h", "Q_dot, MJ/h"), strict=True):
        row.set_ylabel(text)
    axes[0, 0].legend(fontsize="small", ncols=2)
    return drawing.picture(
        canvas, "reactor", "Product, temperature and inputs",
        "trajectories of product, reactor temperature and both inputs for four controllers",
        f"Disturbances that nobody measures arrive all the while. Dashed: set-point, and the limit of {LIMIT:g} °C. "
        f"An error of {SCALE['C_b']:g} mol/l counts as much as {SCALE['T_R']:g} °C.")
