"""Does a world model of your own keep what every world model promises? Knows `core.WorldModel` only.

Shapes: B problems, K candidates, T moments of history, H horizon, D latent size, A action size, E exogenous size.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from steersman.core.checks.chance import Chance
from steersman.core.checks.following import Following
from steersman.core.checks.promises import CASES, Futures, Ledger, same, worst
from steersman.core.errors import PlanningError
from steersman.core.signature import ActionSpec
from steersman.core.types import Belief, Imagined, Latent
from steersman.core.world_model import WorldModel


def check_world_model(
    model: WorldModel,
    action: ActionSpec,
    latent_shape: tuple[int, ...],
    *,
    context_shape: tuple[int, int, int] | None = None,
    exogenous: int = 0,
    history: int = 1,
    differentiable: bool = True,
    states: Tensor | None = None,
    seed: int = 0,
) -> tuple[str, ...]:
    """Ask `model` to imagine made-up problems; the promises that it kept, in words.

    futures (B, K, H+1, D) that begin where the belief is; finite; the same when asked again, for a problem alone and
    for a candidate alone; no step knows a later action; imagining on from the end of a future is the longer future;
    so is `branch` from the ends of futures, unless it refuses; `as_perceptron`, where it says anything, says the same;
    inputs, weights and the global random generator are left alone; works in inference mode; finite gradients in
    actions. An ensemble's step is the mean of its members' steps, and it says how far they lie apart. What is believed
    is the same from `begin`, `filter` and `observe` moment by moment, also where a part or nothing was measured, after
    several actions, and in rows that begin anew; surprise belongs to what was foreseen; a belief keeps its size. Where
    something is left to chance: one future from one noise, whatever its neighbours and whatever noise comes later;
    outcomes that are listed have probabilities that sum to 1 and are drawn as often; what followed is explained by a
    rollout and information >= 0.

    action, latent_shape, context_shape   of the agent that it is for
    exogenous       size of the exogenous inputs
    history         moments that `begin` gets at most; 4 are tried at least
    differentiable  whether gradient planners should be able to use it (amounts only)
    states          (n, *latent_shape) examples to draw moments from; None: normal numbers

    The model is asked in evaluation mode, and left in the mode that it was in.

    Raises:
        PromiseError: the first promise that is broken, and in which case.

    >>> from steersman.world_model import ResidualModel                                 # doctest: +SKIP
    >>> check_world_model(ResidualModel.Config().build(signature, (16,), None), action, (16,))    # doctest: +SKIP
    """
    training = model.training
    model.eval()
    try:
        check = _Check(model, Futures(action, latent_shape, context_shape, seed, states), exogenous, history)
        with torch.no_grad():
            check.shapes()
            check.repeats()
            check.stands_alone()
            check.knows_no_later_action()
            check.goes_on()
            check.branches()
            check.closed_form()
            Chance(model, check.ledger, lambda b, k, h: check.draw(b, k, h, history), check.futures.generator).check()
            Following(model, check.futures, check.ledger, exogenous, history).check()
            check.doubts()
        if differentiable and action.kind != "discrete":
            check.gradients()
    finally:
        model.train(training)
    return check.ledger.kept


class _Check:
    """One model and problems for it."""

    def __init__(self, model: WorldModel, futures: Futures, exogenous: int, history: int) -> None:
        self.model, self.futures, self.exogenous, self.history = model, futures, exogenous, history
        self.ledger = Ledger(f"world model {type(model).__name__!r}")

    def draw(self, b: int, k: int, h: int, past: int = 1) -> tuple[Belief, Tensor, Tensor | None]:
        """Beliefs after `past` moments, actions (B, K, H, A) and exogenous inputs (B, H, E) to come."""
        moments, before = self.futures.draw(b, 1, past - 1)
        context = None if moments.context is None else moments.context[:, None]
        case = f"{b} problems, {past} moments"
        belief = self.ledger.ask(case, lambda: self.model.begin(
            Latent(moments.states[:, 0], context), before[:, 0], self._outside(b, past - 1)))
        self.ledger.keep("begins with one belief for each problem", len(belief) == b, case, f"{len(belief)}",
                         "give every tensor of the belief a leading dimension of problems")
        return belief, self.futures.actions(b, k, h), self._outside(b, h)

    def _outside(self, b: int, steps: int) -> Tensor | None:
        if not self.exogenous:
            return None
        return torch.randn(b, steps, self.exogenous, generator=self.futures.generator)

    def imagine(self, case: str, belief: Belief, actions: Tensor, outside: Tensor | None) -> Imagined:
        return self.ledger.ask(case, lambda: self.model.imagine(belief, actions, outside))

    def shapes(self) -> None:
        for past in sorted({1, self.history}):
            for b, k, h in CASES:
                self._shape(b, k, h, past)

    def _shape(self, b: int, k: int, h: int, past: int) -> None:
        belief, actions, outside = self.draw(b, k, h, past)
        case = f"{b} problems, {k} candidates, {h} steps" + (f", {past} moments before" if past > 1 else "")
        found = self.imagine(case, belief, actions, outside)
        wanted = (b, k, h + 1, *self.futures.latent_shape)
        keep = self.ledger.keep
        keep("imagines states (B, K, H+1, D)", tuple(found.states.shape) == wanted, case,
             f"{tuple(found.states.shape)} where {wanted} belong", "return the start and the state after each action")
        start = belief.state[:, None].expand_as(found.states[:, :, 0])
        keep("begins every future where the belief is", same(found.states[:, :, 0], start), case,
             worst(found.states[:, :, 0], start), "put the belief's own state first")
        keep("imagines finite states", bool(torch.isfinite(found.states).all()), case,
             f"{int((~torch.isfinite(found.states)).sum())} numbers that are not", "bound the step")
        spread = found.disagreement
        fits = spread is None or (tuple(spread.shape) == (b, k, h) and bool((spread >= 0).all()))
        keep("reports disagreement (B, K, H) >= 0, or none", fits, case,
             "none" if spread is None else f"{tuple(spread.shape)}, least {float(spread.min()):.3g}",
             "one number for each step, 0 where the members agree")

    def repeats(self) -> None:
        belief, actions, outside = self.draw(3, 5, 4, self.history)
        with self.ledger.intact(self.model, Imagined(belief.state, belief.context), actions):
            before = self.imagine("asked once", belief, actions, outside)
        again = self.imagine("asked twice", belief, actions, outside)
        self.ledger.keep("imagines the same again", same(again.states, before.states), "asked twice",
                         worst(again.states, before.states), "draw nothing at random: what chance decides is u")
        with torch.inference_mode():
            quick = self.imagine("in inference mode", belief, actions, outside)
        self.ledger.keep("imagines the same in inference mode", same(quick.states, before.states), "in inference mode",
                         worst(quick.states, before.states), "let no branch depend on gradients")

    def stands_alone(self) -> None:
        belief, actions, outside = self.draw(3, 5, 4, self.history)
        whole = self.imagine("3 problems, 5 candidates", belief, actions, outside).states
        alone = self.imagine("problem 1 of 3 alone", belief[1:2], actions[1:2],
                             None if outside is None else outside[1:2]).states
        self.ledger.keep("imagines a problem alone as in a batch", same(alone, whole[1:2]), "problem 1 of 3 alone",
                         worst(alone, whole[1:2]), "use no statistics over problems (batch normalisation in training)")
        alone = self.imagine("candidate 3 of 5 alone", belief, actions[:, 3:4], outside).states
        self.ledger.keep("imagines a candidate alone as among others", same(alone, whole[:, 3:4]),
                         "candidate 3 of 5 alone", worst(alone, whole[:, 3:4]), "use no statistics over candidates")

    def knows_no_later_action(self) -> None:
        belief, actions, outside = self.draw(3, 5, 4, self.history)
        other = torch.cat([actions[:, :, :2], self.futures.actions(3, 5, 2)], 2)
        first = self.imagine("4 steps", belief, actions, outside).states[:, :, :3]
        second = self.imagine("the last 2 actions changed", belief, other, outside).states[:, :, :3]
        self.ledger.keep("lets no state depend on a later action", same(first, second), "the last 2 actions changed",
                         worst(first, second), "mask attention, shift recurrence: a state sees the actions before it")

    def goes_on(self) -> None:
        belief, actions, outside = self.draw(3, 5, 4, self.history)
        whole = self.imagine("4 steps", belief, actions, outside).states
        early, late = (None, None) if outside is None else (outside[:, :2], outside[:, 2:].repeat_interleave(5, 0))
        half = self.imagine("2 steps", belief, actions[:, :, :2], early)
        rest = self.imagine("2 steps more", half.last(), actions[:, :, 2:].flatten(0, 1)[:, None], late)
        joined = rest.states.unflatten(0, (3, 5))[:, :, 0, 1:]
        self.ledger.keep("imagines on from the end of a future", same(joined, whole[:, :, 3:]), "2 steps and 2 more",
                         worst(joined, whole[:, :, 3:]), "put all that the next step needs into `carry`")

    def branches(self) -> None:
        """From the ends of futures, each with its own carry; a model may refuse in words."""
        belief, actions, outside = self.draw(3, 5, 4, self.history)
        belief = self.model.settle(belief)
        whole = self.imagine("4 steps", belief, actions, outside).states
        early, late = (None, None) if outside is None else (outside[:, :2], outside[:, 2:])
        half = self.imagine("2 steps", belief, actions[:, :, :2], early)

        def branch() -> Imagined | None:
            try:
                return self.model.branch(belief, half.states[:, :, -1], actions[:, :, 2:], late, None, half.carry)
            except PlanningError:
                return None

        apart = self.ledger.ask("5 states of each problem", branch)
        if apart is not None:
            self.ledger.keep("branches as it imagines", same(apart.states[:, :, 1:], whole[:, :, 3:]),
                             "5 states of each problem", worst(apart.states[:, :, 1:], whole[:, :, 3:]),
                             "leave `branch` out, or go on from each state and its own carry")

    def closed_form(self) -> None:
        """What compiled searches run instead of `imagine`."""
        actions = self.futures.actions(1, 5, 1)[0, :, 0]
        form = self.ledger.ask("in closed form", lambda: self.model.as_perceptron(actions))
        if form is None:
            return
        belief, _, outside = self.draw(1, 5, 1)
        each = self.imagine("one step of 5 actions", belief, actions[None, :, None], outside).states[0, :, 1].flatten(1)
        said = form.step(belief.state.flatten(1).expand(5, -1), torch.arange(5))
        self.ledger.keep("says the same in closed form", same(said, each), "one step of 5 actions", worst(said, each),
                         "correct `as_perceptron`, or let it return None")

    def doubts(self) -> None:
        """An ensemble's step is the mean of its members' steps, and its disagreement how far they lie apart."""
        members = self.model.singles()
        belief, actions, outside = self.draw(3, 5, 2, self.history)
        belief = self.model.settle(belief)
        found = self.imagine("2 steps", belief, actions, outside)
        if len(members) == 1:
            self.ledger.keep("tells of disagreement only where there are members", found.disagreement is None,
                             "2 steps", "disagreement of one model", "return several `singles`, or no disagreement")
            return
        fix = "report √(mean of the variance over `singles`) of each step"
        wanted = (3, 5, 2)
        got = None if found.disagreement is None else tuple(found.disagreement.shape)
        self.ledger.keep("tells how far its members disagree, (B, K, H)", got == wanted, "2 steps", f"{got}", fix)
        assert found.disagreement is not None
        first = None if outside is None else outside[:, :1]
        each = torch.stack([self.ledger.ask(
            "one member alone", partial(member.imagine, belief, actions[:, :, :1], first)).states[:, :, 1]
            for member in members])
        self.ledger.keep("moves by the mean of its members", same(found.states[:, :, 1], each.mean(0)), "one step",
                         worst(found.states[:, :, 1], each.mean(0)), "let the state move by the members' mean")
        apart = each.var(0).flatten(2).mean(-1).sqrt()
        self.ledger.keep("tells how far its members disagree, (B, K, H)", same(found.disagreement[:, :, 0], apart),
                         "one step", worst(found.disagreement[:, :, 0], apart), fix)

    def gradients(self) -> None:
        belief, actions, outside = self.draw(2, 3, 4, self.history)
        actions = actions.clone().requires_grad_()
        with torch.enable_grad():
            states = self.imagine("with gradients", belief, actions, outside).states
            self.ledger.keep("is differentiable in actions", states.requires_grad, "with gradients", "no gradient",
                             "detach nothing: gradient planners descend through the model")
            (gradient,) = torch.autograd.grad(states.square().sum(), actions)
        self.ledger.keep("has finite gradients in actions", bool(torch.isfinite(gradient).all()), "with gradients",
                         "gradients that are not", "guard roots and divisions")
