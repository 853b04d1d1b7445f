"""Dynamic programming over imagined states: layer by layer forwards, equal states merged, then values backwards.

Shapes: B problems, S states of a layer, R choices, O outcomes, T layers, H steps that a choice is held, D state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec
import torch
from torch import Tensor

from steersman.actor.ground.configured import Configured
from steersman.actor.ground.rounds import Best, Searched, Spending, decide
from steersman.actor.ground.verdict import ends_of, verdict
from steersman.actor.tree.merging import keys, merged
from steersman.actor.tree.stepping import Allowance, Step, Stepper, require_tree_sizes
from steersman.core import ConfigError, Critic, Plan, Planner, PlanningError, Problem, register


@dataclass(frozen=True)
class Layer:
    """Everything that can be done at one step.

    energy       (B, S, R, O), and `parts` by term, each (B, S, R, O, H)
    probability  (B, S, R, O)
    place        (B, S, R, O) where it leads: state of the next layer, -1 if that was dropped
    allowed      (B, S, R) bool: every outcome that may come keeps every guardrail
    u            (B, S, R, O, U) or None: what imagines each outcome
    """

    energy: Tensor
    parts: dict[str, Tensor]
    probability: Tensor
    place: Tensor
    allowed: Tensor
    u: Tensor | None


class DynamicProgramming(Configured["DynamicProgramming.Config"]):
    """Backward induction over the states that the model can reach (Bellman 1957).

        S_{t+1} = { outcomes of every choice in every state of S_t },  equal up to `resolution` -> one
        V_T = critic, or 0;   V_t(s) = min over allowed a of Σ_o p_o [E(s, a, o) + V_{t+1}(s_o)]

    A critic is handed over, or a term that the task weighs for what comes at the end (`cost.IntrinsicCritic`).
    Exact for the horizon, also where steps are left to chance: the plan reacts to outcomes, and its value is value
    iteration's. Continuous actions are chosen from a fan as in beam search. A layer keeps `states` states; where more
    are reached, those with the least energy on the way stay, the others count as if their last energy went on, and
    the reason says so.

    A choice is allowed if no outcome that may come meets a guardrail and none leaves only choices that are not: so a
    plan never enters what it cannot leave in time. No allowed choice at the start -> the declared fallback.

    Energies must be those of single steps (a goal's, effort's, disagreement's); that the last step is weighed apart is
    seen to. `Plan.energy` is what is expected, summed over terms and steps it is the value; `Plan.actions` and
    `imagined` follow the most probable outcomes. Nothing is random, nothing is handed on to the next decision.

    Errors: PlanningError for terms that look at more than one step; for beliefs with a history (`Beam` takes them).
    """

    @register(Planner)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="dynamic-programming"):
        """states S of a layer at most; resolution: states nearer than this, entry by entry, are one, relative to the
        largest change of an entry in a first step; fan, hold, horizon, execute as in beam search."""

        states: int = 256
        resolution: float = 1e-3
        fan: int = 8
        hold: int = 1
        horizon: int = 12
        execute: int = 1

        def __post_init__(self) -> None:
            require_tree_sizes(self.fan, self.hold, self.horizon, self.execute, states=self.states)
            if not self.resolution > 0:
                raise ConfigError("resolution > 0", f"{self.resolution}", "correct the planner's configuration")

        def build(self) -> DynamicProgramming:
            return DynamicProgramming(self)

    def __init__(self, config: Config | None = None, critic: Critic | None = None) -> None:
        """critic: what is to come after the horizon, in the unit of the weighted energy."""
        super().__init__(config)
        self.critic = critic

    @torch.no_grad()
    def plan(self, problem: Problem) -> Plan:
        if problem.belief.carry:
            raise PlanningError("a world model whose belief is its state alone", "one that carries a history",
                                "use planner 'beam', or a memoryless world model")
        c = self.config
        horizon = problem.horizon(c.horizon)
        spending, stepper = Spending(problem, horizon), Stepper(problem, horizon, c.hold, c.fan)
        forward = _Forward(problem, stepper, c, self.critic)
        layers, after = forward.layers()
        value, best = _backward(layers, after)
        plan = _follow(problem, stepper, layers, best, value, forward, spending)
        return plan


class _Forward:
    """Grows the layers."""

    def __init__(
        self, problem: Problem, stepper: Stepper, config: DynamicProgramming.Config, critic: Critic | None
    ) -> None:
        self.problem, self.stepper, self.config, self.critic = problem, stepper, config, critic
        self.allowance = Allowance(problem, stepper.steps)
        b, device = len(problem), problem.belief.state.device
        self.dropped = torch.zeros(b, dtype=torch.int64, device=device)
        self.kept, self.scored = torch.zeros_like(self.dropped), torch.zeros_like(self.dropped)
        self.refused: dict[str, Tensor] = {}
        self.ends: dict[str, Tensor] = {}
        """Name of a terminal term -> (B, S, R, O) of the last layer."""

    def layers(self) -> tuple[list[Layer], list[Tensor]]:
        """The layers, and for each (B, S, R, O) the energy to come of outcomes that have no place in the next one (the
        last layer's: of all)."""
        problem, stepper, limit = self.problem, self.stepper, self._affordable()
        b, r = len(problem), len(stepper.choices)
        states = problem.belief.state[:, None]
        live = torch.ones(b, 1, dtype=torch.bool, device=states.device)
        reach = torch.zeros(b, 1, dtype=torch.float64, device=states.device)
        scale, layers, after = None, [], []
        for when in range(stepper.depth):
            count = states.shape[1]
            parent = torch.arange(count, device=states.device).repeat_interleave(r)
            choice = torch.arange(r, device=states.device).repeat(count).expand(b, -1)
            step = stepper.step(states[:, parent], (), choice, when)
            self._count(step, live, parent)
            layer, ends = self._layer(step, count, r), step.states.flatten(2)
            last = when == stepper.depth - 1
            to_come = self._to_come(layer, step, stepper.depth - 1 - when)
            after.append(to_come)
            if not last:
                scale = self._scale(states, ends) if scale is None else scale
                worth = (reach[:, parent, None] + step.energy.double()).flatten(1)
                may = (layer.probability > 0) & layer.allowed[..., None] & live[:, :, None, None]
                found = merged(keys(ends / scale, self.config.resolution), may.flatten(1), worth, limit)
                layer = replace(layer, place=found.place.view(layer.place.shape))
                self.dropped = self.dropped + found.dropped
                rows = torch.arange(b, device=states.device)[:, None]
                states, live = step.states[rows, found.first], found.live
                reach = torch.full((b, found.first.shape[1] + 1), torch.inf, dtype=torch.float64, device=states.device)
                slot = torch.where(found.place >= 0, found.place, found.first.shape[1])
                reach = reach.scatter_reduce_(1, slot, worth, "amin")[:, :-1]
            layers.append(layer)
        return layers, after

    def _affordable(self) -> int:
        """States of a layer that the budget's calls allow for. An outcome is a call; how many there are shows later."""
        r, hold, depth = len(self.stepper.choices), self.stepper.hold, self.stepper.depth
        start = self.problem.belief.state[:, None].expand(-1, r, *self.problem.belief.state.shape[1:])
        each = torch.arange(r, device=start.device).expand(len(start), -1)
        outcomes = self.stepper.outcomes(start, (), each, 0)
        first = r * hold * (1 if outcomes is None else outcomes.probability.shape[-1])
        self.allowance.require(first * depth, f"{depth} layers of {first} outcomes")
        left = self.allowance.left()
        if left is None or depth == 1:
            return self.config.states
        return min(self.config.states, (left - first) // (first * (depth - 1)))

    def _count(self, step: Step, live: Tensor, parent: Tensor) -> None:
        there = live[:, parent]
        self.allowance.calls += step.energy[0].numel() * self.stepper.hold
        may = step.outcomes is None or step.outcomes.probability > 0
        self.kept = self.kept + (there & ~(step.unsafe & may).any(2)).sum(1)
        self.scored = self.scored + there.sum(1)
        for name, veto in step.refused.items():
            self.refused[name] = self.refused.get(name, 0) + (veto & there).sum(1)

    @staticmethod
    def _layer(step: Step, count: int, r: int) -> Layer:
        shape = lambda x: x.unflatten(1, (count, r))  # noqa: E731
        probability = torch.ones_like(step.energy) if step.outcomes is None else step.outcomes.probability
        bad = (step.unsafe & (probability > 0)).any(2)
        energy = torch.where(probability > 0, step.energy, 0)
        return Layer(
            shape(energy), {n: shape(p) for n, p in step.parts.items()}, shape(probability),
            shape(torch.full_like(energy, -1, dtype=torch.int64)), shape(~bad),
            None if step.outcomes is None else shape(step.outcomes.u),
        )

    def _to_come(self, layer: Layer, step: Step, layers: int) -> Tensor:
        """(B, S, R, O): the critic's word after the last layer; for states dropped before it, that nothing changes."""
        if layers:
            return layer.energy * layers
        self.ends = {name: end.view(layer.energy.shape) for name, end in ends_of(self.problem, step.states).items()}
        to_come = sum(self.ends.values(), torch.zeros_like(layer.energy))
        if self.critic is not None:
            to_come = to_come + self.critic.value(step.states, self.problem.belief.context).view(to_come.shape)
        return to_come.to(layer.energy)

    @staticmethod
    def _scale(states: Tensor, ends: Tensor) -> Tensor:
        """(B, 1, 1): the largest change of an entry in a first step."""
        change = (ends - states.flatten(2)).abs()
        return torch.where(torch.isfinite(change), change, 0).amax((1, 2), keepdim=True).clamp_min(1e-12)


def _backward(layers: list[Layer], after: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Values (B, S) of each layer, in float64, infinite where nothing is allowed, and its best choices (B, S)."""
    values: list[Tensor] = []
    chosen: list[Tensor] = []
    for layer, to_come in zip(reversed(layers), reversed(after), strict=True):
        following = to_come.double()
        if values:
            b = len(following)
            known = values[0].gather(1, layer.place.clamp(min=0).flatten(1)).view(b, *following.shape[1:])
            following = torch.where(layer.place >= 0, known, following)
        total = torch.where(layer.probability > 0, layer.energy.double() + following, 0)
        worth = (layer.probability.double() * total).sum(-1).masked_fill(~layer.allowed, torch.inf)
        best, choice = worth.min(2)
        values.insert(0, best)
        chosen.insert(0, choice)
    return values, chosen


def _follow(
    problem: Problem, stepper: Stepper, layers: list[Layer], chosen: list[Tensor], values: list[Tensor],
    forward: _Forward, spending: Spending,
) -> Plan:
    """The plan along the most probable outcomes; its energies are the expected ones."""
    b, device = len(problem), problem.belief.state.device
    rows = torch.arange(b, device=device)
    at, chance, actions = torch.zeros(b, dtype=torch.int64, device=device), [], []
    share = [torch.ones(b, 1, dtype=torch.float64, device=device)]
    parts: dict[str, list[Tensor]] = {}
    for number, (layer, choice) in enumerate(zip(layers, chosen, strict=True)):
        for name, part in _expected(layer, choice, share[-1]).items():
            parts.setdefault(name, []).append(part)
        if number < len(layers) - 1:
            share.append(_moved(layer, choice, share[-1], chosen[number + 1].shape[1]))
        mine = choice[rows, at]
        outcome = layer.probability[rows, at, mine].argmax(1)
        actions.append(stepper.choices[mine][:, None].expand(-1, stepper.hold, -1))
        if layer.u is not None:
            chance.append(layer.u[rows, at, mine, outcome])
        at = layer.place[rows, at, mine, outcome].clamp(min=0)
    sequence, u = torch.cat(actions, 1)[:, None], torch.stack(chance, 1)[:, None] if chance else None
    exogenous = None if problem.exogenous is None else problem.exogenous[:, : stepper.steps]
    scores = verdict(problem, problem.model.imagine(problem.belief, sequence, exogenous, u), sequence)
    energy = {name: torch.cat(part, 1).to(scores.energy) for name, part in parts.items()}
    for name, end in forward.ends.items():
        energy[name] = torch.zeros_like(scores.parts[name][:, 0])
        energy[name][:, -1] = _expected_end(layers[-1], chosen[-1], share[-1], end).to(scores.energy)
    if u is None and not bool(forward.dropped.any()):
        _require_single_steps(energy, scores.parts, values[0][:, 0])
    feasible = torch.isfinite(values[0][:, 0]) & scores.feasible[:, 0]
    best = Best(sequence[:, 0], feasible, values[0][:, 0], energy, scores.imagined, forward.kept, forward.refused)
    calls = torch.full((b,), forward.allowance.calls + stepper.steps, dtype=torch.int64)
    plan = decide(problem, Searched(best, forward.scored, calls), spending)
    return replace(plan, reason=_reasons(plan, forward, values, layers[0].u is not None))


def _expected(layer: Layer, choice: Tensor, share: Tensor) -> dict[str, Tensor]:
    """Name -> (B, H): energies of a layer under the distribution of states (B, S)."""
    index = choice[..., None, None]
    p = layer.probability.double().gather(2, index.expand(-1, -1, 1, layer.probability.shape[3])).squeeze(2)
    out = {}
    for name, part in layer.parts.items():
        mine = part.double().gather(2, index[..., None].expand(-1, -1, 1, *part.shape[3:])).squeeze(2)
        weighted = torch.where((p > 0)[..., None], mine * (share[..., None] * p)[..., None], 0)
        out[name] = torch.where(share[..., None, None] > 0, weighted, 0).sum((1, 2))
    return out


def _expected_end(layer: Layer, choice: Tensor, share: Tensor, end: Tensor) -> Tensor:
    """(B,): what is to come after the last layer, end (B, S, R, O), under the distribution of its states (B, S)."""
    index = choice[..., None, None].expand(-1, -1, 1, end.shape[3])
    p = layer.probability.double().gather(2, index).squeeze(2) * share[..., None]
    return torch.where(p > 0, end.double().gather(2, index).squeeze(2) * p, 0).sum((1, 2))


def _moved(layer: Layer, choice: Tensor, share: Tensor, size: int) -> Tensor:
    """The distribution over the next layer's states, (B, S'); the share of dropped states is lost."""
    index = choice[..., None, None].expand(-1, -1, 1, layer.probability.shape[3])
    p = layer.probability.double().gather(2, index).squeeze(2) * share[..., None]
    place = layer.place.gather(2, index).squeeze(2)
    target = torch.where(place >= 0, place, size).flatten(1)
    return share.new_zeros(len(share), size + 1).scatter_add_(1, target, p.flatten(1))[:, :-1]


def _require_single_steps(summed: dict[str, Tensor], whole: Mapping[str, Tensor], value: Tensor) -> None:
    for name, part in whole.items():
        mine, theirs = summed[name].sum(1), part[:, 0].sum(1)
        off = (mine - theirs).abs() > 1e-3 * (1 + theirs.abs())
        if bool((off & torch.isfinite(value) & torch.isfinite(theirs)).any()):
            raise PlanningError(
                "costs whose energy of a step depends on that step alone", f"{name!r}, which looks at more",
                "use planner 'beam', which scores whole sequences, or drop the term",
            )


def _reasons(plan: Plan, forward: _Forward, values: list[Tensor], chance: bool) -> tuple[str, ...]:
    what = "expected energy" if chance else "energy"
    vetoed = {name: veto.tolist() for name, veto in plan.vetoed.items()}
    rows = zip(plan.feasible.tolist(), values[0][:, 0].tolist(), forward.dropped.tolist(), forward.kept.tolist(),
               strict=True)
    sentences = []
    for b, (feasible, value, dropped, kept) in enumerate(rows):
        vetoes = ", ".join(f"{name} refused {veto[b]}" for name, veto in vetoed.items() if veto[b])
        exact = "exact" if not dropped else f"not exact: {dropped} states were dropped"
        if feasible:
            sentence = f"least {what} {value:.4g} of every way through {kept} allowed steps, {exact}"
        else:
            sentence = f"INFEASIBLE: no way through {kept} allowed steps to the horizon, {exact}; fallback action"
        sentences.append(f"{sentence}; {vetoes}" if vetoes else sentence)
    return tuple(sentences)
