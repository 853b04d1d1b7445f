"""A window of logged steps -> what objectives see: encoded latents, and rollouts imagined from several starts.

Knows boxes only through core's interfaces.

Shapes: B windows, L steps, S starts, n steps a rollout, T moments of history, D latent size, A action size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core.boxes import Perception
from steersman.core.types import Imagined, Latent, LearningBatch, Window
from steersman.core.world_model import WorldModel


def imagine_windows(
    perception: Perception, model: WorldModel, window: Window, starts: Tensor, horizon: int, history: int = 1,
    noise: float = 0.0,
) -> LearningBatch:
    """Encode all L+1 moments at once, then imagine `horizon` steps from each of `starts` (S,): B·S problems.

    The model sees the `history` moments up to each start, with Gaussian noise on their states, its deviation drawn
    from [0, `noise`]: the targets have none, so that the model learns to come back to what states look like. A scene
    map, where perception draws one, is surveyed at the starts only.
    """
    b, s = len(window), len(starts)
    past = starts[:, None] + torch.arange(1 - history, 1, device=starts.device)
    ahead = starts[:, None] + torch.arange(horizon, device=starts.device)

    encoded = perception.encode(window.observations)
    context = perception.survey({name: value[:, starts] for name, value in window.observations.items()})
    states = _rows(encoded.state, past)
    if noise:
        level = torch.rand(b * s, *[1] * (states.dim() - 1), device=states.device)
        states = states + noise * level * torch.randn_like(states)
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
    measured = perception.measured(window.measured) if window.measured else None
    latent = Latent(encoded.state, context, encoded.attention)
    return LearningBatch(window, latent, starts, predicted, measured=measured)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """(B, L, …), (S, n) -> (B·S, n, …)."""
    return x.index_select(1, index.flatten()).reshape(len(x) * len(index), index.shape[1], *x.shape[2:])


def _back(x: Tensor, b: int, s: int) -> Tensor:
    """(B·S, 1, …) -> (B, S, …)."""
    return x[:, 0].reshape(b, s, *x.shape[2:])
