"""Monte-Carlo tree search in imagination, for many problems at once: PUCT or Gumbel MuZero, with and without chance.

Shapes: B problems, R choices, O outcomes, N nodes, H steps that a choice is held, D state, A action.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from steersman.actor.bounds import fallback_action
from steersman.actor.distributions import fitted
from steersman.actor.rounds import Best, Searched, Spending, decide
from steersman.actor.scoring import judge
from steersman.actor.stepping import Allowance, Step, Stepper, nearest_choice, require_tree_sizes
from steersman.actor.tree import Tree, Walk
from steersman.actor.tree_rules import PUCT, Floats, Gumbel, Rule
from steersman.core import ConfigError, Critic, Plan, Planner, PlanningError, Problem, Streams, TensorRecord


@dataclass(frozen=True)
class Visits(TensorRecord):
    """Share of visits (B, T, R) of each choice along the last plan: the prior that the next decision starts from."""

    share: Tensor


class MCTS(Planner):
    """Tree search over choices (Kocsis 2006; Silver 2018), in the forms of MuZero.

        each simulation: walk down by PUCT (c1 = 1.25, c2 = 19652) or Gumbel MuZero (16 choices considered at the root,
        sequential halving) to a choice that was not tried; imagine it; value what comes; tell the way back

    One model call a simulation for all problems. Values are energies summed to the horizon, scaled between the least
    and the greatest of siblings, so no unit enters. What comes of a new state is the critic's word; without one,
    `rollout` random choices, and after them that the last energy goes on to the horizon. The prior is uniform, mixed
    with a policy's proposal (`Problem.proposal`) and with the visits along the last decision's plan.

    Where steps are left to chance (`WorldModel.outcomes`), a choice is a chance node: all its outcomes are imagined at
    once, worth their expectation, and later walks enter the one that was entered least for its probability.

    A choice that a guardrail refuses, in any outcome that may come, is closed, and so is every choice that leads to a
    state with no open choice left. None open at the root -> the declared fallback. Continuous actions are chosen from a
    fan as in beam search. The plan follows the choices visited most and the most probable outcomes; where the tree ends
    before the horizon, the least energy of a single step.

    Budget: simulations stop when calls or seconds are spent. Energies must be those of single steps, as in dynamic
    programming. Gumbel's draws and rollouts come from each problem's own stream.

    Errors: PlanningError for a belief whose history grows with every step, for outcomes with `hold` > 1.
    """

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="mcts"):
        """simulations a decision; select: "puct" or "gumbel"; rollout: random choices that value a new state.

        trust     share of the prior that proposal and last plan have together, the rest is uniform
        execute   actions of a plan to carry out before the next decision
        """

        simulations: int = 64
        select: Literal["puct", "gumbel"] = "gumbel"
        c1: float = 1.25
        c2: float = 19652.0
        considered: int = 16
        rollout: int = 0
        trust: float = 0.5
        fan: int = 8
        hold: int = 1
        horizon: int = 12
        execute: int = 1

        def __post_init__(self) -> None:
            require_tree_sizes(self.fan, self.hold, self.horizon, self.execute, simulations=self.simulations,
                               considered=self.considered)
            if not (0 <= self.trust < 1 and self.c1 > 0 and self.c2 > 0 and self.rollout >= 0):
                raise ConfigError("0 <= trust < 1, c1 and c2 > 0, rollout >= 0", f"{self}",
                                  "correct the planner's configuration")

        def build(self) -> MCTS:
            return MCTS(self)

    def __init__(self, config: Config | None = None, critic: Critic | None = None) -> None:
        """critic: what is to come of a state, in the unit of the weighted energy."""
        self.config, self.critic = config or MCTS.Config(), critic

    @property
    def execute(self) -> int:
        """Actions of a plan that are meant to be carried out before the next decision."""
        return self.config.execute

    @torch.inference_mode()
    def plan(self, problem: Problem) -> Plan:
        horizon = problem.horizon(self.config.horizon)
        spending, stepper = Spending(problem, horizon), Stepper(problem, horizon, self.config.hold, self.config.fan)
        growth = _Growth(problem, stepper, self.config, self.critic)
        growth.run()
        return growth.conclude(spending)


class _Growth:
    """The trees of one decision while they grow, with the states that their nodes stand for."""

    def __init__(self, problem: Problem, stepper: Stepper, config: MCTS.Config, critic: Critic | None) -> None:
        self.problem, self.stepper, self.config, self.critic = problem, stepper, config, critic
        self.streams = Streams(problem.seeds, problem.decision)
        self.allowance = Allowance(problem, stepper.steps * (1 + len(stepper.choices)))
        b, r = len(problem), len(stepper.choices)
        outcomes = self._outcomes()
        self.each = outcomes * stepper.hold + config.rollout * stepper.hold * outcomes
        self.simulations = self._affordable()
        rule = self._rule(b, r)
        self.tree = Tree(b, self.simulations, r, outcomes, stepper.depth, rule, self._prior())
        self.states = _store(problem.belief.state, b, self.tree.size)
        self.carry = tuple(_store(x, b, self.tree.size) for x in problem.belief.carry)
        self.z: Tensor | None = None
        self.vetoed: dict[str, Tensor] = {}
        self.kept = torch.zeros(b, dtype=torch.int64)
        self.done = 0

    def _outcomes(self) -> int:
        b = len(self.problem)
        state = self.problem.belief.state[:, None]
        listed = self.stepper.outcomes(state, torch.zeros(b, 1, dtype=torch.int64, device=state.device))
        return 1 if listed is None else listed.probability.shape[-1]

    def _affordable(self) -> int:
        self.allowance.require(self.each, "one simulation")
        left = self.allowance.left()
        return self.config.simulations if left is None else min(self.config.simulations, left // self.each)

    def _rule(self, b: int, r: int) -> Rule:
        if self.config.select == "puct":
            return PUCT(self.config.c1, self.config.c2)
        draw = self.streams.uniform(r).double().T
        return Gumbel(self.simulations, self.config.considered, (-(-draw.log()).log()).cpu().numpy())

    def _prior(self) -> Floats | None:
        """Probabilities (B, T, R) by depth, from what was proposed and what the last plan visited; None: uniform."""
        problem, depth, r = self.problem, self.stepper.depth, len(self.stepper.choices)
        wishes = []
        if problem.proposal is not None:
            proposed = fitted(problem.proposal, self.stepper.steps)[:, :: self.stepper.hold]
            wishes.append(torch.nn.functional.one_hot(nearest_choice(self.stepper.choices, proposed), r).double())
        warm = problem.warm
        if isinstance(warm, Visits) and warm.share.shape[0] == len(problem) and warm.share.shape[2] == r:
            moved = warm.share[:, -(-self.config.execute // self.stepper.hold) :][:, :depth].double()
            rest = moved.new_full((len(problem), depth - moved.shape[1], r), 1 / r)
            moved = torch.cat([moved, rest], 1)
            goes_on = (problem.decision > 0).view(-1, 1, 1).to(moved.device)
            wishes.append(torch.where(goes_on, moved, 1 / r))
        if not wishes:
            return None
        wish = torch.stack(wishes).mean(0)
        mixed = (1 - self.config.trust) / r + self.config.trust * wish
        prior: Floats = mixed.cpu().numpy()
        return prior

    def run(self) -> None:
        slowest = 0.0
        for _ in range(self.simulations):
            before = self.allowance.seconds
            if self.done and self.allowance.seconds_left() < slowest:
                return
            self._simulate()
            self.done += 1
            slowest = max(slowest, self.allowance.seconds - before) if self.done > 1 else 0.0
            if self.tree.closed is not None and self.tree.dead().all():
                return

    def _simulate(self) -> None:
        tree, problem = self.tree, self.problem
        filled, walk = tree.filled, tree.walk()
        device = problem.belief.state.device
        leaf = torch.from_numpy(walk.leaf).to(device)
        when = torch.from_numpy(np.minimum(walk.depth, tree.horizon - 1)).to(device)
        states = self.states.flatten(0, 1).index_select(0, leaf)[:, None]
        carry = tuple(x.flatten(0, 1).index_select(0, leaf)[:, None] for x in self.carry)
        step = self.stepper.step(states, carry, torch.from_numpy(walk.choice).to(device)[:, None], when)
        self.allowance.calls += self.each
        to_come = self._to_come(step, when)
        self._remember(step, slice(filled, filled + tree.outcomes), walk)
        energy, refused = step.energy[:, 0].double().cpu().numpy(), self._refused(step)
        probability = None if step.outcomes is None else step.outcomes.probability[:, 0].double().cpu().numpy()
        worth = to_come.double().cpu().numpy()
        counts = ~walk.ended
        self._note(step, counts, refused)
        if refused.any():
            refused &= counts
            tree.close(walk, refused)
            energy, worth = (np.where(np.isfinite(x), x, 0) for x in (energy, worth))
            counts &= ~refused
        whole = energy + worth
        returned = whole[:, 0] if probability is None else (whole * probability).sum(1)
        if walk.ended.any():
            returned = np.where(walk.ended, tree.raw[walk.leaf], returned)
        tree.grow(walk, energy, worth, probability, counts)
        tree.back_up(walk, returned, counts | walk.ended)

    def _remember(self, step: Step, slots: slice, walk: Walk) -> None:
        self.states[:, slots] = step.states
        for store, after in zip(self.carry, step.carry, strict=True):
            if store.shape[2:] != after.shape[2:]:
                raise PlanningError("a history that keeps its size", f"{tuple(after.shape[2:])} after a step",
                                    "act until the history is full, or use planner 'beam'")
            store[:, slots] = after
        if step.outcomes is not None:
            if self.z is None:
                self.z = step.outcomes.z.new_zeros(*self.states.shape[:2], step.outcomes.z.shape[-1])
            self.z[:, slots] = step.outcomes.z[:, 0]

    def _refused(self, step: Step) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        unsafe = step.unsafe if step.outcomes is None else step.unsafe & (step.outcomes.probability > 0)
        out: np.ndarray[tuple[int], np.dtype[np.bool_]] = unsafe[:, 0].any(1).cpu().numpy()
        return out

    def _note(self, step: Step, counts: np.ndarray, refused: np.ndarray) -> None:  # type: ignore[type-arg]
        self.kept += torch.from_numpy(counts & ~refused)
        for name, veto in step.refused.items():
            mine = veto[:, 0].cpu() & torch.from_numpy(counts)
            self.vetoed[name] = self.vetoed.get(name, 0) + mine.long()

    def _to_come(self, step: Step, when: Tensor) -> Tensor:
        """(B, O): what is thought to come of the new states until the horizon."""
        left = (self.stepper.depth - 1 - when)[:, None]
        if self.critic is not None:
            value: Tensor = self.critic.value(step.states, self.problem.belief.context)
            return value
        states, carry, energy = step.states, step.carry, step.energy[:, 0]
        total = torch.zeros_like(energy)
        for number in range(self.config.rollout):
            choice = self.streams.integers(len(self.stepper.choices), states.shape[1]).to(states.device)
            after = self.stepper.step(states, carry, choice, (when + 1 + number).clamp(max=self.stepper.depth - 1))
            pick = torch.zeros_like(choice)[..., None]
            if after.outcomes is not None:  # one outcome each, by its probability
                draw = self.streams.uniform(states.shape[1], 1).to(states.device)
                pick = (after.outcomes.probability.cumsum(-1) < draw).sum(-1, keepdim=True)
                pick = pick.clamp(max=after.energy.shape[-1] - 1)
            going = left > number
            energy = torch.where(going, after.energy.gather(2, pick)[..., 0], energy)
            total = total + torch.where(going, energy, 0)
            rows = torch.arange(len(states), device=states.device)[:, None]
            place = torch.arange(states.shape[1], device=states.device) * after.energy.shape[-1] + pick[..., 0]
            states, carry = after.states[rows, place], tuple(x[rows, place] for x in after.carry)
        return total + energy * (left - self.config.rollout).clamp(min=0)

    # The decision ------------------------------------------------------------------------------------------------

    def conclude(self, spending: Spending) -> Plan:
        problem, stepper, tree = self.problem, self.stepper, self.tree
        path, chance, share, ends = self._main_line()
        choice, z, open_ = self._completed(path, chance, ends)
        actions = stepper.choices[choice].repeat_interleave(stepper.hold, 1)
        exogenous = None if problem.exogenous is None else problem.exogenous[:, : stepper.steps]
        given = None if z is None else z[:, None]
        scores = judge(problem, problem.model.imagine(problem.belief, actions[:, None], exogenous, given),
                       actions[:, None])
        device = actions.device
        alive = torch.from_numpy(~tree.dead()).to(device) & open_
        feasible = alive & scores.feasible[:, 0]
        parts = {name: part[:, 0] for name, part in scores.parts.items()}
        vetoed = {name: veto.to(device) for name, veto in self.vetoed.items()}
        for guardrail in scores.refused:
            vetoed.setdefault(guardrail, torch.zeros(len(problem), dtype=torch.int64, device=device))
        best = Best(actions, feasible, scores.energy[:, 0], parts, scores.imagined, self.kept.to(device), vetoed)
        count = torch.full((len(problem),), 1, dtype=torch.int64)
        calls = (self.allowance.calls + stepper.steps) * count
        plan = decide(problem, Searched(best, self.done * count, calls, Visits(torch.from_numpy(share))), spending)
        return replace(plan, reason=self._reasons(plan))

    def _main_line(self) -> tuple[np.ndarray, list[np.ndarray], Floats, np.ndarray]:  # type: ignore[type-arg]
        """Choices (B, T) visited most, -1 where the tree ends; nodes by step; shares of visits; last nodes."""
        tree, b = self.tree, len(self.problem)
        at = tree.roots.copy()
        path = np.full((b, self.stepper.depth), -1, np.int64)
        share = np.full((b, self.stepper.depth, tree.choices), 1 / tree.choices)
        entered, going = [], np.ones(b, np.bool_)
        for step in range(self.stepper.depth):
            choice = tree.decide(at, step == 0)
            visits = tree.visits[:, at].T
            below = tree.likely(at, choice)
            going &= below >= 0
            total = visits.sum(1, keepdims=True)
            share[:, step] = np.where(going[:, None] & (total > 0), visits / np.maximum(total, 1), share[:, step])
            path[going, step] = choice[going]
            at = np.where(going, below, at)
            entered.append(np.where(going, at, -1))
        return path, entered, share, at

    def _completed(
        self, path: np.ndarray, entered: list[np.ndarray], ends: np.ndarray  # type: ignore[type-arg]
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """The choices (B, T), with the least energy of a single step where the tree ends; z (B, T, Z) of the outcomes;
        (B,) whether an open choice was found for every step."""
        stepper, device = self.stepper, self.problem.belief.state.device
        b, r = len(self.problem), len(stepper.choices)
        choice = torch.from_numpy(path).to(device)
        rows = torch.arange(b, device=device)
        last = torch.from_numpy(ends).to(device)
        states = self.states.flatten(0, 1)[last]
        carry = tuple(x.flatten(0, 1)[last] for x in self.carry)
        z = None if self.z is None else self.z.new_zeros(b, stepper.depth, self.z.shape[-1])
        open_ = torch.ones(b, dtype=torch.bool, device=device)
        every = torch.arange(r, device=device).expand(b, -1)
        spare = nearest_choice(stepper.choices, fallback_action(self.problem).to(stepper.choices.dtype))
        for step in range(stepper.depth):
            known = choice[:, step] >= 0
            if z is not None and self.z is not None:
                node = torch.from_numpy(entered[step]).to(device).clamp(min=0)
                z[:, step] = self.z.flatten(0, 1)[node]
            if bool(known.all()):
                continue
            after = stepper.step(states[:, None].expand(-1, r, *states.shape[1:]),
                                 tuple(x[:, None].expand(-1, r, *x.shape[1:]) for x in carry), every, step)
            self.allowance.calls += after.energy[0].numel() * stepper.hold
            p = torch.ones_like(after.energy) if after.outcomes is None else after.outcomes.probability
            unsafe = (after.unsafe & (p > 0)).any(2)
            worth = torch.where(p > 0, after.energy * p, 0).sum(2).masked_fill(unsafe, torch.inf)
            best = torch.where(unsafe.all(1), spare, worth.argmin(1))
            open_ &= known | ~unsafe.all(1)
            choice[:, step] = torch.where(known, choice[:, step], best)
            outcome = p[rows, best].argmax(1)
            if z is not None and after.outcomes is not None:
                z[:, step] = torch.where(known[:, None], z[:, step], after.outcomes.z[rows, best, outcome])
            place = best * after.energy.shape[2] + outcome
            keep = known.view(-1, *[1] * (states.dim() - 1))
            states = torch.where(keep, states, after.states[rows, place])
            carry = tuple(
                torch.where(known.view(-1, *[1] * (x.dim() - 1)), x, y[rows, place])
                for x, y in zip(carry, after.carry, strict=True)
            )
        return choice, z, open_

    def _reasons(self, plan: Plan) -> tuple[str, ...]:
        tree = self.tree
        choice = tree.decide(tree.roots, root=True)
        visits, energy = (x[choice, tree.roots] for x in (tree.visits, tree.energy))
        words = []
        for reason, ok, n, total in zip(plan.reason, plan.feasible.tolist(), visits, energy, strict=True):
            mean = f"mean energy {total / max(n, 1):.4g} to the horizon"
            words.append(f"choice visited {n:.0f} times in {self.done} simulations, {mean}" if ok else reason)
        return tuple(words)


def _store(first: Tensor, problems: int, size: int) -> Tensor:
    """(B, …) -> (B, N, …), the first node filled."""
    store = first.new_zeros(problems, size, *first.shape[1:])
    store[:, 0] = first
    return store
