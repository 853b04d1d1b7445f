"""The smallest world model: the next state is this state plus a multilayer perceptron's answer, perhaps several.

Knows latents and actions, not where they come from. Shapes: B problems, K candidates, H horizon, D latent size
(tokens are flattened), E members, W width.
"""

from __future__ import annotations

import copy
import math

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import (
    Belief,
    ConfigError,
    Imagined,
    Latent,
    LatentVariableConfig,
    Perceptron,
    Signature,
    WorldModel,
    every_moment,
    register,
)
from steersman.core.compiled import compiled
from steersman.nn import ActionEmbedding, DenseMembers
from steersman.world_model.dealing import Deal
from steersman.world_model.drive import drive_inputs
from steersman.world_model.latent_variable.choosing import Choosing, Fork, choosing, explained
from steersman.world_model.token_residual import TokenResidual
from steersman.world_model.tokens import EARLIER, Tokens, in_tokens, require_grid

_FEW = 8  # rows below which products are slower than a compiled loop, and round in ways that depend on their number


class ResidualModel(WorldModel):
    """s' = s + W_o h_depth, h_1 = silu(W_s s + W_a a + W_x x + b), h_{i+1} = silu(W_i h_i) + h_i.

    With `linear` a map beside the perceptron is added, s' = s + L_s s + L_a a + L_x x + c + W_o h_depth: where most of
    what happens is linear (masses, tanks, circuits), predictions far ahead are several times better (LOG.md).

    a is the action scaled to [-1, 1] (or one-hot), x the exogenous inputs. With `members` E > 1 there are E such
    networks over one latent. While training each row belongs to one member, so that the members see different data at
    the cost of one network; otherwise the state moves by their mean and

        disagreement = √(mean over D of the variance over members)          (Chua et al. 2018; Pathak et al. 2019)

    is reported for every imagined step. Every candidate's actions enter through one product for all steps.

    With `waves` n > 0 the first hidden layer also reads Fourier features of the state,

        h_1 = silu(W_s s + W_f φ(s) + W_a a + W_x x + b),
        φ(s) = [sin(π f s / 2), cos(π f s / 2) for f = 1, 2, 4, …, 2ⁿ⁻¹]

    (Tancik et al. 2020). A perceptron on coordinates alone is too smooth to tell the two sides of a thin wall apart;
    with them and `linear` imagined steps stop where walls stand. They need states whose entries are of the order of 1,
    such as standardised columns. Such a model takes neither the steps in place nor the closed form.

    With a latent variable z enters behind the last hidden layer (`Fork`), and its prior is given the state; members
    share z. Such a model takes neither the steps in place nor the closed form.
    """

    @register(WorldModel, earlier=EARLIER)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="residual"):
        """width and depth of the perceptron; members > 1 makes an ensemble (5 to 7 are usual); linear: see above;
        waves: octaves of Fourier features of the state, 0: none, 5 (frequencies 1 to 16) where there are walls;
        latent_variable: what is left to chance, None: nothing. For states of tokens `TokenResidual` is built, with
        layers of this width and depth: tokens, how they are told apart (`world_model.tokens`), and the grid that they
        come from, if they do, such as (8, 8)."""

        width: int = 128
        depth: int = 2
        members: int = 1
        linear: bool = False
        waves: int = 0
        latent_variable: LatentVariableConfig | None = None
        tokens: Tokens = "places"
        grid: tuple[int, ...] = ()

        def __post_init__(self) -> None:
            if min(self.width, self.depth, self.members) < 1:
                raise ConfigError("width, depth and members >= 1", f"{self}", "correct the world model's configuration")
            if not 0 <= self.waves <= 12:
                raise ConfigError("0 to 12 waves", f"waves={self.waves}", "5 tells walls apart, 0 leaves them out")
            require_grid(self.tokens, self.grid)

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None = None
        ) -> ResidualModel | TokenResidual:
            if in_tokens(latent_shape, self.tokens, self.grid):
                if self.waves:
                    raise ConfigError("waves=0 for states of tokens", f"waves={self.waves}",
                                      "leave the Fourier features out, or flatten the tokens (tokens='flat')")
                return TokenResidual(
                    signature, latent_shape, self.width, self.depth, self.members, self.linear, self.latent_variable,
                    self.tokens, self.grid)
            return ResidualModel(
                signature, latent_shape, self.width, self.depth, self.members, self.linear, self.latent_variable,
                self.waves)

    def __init__(
        self, signature: Signature, latent_shape: tuple[int, ...], width: int = 128, depth: int = 2, members: int = 1,
        linear: bool = False, latent_variable: LatentVariableConfig | None = None, waves: int = 0,
    ) -> None:
        super().__init__()
        size = torch.Size(latent_shape).numel()
        self.members, self.width = members, width
        self.actions = ActionEmbedding(signature.action)
        first = width + size if linear else width  # the linear map's answers ride beside the first hidden layer
        self.from_state = DenseMembers(members, size, first, bias=False)
        self.from_drive = DenseMembers(members, self.actions.width + len(signature.exogenous), first)
        with torch.no_grad():
            for layer in (self.from_state, self.from_drive):
                layer.weight[:, width:] = 0
        self.waves = waves
        self.from_waves = DenseMembers(members, 2 * waves * size, width, bias=False) if waves else None
        self.layers = nn.ModuleList(DenseMembers(members, width, width) for _ in range(depth - 1))
        self.to_change = DenseMembers(members, width, size, gain=0.1)
        self.fork: Fork | None = None
        if latent_variable is not None:
            self.latent_variable = latent_variable.build(signature, latent_shape, size)
            self.fork = Fork(width, self.latent_variable.size, members)

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        """The last state alone matters: the model has no memory."""
        return Belief(latent.state[:, -1], None if latent.context is None else latent.context[:, -1])

    def beliefs(
        self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None, reset: Tensor | None = None
    ) -> Belief:
        return every_moment(latent)

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        return self._roll(belief, actions, exogenous, choosing(self.latent_variable, actions, u))

    def explain(
        self, belief: Belief, actions: Tensor, following: Tensor, exogenous: Tensor | None = None,
        u: Tensor | None = None,
    ) -> tuple[Imagined, Tensor]:
        return explained(self._roll, self.latent_variable, belief, actions, following, exogenous, u)

    def _roll(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None, chance: Choosing | None
    ) -> Imagined:
        b, k, h = actions.shape[:3]
        shape = belief.state.shape[1:]
        inputs = drive_inputs(self.actions, actions, exogenous).flatten(0, 1).transpose(0, 1)
        state = belief.state.flatten(1).repeat_interleave(k, 0)
        if self._in_place(state):
            imagined = self._unrolled(state, inputs).transpose(0, 1).unflatten(0, (b, k)).unflatten(-1, shape)
            return Imagined(imagined.contiguous(), belief.context)
        drives = self.from_drive(inputs.flatten(0, 1)[None]).unflatten(1, (h, b * k))
        drive = drives.unbind(1)
        states, spread = [state], []
        for t in range(h):
            z = None if chance is None else self._chosen(chance, state, drive[t])
            change = self._change(state, drive[t], z)
            state = state + change.mean(0)
            states.append(state)
            if len(change) > 1:
                spread.append(change.var(0).mean(-1).sqrt())
        imagined = torch.stack(states, 1).unflatten(0, (b, k)).unflatten(-1, shape)
        return Imagined(imagined, belief.context, torch.stack(spread, -1).unflatten(0, (b, k)) if spread else None)

    def branch(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        u: Tensor | None = None, carry: tuple[Tensor, ...] = (),
    ) -> Imagined:
        if not self._in_place(states):
            return super().branch(belief, states, actions, exogenous, u, carry)
        inputs = drive_inputs(self.actions, actions, exogenous).flatten(0, 1).transpose(0, 1)
        ends = self._unrolled(states.reshape(inputs.shape[1], -1), inputs)
        return Imagined(ends.transpose(0, 1).reshape(*states.shape[:2], -1, *states.shape[2:]), belief.context)

    def as_perceptron(self, actions: Tensor) -> Perceptron | None:
        plain = self.members == 1 and self.latent_variable is None and not self.waves
        plain = plain and self._plain(self.from_state.weight)
        plain = plain and not torch.is_autocast_enabled("cpu")
        if not plain or self.from_drive.weight.shape[2] > self.actions.width:
            return None
        return self._closed(self.actions(actions))

    @torch.no_grad()
    def _closed(self, inputs: Tensor) -> Perceptron:
        """One member in closed form, with what inputs (R, U) add to the first layer."""
        driving, out = self.from_drive, self.to_change
        drive = torch.addmm(driving.bias[0], inputs, driving.weight[0].T)  # type: ignore[index]
        layers = tuple((x.weight[0], x.bias[0, 0]) for x in self.layers)  # type: ignore[index]
        return Perceptron(self.from_state.weight[0], drive, layers, out.weight[0], out.bias[0, 0])  # type: ignore[index]

    def singles(self) -> tuple[WorldModel, ...]:
        """Each member alone; their weights are shared with the ensemble's."""
        if self.members == 1:
            return (self,)
        return tuple(self._member(i) for i in range(self.members))

    def _member(self, number: int) -> ResidualModel:
        single = copy.copy(self)
        single._modules = {name: _one_of(module, number) for name, module in self.named_children()}
        single.members = 1
        return single

    def _in_place(self, state: Tensor) -> bool:
        """Whether steps may be written in place: nobody asks for gradients, nor for other types than the weights'."""
        if self.members > 1 or self.latent_variable is not None or self.waves:
            return False
        return not (torch.is_grad_enabled() or torch.is_autocast_enabled(state.device.type))

    def _plain(self, state: Tensor) -> bool:
        """Whether compiled code can take state and weights."""
        return state.device.type == "cpu" and state.dtype == self.from_state.weight.dtype == torch.float32

    def _unrolled(self, state: Tensor, inputs: Tensor) -> Tensor:
        """state (N, D), inputs (H, N, U) -> (H + 1, N, D): one member's steps, written in place; no gradient.

        `benchmarks --only mppi` pays for it: without, its rows take 1.4 to 1.8 times as long.

        A planner's steps are so small that calls and passes over memory cost more than the products. State, inputs and
        a 1 lie side by side, so that one product takes in all of them and the offset; it hands on the 1 in a column of
        its own, for the offsets of the layers behind; the next state is written where the next step reads it.
        """
        (rows, size), width = state.shape, self.width
        if rows < _FEW and compiled() and self._plain(state) and not torch.compiler.is_compiling():
            return self._row_by_row(state, inputs)
        into, layers, out = self._with_offsets()
        beside = _room(state, len(inputs) + 1, rows, size + inputs.shape[-1] + 1)
        beside[..., -1] = 1
        beside[:-1, :, size:-1] = inputs
        states = beside[..., :size]
        states[0] = state
        first, hidden = _room(state, rows, into.shape[1]), _room(state, rows, width)
        h, with_one = first[:, :width], first[:, : width + 1]
        for both, now, following in zip(beside[:-1], states[:-1], states[1:], strict=True):
            torch.mm(both, into, out=first)
            F.silu(h, inplace=True)
            for layer in layers:
                torch.mm(with_one, layer, out=hidden)
                h += F.silu(hidden, inplace=True)
            torch.addmm(now, with_one, out, out=following)
            if first.shape[1] > width + 1:
                following += first[:, width + 1 :]
        return states

    def _row_by_row(self, state: Tensor, inputs: Tensor) -> Tensor:
        """The same, compiled: what one row gives does not depend on the others, to the last bit. 2 to 4% of a decision
        for one problem in `benchmarks --only mppi`."""
        from steersman.nn.perceptron_kernels import roll

        states = state.new_empty(len(state), len(inputs) + 1, state.shape[1])
        states[:, 0] = state
        roll(*self._closed(inputs.transpose(0, 1).flatten(0, 1)).arrays(), states.numpy())
        return states.transpose(0, 1)

    def _with_offsets(self) -> tuple[Tensor, list[Tensor], Tensor]:
        """Weights (in, out) of one member for rows that end in a 1: into (D + U + 1, W + 1 [+ D]), whose column W hands
        the 1 on, layers (W + 1, W), out (W + 1, D)."""
        drive, width = self.from_drive, self.width
        rows = torch.cat([self.from_state.weight[0], drive.weight[0], drive.bias[0].T], 1)  # type: ignore[index]
        one = rows.new_zeros(1, rows.shape[1])
        one[:, -1] = 1
        into = torch.cat([rows[:width], one, rows[width:]]).T
        layers, out = (
            [torch.cat([x.weight[0], x.bias[0].T], 1).T for x in part]  # type: ignore[index]
            for part in (self.layers, [self.to_change])
        )
        return into, layers, out[0]

    def _chosen(self, chance: Choosing, state: Tensor, drive: Tensor) -> Tensor:
        """z (N, Z) of the next step, tried on the mean of all members where it is inferred by energy."""
        def move(z: Tensor, times: int) -> Tensor:
            each = state.repeat_interleave(times, 0)
            return each + self._network(each[None], drive.repeat_interleave(times, 1), z).mean(0)

        return chance.z(state, move)

    def _change(self, state: Tensor, drive: Tensor, z: Tensor | None = None) -> Tensor:
        """state (N, D), drive (E, N, W), z (N, Z) -> (E, N, D), or (1, N, D) while each row belongs to one member."""
        if self.training and self.members > 1:
            deal = Deal(len(state), self.members, state.device)
            own = None if z is None else deal.scatter(z)
            return deal.gather(self._network(deal.scatter(state), deal.scatter(drive), own))[None]
        return self._network(state[None], drive, z)

    def _network(self, state: Tensor, drive: Tensor, z: Tensor | None = None) -> Tensor:
        first = self.from_state(state) + drive
        seen = first[..., : self.width]
        if self.from_waves is not None:
            seen = seen + self.from_waves(fourier(state, self.waves))
        h = F.silu(seen)
        for layer in self.layers:
            h = F.silu(layer(h)) + h
        if z is not None:
            assert self.fork is not None
            h = self.fork(h, z)
        change: Tensor = self.to_change(h)
        return change + first[..., self.width :] if first.shape[-1] > self.width else change


def fourier(state: Tensor, octaves: int) -> Tensor:
    """(…, D) -> (…, 2 · octaves · D): sin and cos of π f s / 2 for f = 1, 2, 4, …"""
    frequency = (math.pi / 2) * 2.0 ** torch.arange(octaves, dtype=state.dtype, device=state.device)
    angle = (state[..., None, :] * frequency[:, None]).flatten(-2)
    return torch.cat([angle.sin(), angle.cos()], -1)


def _room(like: Tensor, *shape: int) -> Tensor:
    """Unwritten memory whose rows begin where vectors do."""
    return like.new_empty(*shape[:-1], -(-shape[-1] // 16) * 16)[..., : shape[-1]]


def _one_of(module: nn.Module, number: int) -> nn.Module:
    """The part of one member: weights of DenseMembers are views, all else is shared."""
    if isinstance(module, nn.ModuleList):
        return nn.ModuleList(_one_of(inner, number) for inner in module)
    return module.only(number) if isinstance(module, (DenseMembers, Fork)) else module
