"""Path integral control beside pytorch-mppi: the same world model, costs, candidates, horizon and bounds.

pytorch-mppi takes one problem at a time, and its dynamics one step at a time; both get the same residual predictor, one
thread each unless told otherwise. Random weights: the time does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.contest import Contender, contest
from benchmarks.machine import Machine
from benchmarks.tables import Table
from steersman.actor import MPPI
from steersman.core import ActionSpec, Belief, Latent, LatentGoal, ObservationSpec, Problem, Signature, Task
from steersman.cost import GoalCost
from steersman.world_model import ResidualModel

BAR = 2.0
STATE, ACTION, HORIZON = 16, 4, 20


@dataclass(frozen=True)
class Size:
    """Problems, candidates of each, width of the predictor's hidden layers."""

    problems: int
    samples: int
    width: int


SIZES = (
    Size(1, 64, 128), Size(1, 512, 32), Size(1, 512, 128), Size(16, 128, 32), Size(16, 128, 128), Size(64, 64, 128)
)


def run(machine: Machine, quick: bool) -> Table:
    """Bar: at least 2×; a single problem is the hardest."""
    rows, bars = [], {}
    for size in SIZES[::2] if quick else SIZES:
        timings = contest([
            Contender("steersman", lambda size=size: ours(size)),  # type: ignore[misc]
            Contender("pytorch-mppi", lambda size=size: theirs(size)),  # type: ignore[misc]
        ], 3 if quick else 7)
        mine, other = timings["steersman"].median, timings["pytorch-mppi"].median
        flop = size.problems * size.samples * HORIZON * 2 * weights(size)
        rows.append({
            "problems": size.problems, "candidates": size.samples, "width": size.width, "steersman, ms": 1e3 * mine,
            "pytorch-mppi, ms": 1e3 * other, "ratio": other / mine, "× floor": mine / (flop / machine.peaks["fp32"]),
        })
        words = f"{size.problems} problem(s), {size.samples} candidates, width {size.width}"
        bars[f"{words}: steersman against pytorch-mppi"] = (other / mine, BAR)
    return Table(
        f"Path integral control: horizon {HORIZON}, one iteration, residual predictor, state {STATE}", rows,
        ["Floor: the predictor's multiplications at the measured fp32 GEMM peak.",
         "Ours also imagines the mean that it answers with, and says what it weighed.",
         "A single problem with many candidates is bound by the predictor, which both share."], bars,
    )


def weights(size: Size) -> int:
    """Multiply-adds of one step."""
    return sum(p.numel() for p in model(size).parameters() if p.dim() >= 2)


def model(size: Size) -> ResidualModel:
    torch.manual_seed(0)
    return ResidualModel.Config(width=size.width).build(_signature(), (STATE,)).eval().requires_grad_(False)


def _signature() -> Signature:
    action = ActionSpec("continuous", (-1.0,) * ACTION, (1.0,) * ACTION)
    return Signature({"latent": ObservationSpec("vector", (STATE,))}, action)


def _given(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, STATE, generator=generator), torch.randn(1, STATE, generator=generator)


def ours(size: Size) -> Callable[[], object]:
    start, goal = _given(size.problems)
    asked = Problem(
        model(size), Belief(start), (GoalCost(),), Task(LatentGoal(Latent(goal))), _signature().action,
        torch.arange(size.problems), torch.zeros(size.problems, dtype=torch.int64),
    )
    search = MPPI.Config(samples=size.samples, iterations=1, horizon=HORIZON, refit=0.0).build()
    return lambda: search.plan(asked)


def theirs(size: Size) -> Callable[[], object]:
    from pytorch_mppi import MPPI as Theirs

    start, goal = _given(size.problems)
    predictor = model(size)

    def dynamics(state: Tensor, action: Tensor) -> Tensor:
        return predictor.imagine(Belief(state), action[:, None, None]).states[:, 0, 1]

    def cost(state: Tensor, action: Tensor) -> Tensor:
        return (state - goal).square().mean(-1)

    ends = torch.ones(ACTION)
    controllers = [
        Theirs(dynamics, cost, STATE, 0.25 * torch.eye(ACTION), num_samples=size.samples, horizon=HORIZON,
               u_min=-ends, u_max=ends, lambda_=0.1) for _ in range(size.problems)
    ]

    @torch.no_grad()
    def plan() -> object:
        return [controller.command(state) for controller, state in zip(controllers, start, strict=True)]

    return plan
