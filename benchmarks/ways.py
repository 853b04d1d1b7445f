"""Graphs of ways: how long one takes to build, what it weighs, and what share of a decision its look-ups are.

Nine rooms' log and a predictor that computes what the recipe `far`'s does and answers with the equations of motion.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.contest import say
from benchmarks.tables import Table
from steersman.actor import Reach
from steersman.actor.ground.primitives import rays
from steersman.core import Belief, ColumnGoal, Imagined, Latent, Problem, Readout, Task, WorldModel
from steersman.core.records import tensors
from steersman.core.way_graph import WayConfig, WayGraph
from steersman.cost import GoalCost
from steersman.memory import build_ways
from steersman.memory.graphs.places import read_places
from steersman.memory.graphs.steps_to_go import from_anywhere
from steersman.memory.graphs.targets import Target, arrived_at, fewest_steps, value_of
from steersman.world_model import ResidualModel
from steersman.worlds import NineRooms, snake

NODES = (1_000, 3_000, 10_000, 30_000, 100_000)
BUILD, SHARE = 5.0, 0.2
"""Seconds for 3,000 nodes, share of look-ups in a decision."""
_FRAMES = {1_000: 60_000, 3_000: 60_000, 10_000: 60_000, 30_000: 120_000, 100_000: 200_000}


class Columns(Readout):
    """The state is its columns."""

    columns = ("x", "y", "vx", "vy")

    def read(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        return states


class Moving(WorldModel):
    """The point's motion where no wall is, at the cost of the recipe's network."""

    def __init__(self, world: NineRooms) -> None:
        super().__init__()
        self.network = ResidualModel.Config(width=128, linear=True, waves=5).build(world.signature, (4,)).eval()

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        return Belief(latent.state[:, -1])

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        self.network.imagine(belief, actions)
        speed, place = belief.state[:, None, None, 2:], belief.state[:, None, None, :2]
        kept = snake.KEPT ** torch.arange(1, actions.shape[2] + 1)
        age = torch.arange(actions.shape[2])[:, None] - torch.arange(actions.shape[2])
        weight = torch.where(age >= 0, snake.PUSH * snake.KEPT ** age.clamp(min=0).float(), 0.0)
        speeds = kept[:, None] * speed + weight @ actions
        moved = torch.cat([place + speeds.cumsum(2), speeds], -1)
        start = belief.state[:, None, None].expand(-1, actions.shape[1], -1, -1)
        return Imagined(torch.cat([start, moved], 2))


def run(quick: bool) -> Table:
    """Processor time of this process, whatever else the machine does; one thread is what the bars are stated for."""
    world = NineRooms()
    model = Moving(world)
    rows, times = [], {}
    for nodes in NODES[:3] if quick else NODES:
        episodes = list(world.log(_FRAMES[nodes] // 200, 200, 0))
        latents = [episode.observations["vector"] for episode in episodes]
        actions = [episode.actions for episode in episodes]
        fan = rays(world.signature.action, 16)
        config = WayConfig(nodes=nodes)
        repeats = 3 if nodes <= 3_000 and not quick else 1
        build = partial(build_ways, latents, actions, model, fan, config, Columns())
        seconds = [_timed(build) for _ in range(repeats)]
        graph = seconds[0][1]
        built = statistics.median(one[0] for one in seconds)
        decision, lookup, valued = _decision(graph, model, world)
        times[nodes] = (built, lookup / decision)
        rows.append({
            "nodes": nodes, "logged states": len(torch.cat(latents)), "building, s": built,
            "edges a node": float((graph.neighbour >= 0).sum(1).float().mean()),
            "graph, MB": sum(x.numel() * x.element_size() for x in tensors(graph).values()) / 1e6,
            "peak of the process, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "value of a goal, s": valued, "decision, ms": 1e3 * decision, "look-ups in it": lookup / decision,
        })
        say(f"  {rows[-1]}")
    return Table(
        "Graphs of ways: building, weight, look-ups", rows,
        ["Processor time. Building: nodes spread over the log, 24 ways of 12 steps imagined from each, ends looked up.",
         "A decision: Reach, one problem, 16 candidates of 12 steps; look-ups are those in the graph and in what the "
         "log knows. A goal's value is worked out once."],
        {"3,000 nodes: times within 5 s": (BUILD / times[3_000][0], 1.0),
         "3,000 nodes: times within a fifth of a decision": (SHARE / times[3_000][1], 1.0)},
    )


def _timed(call: Callable[[], WayGraph]) -> tuple[float, WayGraph]:
    before = time.process_time()
    graph = call()
    return time.process_time() - before, graph


@torch.inference_mode()
def _decision(graph: WayGraph, model: WorldModel, world: NineRooms) -> tuple[float, float, float]:
    """Seconds of a decision, of its look-ups, and of a goal's value."""
    readout = Columns()
    planner = Reach(Reach.Config(choose=False), graph)
    planner.prepare(world.signature, readout, (4,))
    problem = Problem(model, Belief(graph.nodes[:1].clone()), (GoalCost(readout),),
                      Task(ColumnGoal({"x": 2.5, "y": 2.5}, {"x": 1.0, "y": 1.0})), world.signature.action,
                      torch.arange(1), torch.zeros(1, dtype=torch.int64))
    place, named = torch.zeros(1, 4), torch.tensor([True, True, False, False])
    place[:, :2] = torch.tensor([2.5, 2.5]) / graph.unit[:2]
    target = Target(place, named)
    valued = _median(lambda: value_of(graph, target), 5)
    plan = planner.plan(problem)
    problem = replace(problem, warm=plan.warm, decision=torch.ones(1, dtype=torch.int64))
    decision = _median(lambda: planner.plan(problem), 40)
    states = model.imagine(problem.belief, plan.actions[:, None].expand(-1, 16, -1, -1)).states
    places = read_places(states, readout, graph.unit)
    under = plan.warm
    here = places[:, :1, 0]

    def look() -> None:
        arrived_at(graph, target)
        from_anywhere(graph, under.value, here)
        fewest_steps(graph, under.value, target, places, planner.execute)

    return decision, _median(look, 40), valued


def _median(call: Callable[[], object], repeats: int) -> float:
    call()
    seconds = []
    for _ in range(repeats):
        before = time.process_time()
        call()
        seconds.append(time.process_time() - before)
    return statistics.median(seconds)
