"""The recipe for levels of abstraction: one level more than strides, chance only above the first."""

from __future__ import annotations

import pytest

from steersman.core import ConfigError
from steersman.recipes import abstraction
from steersman.world_model import ResidualModel


def test_there_is_one_level_more_than_strides() -> None:
    levels = abstraction.levels(strides=(4, 0, 2), steps=(5, 6, 7, 8), futures=3)
    assert [level.stride for level in levels] == [1, 4, 0, 2]
    assert [level.train.steps for level in levels] == [5, 6, 7, 8]
    models = [level.train.agent.world_model for level in levels]
    assert [isinstance(x, ResidualModel.Config) and x.latent_variable is not None for x in models] == [
        False, True, True, True]
    assert len({level.train.seed for level in levels}) == 4


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"steps of 3 levels, one more than strides; got \[5, 6\]"):
        abstraction.levels(strides=(4, 4), steps=(5, 6))
