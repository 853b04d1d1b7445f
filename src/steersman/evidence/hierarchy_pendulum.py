"""A pendulum by the default for far goals: Reach on the training of `steersman evidence pendulum`, beside its own
planner, from the same starts."""

from __future__ import annotations

import statistics
from typing import Any

import msgspec
import torch

from steersman.actor import Reach
from steersman.agent import Agent
from steersman.agent.believing import Boxes
from steersman.agent.remembered import ways_from
from steersman.core import ObservationGoal, Task
from steersman.data import Dataset
from steersman.evaluation.acting import act_in
from steersman.evidence import pendulum
from steersman.evidence.cell import Context, Found


class Swung(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Returns of the same starts: by Reach, by the recipe's planner."""

    reach: list[float]
    recipe: list[float]


def swing(context: Context) -> Found:
    """Reach as it comes, its graph made from the log."""
    needed, sizes = context.needs[0], context.settings
    log = Dataset.open(needed.folder / "cache")
    agent = Agent.load(needed.folder / "run", planner=Reach())
    by = Boxes(agent.perception, agent.world_model, agent.signature)
    agent.planner.recall(lambda config: ways_from(log, by, agent.readout, config))
    goal = Task(ObservationGoal({"vector": torch.tensor(pendulum.UPRIGHT)}))
    returns = act_in(agent, pendulum.ENV, goal, episodes=sizes.episodes, seed=context.seed).returns
    found = Swung(list(returns), needed.record(pendulum.Seed).columns)
    context.say(f"seed {context.seed}: return {statistics.fmean(found.reach):.0f} by Reach, "
                f"{statistics.fmean(found.recipe):.0f} by the recipe's planner")
    return Found(figures([found]), found)


def figures(found: list[Swung]) -> dict[str, dict[str, Any]]:
    """Means over those given, and by seed."""
    if not found:
        return {}
    return {f"pendulum/{name}": {
        "mean_return": statistics.fmean(r for one in found for r in getattr(one, name)),
        "mean_return_by_seed": [statistics.fmean(getattr(one, name)) for one in found],
    } for name in ("reach", "recipe")}
