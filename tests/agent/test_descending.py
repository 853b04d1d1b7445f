"""Policies by descending the cost through the model, relabelling, and proposals that warm-start planners."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "actor"))

from problems import reach
from test_distilling import SIGNATURE, TASK, Log, agent_of

from steersman.actor import MCTS, AugmentedLagrangian, Beam, Gradient, Newton
from steersman.agent.descending import descend, imagined_energy
from steersman.agent.distilling import belief_at, distil
from steersman.core import ActionSpec, ConfigError, Signature, UsageError


def test_descending_lowers_the_energy_of_futures_that_it_never_started_from_and_leaves_the_model_alone() -> None:
    agent = agent_of()
    before = agent.fingerprint()
    policy, energies = descend(agent, TASK, Log(), moments=200, horizon=4, steps=80, batch=64)
    assert len(energies) == 80
    new, _ = descend(agent, TASK, Log(), moments=200, horizon=4, steps=1)
    starts = belief_at(agent, Log(), torch.arange(3).repeat_interleave(8), torch.arange(8).repeat(3))
    with torch.no_grad():
        found, untrained = (float(imagined_energy(agent, TASK, starts, one, 4, 0.0)) for one in (policy, new))
    assert found < untrained - 0.05 * abs(untrained)
    assert agent.fingerprint() == before
    assert not any(p.requires_grad for p in policy.parameters())
    assert all(p.grad is None for p in agent.world_model.parameters())


def test_descending_goes_on_from_a_policy_and_refuses_choices() -> None:
    agent = agent_of()
    policy, _ = distil(agent, TASK, Log(), moments=60, steps=20)
    same, _ = descend(agent, TASK, Log(), policy=policy, moments=50, horizon=2, steps=2)
    assert same is policy
    discrete = Signature(SIGNATURE.observations, ActionSpec("discrete", choices=3))
    with pytest.raises(UsageError, match="a choice has no slope"):
        descend(agent_of(discrete), TASK, Log(), moments=20, steps=1)
    with pytest.raises(UsageError, match="horizon"):
        descend(agent, TASK, Log(), horizon=0)


def test_relabelled_moments_are_where_the_policy_leads_and_the_planner_says_what_to_do_there() -> None:
    agent = agent_of()
    plain, _ = distil(agent, TASK, Log(), moments=100, steps=150)
    told: list[tuple[int, int]] = []
    policy, fidelity = distil(agent, TASK, Log(), moments=100, steps=150, relabel=2, reach=3,
                              watch=lambda *x: told.append(x))
    assert told.count((80, 80)) == 3  # the first time, and two rounds
    assert fidelity.error < fidelity.constant
    assert not torch.equal(policy.act(torch.randn(5, 8)), plain.act(torch.randn(5, 8)))
    with pytest.raises(UsageError, match="0 rounds of relabelling"):
        distil(agent, TASK, Log(), relabel=-1)


def test_an_agent_acts_by_habit_as_its_policy_says_and_without_the_model() -> None:
    agent = agent_of()
    policy, _ = distil(agent, TASK, Log(), moments=60, steps=20)
    agent.add_policy("habit", policy)
    seen = Log().frames(torch.tensor([0, 1]), torch.tensor([2, 3]))
    agent.world_model.imagine = None  # it would be noticed
    action = agent.propose(seen, TASK, "habit")
    assert torch.equal(action, policy.act(agent.encode(seen).state))
    with pytest.raises(ConfigError, match="a policy of habit"):
        agent.propose(seen, TASK, "other")


@pytest.mark.parametrize("planner", [
    Gradient.Config(horizon=4, restarts=1, steps=1, rate=1e-3), Gradient.Config(horizon=4, restarts=2, steps=1),
    AugmentedLagrangian.Config(horizon=4, restarts=1, outer=1, inner=1), Newton.Config(horizon=4, iterations=1),
    Beam.Config(width=2, fan=3, horizon=4), MCTS.Config(simulations=12, horizon=4, fan=4),
], ids=lambda config: type(config).__qualname__)
def test_a_good_proposal_is_where_a_planner_with_little_to_spend_begins(planner) -> None:
    goal = torch.tensor([[0.55, -0.75]])
    best = (goal / 4).expand(2, 4, 2).clone()
    best[:, 0] = goal
    best[:, 1:] = 0
    plain = planner.build().plan(reach(torch.zeros(2, 2), goal))
    shown = planner.build().plan(reach(torch.zeros(2, 2), goal, proposal=best))
    without, found = (sum(part.sum(1) for part in plan.energy.values()) for plan in (plain, shown))
    assert bool((found <= without + 1e-6).all())
    if not isinstance(planner, MCTS.Config):
        assert bool((found < 0.02).all())


