"""The experiment on guardrails, made small, with the world's own equations as the model: names, promises, hits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from steersman import evidence
from steersman.agent import Agent
from steersman.core import Belief, Imagined, Latent, Perception, Readout, WorldModel
from steersman.evidence import guardrails
from steersman.evidence import guardrails_trial as trial
from steersman.recipes import hazards as recipes
from steersman.worlds import HazardsConfig, escapes, feasible, hazards

WORLD = HazardsConfig()


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch):
    """One substep instead of four: these tests ask for names and promises, not for precise motion."""
    monkeypatch.setattr(hazards, "SUBSTEPS", 1)
    monkeypatch.setattr(escapes, "SUBSTEPS", 1)


class Columns(Readout):
    columns = WORLD.columns

    def read(self, states, context=None):
        return states


class Same(Perception):
    latent_shape = (len(WORLD.columns),)

    def encode(self, observation, task=None):
        return Latent(observation["vector"])


class Equations(WorldModel):
    """The true motion, less what `short` of the thrust is missing."""

    def __init__(self, short=0.0):
        super().__init__()
        self.short = torch.nn.Parameter(torch.tensor([short, -short]))

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1])

    def imagine(self, belief, actions, exogenous=None, u=None):
        b, k, h = actions.shape[:3]
        state = hazards.state_of(WORLD, belief.state.repeat_interleave(k, 0))
        states = [belief.state.repeat_interleave(k, 0)]
        for t in range(h):
            push = actions[:, :, t].flatten(0, 1) * (1 - self.short)
            state, _ = hazards.step(WORLD, state, push.clamp(-1, 1).detach())
            states.append(hazards.observe(state))
        return Imagined(torch.stack(states, 1).unflatten(0, (b, k)))


def agent(short=0.0):
    config = recipes.recipe(samples=8, iterations=1, horizon=10).agent
    return Agent(config, WORLD.signature, Same(), Equations(short), readout=Columns())


def test_errors_are_nothing_for_the_equations_and_something_for_others():
    state, actions = trial.windows(WORLD, 20, 8, seed=0)
    exact, wrong = (trial.errors(agent(short), WORLD, state, actions) for short in (0.0, 0.4))
    assert exact.shape == (20, 8)
    assert float(exact.max()) < 1e-3
    assert float(wrong[:, -1].max()) > 0.05


def test_limits_see_what_happens_within_a_step(monkeypatch: pytest.MonkeyPatch):
    """The truth in quarter steps: straight lines between moments would miss by up to 5 mm."""
    monkeypatch.setattr(hazards, "SUBSTEPS", 4)
    state, actions = trial.windows(WORLD, 300, 5, seed=5)
    assert float(trial.errors(agent(), WORLD, state, actions).max()) < 1e-4
    monkeypatch.setattr(trial, "_motion", lambda world: None)
    assert float(trial.errors(agent(), WORLD, state, actions).max()) > 1e-3


def test_a_guarded_agent_hits_nothing_where_the_other_does():
    state, goal = hazards.sample_tasks(WORLD, 8, torch.Generator().manual_seed(0))
    free = trial.run(agent(), WORLD, state, goal, (), 25, seed=1)
    safe = agent()
    safe.planner = trial.guarded(safe, WORLD)
    limits = trial.guardrails(safe.readout, WORLD, 0.03)
    kept = trial.run(safe, WORLD, state, goal, limits, 25, seed=1, every=5)
    assert int(free.violated.sum()) > 0
    assert int(kept.violated.sum()) == 0
    assert float(kept.missed.max()) < 0.03
    assert set(kept.episode.tolist()) == set(range(8))


def learned(context):
    return evidence.Found({"": {"train_seconds": 0.0}})


def test_figures_have_the_promised_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guardrails, "learn", learned)
    monkeypatch.setattr(guardrails, "_loaded", lambda model: agent(0.02))
    monkeypatch.setattr(guardrails, "LEVEL", 0.8)
    monkeypatch.setattr(trial, "AHEAD", 15)
    monkeypatch.setattr(guardrails, "feasible", lambda world, states: feasible(world, states, steps=8, directions=4))
    sizes = guardrails.Sizes(windows=60, own=6, episodes=6, limit=6, spoilt=2, states=9, moments=1)
    small = evidence.Experiment("guardrails", lambda seed: guardrails.cells(seed, sizes), guardrails.summary)
    result, outcome = evidence.perform(small, tmp_path / "run")
    assert result.failed == {}
    promised = {"episodes", "violations", "success", "unguarded_violations", "unguarded_success", "stated_probability",
                "measured_probability", "adversarial_violations", "noise_measured_probability",
                "shift_measured_probability"}
    assert promised <= set(result.figures)
    assert result.figures["episodes"] == 6
    assert result.figures["adversarial_states"] == 9
    known = ("adversarial_feasible", "adversarial_impossible", "adversarial_unknown")
    assert sum(result.figures[name] for name in known) == 9  # none is left out for being narrow
    assert result.figures["stated_probability"] == 0.8
    (tmp_path / "run" / "cells" / "adversarial+guarded+0@0" / "cell.json").unlink()
    part, _ = evidence.perform(small, tmp_path / "run", evidence.Order(cell="adversarial/unguarded"))
    assert part.figures["adversarial_states"] < 9  # what was not tried does not pass for unhurt
    assert [row.label for row in outcome.tables[1].rows] == ["as trained", "noise", "shift"]
    assert outcome.artefacts[0][1]["episodes.png"].startswith(b"\x89PNG")
