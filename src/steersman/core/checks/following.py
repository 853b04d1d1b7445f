"""Does a world model believe the same moment by moment, from recorded moments and from a history? Part of
`check_world_model`. Knows `core.WorldModel` only.

Shapes: B problems, K candidates, T moments, H horizon, D latent size, A action size, E exogenous size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core.checks.promises import Futures, Ledger, same, worst
from steersman.core.records import tensors
from steersman.core.types import Belief, Latent, Surprise
from steersman.core.world_model import WorldModel

_B = 3


class Following:
    """One model and recorded moments for it."""

    def __init__(self, model: WorldModel, futures: Futures, ledger: Ledger, exogenous: int, history: int) -> None:
        self.model, self.futures, self.ledger, self.exogenous = model, futures, ledger, exogenous
        self.steps = steps = max(history, 4)
        moments, done = futures.draw(_B, 1, steps - 1)
        context = None if moments.context is None else moments.context[:, None].expand(-1, steps, -1, -1)
        self.latent, self.actions = Latent(moments.states[:, 0], context), done[:, 0]
        self.inputs, self.coming = self._outside(steps - 1), (futures.actions(_B, 2, 3), self._outside(3))

    def check(self) -> None:
        belief, states, surprise = self._stream("moment by moment", self.latent)
        self._begins(belief)
        self._filters(belief, states, surprise)
        self._foresees(belief)
        self._measures()
        self._forgets()
        self._stays_small()

    def _outside(self, steps: int) -> Tensor | None:
        if not self.exogenous:
            return None
        return torch.randn(_B, steps, self.exogenous, generator=self.futures.generator)

    def _observe(
        self, case: str, belief: Belief | None, actions: Tensor, latent: Latent | None, exogenous: Tensor | None,
        measured: Tensor | None = None, reset: Tensor | None = None,
    ) -> tuple[Belief, Surprise]:
        return self.ledger.ask(
            case, lambda: self.model.observe(belief, actions, latent, exogenous, measured, reset))

    def _stream(
        self, case: str, latent: Latent, measured: Tensor | None = None, reset: Tensor | None = None, first: int = 0,
    ) -> tuple[Belief, Tensor, Surprise]:
        """The last belief, every state (B, T, …), and every surprise, energy (B, T, 1, …); `first`: where it begins."""
        belief, states, surprises = None, [], []
        for t in range(first, self.steps):
            since = slice(max(t - 1, first), t)
            belief, surprise = self._observe(
                case, belief, self.actions[:, since], latent.map(lambda x, t=t: x[:, t]),  # type: ignore[misc]
                None if self.inputs is None else self.inputs[:, since],
                None if measured is None else measured[:, t], None if reset is None else reset[:, t])
            states.append(belief.state)
            surprises.append(surprise)
        assert belief is not None
        every = [torch.stack([getattr(x, name) for x in surprises], 1) for name in ("energy", "known", "horizon")]
        return belief, torch.stack(states, 1), Surprise(*every)

    def _ahead(self, belief: Belief) -> Tensor:
        """What is imagined from a belief: (B, K, H+1, …)."""
        return self.ledger.ask("futures from a belief", lambda: self.model.imagine(belief, *self.coming)).states

    def _agree(self, promise: str, case: str, got: Tensor, wanted: Tensor, fix: str) -> None:
        self.ledger.keep(promise, same(got, wanted), case, worst(got, wanted), fix)

    def _begins(self, belief: Belief) -> None:
        begun = self.ledger.ask(f"a history of {self.steps} moments",
                                lambda: self.model.begin(self.latent, self.actions, self.inputs))
        self._agree("believes from a history what it believes moment by moment", f"{self.steps} moments",
                    self._ahead(belief), self._ahead(begun),
                    "let `begin` and `imagine` write the same, and override `correct` where what a belief carries "
                    "depends on what was measured")

    def _filters(self, belief: Belief, states: Tensor, surprise: Surprise) -> None:
        case, promise = f"{self.steps} recorded moments", "filters recorded moments as it observes them"
        fix = "leave `filter` and `beliefs` out, or let them give what `observe` gives"
        found = self.ledger.ask(case, lambda: self.model.filter(self.latent, self.actions, self.inputs, ahead=2))
        self._agree(promise, case, found.states, states, fix)
        self._agree(promise, case, self._ahead(found.belief), self._ahead(belief), fix)
        for name in ("energy", "known", "horizon"):
            got, wanted = getattr(found.surprise, name), getattr(surprise, name)
            self._agree(promise, f"{case}, {name} of their surprise", got[:, :, :1].float(), wanted.float(), fix)
        deeper = bool((found.surprise.horizon[:, 2:, 1] == 2).all()) and found.surprise.energy.shape[2] == 2
        self.ledger.keep("tells surprise by the age of predictions", deeper, f"{case}, ahead=2",
                         f"ages {found.surprise.horizon[0].tolist()}", "give one surprise for each age, youngest first")

    def _foresees(self, belief: Belief) -> None:
        """Surprise belongs to what was foreseen: of what the model expects it is nothing, of another row's it is more.

        Where something is left to chance, every outcome counts as expected, if all are listed.
        """
        action, known = self.coming[0][:, 0, :1], None if self.coming[1] is None else self.coming[1][:, :1]
        u = None
        if self.model.chance:
            carry = tuple(x[:, None] for x in belief.carry)
            listed = self.model.support(belief, belief.state[:, None], action, known, carry)
            if listed is None or not listed.exhaustive:
                return
            u = listed.u[:, :, 0, None]
        ahead = self.ledger.ask("one step", lambda: self.model.imagine(belief, action[:, None], known, u))
        expected = ahead.last().state
        other = expected.roll(1, 0)
        mine, others = (self._observe("predictions measured", belief, action, Latent(x), known)[1]
                        for x in (expected, other))
        size = float((other - expected).square().mean())
        most, fix = float(mine.energy.abs().max()), "measure surprise from the state foreseen"
        small = most <= 1e-6 * (1 + size) and bool(mine.known.all())
        self.ledger.keep("is not surprised by what it foresaw", small, "its own prediction measured",
                         f"surprise {most:.3g}", fix)
        if size > 1e-6:
            self.ledger.keep("is surprised by what others were to meet", float(others.pooled().sum()) > 0,
                             "predictions of neighbours measured", "no surprise", fix)
        form = (_B, 1, expected.shape[1])
        fits = mine.energy.shape == form == mine.known.shape and bool((mine.horizon == 1).all())
        self.ledger.keep("tells surprise of each dimension or token", fits, "one moment",
                         f"energy {tuple(mine.energy.shape)}", f"return energy {form}")

    def _measures(self) -> None:
        g, shape = self.futures.generator, self.latent.state.shape
        measured = torch.rand(shape, generator=g) < 0.5
        measured[:, 0] = True
        noise = torch.where(measured, 0.0, 10 * torch.randn(shape, generator=g))
        garbled = Latent(self.latent.state + noise, self.latent.context)
        belief, states, surprise = self._stream("a part measured", self.latent, measured)
        other, _, same_ = self._stream("a part measured", garbled, measured)
        promise, fix = "lets what was not measured change nothing", "pass `measured` on, and correct by what was"
        self._agree(promise, "other numbers where nothing was measured", self._ahead(other), self._ahead(belief), fix)
        self._agree(promise, "surprise where nothing was measured", same_.energy, surprise.energy, fix)
        found = self.ledger.ask("a part measured",
                                lambda: self.model.filter(garbled, self.actions, self.inputs, measured))
        self._agree("filters recorded moments as it observes them", "a part measured", found.states, states,
                    "pass `measured` on from `filter`")
        actions, known = self.coming[0][:, 0], self.coming[1]
        moment = self.latent.map(lambda x: x[:, -1])
        steps = [None if known is None else known[:, :n] for n in range(3)]
        none = torch.zeros_like(moment.state, dtype=torch.bool)
        blind, _ = self._observe("nothing measured", belief, actions[:, :1], None, steps[1])
        masked, quiet = self._observe("nothing measured", belief, actions[:, :1], moment, steps[1], none)
        way = self.ledger.ask("3 steps", lambda: self.model.imagine(belief, actions[:, None], known)).states
        rest = self.ledger.ask("2 steps more", lambda: self.model.imagine(
            blind, actions[:, None, 1:], None if known is None else known[:, 1:])).states
        fix = "believe what was foreseen where nothing was measured"
        self._agree("goes on as it imagined where nothing was measured", "one step, nothing measured, 2 steps",
                    rest[:, :, 1:], way[:, :, 2:], fix)
        self._agree("goes on as it imagined where nothing was measured", "an empty mask instead of no moment",
                    masked.state, blind.state, fix)
        self.ledger.keep("knows no surprise where nothing was measured", not bool(quiet.known.any()), "an empty mask",
                         "known surprise", "mark it as not known")
        both, _ = self._observe("2 actions at once", belief, actions[:, :2], moment, steps[2])
        each, _ = self._observe("2 actions one by one", blind, actions[:, 1:2], moment,
                                None if known is None else known[:, 1:2])
        self._agree("takes several actions at once as one by one", "2 actions", self._ahead(both), self._ahead(each),
                    "imagine through all of them before the moment corrects")

    def _forgets(self) -> None:
        reset = torch.zeros(_B, self.steps, dtype=torch.bool)
        begins = [0, self.steps // 2, self.steps - 1]
        reset[range(_B), begins] = True
        belief, states, surprise = self._stream("rows that begin anew", self.latent, reset=reset)
        futures = self._ahead(belief)
        for row, first in enumerate(begins):
            alone, _, _ = self._stream("the last episode alone", self.latent, first=first)
            self._agree("forgets what came before an episode began", f"begun at moment {first} of {self.steps}",
                        futures[row], self._ahead(alone)[row], "begin the rows of `reset` with `start`")
        fresh = ~surprise.known.flatten(2).any(2)
        self.ledger.keep("foresees nothing of a moment that begins", bool((fresh == reset).index_fill(
            1, torch.tensor([0]), True).all()), "rows that begin anew", "known surprise", "mark it as not known")
        found = self.ledger.ask("rows that begin anew",
                                lambda: self.model.filter(self.latent, self.actions, self.inputs, reset=reset))
        fix = "pass `reset` on from `filter`, and look at nothing from before it"
        promise = "filters recorded moments as it observes them"
        self._agree(promise, "rows that begin anew", found.states, states, fix)
        self._agree(promise, "rows that begin anew", self._ahead(found.belief), futures, fix)
        self._agree(promise, "surprise of rows that begin anew", found.surprise.energy, surprise.energy, fix)

    def _stays_small(self) -> None:
        belief, _, _ = self._stream("a long episode", self.latent)
        sizes, moment = [], self.latent.map(lambda x: x[:, -1])
        known = None if self.inputs is None else self.inputs[:, :1]
        for number in range(4 * self.steps):
            seen = moment if number % 3 else None
            belief, _ = self._observe("a long episode", belief, self.actions[:, :1], seen, known)
            sizes.append(sum(x.numel() for x in tensors(belief).values()))
        self.ledger.keep("keeps the size of its belief however long an episode is", sizes[-1] <= sizes[self.steps],
                         f"{5 * self.steps} moments", f"{sizes[self.steps]} numbers, then {sizes[-1]}",
                         "override `settle`: merge or pad what grows")
