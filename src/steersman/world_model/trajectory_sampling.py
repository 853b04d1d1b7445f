"""Trajectory sampling: what an ensemble is unsure of is left to chance, so that planners weigh it as they weigh chance.

Knows ensembles by `WorldModel.singles`. Shapes: B problems, K candidates, H horizon, D latent size, E members, U
uniform numbers a step, O outcomes; N = B·K futures.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from steersman.core import Belief, ConfigError, Imagined, Latent, Support, WorldModel
from steersman.world_model.latent_variable import Noise


class TrajectorySampling(WorldModel):
    """Every future follows one member of an ensemble instead of the members' mean:

        s_t+1 = f_e(s_t, a_t, z_t),   e = ⌊E u⌋ for uniform u

    "infinity" draws a future's member once (TS∞: a member is one way the world may be), "one" anew at every step (TS1).
    With a task of S scenarios (`Task(risk=Risk(scenarios=S))`) a sampling planner judges each candidate by S such
    futures, from draws that all candidates share and that meet every member equally often; "cvar" and "worst" then
    weigh what the ensemble does not know, and guardrails hold in a stated share of it. CEM over this is PETS. Where the
    members leave something to chance themselves, their u follows the first number.

    It is put round a trained ensemble for planning: `Agent(…, TrajectorySampling(agent.world_model))`. Without u a
    future is the ensemble's own, the mean. Sampled futures report no disagreement: it is in how they differ. A step
    costs E calls of members for rows that are dealt among them, about what the ensemble's mean costs.

    Source: Chua, Calandra, McAllister & Levine 2018, "Deep reinforcement learning in a handful of trials using
    probabilistic dynamics models"; their default is TS∞ with 20 futures and 5 members.

    Raises:
        ConfigError: a model that is no ensemble.
    """

    def __init__(self, model: WorldModel, keep: Literal["infinity", "one"] = "infinity") -> None:
        """keep: for how many steps a future keeps its member."""
        super().__init__()
        singles = model.singles()
        if len(singles) < 2 or keep not in ("infinity", "one"):
            raise ConfigError("an ensemble, and keep 'infinity' or 'one'", f"{len(singles)} member, keep={keep!r}",
                              "train the world model with members=5")
        self.model, self.keep, self.latent_variable = model, keep, Noise(1 + model.chance)

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        belief = self.model.begin(latent, actions, exogenous)
        return replace(belief, carry=(*belief.carry, belief.state.new_full((len(belief), 1), -1)))

    def settle(self, belief: Belief) -> Belief:
        own = self.model.settle(replace(belief, carry=belief.carry[:-1]))
        return replace(own, carry=(*own.carry, belief.carry[-1]))

    def correct(self, foreseen: Belief, latent: Latent, measured: Tensor | None) -> Belief:
        """As the ensemble does; what comes next may follow any member again."""
        own = self.model.correct(replace(foreseen, carry=foreseen.carry[:-1]), latent, measured)
        return replace(own, carry=(*own.carry, torch.full_like(foreseen.carry[-1], -1)))

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        inner, member = replace(belief, carry=belief.carry[:-1]), belief.carry[-1]
        b, k, h = actions.shape[:3]
        if u is None or not h:
            found = self.model.imagine(inner, actions, exogenous)
            return replace(found, carry=(*found.carry, member[:, None].expand(-1, k, -1)))
        rows, known = inner.repeat(k), None if exogenous is None else exogenous.repeat_interleave(k, 0)
        flat, noise = actions.flatten(0, 1)[:, None], u.flatten(0, 1)[:, None]
        count = len(self.model.singles())
        drawn = (noise[:, 0, :, 0] * count).long().clamp(max=count - 1)  # (N, H)
        if self.keep == "infinity":
            held = member.repeat_interleave(k, 0)[:, 0].long()
            chosen = torch.where(held < 0, drawn[:, 0], held.clamp(max=count - 1))
            found = self._followed(rows, flat, known, noise, chosen)
        else:
            chosen, pieces = torch.full_like(drawn[:, 0], -1), list[Tensor]()
            for t in range(h):  # time is sequential
                step = slice(t, t + 1)
                outside = None if known is None else known[:, step]
                found = self._followed(rows, flat[:, :, step], outside, noise[:, :, step], drawn[:, t])
                pieces.append(found.states[:, :, 1:])
                rows = found.last()
            found = replace(found, states=torch.cat([inner.repeat(k).state[:, None, None], *pieces], 2))
        carry = tuple(x.flatten(0, 1).unflatten(0, (b, k)) for x in found.carry)
        last = chosen.to(member).view(b, k, 1)
        return Imagined(found.states.squeeze(1).unflatten(0, (b, k)), belief.context, carry=(*carry, last),
                        shared=belief.shared)

    def _followed(
        self, rows: Belief, actions: Tensor, exogenous: Tensor | None, noise: Tensor, chosen: Tensor
    ) -> Imagined:
        """Each of N futures by its member (N,): actions (N, 1, H, A), noise (N, 1, H, U)."""
        own = noise[..., 1:] if self.model.chance else None
        order, parts = list[Tensor](), list[Imagined]()
        for number, single in enumerate(self.model.singles()):
            which = (chosen == number).nonzero()[:, 0]
            if len(which):
                order.append(which)
                parts.append(replace(single.imagine(
                    rows.rows(which), actions[which], None if exogenous is None else exogenous[which],
                    None if own is None else own[which]), disagreement=None, attention=None))
        back = torch.cat(order).argsort()
        states = torch.cat([part.states for part in parts])[back]
        carry = tuple(torch.cat(x)[back] for x in zip(*(part.carry for part in parts), strict=True))
        return Imagined(states, rows.context, carry=carry, shared=rows.shared)

    def support(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        carry: tuple[Tensor, ...] = (),
    ) -> Support | None:
        """The members, all alike; None where they leave something to chance themselves."""
        if self.model.chance:
            return None
        count = len(self.model.singles())
        middle = (torch.arange(count, dtype=states.dtype, device=states.device) + 0.5) / count
        leading = states.shape[:2]
        return Support(middle[:, None].expand(*leading, -1, -1), states.new_full((*leading, count), 1 / count))

    def singles(self) -> tuple[WorldModel, ...]:
        """Each member as such a model, whose futures all follow it."""
        return tuple(self._round(single) for single in self.model.singles())

    def _round(self, single: WorldModel) -> TrajectorySampling:
        other = copy.copy(self)
        other._modules = {**self._modules, "model": single}
        return other
