"""Nine rooms as pictures: goals five to eight doors away, told by a picture, on latents of the recipe for cameras.

Level 1 is the recipe `pixels` as it is but for its pace: steps of two rows, so that none is longer than a wall is
thick. Of 500 frames it is told where the point is. What is measured from the same starts: goals reached by Reach, by
the flat planner that the recipe brings, and by the strongest policy that looks at nothing.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import torch

from steersman import training
from steersman.actor import Reach
from steersman.agent import Agent
from steersman.agent.believing import Boxes
from steersman.agent.labelling import fit_labelled
from steersman.agent.remembered import ways_from
from steersman.core import Pace
from steersman.core.way_graph import WayConfig
from steersman.data import CacheWriter, Dataset
from steersman.evaluation import PlanningProtocol, evaluate, wilson
from steersman.evaluation.seeds import FRAMES, LOG, derived
from steersman.evidence.cell import Context, Found
from steersman.recipes import pixels
from steersman.runs import Run
from steersman.worlds import NineRooms

PACE = Pace(step=2, frames=3)
WORLD = NineRooms(look="picture", goal="picture")
PROTOCOLS = {name: PlanningProtocol(world=msgspec.structs.replace(WORLD, away=name)) for name in ("short", "long")}


class Filmed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """episodes: of the log, 200 rows each; steps: of training; labels: frames of which the place is told; played:
    episodes; nodes: of the graph."""

    episodes: int = 150
    labels: int = 500
    steps: int = 1200
    played: int = 30
    nodes: int = 3000


class Seen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One planner from the starts of one range."""

    row: str
    wins: int
    episodes: int
    calls: float
    random: int = 0


class Pictured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a cell played, and CPU-seconds of its training."""

    seen: list[Seen]
    train: float = 0.0


def learn(context: Context) -> Found:
    """Record, train, fit the read-out to a few labels."""
    sizes: Filmed = context.settings
    with CacheWriter(context.folder / "log", WORLD.signature, origin=f"held pushes, seed {context.seed}") as writer:
        for episode in WORLD.log(sizes.episodes, 200, derived(context.seed, LOG)):
            writer.append([episode])
        writer.finish()
    log = Dataset.open(context.folder / "log")
    config = msgspec.structs.replace(pixels.recipe(seed=context.seed, steps=sizes.steps), pace=PACE)
    before = time.process_time()
    with training.create_run(context.folder / "run", config, log, recipe="pixels") as run:
        training.train(config, log, run, progress=context.progress)
    seconds = time.process_time() - before
    told = WORLD.labelled(sizes.labels, 8, torch.Generator().manual_seed(derived(context.seed, FRAMES)))
    fit_labelled(Run.open(context.folder / "run"), told)
    return Found({"pixels/level-1": {"train_cpu_seconds": seconds}}, Pictured([], seconds))


def reach_config(nodes: int) -> Reach.Config:
    """Reach in steps of two rows: half as many steps as in the recipe `far`."""
    return Reach.Config(horizon=6, hold=3, execute=2, patience=6,
                        ways=WayConfig(nodes=nodes, chunk=6, stride=1, mend=1))


def play(context: Context) -> Found:
    """Reach, and the recipe's planner, to the same pictures."""
    sizes: Filmed = context.settings
    run, log = context.needs[0].folder / "run", Dataset.open(context.needs[0].folder / "log")
    agent = by_whole_steps(Agent.load(run, planner=reach_config(sizes.nodes).build()))
    by = Boxes(agent.perception, agent.world_model, agent.signature)
    agent.planner.recall(lambda config: ways_from(log.paced(agent.signature.pace), by, agent.readout, config))
    flat = by_whole_steps(Agent.load(run))
    seen = [played(who, name, label, sizes.played, context.seed)
            for name in PROTOCOLS for who, label in ((agent, "reach"), (flat, "flat"))]
    for one in seen:
        context.say(f"{one.row}, seed {context.seed}: {one.wins} of {one.episodes}, {one.calls:.0f} calls a step")
    return Found(figures(seen), Pictured(seen))


def by_whole_steps(agent: Agent) -> Agent:
    """The same agent, deciding once a model step and not after each of its rows."""
    config = msgspec.structs.replace(agent.config, react=0)
    return Agent(config, agent.signature, agent.perception, agent.world_model, readout=agent.readout,
                 planner=agent.planner)


def played(agent: Agent, where: str, label: str, episodes: int, seed: int) -> Seen:
    """Episodes of one range; calls a row of the world."""
    spent = [0]

    def watch(shown: Any) -> None:
        spent[0] += int(shown.plan.calls.sum())

    found = evaluate(agent, PROTOCOLS[where], episodes=episodes, seed=seed, watch=watch)
    random = 0 if found.random is None else int(found.random.sum())
    return Seen(row=f"pixels/{where}/{label}", wins=int(found.success.sum()), episodes=episodes, random=random,
                calls=spent[0] / max(1, int(found.steps.sum())))


def figures(seen: list[Seen]) -> dict[str, dict[str, Any]]:
    """By range and planner, over those given."""
    found: dict[str, dict[str, Any]] = {}
    for row in dict.fromkeys(one.row for one in seen):
        some = [one for one in seen if one.row == row]
        wins, episodes = sum(one.wins for one in some), sum(one.episodes for one in some)
        found[row] = {"success": wins / episodes, "success_ci95": list(wilson(wins, episodes)), "episodes": episodes,
                      "success_by_seed": [one.wins / one.episodes for one in some],
                      "random": sum(one.random for one in some) / episodes, "calls": max(one.calls for one in some)}
    return found
