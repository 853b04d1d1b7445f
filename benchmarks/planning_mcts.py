"""Tree search beside mctx: the same model, its weights, simulations and problems; one thread each on a CPU.

Both compile the whole search with the model (ours with numba, where it is installed). mctx's answer is an action, ours
a whole plan with its future and energies. Random weights: the time does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.contest import Contender, contest
from benchmarks.machine import Machine
from benchmarks.peers import mctx_tree
from benchmarks.tables import Table
from steersman.actor import MCTS
from steersman.core import ActionSpec, Belief, Latent, LatentGoal, ObservationSpec, Problem, Signature, Task
from steersman.cost import GoalCost
from steersman.world_model import ResidualModel

BAR = 1.0
STATE, WIDTH, DEPTH = 32, 128, 10


@dataclass(frozen=True)
class Size:
    problems: int
    simulations: int
    choices: int


SIZES = (Size(1, 64, 8), Size(32, 64, 8), Size(64, 128, 8), Size(64, 256, 16), Size(256, 256, 16))


def run(machine: Machine, quick: bool) -> Table:
    """Bar: at least as fast as mctx, at every size."""
    rows, ratios = [], {}
    for size in SIZES[::2] if quick else SIZES:
        for gumbel in (False, True):
            name = "Gumbel" if gumbel else "PUCT"
            timings = contest([
                Contender("steersman", lambda size=size, gumbel=gumbel: ours(size, gumbel)),
                Contender("mctx", lambda size=size, gumbel=gumbel: theirs(size, gumbel)),
            ], 3 if quick else 5)
            mine, other = timings["steersman"].median, timings["mctx"].median
            ratios[f"{name}, {size.problems} problems, {size.simulations} simulations"] = other / mine
            rows.append({
                "rule": name, "problems": size.problems, "simulations": size.simulations, "choices": size.choices,
                "steersman, ms": 1e3 * mine, "mctx, ms": 1e3 * other, "ratio": other / mine,
            })
    return Table(
        f"Tree search: perceptron of {STATE} to {WIDTH} to {WIDTH} to {STATE}, {DEPTH} steps to the horizon", rows,
        ["Ratio above 1: steersman is faster. Compilation is not counted: mctx's 2 to 6 s a size, ours 10 s once."],
        {f"steersman against mctx, {name}": (ratio, BAR) for name, ratio in ratios.items()},
    )


def problem(size: Size) -> tuple[ResidualModel, Problem]:
    action = ActionSpec("discrete", choices=size.choices)
    signature = Signature({"latent": ObservationSpec("vector", (STATE,))}, action)
    torch.manual_seed(0)
    model = ResidualModel.Config(width=WIDTH, depth=2).build(signature, (STATE,)).eval()
    goal = LatentGoal(Latent(torch.randn(1, STATE)))
    start, seeds = torch.randn(size.problems, STATE), torch.arange(size.problems)
    return model, Problem(model, Belief(start), (GoalCost(),), Task(goal), action, seeds, torch.zeros_like(seeds))


def ours(size: Size, gumbel: bool) -> Callable[[], object]:
    _, asked = problem(size)
    select = "gumbel" if gumbel else "puct"
    search = MCTS.Config(simulations=size.simulations, select=select, horizon=DEPTH).build()
    return lambda: search.plan(asked)


def theirs(size: Size, gumbel: bool) -> Callable[[], object]:
    model, asked = problem(size)
    goal = asked.task.goal
    assert isinstance(goal, LatentGoal)
    return mctx_tree.planner(
        model, asked.belief.state, goal.latent.state, size.choices, size.simulations, DEPTH, gumbel
    )
