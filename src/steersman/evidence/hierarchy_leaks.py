"""Values that leak: what is found of them in imagination, without an oracle, beside what the rooms' geometry says.

Two graphs of one model: the recipe's, and one that is too coarse at first and is made finer until its values can be
kept. What is measured of each, before and after: ways between logged states that could not be kept in imagination, and,
of goals five to eight doors away, values of less than the steps that no way can do with less of, and goals that no way
leads to.
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch

from steersman.actor import Reach
from steersman.agent import Agent
from steersman.agent.believing import Boxes
from steersman.agent.remembered import ways_from
from steersman.core.way_graph import WayGraph
from steersman.data import Dataset
from steersman.evidence.cell import Context, Found
from steersman.memory.graphs.steps_to_go import FAR, from_anywhere
from steersman.memory.graphs.targets import Target, value_of
from steersman.worlds import NineRooms, snake
from steersman.worlds.nine_rooms import SIDE

PAIRS = 300
_COARSE = 0.15  # of the recipe's nodes
_MEND = 4


class Leaky(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One graph: leaks and unknown in imagination, impossible and no_way by the world's truth, before and after."""

    name: str
    nodes: list[float]
    leaks: list[float]
    impossible: list[float]
    no_way: list[float]


class Leaks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one training seed."""

    graphs: list[Leaky]


def perform(context: Context) -> Found:
    """Build both, look at them before and after."""
    folder = context.needs[0].folder
    agent, log = Agent.load(folder / "run"), Dataset.open(folder / "log")
    by, own = Boxes(agent.perception, agent.world_model, agent.signature), agent.planner
    assert isinstance(own, Reach)
    few = max(2, int(_COARSE * own.config.ways.nodes))
    graphs = []
    for name, nodes, mend in (("recipe", own.config.ways.nodes, 2), ("coarse", few, _MEND)):
        config = msgspec.structs.replace(own.config.ways, nodes=nodes, mend=mend)
        after = ways_from(log, by, agent.readout, config)
        before = after
        if len(after) != int(after.leaks[0, 0]):
            before = ways_from(log, by, agent.readout, msgspec.structs.replace(config, mend=0))
        kept = after.leaks[after.leaks[:, 0] == len(after)][-1]
        told = [impossible(graph, context.seed) for graph in (before, after)]
        graphs.append(Leaky(name=name, nodes=[float(len(before)), float(len(after))],
                            leaks=[float(after.leaks[0, 2]), float(kept[2])], impossible=[one[0] for one in told],
                            no_way=[one[1] for one in told]))
        context.say(f"{name}, seed {context.seed}: {graphs[-1]}")
    return Found(figures(graphs), Leaks(graphs))


def impossible(graph: WayGraph, seed: int) -> tuple[float, float]:
    """Of starts and goals five to eight doors apart: shares of values that are less than any way takes, and of goals
    that no way is known to."""
    state = NineRooms(away="long").begin(PAIRS, 31 + seed).state
    place, named = torch.zeros(PAIRS, 4), torch.tensor([True, True, False, False])
    place[:, :2] = state.goal / graph.unit[:2]
    value = value_of(graph, Target(place, named))
    here = torch.cat([state.position, state.velocity], 1) / graph.unit
    steps = from_anywhere(graph, value, here[:, None])[:, 0]
    least = snake.fewest_steps(state.doors, state.position, state.goal, SIDE)
    far = steps >= FAR
    return float((steps < least).float().mean()), float(far.float().mean())


def figures(graphs: list[Leaky]) -> dict[str, dict[str, Any]]:
    """By graph: means over those of one name."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(one.name for one in graphs):
        some = [one for one in graphs if one.name == name]
        found[f"rooms/leaks/{name}"] = {
            f"{key}_{when}": sum(getattr(one, key)[i] for one in some) / len(some)
            for key in ("nodes", "leaks", "impossible", "no_way") for i, when in enumerate(("before", "after"))
        } | {"impossible_by_seed": [one.impossible[1] for one in some]}
    return found
