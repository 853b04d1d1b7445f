"""World model: latent, action, chance -> next latent. The abstract class, and how any model follows what is measured.

A model of one's own needs `begin` and `imagine`; `observe` and `filter` stand on them, and can be overridden where a
model can do better. Shapes: B problems, K candidates, T moments, H horizon, P ages of predictions, D latent size,
A action size, E exogenous size, U uniform numbers and Z numbers of chance a step, G numbers that its prior is given.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import replace

import torch
from torch import Tensor, nn

from steersman.core.closed_forms import Perceptron
from steersman.core.copies import for_each
from steersman.core.errors import PlanningError
from steersman.core.latent_variable import LatentVariable, Support
from steersman.core.surprising import begun_since, by_age, by_moment, nothing_foreseen, surprise_of
from steersman.core.types import Belief, Filtered, Imagined, Latent, Surprise


class WorldModel(nn.Module, ABC):
    """Latent, action, chance -> next latent.

    latent_variable  what is left to chance, a module of its own; None: nothing is
    """

    latent_variable: LatentVariable | None

    def __init__(self) -> None:
        super().__init__()
        self.latent_variable = None

    @abstractmethod
    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        """History -> where imagination starts. Done once per problem, never once per candidate.

        latent (B, T, …) is the last T moments, actions (B, T-1, A) those between them, exogenous
        (B, T-1, E), T >= 1. It is what `filter` believes in the end, of moments that were all measured.
        """

    @abstractmethod
    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        """Roll out K action sequences (B, K, H, A) from each of B beliefs; exogenous (B, H, E); u (B, K, H, U).

        u is uniform noise on (0, 1) that the latent variable turns into z step by step: one u, one future. It is the
        only way in: a listed outcome is imagined by the u that `support` names. Without it, the future that the model
        expects (its mean, its mode or, for a table, the distribution itself). A deterministic model ignores it.

        Differentiable in actions and belief.
        """

    @property
    def chance(self) -> int:
        """U, the uniform numbers that decide one step's chance; 0: nothing is left to chance."""
        return 0 if self.latent_variable is None else self.latent_variable.uniform

    def given(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        carry: tuple[Tensor, ...] = (),
    ) -> Tensor:
        """What the prior of z is given before one step, (B, K, G); arguments as in `support`. The default: the state.

        Override it where a history tells more than the state.
        """
        return states.flatten(2)

    def support(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        carry: tuple[Tensor, ...] = (),
    ) -> Support | None:
        """What may come of one step from states (B, K, D), each with its own carry (B, K, …), by actions (B, K, A):
        u (B, K, O, U) and probability (B, K, O). None: nothing is left to chance, or nothing is listed.

        belief, exogenous (B, H, E) as in `branch`; the first of H steps counts.
        """
        if self.latent_variable is None:
            return None
        given = self.given(belief, states, actions, exogenous, carry)
        listed = self.latent_variable.support(given.flatten(0, 1), actions.flatten(0, 1))
        return None if listed is None else listed.map(lambda x: x.unflatten(0, states.shape[:2]))

    def explain(
        self, belief: Belief, actions: Tensor, following: Tensor, exogenous: Tensor | None = None,
        u: Tensor | None = None,
    ) -> tuple[Imagined, Tensor]:
        """The rollout along `actions` (B, H, A) whose chance explains what followed, following (B, H, …): K = 1, and
        (B, H) nats that each step told about z beyond its prior. exogenous (B, H, E).

        u (B, H, U): z is a sample of its posterior instead of the most probable one. The default takes, of the outcomes
        that are listed, the one that ends nearest, and tells -log of its probability; where they cannot be listed, it
        takes what is expected and tells 0. Override it where z is inferred.
        """
        if not (self.chance and actions.shape[1]):
            imagined = self.imagine(belief, actions[:, None], exogenous)
            return imagined, imagined.states.new_zeros(actions.shape[:2])
        steps, nats = [], []
        for t in range(actions.shape[1]):
            action, known = actions[:, t : t + 1], None if exogenous is None else exogenous[:, t : t + 1]
            found = self._nearest(belief, action, known, following[:, t], None)
            if found is None:
                found = self.imagine(belief, action[:, None], known), belief.state.new_zeros(len(belief))
            steps.append(found[0])
            nats.append(found[1])
            belief = found[0].last()
        ways = [steps[0].states, *(step.states[:, :, 1:] for step in steps[1:])]
        return replace(steps[-1], states=torch.cat(ways, 2), disagreement=None, attention=None), torch.stack(nats, 1)

    def start(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        """Beliefs that begin with one moment: state (B, D), actions (B, 0, A), exogenous (B, 0, E)."""
        first = Latent(latent.state[:, None], None if latent.context is None else latent.context[:, None],
                       task=None if latent.task is None else latent.task[:, None])
        return self.settle(self.begin(first, actions, exogenous))

    def settle(self, belief: Belief) -> Belief:
        """The form in which `observe` hands a belief on: of one size however old its rows are, so that rows that began
        at different moments stand in one batch. The default leaves it as it is.

        Override it where what the predictor writes grows from step to step: merge it into what is shared, or pad it.
        """
        return belief

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

        What was not measured is what was foreseen. A row that begins takes the moment as it is given. `Surprise` is
        how far what was measured lies from what was foreseen.

        Raises:
            PlanningError: a row begins, and nothing was measured.
        """
        anew = reset is not None and bool(reset.any())
        if latent is None and (belief is None or anew):
            raise PlanningError("a measured moment where an episode begins", "none", "observe its first moment")
        if belief is None:
            assert latent is not None
            return self.start(latent, actions[:, :0], _before(exogenous)), nothing_foreseen(latent.state)
        foreseen = self.imagine(belief, actions[:, None], exogenous).last() if actions.shape[1] else belief
        foreseen = self.settle(foreseen)
        if latent is None:
            return foreseen, nothing_foreseen(foreseen.state)
        nearest = foreseen.state
        if self.chance and actions.shape[1]:
            nearest = self._explained(belief, actions, exogenous, nearest, latent.state, measured)
        surprise = surprise_of(nearest, latent.state, actions.shape[1], measured, reset)
        after = self.correct(foreseen, latent, measured)
        if anew:
            assert reset is not None
            known = None if exogenous is None else exogenous[reset]
            after = after.put(reset, self.start(latent.rows(reset), actions[reset, :0], _before(known)))
        return after, surprise

    def correct(self, foreseen: Belief, latent: Latent, measured: Tensor | None) -> Belief:
        """`foreseen`, once the moment was measured: what was measured takes the place of what was foreseen.

        latent and measured as in `observe`. Override it where a model weighs the two (a Kalman gain), or where what a
        belief carries depends on what was measured.
        """
        state = latent.state.to(foreseen.state.dtype)
        if measured is not None:
            state = torch.where(measured, state, foreseen.state)
        return replace(foreseen, state=state, context=foreseen.context if latent.context is None else latent.context)

    def filter(
        self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None, measured: Tensor | None = None,
        reset: Tensor | None = None, ahead: int = 1,
    ) -> Filtered:
        """`observe` for T recorded moments: latent (B, T, …), actions (B, T-1, A), exogenous (B, T-1, E), measured bool
        that broadcasts to latent.state, reset (B, T). The first moment begins. Context: (B, T, M, C), or (B, 1, M, C)
        for all of them. Surprise: by P = `ahead` predictions, made 1 to `ahead` moments before.

        All moments are worked through together where everything was measured and the model knows its `beliefs`; one
        after the other elsewhere.
        """
        if measured is None or bool(measured.all()):
            beliefs = self.beliefs(latent, actions, exogenous, reset)
            if beliefs is not None:
                surprise = self._surprises(beliefs, latent.state, actions, exogenous, reset, ahead)
                b, steps = latent.state.shape[:2]
                last = torch.arange(1, b + 1, device=latent.state.device) * steps - 1
                return Filtered(beliefs.rows(last), beliefs.state.unflatten(0, (b, steps)), surprise)
        return self._one_by_one(latent, actions, exogenous, measured, reset, ahead)

    def beliefs(
        self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None, reset: Tensor | None = None
    ) -> Belief | None:
        """What is believed after each of T moments that were all measured, as B*T rows, the moments of a problem
        together; arguments as in `filter`. None: it takes one moment after the other.

        Override it where it can be computed in parallel; where a belief is its state alone, return
        `every_moment(latent)`.
        """
        return None

    def _surprises(
        self, beliefs: Belief, state: Tensor, actions: Tensor, exogenous: Tensor | None, reset: Tensor | None,
        ahead: int,
    ) -> Surprise:
        """What `filter` says of T moments, by one rollout from each of them but the last."""
        b, steps = state.shape[:2]
        deep = min(ahead, steps - 1)
        fresh = torch.ones(b, steps, dtype=torch.bool, device=state.device)
        if deep:
            ticks = torch.arange(steps - 1, device=state.device)
            when = (ticks[:, None] + ticks[:deep]).clamp(max=steps - 2)  # beyond the recording: never looked at
            before = beliefs.rows((torch.arange(b, device=state.device)[:, None] * steps + ticks).flatten())
            done = actions[:, when].flatten(0, 1)
            known = None if exogenous is None else exogenous[:, when].flatten(0, 1)
            ends = self.imagine(before, done[:, None], known).states[:, 0].unflatten(0, (b, steps - 1))
        found = []
        for age in range(1, ahead + 1):
            foreseen, unknown = state, fresh
            if age <= deep:
                met, seen = ends[:, : steps - age, age], state[:, age:]
                if self.chance:
                    rows = torch.arange(b * (steps - 1), device=state.device).view(b, -1)[:, : steps - age].flatten()
                    met = self._explained(
                        before.rows(rows), done[rows, :age], None if known is None else known[rows, :age],
                        met.flatten(0, 1), seen.flatten(0, 1), None).view(seen.shape)
                foreseen = torch.cat([state[:, :age], met.to(state.dtype)], 1)
                begun = torch.zeros_like(fresh[:, age:]) if reset is None else reset.unfold(1, age, 1)[:, 1:].any(-1)
                unknown = torch.cat([fresh[:, :age], begun], 1)
            found.append(surprise_of(foreseen.flatten(0, 1), state.flatten(0, 1), age, None, unknown.flatten()))
        return by_age(found).map(lambda x: x.unflatten(0, (b, steps)))

    def _one_by_one(
        self, latent: Latent, actions: Tensor, exogenous: Tensor | None, measured: Tensor | None,
        reset: Tensor | None, ahead: int,
    ) -> Filtered:
        steps = latent.state.shape[1]
        seen = None if measured is None else measured.expand_as(latent.state)
        belief, states, surprises = None, [], []
        past: deque[tuple[Belief, Tensor]] = deque(maxlen=ahead)  # beliefs, and the states foreseen from each (B, P, …)
        for t in range(steps):
            context = None if latent.context is None else latent.context[:, min(t, latent.context.shape[1] - 1)]
            task = None if latent.task is None else latent.task[:, t]
            moment, since = Latent(latent.state[:, t], context, task=task), slice(max(t - 1, 0), t)
            mask, anew = (None if x is None else x[:, t] for x in (seen, reset))
            belief, surprise = self.observe(
                belief, actions[:, since], moment, None if exogenous is None else exogenous[:, since], mask, anew)
            ages = [surprise]
            for age in range(2, ahead + 1):
                if age > t:
                    ages.append(nothing_foreseen(moment.state))
                    continue
                (before, coming), since = past[-age], slice(t - age, t)
                met = coming[:, age - 1]
                if self.chance:
                    known = None if exogenous is None else exogenous[:, since]
                    met = self._explained(before, actions[:, since], known, met, moment.state, mask)
                ages.append(surprise_of(met, moment.state, age, mask, begun_since(reset, t - age, t)))
            surprises.append(by_age(ages))
            states.append(belief.state)
            if ahead > 1 and t < steps - 1:
                coming_ = slice(t, min(t + ahead, steps - 1))
                known = None if exogenous is None else exogenous[:, coming_]
                past.append((belief, self.imagine(belief, actions[:, None, coming_], known).states[:, 0, 1:]))
        assert belief is not None
        return Filtered(belief, torch.stack(states, 1), by_moment(surprises))

    def _explained(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None, expected: Tensor, state: Tensor,
        measured: Tensor | None,
    ) -> Tensor:
        """Where the last of `actions` (B, n, A) ends if chance is what explains the measured state best: the nearest of
        its outcomes; where they cannot be listed, the nearer of what its posterior and its prior foresee.

        expected  what the prior foresees
        """
        n = actions.shape[1]
        known = (None, None) if exogenous is None else (exogenous[:, : n - 1], exogenous[:, n - 1 :])
        before = self.imagine(belief, actions[:, None, : n - 1], known[0]).last() if n > 1 else belief
        last = actions[:, n - 1 :]
        found = self._nearest(before, last, known[1], state, measured)
        if found is not None:
            return found[0].states[:, 0, -1]
        seen = state if measured is None else torch.where(measured, state, expected)
        ends = self.explain(before, last, seen[:, None], known[1])[0].states[:, 0, -1]
        closer = _distance(ends, state, measured) < _distance(expected, state, measured)
        return torch.where(closer.view(-1, *[1] * (state.dim() - 1)), ends, expected)

    def _nearest(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None, state: Tensor, measured: Tensor | None
    ) -> tuple[Imagined, Tensor] | None:
        """Of the outcomes of one step, actions (B, 1, A), the one that ends nearest to the measured state, K = 1, and
        -log of its probability (B,); None: not all of them can be listed."""
        carry = tuple(x[:, None] for x in belief.carry)
        support = self.support(belief, belief.state[:, None], actions, exogenous, carry)
        if support is None or not support.exhaustive:
            return None
        count = support.u.shape[2]
        each = self.imagine(
            belief, actions[:, None].expand(-1, count, -1, -1), exogenous, support.u[:, 0][:, :, None])
        ends, probability = each.states[:, :, -1], support.probability[:, 0]
        mask = None if measured is None else measured.expand_as(state)[:, None]
        error = _distance(ends.flatten(0, 1), state[:, None].expand_as(ends).flatten(0, 1),
                          None if mask is None else mask.expand_as(ends).flatten(0, 1)).view(probability.shape)
        best = error.masked_fill(probability <= 0, torch.inf).argmin(1)
        return each.select(best), -probability[torch.arange(len(best), device=best.device), best].log()

    def initialise(self) -> None:
        """Called once before a training begins, never where weights are loaded; see `Perception.initialise`."""

    def singles(self) -> tuple[WorldModel, ...]:
        """The members of an ensemble, each a world model of its own; this one alone if it is none."""
        return (self,)

    def as_perceptron(self, actions: Tensor) -> Perceptron | None:
        """This model as a plain perceptron for the actions (R, A), for searches that compile; None: it is none, or not
        one in float32 on the CPU. What it gives must be what `imagine` gives, to rounding."""
        return None

    def branch(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        u: Tensor | None = None, carry: tuple[Tensor, ...] = (),
    ) -> Imagined:
        """Roll out from K different states (B, K, D), each with its own carry (B, K, …), that share each problem's
        context and shared parts; actions (B, K, H, A), exogenous (B, H, E), u (B, K, H, U).

        The default copies what is shared K times. Override it where it can be read by all.
        """
        if len(carry) != len(belief.carry):
            raise PlanningError(
                "what each state carries of its history, or a world model whose belief is its state alone",
                "states without a history", "use planner 'cem', 'icem' or 'beam', or a memoryless world model",
            )
        k = states.shape[1]
        mapped = () if belief.context is None else (belief.context,)
        common = for_each((*mapped, *belief.shared), k)
        known = None if exogenous is None else for_each((exogenous,), k)[0]
        start = Belief(states.flatten(0, 1), common[0] if mapped else None, tuple(x.flatten(0, 1) for x in carry),
                       common[len(mapped):])
        chance = None if u is None else u.flatten(0, 1)[:, None]
        flat = self.imagine(start, actions.flatten(0, 1)[:, None], known, chance)
        alone = replace(flat, context=None, shared=()).map(lambda x: x.unflatten(0, (-1, k)).squeeze(2))
        return replace(alone, context=belief.context, shared=belief.shared)


def every_moment(latent: Latent) -> Belief:
    """`WorldModel.beliefs` where a belief is its state alone: state (B, T, …) and context (B, T or 1, M, C)."""
    steps = latent.state.shape[1]
    context = None if latent.context is None else latent.context.expand(-1, steps, -1, -1).flatten(0, 1)
    return Belief(latent.state.flatten(0, 1), context)


def _before(exogenous: Tensor | None) -> Tensor | None:
    """What belongs to a history of one moment: nothing."""
    return None if exogenous is None else exogenous[:, :0]


def _distance(a: Tensor, b: Tensor, measured: Tensor | None) -> Tensor:
    """(N,): Σ (a - b)² over what was measured of states (N, …)."""
    error = (a - b).square()
    return (error if measured is None else error * measured.expand_as(error)).flatten(1).sum(1)
