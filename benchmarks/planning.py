"""CEM with a predictor of LeWM's size: 300 samples, horizon 5, 30 elites, 10 problems, the latents given.

Each package plans with its own predictor of that size (6 layers, 16 heads of 64, width 192, MLP 2048, context 3) and
its own planner. Random weights: the time does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.contest import Contender, Timing, contest
from benchmarks.machine import Machine
from benchmarks.peers import stable_worldmodel, torch_world
from benchmarks.shapes import Lewm
from benchmarks.tables import Table
from steersman.actor import CEM
from steersman.core import ActionSpec, Latent, LatentGoal, ObservationSpec, PlannerConfig, Problem, Signature, Task
from steersman.cost import GoalCost
from steersman.world_model import TransformerModel

BAR = 5.0
ITERATIONS = 30


@dataclass(frozen=True)
class Size:
    problems: int = 10
    samples: int = 300
    iterations: int = ITERATIONS
    horizon: int = 5


def run(machine: Machine, quick: bool) -> Table:
    """Bar: at least 5× stable-worldmodel's solver, which is taken at its fastest published precision and batch size."""
    shape, device = Lewm(), torch.device(machine.device)
    size = Size(iterations=1 if quick else 3)
    generator = torch.Generator().manual_seed(0)
    start, goal = (torch.randn(size.problems, shape.width, generator=generator).to(device) for _ in range(2))
    config = CEM.Config(samples=size.samples, iterations=size.iterations, elites=30, horizon=size.horizon)
    measured = (size.samples, size.iterations, size.horizon)

    def swm(batch: int, bf16: bool) -> Callable[[], Callable[[], object]]:
        return lambda: stable_worldmodel.planner(shape, start, goal, *measured, batch, bf16)

    contenders = [
        Contender("steersman, bf16", lambda: planner(shape, start, goal, config, bf16=True)),
        Contender("steersman, fp32", lambda: planner(shape, start, goal, config, bf16=False)),
        Contender("stable-worldmodel, fp32 (its default)", swm(1, False)),
        Contender("stable-worldmodel, fp32, all problems at once", swm(size.problems, False)),
        Contender("stable-worldmodel, under bf16 autocast, all at once", swm(size.problems, True)),
        Contender("torch-world, fp32", lambda: torch_world.planner(shape, start, goal, *measured)),
    ]
    timings = {
        name: Timing(tuple(s * ITERATIONS / size.iterations for s in timing.seconds), timing.units)
        for name, timing in contest(contenders, 1 if quick else 3, device).items()
    }
    searched = (size.samples, ITERATIONS, size.horizon)
    floors = {
        name: max(
            shape.plan(size.problems, *searched) / machine.peaks[name],
            shape.plan_bytes(size.problems, *searched, bytes_) / machine.copy,
        )
        for name, bytes_ in (("fp32", 4), ("bf16", 2))
    }
    fastest = min(t.median for name, t in timings.items() if name.startswith("stable-worldmodel"))
    return Table(
        f"CEM, predictor of LeWM's size: {size.problems} problems, {size.samples} samples, "
        f"{ITERATIONS} iterations, horizon {size.horizon}",
        [_row(name, timing, timings, floors) for name, timing in timings.items()],
        [
            f"Measured over {size.iterations} iterations and scaled to {ITERATIONS}: every iteration is the same work.",
            f"Floor: {shape.plan(size.problems, *searched) / 1e12:.1f} TFLOP at the measured GEMM peak, or the least "
            "traffic at the measured copy rate, whichever is longer; every candidate's every step once.",
            "stable-worldmodel and torch-world recompute the history's frames at every step; "
            "steersman keeps their keys and values.",
        ],
        {
            "steersman against stable-worldmodel as it comes": (
                timings["stable-worldmodel, fp32 (its default)"].median / timings["steersman, bf16"].median, BAR),
            "steersman against stable-worldmodel at its fastest": (fastest / timings["steersman, bf16"].median, BAR),
        },
    )


def _row(name: str, timing: Timing, timings: dict[str, Timing], floors: dict[str, float]) -> dict[str, object]:
    floor = floors["bf16" if "bf16" in name else "fp32"]
    return {
        "planner": name, "seconds": timing.median, "range": timing.spread,
        "× steersman": timing.median / timings["steersman, bf16"].median, "× floor": timing.median / floor,
    }


def planner(
    shape: Lewm, start: Tensor, goal: Tensor, config: PlannerConfig, bf16: bool
) -> Callable[[], Tensor]:
    """start, goal (B, D) -> a call that plans for all B problems with the planner of `config`."""
    action = ActionSpec("continuous", (-1.0,) * shape.action, (1.0,) * shape.action)
    signature = Signature({"latent": ObservationSpec("vector", (shape.width,))}, action)
    model = TransformerModel.Config.lewm().build(signature, (shape.width,)).to(start.device).eval()
    for block in model.blocks:  # a new block is the identity; a trained one is not
        torch.nn.init.normal_(block.modulation.weight, std=0.02)
    search = config.build()
    count = len(start)

    @torch.no_grad()
    def plan() -> Tensor:
        with torch.autocast(start.device.type, torch.bfloat16, enabled=bf16):
            belief = model.begin(Latent(start[:, None]), start.new_zeros(count, 0, shape.action))
            problem = Problem(
                model, belief, (GoalCost(over="last"),), Task(LatentGoal(Latent(goal))), action,
                torch.arange(count), torch.zeros(count, dtype=torch.int64),
            )
            return search.plan(problem).actions

    return plan
