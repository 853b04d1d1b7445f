"""Levels of abstraction in training: each learns from the one below, is read back, and says why it cannot."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor

from steersman.agent import AgentConfig
from steersman.core import ActionSpec, ConfigError, DataError, Episode, ObservationSpec, Pace, Signature, StorageError
from steersman.data import CacheWriter, Dataset
from steersman.evaluation import fit_levels, foresight
from steersman.objectives import ExplainedPrediction, Prediction, SIGReg
from steersman.perception import LinearReadout, VectorEncoder
from steersman.training import AbstractionConfig, RolloutStage, TrainConfig, ascend, open_hierarchy
from steersman.world_model import ResidualModel
from steersman.world_model.latent_variable import Gaussian

ROWS = 80


def seen(count: int, seed: int) -> Tensor:
    """Films (count, ROWS + 1, 4): a wheel that turns once in 60 rows, and two columns that are forgotten in two."""
    generator = torch.Generator().manual_seed(seed)
    phase = 2 * math.pi * (torch.rand(count, 1, generator=generator) + torch.arange(ROWS + 1) / 60)
    noise = torch.randn(ROWS + 1, count, 2, generator=generator)
    fast = [noise[0]]
    for gust in noise[1:]:
        fast.append(0.5 * fast[-1] + 0.87 * gust)
    return torch.cat([phase.cos()[..., None], phase.sin()[..., None], torch.stack(fast, 1)], -1)


def logged(folder: Path, rows: int = ROWS) -> Dataset:
    signature = Signature({"vector": ObservationSpec("vector", (4,))}, ActionSpec("none"))

    def episodes() -> Iterator[Episode]:
        for film in seen(40, 0):
            yield Episode({"vector": film[: rows + 1]}, torch.zeros(rows, 0))

    with CacheWriter(folder, signature) as writer:
        writer.append(episodes())
        writer.finish()
    return Dataset.open(folder)


def level(steps: int, *, stride: int = 1, seed: int = 0, ahead: int = 2, chance: int = 0) -> AbstractionConfig:
    variable = Gaussian.Config(size=chance, width=8) if chance else None
    return AbstractionConfig(stride=stride, window=3, train=TrainConfig(
        agent=AgentConfig(perception=VectorEncoder.Config(hidden=(32,), size=6),
                          world_model=ResidualModel.Config(width=32, latent_variable=variable)),
        objectives=(ExplainedPrediction.Config() if chance else Prediction.Config(),
                    SIGReg.Config(slices=32, per_step=False)),
        steps=steps, window=ahead, batch_size=32, rollout=(RolloutStage(starts=1, horizon=ahead),), lr=5e-3,
        gauge_every=0, probe=False, precision="fp32", checkpoint_seconds=0, seed=seed))


def test_levels_that_learned_foresee_what_is_slow_and_untrained_ones_do_not(tmp_path: Path) -> None:
    log, films, truth = logged(tmp_path / "log"), seen(30, 1), seen(30, 2)
    skill = {}
    for name, steps in (("learned", 200), ("untrained", 1)):
        found = ascend([level(steps), level(steps, stride=5, seed=1)], log, tmp_path / name)
        assert len(found.seconds) == 2
        readouts = fit_levels(found.hierarchy, {"vector": films}, films, ("x", "y", "a", "b"), LinearReadout.Config())
        told = foresight(found.hierarchy, readouts, {"vector": truth}, truth,
                         {"slow": ("x", "y"), "fast": ("a", "b")}, range(10, 40, 5), (1, 10, 30, 40))
        assert told[2, "slow"].horizons == (10, 30, 40)
        skill[name] = told
    assert float(skill["learned"][2, "slow"].skill_over_best.min()) > 0.5
    assert float(skill["untrained"][2, "slow"].skill_over_best.min()) < 0.1
    assert skill["learned"][2, "slow"].reach() == 40
    assert float(skill["learned"][2, "fast"].skill_over_best[-1]) < 0.1  # nobody can


def test_a_folder_of_levels_is_read_back_as_it_was(tmp_path: Path) -> None:
    made = ascend([level(3), level(3, stride=4), level(3, stride=2, chance=2)], logged(tmp_path / "log"),
                  tmp_path / "levels").hierarchy
    again = open_hierarchy(tmp_path / "levels")
    assert [again.level(i).every for i in (1, 2, 3)] == [1, 4, 8]
    assert again.before == (0, 2, 10)
    with torch.no_grad():
        for a, b in zip(made.encode({"vector": seen(2, 5)}), again.encode({"vector": seen(2, 5)}), strict=True):
            assert torch.equal(a, b)
    assert again.level(3).world_model.chance


def test_a_level_is_trained_upon_finished_ones_as_it_is_with_them(tmp_path: Path) -> None:
    log = logged(tmp_path / "log")
    levels = [level(3), level(3, stride=4, seed=1), level(3, stride=2, seed=2)]
    whole = ascend(levels, log, tmp_path / "whole").hierarchy
    below = ascend(levels[:2], log, tmp_path / "below").hierarchy
    upon = ascend(levels[2:], log, tmp_path / "above", upon=below)
    assert len(upon.seconds) == 1
    for (name, a), b in zip(whole.state_dict().items(), upon.hierarchy.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    again = open_hierarchy(tmp_path / "above", upon=open_hierarchy(tmp_path / "below"))
    assert again.before == whole.before
    with pytest.raises(ConfigError, match="level 2 whose window is spaced by level 1's stride of 1 rows"):
        open_hierarchy(tmp_path / "above", upon=ascend([level(2)], log, tmp_path / "other").hierarchy)


def test_a_stride_is_measured_where_none_is_given(tmp_path: Path) -> None:
    found = ascend([level(60), level(3, stride=0)], logged(tmp_path / "log"), tmp_path / "levels").hierarchy
    assert 2 <= found.level(2).every <= 16
    assert found.level(2).apart == 1


# Refusals ------------------------------------------------------------------------------------------------------


def test_a_stride_longer_than_episodes_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"episodes of at least 62 steps for level 2: windows of 3 states 1 rows apart, "
                                        r"then 2 steps of 30 rows; got the longest has 40 left; shorten the stride"):
        ascend([level(2), level(2, stride=30)], logged(tmp_path / "log", 40), tmp_path / "levels")


def test_a_first_level_says_its_stride_by_its_pace(tmp_path: Path) -> None:
    log = logged(tmp_path / "log")
    with pytest.raises(ConfigError, match="a stated pace, and stride=1, at the first level"):
        ascend([level(2, stride=4)], log, tmp_path / "levels")
    slow = level(2)
    slow = msgspec.structs.replace(slow, train=msgspec.structs.replace(slow.train, pace=Pace(step=2)))
    assert ascend([slow, level(2, stride=3)], log, tmp_path / "slow").hierarchy.level(2).every == 6


def test_no_levels_paced_logs_and_empty_folders_are_refused(tmp_path: Path) -> None:
    log = logged(tmp_path / "log")
    with pytest.raises(ConfigError, match="at least one level, and a log in rows"):
        ascend([], log, tmp_path / "levels")
    with pytest.raises(ConfigError, match="at least one level, and a log in rows"):
        ascend([level(2)], log.paced(Pace(step=2)), tmp_path / "levels")
    with pytest.raises(StorageError, match="levels of abstraction in"):
        open_hierarchy(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="stride >= 0"):
        AbstractionConfig(train=level(2).train, stride=-1)
