"""LeWM's predictor as it was published: a transformer over the last frames, conditioned by actions through AdaLN.

Knows latents and actions, no pictures and no files: see `lewm_layouts`. Shapes: B problems, K candidates, H horizon,
D latent size, V width, W frames of context, P = W - 1, A numbers of an action, N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import Belief, ConfigError, Imagined, Latent, Signature, WorldModel, register
from steersman.nn import ActionEmbedding, attend
from steersman.nn.projector import Projector
from steersman.nn.weights import Awaited
from steersman.world_model.lewm_layouts import LeWMForm, find_predictor


class LeWMModel(WorldModel):
    """s_{t+1} = g(s_{t-P..t}, a_{t-P..t}), by a causal transformer over the last W frames (Maes et al. 2026).

        c = perceptron(a),  x = s + position of the frame within the window
        x = x + gate₁ · Attention(LN(x) (1 + scale₁) + shift₁),  x = x + gate₂ · MLP(LN(x) (1 + scale₂) + shift₂)
        shift, scale, gate = Linear(silu(c));   s_{t+1} = projector(W_o LN x_t)

    Frames have learned positions counted from the window's beginning, so a window is worked through anew for every
    step: nothing can be cached. It computes what lightly's and stable-worldmodel's modules compute in evaluation mode.

    The belief's carry holds P earlier states (B, P, D) and the actions that followed them (B, P, A), oldest first with
    zeros behind, and how many of them count (B,): rows that began at different moments stand in one batch.

    Continuous actions enter as (a - action_mean) / action_deviation, in the units of the training that was published;
    discrete ones as one-hot vectors. Raises ConfigError for another action, latent or exogenous inputs.
    """

    @register(WorldModel)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="lewm"):
        """Made by `load_published`, which fills in what a file holds.

        form        of the predictor
        weights     the safetensors file, read once before training; "": begin at random
        sha256      of that file; "": any file
        frozen      the published weights do not learn
        action_mean, action_deviation   what its training subtracted from actions, and divided by; (): nothing
        """

        form: LeWMForm = LeWMForm()
        weights: str = ""
        sha256: str = ""
        frozen: bool = True
        action_mean: tuple[float, ...] = ()
        action_deviation: tuple[float, ...] = ()

        def __post_init__(self) -> None:
            wrong = [x for x in (self.action_mean, self.action_deviation) if len(x) not in (0, self.form.actions)]
            if wrong or min(self.action_deviation, default=1.0) <= 0:
                raise ConfigError(f"{self.form.actions} numbers, deviations above 0, or none",
                                  f"{self.action_mean} and {self.action_deviation}", "correct the action's scale")

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None = None
        ) -> LeWMModel:
            return LeWMModel(self, signature, latent_shape)

    action_mean: Tensor
    action_deviation: Tensor

    def __init__(self, config: Config, signature: Signature, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        form, self.config, self.context = config.form, config, config.form.context
        _require(form, signature, latent_shape)
        self.one_hot = ActionEmbedding(signature.action) if signature.action.kind == "discrete" else None
        scale = (config.action_mean or (0.0,) * form.actions, config.action_deviation or (1.0,) * form.actions)
        self.register_buffer("action_mean", torch.tensor(scale[0]), persistent=False)
        self.register_buffer("action_deviation", torch.tensor(scale[1]), persistent=False)
        self.smooth = nn.Linear(form.actions, form.smoothed) if form.smoothed else None
        self.action_first = nn.Linear(form.smoothed or form.actions, form.action_hidden)
        self.action_second = nn.Linear(form.action_hidden, form.condition)
        before = form.positions == "before"
        self.positions = nn.Parameter(0.02 * torch.randn(form.context, form.size if before else form.width))
        self.enter = nn.Linear(form.size, form.width) if form.projected else None
        self.conditioned = nn.Linear(form.condition, form.width) if form.projected else None
        self.blocks = nn.ModuleList(LeWMBlock(form) for _ in range(form.depth))
        self.norm = nn.LayerNorm(form.width)
        self.leave = nn.Linear(form.width, form.size) if form.projected else None
        self.project = None if form.projector is None else Projector(form.projector)
        self.awaited = Awaited(config.weights)
        if config.frozen:
            self.requires_grad_(False)

    def initialise(self) -> None:
        """Read the published weights.

        Raises:
            UsageError, CheckpointError: the file is not there, is another one, or does not fit.
        """
        if self.config.weights:
            self.read(Path(self.config.weights))

    def read(self, path: Path) -> None:
        """Take the weights of the file at `path`; raises as `initialise`."""
        self.load_state_dict(find_predictor(path, self.config.sha256).state(self.state_dict()))
        self.awaited.done()

    def train(self, mode: bool = True) -> LeWMModel:
        """Frozen, it stays in evaluation mode."""
        super().train(mode and not self.config.frozen)
        return self

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        """The state after each frame of a window of at most W: (N, T, D), (N, T, A) -> (N, T, D)."""
        self.awaited.require()
        return self._next(states, self._entered(actions))

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        context = None if latent.context is None else latent.context[:, -1]
        past, states = self.context - 1, latent.state
        if not past:
            return Belief(states[:, -1], context)
        age = min(past, actions.shape[1])
        first, drive = states.shape[1] - 1 - age, self._entered(actions[:, actions.shape[1] - age :])
        before, done = (F.pad(x, (0, 0, 0, past - age)) for x in (states[:, first : first + age], drive))
        ages = torch.full((len(states),), age, device=states.device)
        return Belief(states[:, -1], context, (before, done, ages))

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        self.awaited.require()
        (b, k, horizon), past = actions.shape[:3], self.context - 1
        drive = self._entered(actions).flatten(0, 1)
        state = belief.state.repeat_interleave(k, 0)
        states = [state]
        if not past:
            for t in range(horizon):
                state = self._next(state[:, None], drive[:, t : t + 1])[:, 0]
                states.append(state)
            return Imagined(torch.stack(states, 1).unflatten(0, (b, k)), belief.context)
        before, done, age = (x.repeat_interleave(k, 0) for x in belief.carry)
        window, taken = F.pad(before, (0, 0, 0, 1)), F.pad(done, (0, 0, 0, 1))
        seen = int(age.max()) if len(age) else past
        for t in range(horizon):
            top, at = min(seen + t, past) + 1, age[:, None, None]
            window = window.scatter(1, at.expand(-1, 1, window.shape[2]), state[:, None].to(window.dtype))
            taken = taken.scatter(1, at.expand(-1, 1, taken.shape[2]), drive[:, t, None].to(taken.dtype))
            made = self._next(window[:, :top], taken[:, :top])
            state = made.take_along_dim(at, 1)[:, 0]
            states.append(state)
            full = (age == past)[:, None, None]
            window, taken = (torch.where(full, x.roll(-1, 1), x) for x in (window, taken))
            age = (age + 1).clamp(max=past)
        carry = tuple(x.unflatten(0, (b, k)) for x in (window[:, :past], taken[:, :past], age))
        return Imagined(torch.stack(states, 1).unflatten(0, (b, k)), belief.context, carry=carry)

    def _next(self, states: Tensor, drive: Tensor) -> Tensor:
        """`predict` with actions as the published model has them."""
        drive = drive if self.smooth is None else self.smooth(drive)
        condition = self.action_second(F.silu(self.action_first(drive)))
        positions = self.positions[: states.shape[1]]
        x = states + positions if self.config.form.positions == "before" else states
        x = x if self.enter is None else self.enter(x)
        x = x + positions if self.config.form.positions == "after" else x
        condition = F.silu(condition if self.conditioned is None else self.conditioned(condition))
        for block in self.blocks:
            x = block(x, condition)
        x = self.norm(x)
        x = x if self.leave is None else self.leave(x)
        return x if self.project is None else self.project(x.flatten(0, 1)).view(*x.shape[:2], -1)

    def _entered(self, actions: Tensor) -> Tensor:
        """Actions as the world has them, (…, A) or (…, 1) -> as the published model does, (…, A)."""
        if self.one_hot is not None:
            return self.one_hot(actions)  # type: ignore[no-any-return]
        return (actions - self.action_mean) / self.action_deviation

class LeWMBlock(nn.Module):
    """(N, T, V), silu of the condition (N, T, V) -> (N, T, V)."""

    def __init__(self, form: LeWMForm) -> None:
        super().__init__()
        width, inner, self.heads = form.width, form.heads * form.head_width, form.heads
        self.modulation = nn.Linear(width, 6 * width)
        self.norm_attention = nn.LayerNorm(width) if form.inner_norms else None
        self.query_key_value, self.out = nn.Linear(width, 3 * inner, bias=False), nn.Linear(inner, width)
        self.norm_hidden = nn.LayerNorm(width) if form.inner_norms else None
        self.hidden, self.back = nn.Linear(width, form.hidden), nn.Linear(form.hidden, width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, -1)
        y = _modulated(x, shift1, scale1, self.norm_attention)
        q, k, v = self.query_key_value(y).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        x = x + gate1 * self.out(attend(q, k, v, causal).transpose(1, 2).flatten(2))
        y = _modulated(x, shift2, scale2, self.norm_hidden)
        made: Tensor = x + gate2 * self.back(F.gelu(self.hidden(y)))
        return made


def _modulated(x: Tensor, shift: Tensor, scale: Tensor, norm: nn.Module | None) -> Tensor:
    y = torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)
    return y if norm is None else norm(y)


def _require(form: LeWMForm, signature: Signature, latent_shape: Sequence[int]) -> None:
    """
    Raises:
        ConfigError: a world that this predictor is not of.
    """
    if tuple(latent_shape) != (form.size,):
        raise ConfigError(f"latents of shape ({form.size},), which this predictor knows", f"{tuple(latent_shape)}",
                          "use it with the encoder of the same file")
    action = signature.action
    if action.width != form.actions:
        times = f", or a step of {form.actions // action.width}" if action.width and not form.actions % action.width \
            else ""
        raise ConfigError(f"an action of {form.actions} numbers, which this predictor knows", f"{action.width}",
                          f"use a log with such actions{times}")
    if signature.exogenous:
        raise ConfigError("no exogenous inputs, of which this predictor knows none",
                          ", ".join(signature.exogenous), "leave them out of the log")
