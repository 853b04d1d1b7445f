"""The reactor's evidence in small: every figure that is promised; and controllers that do what they should."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import pytest
import torch

from steersman import evidence
from steersman.evidence import reactor, reactor_trials
from steersman.evidence.reactor_pid import PID, tune
from steersman.recipes import reactor as recipe
from steersman.runs.artefacts import Picture, Table, read_all


class Still:
    """Keeps what the plant runs with."""

    def reset(self, episodes):
        self.seen = []

    def act(self, measured, target, executed):
        self.seen.append((measured, executed))
        return torch.tensor(reactor_trials.IDLE, dtype=torch.float64).expand(len(measured), -1)


def test_every_controller_meets_the_same_plant_and_sees_the_warm_up():
    scenario = reactor_trials.Scenario.drawn(2, 10, 3)
    still, again = Still(), Still()
    one, two = reactor_trials.perform(still, scenario), reactor_trials.perform(again, scenario)
    assert torch.equal(one.states, two.states)
    assert one.states.shape == (2, 10, 4)
    assert len(still.seen) == reactor_trials.WARM + 10
    assert still.seen[0][1] is None
    assert bool((one.violations == (one.hottest > reactor_trials.LIMIT).sum(1)).all())
    assert not torch.equal(scenario.target[0], scenario.target[1])


def test_tuning_makes_the_pid_better_than_an_untouched_plant():
    settings = tune(7, episodes=2, periods=40, candidates=12, rounds=3)
    scenario = reactor_trials.Scenario.drawn(4, 40, 8)
    tuned, still = (reactor_trials.perform(x, scenario).error.mean() for x in (PID(settings), Still()))
    assert float(tuned) < 0.5 * float(still)


def test_one_small_run_gives_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where do-mpc is not installed, its cells fail with words and the others do not."""
    sizes = reactor.Sizes(log=60, log_steps=45, fresh=2, steps=3, level=0.9, episodes=2, periods=2, tuning=1, clocked=2,
                          compared=1)
    monkeypatch.setattr(reactor, "tune", functools.partial(tune, episodes=1, periods=2, candidates=8))
    monkeypatch.setattr(reactor_trials, "WARM", 3)
    monkeypatch.setattr(reactor, "WARM", 3)
    tiny = functools.partial(recipe.recipe, width=8, batch_size=4, iterations=1, held_out=0.5)
    monkeypatch.setattr(reactor.recipe, "recipe", tiny)
    small = evidence.Experiment("reactor", lambda seed: reactor.cells(seed, sizes), reactor.summary)
    said: list[str] = []
    result, _ = evidence.perform(small, tmp_path / "run", evidence.Order(7), say=said.append)
    if importlib.util.find_spec("do_mpc") is None:
        assert set(result.failed) == {"do-mpc@7", "clock@7", "simulator@7"}
        assert all("install steersman[reactor]" in words for words in result.failed.values())
        kept = {"violations", "error", "error_pid", "measured_probability", "unguarded_violations"}
        assert kept <= set(result.figures)
        return
    assert result.failed == {}
    promised = "violations error error_nmpc error_pid ms_per_step ms_per_step_nmpc unguarded_violations "
    promised += "stated_probability measured_probability first_step_probability recourse"
    assert set(promised.split()) <= set(result.figures)
    assert result.figures["simulator_difference"] < 1e-2
    assert len(read_all(tmp_path / "run", Picture)[0]) == 1
    table = read_all(tmp_path / "run", Table)[0][0]
    assert [row.kind for row in table.rows] == ["agent", "ablation", "baseline", "baseline"]
    assert said[1].startswith("2,700 steps")
