"""Actions as networks see them: continuous ones scaled by their bounds to [-1, 1], discrete ones one-hot.

Knows the bounds of a signature, nothing of worlds. Shapes: A action size, W = ActionSpec.width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import ActionError, ActionSpec


class ActionEmbedding(nn.Module):
    """(…, A) -> (…, W), differentiable in continuous actions.

    Continuous: 2 (a - low) / (high - low) - 1. Discrete: one-hot of int64 (…, 1); float (…, choices) passes as it is,
    so that a planner may relax a choice to probabilities. Where nobody acts, nothing (…, 0).
    """

    scale: Tensor
    shift: Tensor
    one_hot: Tensor

    def __init__(self, spec: ActionSpec) -> None:
        super().__init__()
        self.kind, self.size, self.width = spec.kind, spec.size, spec.width
        low, high = torch.tensor(spec.low), torch.tensor(spec.high)
        self.register_buffer("scale", 2 / (high - low) if spec.kind == "continuous" else torch.ones(spec.width))
        self.register_buffer("one_hot", torch.eye(spec.choices), persistent=False)
        self.register_buffer("shift", -(high + low) / (high - low) if spec.kind == "continuous" else torch.zeros(1))

    def forward(self, actions: Tensor) -> Tensor:
        if self.kind == "discrete":
            if actions.is_floating_point() and actions.shape[-1] == self.width:
                return actions
            self._require(actions, self.size)
            return F.embedding(actions.long().squeeze(-1), self.one_hot)
        self._require(actions, self.size)
        return actions * self.scale + self.shift

    def _require(self, actions: Tensor, size: int) -> None:
        if actions.shape[-1] != size:
            raise ActionError(
                f"actions of size {size}", f"a tensor of shape {tuple(actions.shape)}",
                "put the entries of an action in the last dimension",
            )
