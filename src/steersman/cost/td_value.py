"""A state's value, learned by temporal differences: the cost to come after the horizon, for any planner.

Knows latents of a log, what each step of it cost and which follow which; nothing of planners. Shapes: n steps of a log,
B problems, K candidates, H horizon, D latent size, E members.
"""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import ClassVar

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import ConfigError, Critic, DataError, FittedCost, Imagined, PlanningError, Task, register
from steersman.nn import AdamW, DenseMembers, redraw


class TDValue(FittedCost, Critic):
    """V(s), the discounted cost to come; as a cost term e_t = 0 for t < H, e_H = V(s_H).

        δ_e = c + γ (1 - ended) V̄_e(s') - V_e(s),   minimise the mean over steps and members of |τ - 1(δ < 0)| δ²

    V_e are E perceptrons on standardised latents, V their mean, V̄_e a slow average of V_e. With τ = 1/2 this is TD(0):
    the value of whoever made the log (Sutton 1988). A smaller expectile τ leans to the cheapest that the log shows from
    a state, up to what it never tried: implicit Q-learning's way to improve on the log without asking what it cannot
    know (Kostrikov, Nair & Levine 2022).

    As a term that a task weighs it lengthens a short horizon, for every planner that judges whole futures: sampling,
    gradients. Tree search and dynamic programming ask it in their leaves instead, as their `critic`, and must not
    weigh it beside that. It is in the unit of the cost that it was fitted to: weigh it as that cost is weighed.

    Fitted on frozen latents, like a read-out; it never shapes them.

    Raises:
        PlanningError: a value that was not fitted.
    """

    name: ClassVar[str] = "td-value"
    terminal = True

    @register(FittedCost)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="td-value"):
        """discount γ; expectile τ; members E; hidden: widths; steps of fitting; target: share by which V̄ follows."""

        discount: float = 0.99
        expectile: float = 0.5
        members: int = 2
        hidden: tuple[int, ...] = (128, 128)
        steps: int = 3000
        batch_size: int = 256
        lr: float = 1e-3
        target: float = 0.01

        def __post_init__(self) -> None:
            shares = (0 <= self.discount < 1, 0 < self.expectile < 1, 0 < self.target <= 1, self.lr > 0)
            if not all(shares) or min(self.members, self.steps, self.batch_size, *self.hidden) < 1 or not self.hidden:
                raise ConfigError("0 <= discount < 1, 0 < expectile < 1, 0 < target <= 1, lr > 0; members, steps, "
                                  "batch_size and widths >= 1", f"{self}", "correct the value's configuration")

        def build(self, latent_shape: tuple[int, ...]) -> TDValue:
            return TDValue(latent_shape, self)

    config: Config
    mean: Tensor
    deviation: Tensor
    level: Tensor
    scale: Tensor
    fitted: Tensor

    def __init__(self, latent_shape: tuple[int, ...], config: Config | None = None) -> None:
        super().__init__()
        self.config, self.latent_shape = config or TDValue.Config(), tuple(latent_shape)
        size, members = math.prod(latent_shape), self.config.members
        sizes = [size, *self.config.hidden, 1]
        self.network = nn.ModuleList(DenseMembers(members, a, b) for a, b in pairwise(sizes))
        buffers = {"mean": torch.zeros(size), "deviation": torch.ones(size), "level": torch.zeros(()),
                   "scale": torch.ones(()), "fitted": torch.tensor(False)}
        for name, value in buffers.items():
            self.register_buffer(name, value)
        self.requires_grad_(False)

    def value(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        """(…, D) -> (…)."""
        rank = len(self.latent_shape)
        flat = states.flatten(-rank) if rank > 1 else states
        rows = flat.reshape(-1, flat.shape[-1])
        return (self.level + self.scale * _answers(self.network, self._standard(rows)).mean(0)).view(flat.shape[:-1])

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        if not bool(self.fitted):
            raise PlanningError("a fitted value", "one that was not fitted", "call fit, or weigh td-value 0")
        value = self.value(imagined.states[:, :, -1])
        return torch.cat([value.new_zeros(*value.shape, actions.shape[2] - 1), value[..., None]], -1)

    def fit(
        self, states: Tensor, costs: Tensor, following: Tensor, ended: Tensor | None = None, *, seed: int = 0
    ) -> float:
        """Fit to n steps of a log: states (n, D), what each step cost (n,), the states after them (n, D), and which of
        these ended their episode for good (n,) bool, where nothing is to come (None: none did; an episode that was only
        cut has not ended). Returns the root of the mean δ² over the log.

        Raises:
            DataError: shapes that do not fit, or numbers that are not finite.
        """
        here, after = self._rows(states), self._rows(following)
        over = torch.zeros(len(here), dtype=torch.bool) if ended is None else ended
        if costs.shape != (len(here),) or len(after) != len(here) or over.shape != (len(here),):
            raise DataError(f"a cost (n,), a following state (n, D) and an end (n,) for each of {len(here)} states",
                            f"{tuple(costs.shape)}, {tuple(following.shape)}, {tuple(over.shape)}",
                            "pass one row for each step of the log")
        costs = costs.detach().float()
        if not len(here) or not bool(torch.isfinite(costs).all()):
            raise DataError("finite costs of at least one step", f"{len(here)} steps", "look at what a step costs")
        deviation, mean = torch.std_mean(here, 0, correction=0)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, 1.0))
        ahead = 1 / (1 - self.config.discount)  # steps that count
        spread = float(costs.std(correction=0)) or float(costs.abs().mean()) or 1.0
        self.level.fill_(float(costs.mean()) * ahead)
        self.scale.fill_(spread * ahead)
        self._descend(here, costs, after, over, torch.Generator().manual_seed(seed))
        self.fitted.fill_(True)
        with torch.no_grad():
            to_come = torch.where(over, 0.0, self.value(after))
            return float((costs + self.config.discount * to_come - self.value(here)).square().mean().sqrt())

    @torch.enable_grad()
    def _descend(
        self, here: Tensor, costs: Tensor, after: Tensor, over: Tensor, generator: torch.Generator
    ) -> None:
        c = self.config
        redraw(self.network, generator)
        slow = copy.deepcopy(self.network)
        self.network.requires_grad_(True)
        optimiser = AdamW(self.network.named_parameters(), decay=0.0)
        here, after = self._standard(here), self._standard(after)
        reward = costs / self.scale
        settled = self.level / self.scale  # V = level + scale · network: δ in the unit of the network's answers
        for step in range(c.steps):
            rows = torch.randint(len(here), (c.batch_size,), generator=generator)
            with torch.no_grad():
                later = torch.where(over[rows], 0.0, settled + _answers(slow, after[rows]))
                target = reward[rows] + c.discount * later - settled
            error = target - _answers(self.network, here[rows])
            torch.autograd.backward((torch.where(error < 0, 1 - c.expectile, c.expectile) * error.square()).mean())
            optimiser.step(c.lr * 0.5 * (1 + math.cos(math.pi * step / c.steps)))
            optimiser.forget_gradients()
            with torch.no_grad():
                torch._foreach_lerp_(list(slow.parameters()), list(self.network.parameters()), c.target)
        self.network.requires_grad_(False)

    def _standard(self, rows: Tensor) -> Tensor:
        return (rows.to(self.mean) - self.mean) / self.deviation

    def _rows(self, states: Tensor) -> Tensor:
        shaped = tuple(states.shape[1:]) == self.latent_shape
        if not shaped or not bool(torch.isfinite(states).all()):
            raise DataError(f"finite states (n, {', '.join(map(str, self.latent_shape))})", f"{tuple(states.shape)}",
                            "pass latents of the agent that plans")
        return states.detach().float().flatten(1)


def _answers(network: nn.ModuleList, rows: Tensor) -> Tensor:
    """(n, D) -> (E, n)."""
    x = rows[None]
    for i, layer in enumerate(network):
        x = layer(x if i == 0 else F.silu(x))
        x = x.expand(1, *x.shape) if x.dim() == 2 else x
    return x[..., 0]
