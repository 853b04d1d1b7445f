"""A world model that corrects itself by what it did not foresee: a learned Kalman filter with unmeasured disturbances.

Knows latents and actions, not where they come from. Shapes: B problems, K candidates, T moments of history, H horizon,
D latent size (tokens are flattened), U disturbances, W width.
"""

from __future__ import annotations

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import Belief, ConfigError, Imagined, Latent, Signature, WorldModel, register
from steersman.nn import ActionEmbedding
from steersman.world_model.drive import drive_inputs


class ObserverModel(WorldModel):
    """x = [ŝ | d]: what is measured, and disturbances that nobody measures and that stay until they are seen to change.

        prediction   ŝ⁻ = ŝ + f(ŝ, d, a, x),  d⁻ = d           f = W_o h_depth, h as in `ResidualModel`
        correction   [ŝ | d] = [ŝ⁻ | d⁻] + L (s - ŝ⁻)           L (D + U, D), learned

    `begin` runs both through the history, from ŝ = s and d = 0, and `observe` through one moment more, where the
    entries that were not measured correct nothing. Imagination goes on with predictions alone, from the corrected ŝ
    instead of the last measurement: noise of sensors is filtered, and what changed in the world (a feed, a load, wear)
    is carried into every imagined future. d is the belief's carry. When nothing moves any more,
    L (s - ŝ⁻) = 0: with U >= D and L of full rank, what is foreseen equals what is measured, and a controller that
    plans with this model keeps no offset (as far as the history reaches).

    f and L are learned together by multi-step prediction, so L is the gain that predicts best, not one that was tuned.
    Use it with `history` as long as noise takes to average out (16 to 40 moments).

    Source: the innovation form of a state-space model, Ljung 1999, "System identification", section 4.3; disturbances
    for offset-free control: Pannocchia & Rawlings 2003, "Disturbance models for offset-free model-predictive control".
    """

    @register(WorldModel)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="observer"):
        """width and depth of the perceptron f; disturbances U: as many as there are measured columns is usual."""

        width: int = 128
        depth: int = 2
        disturbances: int = 4

        def __post_init__(self) -> None:
            if min(self.width, self.depth, self.disturbances) < 1:
                raise ConfigError(
                    "width, depth and disturbances >= 1", f"{self}", "correct the world model's configuration"
                )

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None = None
        ) -> ObserverModel:
            return ObserverModel(signature, latent_shape, self.width, self.depth, self.disturbances)

    def __init__(
        self, signature: Signature, latent_shape: tuple[int, ...], width: int = 128, depth: int = 2,
        disturbances: int = 4,
    ) -> None:
        super().__init__()
        size = torch.Size(latent_shape).numel()
        self.size = size
        self.actions = ActionEmbedding(signature.action)
        self.from_state = nn.Linear(size, width, bias=False)
        self.from_disturbance = nn.Linear(disturbances, width, bias=False)
        self.from_drive = nn.Linear(self.actions.width + len(signature.exogenous), width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.to_change = nn.Linear(width, size)
        self.gain = nn.Linear(size, size + disturbances, bias=False)
        with torch.no_grad():
            self.to_change.weight.mul_(0.1)
            self.to_change.bias.zero_()
            self.gain.weight.mul_(0.1)
            self.gain.weight[:size].add_(0.5 * torch.eye(size))

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        measured = latent.state.flatten(2)
        state = measured[:, 0]
        disturbance = state.new_zeros(len(state), self.from_disturbance.in_features)
        if actions.shape[1]:
            drive = self.from_drive(drive_inputs(self.actions, actions[:, None], exogenous)[:, 0])
            for t in range(actions.shape[1]):
                state = self._step(state, drive[:, t] + self.from_disturbance(disturbance))
                state, disturbance = self._corrected(state, disturbance, measured[:, t + 1] - state)
        context = None if latent.context is None else latent.context[:, -1]
        return Belief(state.unflatten(-1, latent.state.shape[2:]), context, (disturbance,))

    def correct(self, foreseen: Belief, latent: Latent, measured: Tensor | None) -> Belief:
        """By the gain; what was not measured says nothing of what was foreseen."""
        error = latent.state - foreseen.state
        if measured is not None:
            error = torch.where(measured, error, 0.0)
        state, disturbance = self._corrected(foreseen.state.flatten(1), foreseen.carry[0], error.flatten(1))
        context = foreseen.context if latent.context is None else latent.context
        return Belief(state.view(foreseen.state.shape), context, (disturbance,))

    def _corrected(self, state: Tensor, disturbance: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (N, D) and (N, U) as they were foreseen, and the error s - ŝ⁻ of the state."""
        correction = self.gain(error)
        return state + correction[:, : self.size], disturbance + correction[:, self.size :]

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, z: Tensor | None = None
    ) -> Imagined:
        b, k = actions.shape[:2]
        shape = belief.state.shape[1:]
        (disturbance,) = belief.carry
        drive = self.from_drive(drive_inputs(self.actions, actions, exogenous))
        drive = (drive + self.from_disturbance(disturbance)[:, None, None]).flatten(0, 1).transpose(0, 1).contiguous()
        state = belief.state.flatten(1).repeat_interleave(k, 0)
        states = [state]
        for now in drive.unbind(0):
            state = self._step(state, now)
            states.append(state)
        imagined = torch.stack(states, 1).unflatten(0, (b, k)).unflatten(-1, shape)
        return Imagined(imagined, belief.context, carry=(disturbance[:, None].expand(-1, k, -1),))

    def _step(self, state: Tensor, drive: Tensor) -> Tensor:
        """state (N, D), drive (N, W) of action and disturbances -> (N, D)."""
        h = F.silu(torch.addmm(drive, state, self.from_state.weight.mT))
        for layer in self.layers:
            h = F.silu(layer(h)) + h
        following: Tensor = state + self.to_change(h)
        return following
