"""Recipes for vectors: complete configurations that a file can hold, whose parts fit each other."""

from __future__ import annotations

import msgspec
import pytest

from steersman.core import ActionSpec, ObservationSpec, Signature
from steersman.core.parts import convert
from steersman.objectives import Sum
from steersman.recipes import pendulum, recipe, vectors
from steersman.training import TrainConfig


@pytest.mark.parametrize("name", ["vectors", "pendulum"])
def test_a_recipe_is_a_configuration_that_a_file_can_hold(name):
    config = recipe(name)(seed=3)
    assert config.seed == 3
    assert convert(msgspec.to_builtins(config), TrainConfig) == config


@pytest.mark.parametrize("action", [ActionSpec("continuous", (-2.0,), (2.0,)), ActionSpec("discrete", choices=2)])
def test_its_parts_fit_each_other(action):
    config = vectors.recipe(members=2)
    signature = Signature({"vector": ObservationSpec("vector", (3,))}, action)
    perception = config.agent.perception.build(signature)
    config.agent.world_model.build(signature, perception.latent_shape, perception.context_shape)
    Sum.build(config.objectives, signature, perception.latent_shape, perception.context_shape)


def test_the_pendulum_plans_as_far_as_a_swing_takes():
    assert pendulum.recipe().agent.planner.horizon >= 25
