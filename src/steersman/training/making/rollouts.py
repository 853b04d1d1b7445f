"""Rollouts: futures imagined from several starts inside each window, with the actions that were logged.

Shapes: B windows, L steps, S starts, n steps a rollout, T moments of history, D latent size, A action size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from steersman.core.boxes import Perception
from steersman.core.errors import ConfigError
from steersman.core.learning import Acted, Encoded, LearningBatch, Need, Rolled, Rollouts, Seen
from steersman.core.types import Imagined, Latent, Window
from steersman.core.world_model import WorldModel
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
        return rolled(making)


def rolled(
    making: Making, explain: Callable[[int], Tensor] | None = None, draw: Callable[[int], Tensor] | None = None
) -> Rolled:
    """Rollouts as the stage cuts them; explain, draw: number of starts -> uniform noise (B·S, n, U), by which chance is
    explained (U = 0 for none), or drawn."""
    config, latent = making.config, making.of(Encoded()).latent
    starts = torch.tensor(
        making.stage.rows(making.window.actions.shape[1], config.agent.history), device=making.device)
    noise = None
    if config.start_noise and making.parts.training:
        noise = partial(_noise, deviation=config.start_noise, starts=len(starts), making=making)
    return roll(making.perception, making.world_model, making.window, latent, starts, making.stage.horizon,
                config.agent.history, noise, None if explain is None else explain(len(starts)),
                None if draw is None else draw(len(starts)))


def imagine_windows(
    perception: Perception, model: WorldModel, window: Window, starts: Tensor, horizon: int, history: int = 1
) -> LearningBatch:
    """Every moment encoded, and `horizon` steps imagined from each of `starts` (S,): what `Prediction` reads."""
    latent = perception.encode(window.observations)
    rolled = roll(perception, model, window, latent, starts, horizon, history)
    measured = perception.measured(window.measured) if window.measured else None
    return LearningBatch(window, {Encoded(): Seen(latent, measured), Rollouts(): rolled, Acted(): window.actions})


def roll(
    perception: Perception, model: WorldModel, window: Window, latent: Latent, starts: Tensor, horizon: int,
    history: int, noise: Callable[[Tensor], Tensor] | None = None, explained: Tensor | None = None,
    drawn: Tensor | None = None,
) -> Rolled:
    """B·S rollouts from encoded moments.

    noise      states (B·S, T, …) -> what is added to them
    explained  chance is what explains the states that followed: (B·S, n, U) draws it from its posterior, (B·S, n, 0)
               takes the most probable; None: chance is what the model expects
    drawn      (B·S, n, U): noise by which chance is drawn from its prior
    """
    b, s = len(window), len(starts)
    past = starts[:, None] + torch.arange(1 - history, 1, device=starts.device)
    ahead = starts[:, None] + torch.arange(horizon, device=starts.device)
    context = perception.survey({name: value[:, starts] for name, value in window.observations.items()})
    states = _rows(latent.state, past)
    if noise is not None:
        states = states + noise(states)
    moments = Latent(states, None if context is None else context.flatten(0, 1)[:, None],
                     task=None if latent.task is None else _rows(latent.task, past))
    known, coming = (
        (None, None)
        if window.exogenous is None
        else (_rows(window.exogenous, past[:, :-1]), _rows(window.exogenous, ahead))
    )
    belief = model.begin(moments, _rows(window.actions, past[:, :-1]), known)
    done, nats = _rows(window.actions, ahead), None
    if explained is None:
        imagined = model.imagine(belief, done[:, None], coming, None if drawn is None else drawn[:, None])
    else:
        u = explained if explained.shape[-1] else None
        imagined, nats = model.explain(belief, done, _rows(latent.state, ahead + 1), coming, u)
    predicted = Imagined(
        _back(imagined.states, b, s),
        disagreement=None if imagined.disagreement is None else _back(imagined.disagreement, b, s),
        attention=None if imagined.attention is None else _back(imagined.attention, b, s),
    )
    return Rolled(starts, predicted, context, None if nats is None else nats.unflatten(0, (b, s)))


def _noise(states: Tensor, deviation: float, starts: int, making: Making) -> Tensor:
    """(B·S, …): Gaussian, of a deviation that is drawn for each problem from [0, `deviation`]."""
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
