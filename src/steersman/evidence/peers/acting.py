"""Policies that are shown a goal, in the episodes of our protocols, held to our success.

Knows no policy and no world. Shapes: B episodes, A action size.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.core import MismatchError, Observation, ObservationGoal
from steersman.core.records import rows
from steersman.evaluation import PlanningProtocol
from steersman.evaluation.success import Tally, drifted
from steersman.evidence.peers.policy import GoalPolicy
from steersman.worlds import PacedTrials, Trials


@dataclass(frozen=True)
class Acted:
    """success (B,) bool, and of the strongest walker that looks at nothing, on the same starts: random (B,) bool;
    seconds: on the clock, of one decision of one episode, on average; decisions: all of them."""

    success: Tensor
    random: Tensor
    seconds: float
    decisions: int


def act_in(
    policy: GoalPolicy, protocol: PlanningProtocol, episodes: int, seed: int, seconds: float = 0.0
) -> Acted:
    """Let `policy` act in the first `episodes` of a protocol until all are over.

    seconds  what deciding may take, about; with a slow policy as many of these episodes are played as this allows, at
             least one; 0: no limit

    Raises:
        MismatchError: a policy of another world, or goals that no observation shows.
    """
    world = protocol.world.signature
    world.require(policy.signature.world, "the protocol's world", "the policy")
    pace = policy.signature.pace
    limit = -(-protocol.limit // pace.step)
    if seconds > 0:
        episodes = min(episodes, _affordable(policy, protocol, seed, limit, seconds))
    trials = _begun(protocol, episodes, seed, policy)
    goal = shown(trials)
    floor = drifted(protocol.world.begin(episodes, seed), protocol.limit, torch.Generator().manual_seed(seed + 7))
    tally, spent, decisions = Tally(trials, limit), 0.0, 0
    while bool(tally.on.any()):
        running = tally.on.nonzero()[:, 0]
        before = time.perf_counter()
        plan = policy.act(rows(trials.observe(), running), rows(goal, running))
        spent, decisions = spent + time.perf_counter() - before, decisions + len(running)
        for actions in plan.unbind(1):
            if not bool(tally.on.any()):
                break
            every = actions.new_zeros(episodes, actions.shape[1])
            every[running] = actions
            tally.step(every)
    return Acted(tally.success, floor.success, spent / decisions, decisions)


def shown(trials: Trials) -> Observation:
    """The goals of B episodes as observations.

    Raises:
        MismatchError: they are columns or code.
    """
    goal = trials.goals()
    if not isinstance(goal, ObservationGoal):
        raise MismatchError("goals that an observation shows", type(goal).__name__,
                            "measure in a world whose goal is a picture, or names every column")
    return goal.observation


def _begun(protocol: PlanningProtocol, episodes: int, seed: int, policy: GoalPolicy) -> Trials:
    trials, pace = protocol.world.begin(episodes, seed), policy.signature.pace
    return trials if pace.plain else PacedTrials(trials, pace, protocol.limit)


def _affordable(policy: GoalPolicy, protocol: PlanningProtocol, seed: int, limit: int, seconds: float) -> int:
    """Episodes that fit if each lasts to the end: by the time of one decision, the first of one episode."""
    trial = _begun(protocol, 1, seed, policy)
    seen, goal = trial.observe(), shown(trial)
    before = time.perf_counter()
    done = policy.act(seen, goal).shape[1]
    each = time.perf_counter() - before
    return max(1, int(seconds / (each * -(-limit // done))))
