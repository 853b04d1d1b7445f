"""Rollouts: futures imagined from several starts inside each window, with the actions that were logged.

Shapes: B windows, L steps, S starts, n steps a rollout, T moments of history, D latent size, A action size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.learning import Encoded, Need, Rolled, Rollouts
from steersman.core.types import Imagined, Latent
from steersman.training.making.maker import Given, Maker, Making, makes, require_model


@makes(Rollouts)
class MakeRollouts(Maker[Rollouts, Rolled]):
    """Imagine `stage.horizon` steps from each of `stage.starts` rows: B·S problems.

    The model sees `agent.history` moments up to each start, with Gaussian noise on their states, its deviation drawn
    from [0, `start_noise`]: the targets have none, so that the model learns to come back to what states look like. A
    scene map, where perception draws one, is surveyed at the starts only.
    """

    def within(self, need: Rollouts) -> tuple[Need[Any], ...]:
        return (Encoded(),)

    def require(self, need: Rollouts, given: Given) -> None:
        require_model(need, given)
        if not given.config.window:
            raise ConfigError("windows of at least one step, to foresee what comes", "single moments",
                              "set `window`, or descend an objective of views")

    def make(self, need: Rollouts, making: Making) -> Rolled:
        config, window, model = making.config, making.window, making.world_model
        history, horizon = config.agent.history, making.stage.horizon
        starts = torch.tensor(making.stage.rows(window.actions.shape[1], history), device=making.device)
        b, s = len(window), len(starts)
        past = starts[:, None] + torch.arange(1 - history, 1, device=starts.device)
        ahead = starts[:, None] + torch.arange(horizon, device=starts.device)

        encoded = making.of(Encoded()).latent
        surveyed = {name: value[:, starts] for name, value in window.observations.items()}
        context = making.perception.survey(surveyed)
        states = _rows(encoded.state, past)
        if config.start_noise and making.parts.training:
            states = states + _noise(states, config.start_noise, s, making)
        moments = Latent(states, None if context is None else context.flatten(0, 1)[:, None])
        known, coming = (
            (None, None)
            if window.exogenous is None
            else (_rows(window.exogenous, past[:, :-1]), _rows(window.exogenous, ahead))
        )
        belief = model.begin(moments, _rows(window.actions, past[:, :-1]), known)
        imagined = model.imagine(belief, _rows(window.actions, ahead)[:, None], coming)
        predicted = Imagined(
            _back(imagined.states, b, s),
            disagreement=None if imagined.disagreement is None else _back(imagined.disagreement, b, s),
            attention=None if imagined.attention is None else _back(imagined.attention, b, s),
        )
        return Rolled(starts, predicted, context)


def _noise(states: Tensor, deviation: float, starts: int, making: Making) -> Tensor:
    """(B·S, …): Gaussian, of a deviation that is drawn for each problem."""
    ones, device = [1] * (states.dim() - 1), states.device
    level = making.drawn(lambda windows: torch.rand(windows * starts, *ones, device=device))
    shape = states.shape[1:]
    return deviation * level * making.drawn(
        lambda windows: torch.randn(windows * starts, *shape, dtype=states.dtype, device=device))


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """(B, L, …), (S, n) -> (B·S, n, …)."""
    return x.index_select(1, index.flatten()).reshape(len(x) * len(index), index.shape[1], *x.shape[2:])


def _back(x: Tensor, b: int, s: int) -> Tensor:
    """(B·S, 1, …) -> (B, S, …)."""
    return x[:, 0].reshape(b, s, *x.shape[2:])
