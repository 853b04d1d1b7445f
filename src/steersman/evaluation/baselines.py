"""What a model has to beat: nothing changes, and a linear model for every horizon. Knows tapes, not agents.

Shapes: W windows, H horizon, X what is predicted, P inputs a step (action and exogenous), F features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core import ActionSpec
from steersman.evaluation.tape import Tape, ahead_of
from steersman.nn import ActionEmbedding


def drive(tape: Tape, action: ActionSpec) -> Tensor:
    """(R, P): what acts at each row: the action, scaled or one-hot, and exogenous inputs."""
    encoded = ActionEmbedding(action)(tape.actions).float()
    return encoded if tape.exogenous is None else torch.cat([encoded, tape.exogenous.float()], -1)


class LinearModel:
    """x_{t+h} - x_t = W_h [1, x_t, u_t, …, u_{t+h-1}], one ridge regression for each h, on standardised features.

        W_h = (FᵀF + λ n I)⁻¹ Fᵀ Y,  λ = 1e-4

    Fitted to the answer at h directly, it cannot run away as an iterated linear model does, so it is the harder of
    the two to beat. The features of h are the first of those of h + 1, so one Gram matrix serves all horizons.
    """

    def __init__(self, values: Tensor, drives: Tensor, rows: Tensor, tape: Tape, horizon: int) -> None:
        """values (R, X) are what is predicted, drives (R, P) what acts, `rows` (n,) starts of windows to fit to."""
        self.mean, self.deviation = values.mean(0), _safe(values.std(0))
        spread = drives.std(0) if drives.shape[1] else drives.new_zeros(0)  # nobody acts, and nothing is known ahead
        self.centre, self.scale = drives.mean(0), _safe(spread)
        self.horizon, self.inputs = horizon, drives.shape[1]
        features = self._features(values, drives, rows, tape).double()
        x = (values - self.mean) / self.deviation
        ahead = x[ahead_of(tape, rows, horizon)]
        change = (ahead[:, 1:] - ahead[:, :1]).double()
        gram, answer = features.mT @ features, torch.einsum("nf,nhx->hfx", features, change)
        gram.diagonal()[1:] += 1e-4 * len(rows)
        self.weights = []
        for h in range(1, horizon + 1):
            size = 1 + values.shape[1] + h * self.inputs
            self.weights.append(torch.linalg.lstsq(gram[:size, :size], answer[h - 1, :size]).solution.float())

    def predict(self, values: Tensor, drives: Tensor, rows: Tensor, tape: Tape) -> Tensor:
        """-> (W, H, X)."""
        features = self._features(values, drives, rows, tape)
        changes = torch.stack([features[:, : len(w)] @ w for w in self.weights], 1)
        return values[rows][:, None] + changes * self.deviation

    def _features(self, values: Tensor, drives: Tensor, rows: Tensor, tape: Tape) -> Tensor:
        x = (values[rows] - self.mean) / self.deviation
        u = ((drives - self.centre) / self.scale)[ahead_of(tape, rows, self.horizon)[:, :-1]].flatten(1)
        return torch.cat([torch.ones(len(rows), 1), x, u], 1)


def _safe(deviation: Tensor) -> Tensor:
    return torch.where(deviation > 1e-8, deviation, 1.0)
