"""What drives a step of every predictor here: the action, encoded, and the exogenous inputs beside it.

Shapes: B problems, K candidates, H horizon, A action size, X exogenous size, W width of an encoded action.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.nn import ActionEmbedding


def drive_inputs(encoding: ActionEmbedding, actions: Tensor, exogenous: Tensor | None) -> Tensor:
    """What drives each step: actions (B, K, H, A) and exogenous (B, H, X), shared by candidates -> (B, K, H, W + X)."""
    encoded = encoding(actions)
    if exogenous is None:
        return encoded
    shared = exogenous[:, None, : actions.shape[2]].expand(-1, actions.shape[1], -1, -1)
    return torch.cat([encoded, shared.to(encoded.dtype)], -1)
