"""World model: latent, action, chance -> next latent. The abstract class, and how any model follows what is measured.

A model of one's own needs `begin` and `imagine`; `observe` and `filter` stand on them, and can be overridden where a
model can do better. Shapes: B problems, K candidates, T moments, H horizon, P ages of predictions, D latent size,
A action size, E exogenous size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor, nn

from steersman.core.closed_forms import Perceptron
from steersman.core.errors import PlanningError
from steersman.core.records import apply
from steersman.core.surprising import begun_since, nothing_foreseen, surprise_of, with_older
from steersman.core.types import Belief, Filtered, Imagined, Latent, Outcomes, Surprise


class WorldModel(nn.Module, ABC):
    """Latent, action, z -> next latent."""

    @abstractmethod
    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        """History -> where imagination starts. Done once per problem, never once per candidate.

        latent (B, T, …) is the last T moments, actions (B, T-1, A) those between them, exogenous
        (B, T-1, E), T >= 1. It is what `filter` believes in the end, of moments that were all measured.
        """

    @abstractmethod
    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, z: Tensor | None = None
    ) -> Imagined:
        """Roll out K action sequences (B, K, H, A) from each of B beliefs; exogenous (B, H, E); z (B, K, H, Z).

        z is what is left to chance, uniform on (0, 1): one z, one future. Without it, the future that the model expects
        (its mean, its mode or, for a table, the distribution itself). A deterministic model ignores it.

        Differentiable in actions and belief.
        """

    @property
    def chance(self) -> int:
        """Z, the numbers that decide one step's chance; 0: nothing is left to chance."""
        return 0

    def observe(
        self, belief: Belief | None, actions: Tensor, latent: Latent | None, exogenous: Tensor | None = None,
        measured: Tensor | None = None, reset: Tensor | None = None,
    ) -> tuple[Belief, Surprise]:
        """What is believed after `actions` were carried out and a moment was measured, or was not.

        belief    after the moment before; None: there was none, and every row begins with `latent`
        actions   (B, n, A) carried out since then, exogenous (B, n, E) beside them; n >= 0
        latent    the moment, state (B, D) or (B, N, D), context (B, M, C) or None; None: nothing was measured
        measured  bool that broadcasts to latent.state: which entries were measured; None: all of them
        reset     (B,) bool: rows in which another episode begins with this moment; nothing from before counts in them

        What was not measured is what was foreseen. `Surprise` is how far the rest lies from that.

        Raises:
            PlanningError: a row begins, and nothing was measured.
        """
        anew = reset is not None and bool(reset.any())
        if latent is None and (belief is None or anew):
            raise PlanningError("a measured moment where an episode begins", "none", "observe its first moment")
        if belief is None:
            assert latent is not None
            return self._begun(latent, actions, exogenous), nothing_foreseen(latent.state)
        foreseen = belief
        if actions.shape[1]:
            foreseen = self.imagine(belief, actions[:, None], exogenous).last()
        if latent is None:
            return foreseen, nothing_foreseen(foreseen.state)
        nearest = self._nearest(belief, actions, exogenous, foreseen, latent, measured)
        surprise = surprise_of(nearest, latent.state, actions.shape[1], measured, reset)
        after = self.correct(foreseen, latent, measured)
        if anew:
            assert reset is not None
            known = None if exogenous is None else exogenous[reset]
            after = after.put(reset, self._begun(latent.rows(reset), actions[reset], known))
        return after, surprise

    def filter(
        self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None, measured: Tensor | None = None,
        reset: Tensor | None = None, ahead: int = 1,
    ) -> Filtered:
        """`observe` for T recorded moments: latent (B, T, …), actions (B, T-1, A), exogenous (B, T-1, E), measured bool
        that broadcasts to latent.state, reset (B, T). The first moment begins. Context: (B, T, M, C), or (B, 1, M, C)
        for all of them. Surprise: from `ahead` ages of predictions, 1 to `ahead` moments before.

        The default observes one moment after the other. Override it where moments can be worked through together.
        """
        steps = latent.state.shape[1]
        seen = None if measured is None else measured.expand_as(latent.state)
        belief, states, surprises = None, [], []
        imagined: list[Tensor] = []  # states foreseen from each of the last `ahead` moments, (B, h + 1, …)
        for t in range(steps):
            one = None if latent.context is None else latent.context[:, min(t, latent.context.shape[1] - 1)]
            moment, before = Latent(latent.state[:, t], one), slice(max(t - 1, 0), t)
            mask, anew = None if seen is None else seen[:, t], None if reset is None else reset[:, t]
            belief, surprise = self.observe(
                belief, actions[:, before], moment, None if exogenous is None else exogenous[:, before], mask, anew)
            older = [surprise_of(states_[:, t - s], moment.state, t - s, mask, begun_since(reset, s, t))
                     for s, states_ in zip(range(max(t - ahead, 0), t), imagined, strict=False)][:-1]
            surprises.append(with_older(surprise, older[::-1], ahead))
            states.append(belief.state)
            if ahead > 1:
                coming = slice(t, min(t + ahead, steps - 1))
                known = None if exogenous is None else exogenous[:, coming]
                foretold = self.imagine(belief, actions[:, None, coming], known).states[:, 0]
                imagined = [*imagined, foretold][-ahead:]
        assert belief is not None
        return Filtered(belief, torch.stack(states, 1), apply(lambda *x: torch.stack(x, 1), *surprises))

    def correct(self, foreseen: Belief, latent: Latent, measured: Tensor | None) -> Belief:
        """`foreseen`, once the moment was measured: what was measured takes the place of what was foreseen.

        latent and measured as in `observe`. Override it where a model weighs the two (a Kalman gain).
        """
        state = latent.state.to(foreseen.state.dtype)
        if measured is not None:
            state = torch.where(measured, state, foreseen.state)
        return replace(foreseen, state=state, context=foreseen.context if latent.context is None else latent.context)

    def _begun(self, latent: Latent, actions: Tensor, exogenous: Tensor | None) -> Belief:
        """Beliefs that begin with one moment, state (B, D)."""
        first = Latent(latent.state[:, None], None if latent.context is None else latent.context[:, None])
        return self.begin(first, actions[:, :0], None if exogenous is None else exogenous[:, :0])

    def _nearest(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None, foreseen: Belief, latent: Latent,
        measured: Tensor | None,
    ) -> Tensor:
        """The foreseen state; where outcomes can be listed, of the last step's the one that lies nearest to what was
        measured."""
        n = actions.shape[1]
        if not n or not self.chance:
            return foreseen.state
        known = (None, None) if exogenous is None else (exogenous[:, : n - 1], exogenous[:, n - 1 :])
        before = self.imagine(belief, actions[:, None, : n - 1], known[0]).last() if n > 1 else belief
        last = actions[:, None, n - 1 :]
        outcomes = self.outcomes(before, before.state[:, None], last[:, :, 0])
        if outcomes is None:
            return foreseen.state
        count = outcomes.z.shape[2]
        each = self.imagine(before, last.expand(-1, count, -1, -1), known[1], outcomes.z[:, 0][:, :, None])
        ends = each.states[:, :, -1]
        error = (ends - latent.state[:, None]).square()
        if measured is not None:
            error = error * measured[:, None]
        error = error.flatten(2).sum(2).masked_fill(outcomes.probability[:, 0] <= 0, torch.inf)
        return ends[torch.arange(len(ends), device=ends.device), error.argmin(1)]

    def outcomes(self, belief: Belief, states: Tensor, actions: Tensor) -> Outcomes | None:
        """What may come of one step from states (B, K, D) with actions (B, K, A); None: nothing is left to chance.

        Few outcomes are listed with their probabilities. Where there are endlessly many, a fixed set of draws that
        stands for them is, each as probable as the others.
        """
        return None

    def singles(self) -> tuple[WorldModel, ...]:
        """The members of an ensemble, each a world model of its own; this one alone if it is none."""
        return (self,)

    def as_perceptron(self, actions: Tensor) -> Perceptron | None:
        """This model as a plain perceptron for the actions (R, A), for searches that compile; None: it is none, or not
        one in float32 on the CPU. What it gives must be what `imagine` gives, to rounding."""
        return None

    def branch(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        z: Tensor | None = None, carry: tuple[Tensor, ...] = (),
    ) -> Imagined:
        """Roll out from K different states (B, K, D), each with its own carry (B, K, …), that share each problem's
        context and shared parts; actions (B, K, H, A), exogenous (B, H, E), z (B, K, H, Z).

        The default copies what is shared K times. Override it where it can be read by all.
        """
        if len(carry) != len(belief.carry):
            raise PlanningError(
                "what each state carries of its history, or a world model whose belief is its state alone",
                "states without a history", "use planner 'cem', 'icem' or 'beam', or a memoryless world model",
            )
        k = states.shape[1]
        context = None if belief.context is None else belief.context.repeat_interleave(k, 0)
        shared = tuple(x.repeat_interleave(k, 0) for x in belief.shared)
        exogenous = None if exogenous is None else exogenous.repeat_interleave(k, 0)
        chance = None if z is None else z.flatten(0, 1)[:, None]
        start = Belief(states.flatten(0, 1), context, tuple(x.flatten(0, 1) for x in carry), shared)
        flat = self.imagine(start, actions.flatten(0, 1)[:, None], exogenous, chance)
        spread = flat.disagreement
        return Imagined(
            flat.states.unflatten(0, (-1, k)).squeeze(2), belief.context,
            None if spread is None else spread.view(-1, k, spread.shape[-1]),
            carry=tuple(x.unflatten(0, (-1, k)).squeeze(2) for x in flat.carry), shared=belief.shared,
        )
