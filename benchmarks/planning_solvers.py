"""Every planner beside stable-worldmodel's solver of the same kind: the same predictor size, problems and budget.

Each package plans with its own predictor of LeWM's size and its own solver; budgets are candidates × iterations, for
gradients restarts × steps. Random weights: the time does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import torch

from benchmarks.contest import Contender, Timing, contest
from benchmarks.machine import Machine
from benchmarks.peers import stable_worldmodel
from benchmarks.planning import planner
from benchmarks.shapes import Lewm
from benchmarks.tables import Table
from steersman.actor import CEM, ICEM, MPPI, Gradient, PredictiveSampling

BAR = 5.0
PROBLEMS, HORIZON = 10, 5


@dataclass(frozen=True)
class Kind:
    """One kind of planner: `samples` candidates (restarts) in each of `iterations` rounds, of which few are timed."""

    name: str
    samples: int
    iterations: int
    timed: int
    config: Callable[[int, int], msgspec.Struct]

    def passes(self) -> float:
        """Forward passes that a round costs; a backward pass is two more."""
        return 3.0 if self.name == "gradient" else 1.0


KINDS = (
    Kind("cem", 300, 30, 2, lambda n, i: CEM.Config(samples=n, iterations=i, elites=30, horizon=HORIZON)),
    Kind("icem", 300, 30, 2,
         lambda n, i: ICEM.Config(samples=n, iterations=i, elites=30, horizon=HORIZON, decay=1.0, keep=1 / 6)),
    Kind("mppi", 300, 30, 2, lambda n, i: MPPI.Config(samples=n, iterations=i, elites=30, horizon=HORIZON)),
    Kind("predictive-sampling", 300, 1, 1,
         lambda n, i: PredictiveSampling.Config(samples=n, iterations=i, horizon=HORIZON, knots=0)),
    Kind("gradient", 8, 30, 4, lambda n, i: Gradient.Config(restarts=n, steps=i, horizon=HORIZON)),
)


def run(machine: Machine, quick: bool) -> Table:
    """Bar: at least 5× for each kind, against its solver as it comes; its fastest is shown beside."""
    shape, device = Lewm(), torch.device(machine.device)
    generator = torch.Generator().manual_seed(0)
    start, goal = (torch.randn(PROBLEMS, shape.width, generator=generator).to(device) for _ in range(2))
    rows: list[dict[str, object]] = []
    bars: dict[str, tuple[float, float]] = {}
    for kind in KINDS:
        rounds = 1 if quick and kind.name != "gradient" else kind.timed

        def theirs(batch: int, bf16: bool, kind: Kind = kind, rounds: int = rounds) -> Callable[[], object]:
            return stable_worldmodel.planner(
                shape, start, goal, kind.samples, rounds, HORIZON, batch, bf16, kind.name)

        timings = contest([
            Contender("steersman, bf16", lambda kind=kind, rounds=rounds: planner(  # type: ignore[misc]
                shape, start, goal, kind.config(kind.samples, rounds), bf16=True)),
            Contender("stable-worldmodel as it comes", lambda: theirs(1, False)),
            Contender("stable-worldmodel, bf16, all at once", lambda: theirs(PROBLEMS, True)),
        ], 1 if quick else 3, device)
        scaled = {name: _whole(timing, kind, rounds, name) for name, timing in timings.items()}
        mine = scaled["steersman, bf16"]
        floor = kind.passes() * shape.plan(PROBLEMS, kind.samples, kind.iterations, HORIZON) / machine.peaks["bf16"]
        as_it_comes = scaled["stable-worldmodel as it comes"]
        fastest = min(seconds for name, seconds in scaled.items() if name.startswith("stable"))
        rows.append({
            "planner": kind.name, "candidates × rounds": f"{kind.samples} × {kind.iterations}",
            "steersman, s": mine, "× floor": mine / floor, "stable-worldmodel, s": as_it_comes,
            "its fastest, s": fastest, "ratio": as_it_comes / mine, "ratio to its fastest": fastest / mine,
        })
        bars[f"{kind.name} against stable-worldmodel as it comes"] = (as_it_comes / mine, BAR)
    return Table(
        f"Planners, predictor of LeWM's size: {PROBLEMS} problems, horizon {HORIZON}", rows,
        ["A few rounds are timed and scaled: every round is the same work (our gradients look once more at the end).",
         "Floor: every candidate's every step once (gradients: three times) at the measured bf16 GEMM peak.",
         "Its fastest: bf16 autocast, all problems at once."], bars,
    )


def _whole(timing: Timing, kind: Kind, rounds: int, name: str) -> float:
    """Seconds of all rounds. Our gradient planner looks once more where its last step led."""
    look = 1.0 if kind.name == "gradient" and name.startswith("steersman") else 0.0
    each = kind.passes()
    return timing.median * (each * kind.iterations + look) / (each * rounds + look)
