"""Does what a world model leaves to chance keep its promises? Knows `core.WorldModel` and its latent variable only.

Shapes: B problems, K candidates, H horizon, D latent size, U uniform numbers a step, O outcomes, N draws.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from steersman.core.checks.promises import Ledger, same, worst
from steersman.core.errors import PlanningError
from steersman.core.latent_variable import LatentVariable, Support
from steersman.core.types import Belief, Imagined
from steersman.core.world_model import WorldModel

_DRAWS = 4096
_SHARE = 0.03  # what may lie between a probability and the share of the draws
_ALIKE = 0.02  # share of outcomes that may fall on the other side of a boundary by rounding

Case = tuple[Belief, Tensor, Tensor | None]
"""Beliefs, actions (B, K, H, A) and exogenous inputs (B, H, E) to come."""


class Chance:
    """The promises of one model, about problems that `draw` makes up: of B problems, K candidates, H steps."""

    def __init__(
        self, model: WorldModel, ledger: Ledger, draw: Callable[[int, int, int], Case], generator: torch.Generator
    ) -> None:
        self.model, self.ledger, self.draw, self.generator = model, ledger, draw, generator

    def check(self) -> None:
        if self.model.latent_variable is None:
            self.ledger.keep("has a latent variable where it leaves something to chance", self.model.chance == 0,
                             "chance", f"{self.model.chance} uniform numbers a step and none",
                             "set `latent_variable`: `chance` follows from it")
            return
        self._is_decided_by_noise()
        self._lists()
        self._explains(self.model.latent_variable)

    def _noise(self, b: int, k: int, h: int) -> Tensor:
        return torch.rand(b, k, h, self.model.chance, generator=self.generator).clamp(2.0**-24, 1 - 2.0**-24)

    def _imagine(self, case: str, belief: Belief, actions: Tensor, outside: Tensor | None, u: Tensor) -> Imagined:
        return self.ledger.ask(case, lambda: self.model.imagine(belief, actions, outside, u))

    def _is_decided_by_noise(self) -> None:
        belief, actions, outside = self.draw(3, 5, 4)
        belief, u = self.model.settle(belief), self._noise(3, 5, 4)
        found = self._imagine("noise u", belief, actions, outside, u)
        whole = found.states
        fix = "turn u into z row by row, at random in nothing else"
        self._agree("imagines one future from one noise", "the same u twice",
                    self._imagine("noise u", belief, actions, outside, u).states, whole, fix)
        self._agree("imagines a problem alone as in a batch", "problem 1 of 3 alone, with noise", self._imagine(
            "noise u", belief[1:2], actions[1:2], None if outside is None else outside[1:2], u[1:2]).states,
            whole[1:2], fix)
        self._agree("imagines a candidate alone as among others", "candidate 3 of 5 alone, with noise",
                    self._imagine("noise u", belief, actions[:, 3:4], outside, u[:, 3:4]).states, whole[:, 3:4], fix)
        later = torch.cat([u[:, :, :2], self._noise(3, 5, 2)], 2)
        self._agree("lets no state depend on later chance", "the noise of the last 2 steps changed", self._imagine(
            "other noise", belief, actions, outside, later).states[:, :, :3], whole[:, :, :3],
            "draw the z of a step from the u of that step")
        early, late = (None, None) if outside is None else (outside[:, :2], outside[:, 2:])
        half = self._imagine("2 steps", belief, actions[:, :, :2], early, u[:, :, :2])
        rest = self._imagine("2 steps more", half.last(), actions[:, :, 2:].flatten(0, 1)[:, None],
                             None if late is None else late.repeat_interleave(5, 0), u[:, :, 2:].flatten(0, 1)[:, None])
        self._agree("imagines on from the end of a future", "2 steps and 2 more, with noise",
                    rest.states.unflatten(0, (3, 5))[:, :, 0, 1:], whole[:, :, 3:],
                    "put all that the next step needs into `carry`")
        try:
            apart = self.model.branch(belief, half.states[:, :, -1], actions[:, :, 2:], late, u[:, :, 2:], half.carry)
        except PlanningError:
            return
        self._agree("branches as it imagines", "5 states of each problem, with noise", apart.states[:, :, 1:],
                    whole[:, :, 3:], "hand u on to each state")

    def _lists(self) -> None:
        belief, actions, outside = self.draw(3, 2, 1)
        belief = self.model.settle(belief)
        states = belief.state[:, None].expand(-1, 2, *belief.state.shape[1:])
        carry = tuple(x[:, None].expand(-1, 2, *x.shape[1:]) for x in belief.carry)
        support = self.ledger.ask("outcomes of one step", lambda: self.model.support(
            belief, states, actions[:, :, 0], outside, carry))
        if support is None:
            return
        keep, p, count = self.ledger.keep, support.probability, support.probability.shape[-1]
        forms = tuple(support.u.shape) == (3, 2, count, self.model.chance) and tuple(p.shape) == (3, 2, count)
        keep("lists outcomes u (B, K, O, U) and probability (B, K, O)", forms, "outcomes of one step",
             f"u {tuple(support.u.shape)}, probability {tuple(p.shape)}", "one row of outcomes for each state")
        sums = bool((p >= 0).all()) and same(p.sum(-1), torch.ones_like(p[..., 0]))
        keep("lists probabilities that sum to 1", sums, "outcomes of one step", f"sums {p.sum(-1).tolist()}",
             "normalise them; 0 marks padding")
        inside = support.u[p > 0]
        keep("lists noise on (0, 1)", bool(((inside > 0) & (inside < 1)).all()), "outcomes of one step",
             f"from {float(inside.min()):.3g} to {float(inside.max()):.3g}",
             "name the u in the middle of what draws each outcome")
        if support.exhaustive:
            self._draws_what_it_lists(belief[:1], actions[:1, :1], None if outside is None else outside[:1],
                                      support)

    def _draws_what_it_lists(self, belief: Belief, actions: Tensor, outside: Tensor | None, support: Support) -> None:
        """Every draw is one of the outcomes, each as often as its probability says: outcomes that end alike count as
        one."""
        place = torch.rand(_DRAWS, self.model.chance, generator=self.generator).argsort(0)
        u = ((place + 0.5) / _DRAWS)[None, :, None]
        listed = support.u[:1, 0][:, :, None]
        drawn, named = (self._imagine(
            "one step", belief, actions.expand(-1, x.shape[1], -1, -1), outside, x).states[0, :, 1].flatten(1)
            for x in (u, listed))
        p = support.probability[0, 0]
        named, p = named[p > 0], p[p > 0]
        size = 1e-4 * (1 + named.abs().amax())
        among = torch.cdist(drawn.double(), named.double(), p=float("inf")) < size
        alike = torch.cdist(named.double(), named.double(), p=float("inf")) < size
        strange = float((~among.any(1)).double().mean())
        self.ledger.keep("draws what it lists", strange <= _ALIKE, f"{_DRAWS} draws of one step",
                         f"{strange:.1%} that are none of {len(p)} outcomes", "list every outcome that can be drawn")
        gap = (among.double().mean(0) - alike.double() @ p.double()).abs().max()
        self.ledger.keep("draws outcomes as often as it says", float(gap) <= _SHARE, f"{_DRAWS} draws of one step",
                         f"a share {float(gap):.3f} away from its probability", "let draw and support follow one prior")

    def _explains(self, variable: LatentVariable) -> None:
        belief, actions, outside = self.draw(3, 1, 4)
        belief = self.model.settle(belief)
        following = self._imagine("noise u", belief, actions, outside, self._noise(3, 1, 4)).states[:, 0, 1:]
        found, nats = self.ledger.ask("4 steps that followed",
                                      lambda: self.model.explain(belief, actions[:, 0], following, outside))
        fits = found.states.shape[:3] == (3, 1, 5) and tuple(nats.shape) == (3, 4)
        self.ledger.keep("explains what followed: a rollout, and nats of each step", fits, "4 steps",
                         f"states {tuple(found.states.shape)}, nats {tuple(nats.shape)}",
                         "return (B, 1, H+1, D) and (B, H)")
        sound = bool(torch.isfinite(found.states).all() and torch.isfinite(nats).all() and (nats > -1e-4).all())
        self.ledger.keep("explains by finite states and information >= 0", sound, "4 steps",
                         f"least information {float(nats.min()):.3g}", "information is KL(posterior ‖ prior)")
        rows = self.model.given(belief, belief.state[:, None], actions[:, :, 0], outside,
                                tuple(x[:, None] for x in belief.carry)).flatten(0, 1)
        step, u = actions[:, 0, 0], self._noise(3, 1, 1)[:, 0, 0]
        z, middle = variable.draw(u, rows, step), variable.expected(rows, step)
        wanted = (3, variable.size)
        self.ledger.keep("draws z (N, Z)", tuple(z.shape) == wanted == tuple(middle.shape), "3 rows",
                         f"drawn {tuple(z.shape)}, expected {tuple(middle.shape)}", "one z for each row")
        alone = variable.draw(u[1:2], rows[1:2], step[1:2])
        self._agree("draws a row's z from that row alone", "row 1 of 3 alone", alone, z[1:2], "use no neighbours")

    def _agree(self, promise: str, case: str, got: Tensor, wanted: Tensor, fix: str) -> None:
        self.ledger.keep(promise, same(got, wanted), case, worst(got, wanted), fix)
