"""Pendulum-v1 from random actions: the recipe for vectors, looking as far ahead as a swing-up takes."""

from __future__ import annotations

from steersman.recipes import vectors
from steersman.training import TrainConfig


def recipe(*, steps: int = 2500, seed: int = 0) -> TrainConfig:
    """20,000 random steps of Pendulum-v1 -> a controller that swings up.

    steps  optimiser steps
    seed   of the training
    """
    return vectors.recipe(steps=steps, window=16, size=5, lr=8e-3, horizon=35, iterations=2, seed=seed)
