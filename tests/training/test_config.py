"""A training configuration is checked when it is made, and survives being stored."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from small_world import agent, config

from steersman.core import ConfigError
from steersman.core.parts import convert
from steersman.training import RolloutStage, TrainConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps of at least 1; got 0"),
        ({"batch_size": -1}, "batch_size of at least 1"),
        ({"lr": 0.0}, "lr above 0"),
        ({"clip": 0.0}, "clip above 0"),
        ({"average": 1.0}, r"average in \[0, 1\)"),
        ({"held_out": 1.0}, r"held_out in \[0, 1\)"),
        ({"objectives": ()}, "at least one objective; got none"),
        ({"rollout": (RolloutStage(starts=1, horizon=9),)}, "a horizon from 1 to 8"),
        ({"rollout": (RolloutStage(starts=6, horizon=4),)}, "1 to 5 starts of horizon 4; got 6"),
        ({"rollout": (RolloutStage(until=0.5, starts=1, horizon=4),)}, "until = 1; got 0.5"),
        (
            {"rollout": (RolloutStage(until=0.6, starts=1, horizon=4), RolloutStage(until=0.5, starts=1, horizon=4))},
            "growing `until`",
        ),
        ({"agent": agent(history=9), "rollout": ()}, "a window of at least 9 steps; got 8"),
        ({"agent": agent(history=6), "rollout": (RolloutStage(starts=1, horizon=4),)}, "a horizon from 1 to 3"),
    ],
)
def test_impossible_settings_are_refused_with_the_way_out(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        config(**changes)
    assert caught.value.exit_code == 2


def test_windows_are_cut_as_the_stages_say() -> None:
    assert RolloutStage(starts=4, horizon=4).rows(16) == [0, 4, 8, 12]
    assert RolloutStage(starts=2, horizon=8).rows(16) == [0, 8]
    assert RolloutStage(starts=1, horizon=16).rows(16) == [0]
    assert RolloutStage(starts=3, horizon=4).rows(16, history=3) == [2, 7, 12]
    for history in (1, 2, 5):
        for horizon in range(1, 12 - history + 2):
            for starts in range(1, 12 - history + 1 - horizon + 2):
                rows = RolloutStage(starts=starts, horizon=horizon).rows(12, history)
                assert len(set(rows)) == starts
                assert min(rows) >= history - 1
                assert max(rows) + horizon <= 12


def test_stages_change_at_their_fraction_of_the_steps() -> None:
    stages = (RolloutStage(until=0.6, starts=4, horizon=2), RolloutStage(starts=1, horizon=8))
    c = config(steps=10, rollout=stages)
    assert [c.stage(step).horizon for step in range(10)] == [2] * 6 + [8] * 4
    assert config(rollout=()).stage(0) == RolloutStage(starts=1, horizon=8)


def test_a_stored_configuration_comes_back_equal() -> None:
    c = config(average=0.99, prioritise=True, agent=agent(history=2), rollout=())
    assert convert(msgspec.json.decode(msgspec.json.encode(c)), TrainConfig) == c


def test_unknown_fields_are_refused_with_their_path() -> None:
    plain = msgspec.to_builtins(config())
    plain["agent"]["world_model"]["widht"] = 3
    with pytest.raises(msgspec.ValidationError, match=r"unknown field `widht` - at `\$\.agent\.world_model`"):
        convert(plain, TrainConfig)
