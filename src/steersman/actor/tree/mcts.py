"""Monte-Carlo tree search in imagination, for many problems at once: PUCT or Gumbel MuZero, with and without chance.

Shapes: B problems, R choices, O outcomes, N nodes, H steps that a choice is held, D state, A action.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from steersman.actor.ground.configured import Configured
from steersman.actor.ground.rounds import Best, Searched, Spending, decide
from steersman.actor.ground.verdict import terminal_terms
from steersman.actor.sampling.distributions import fitted
from steersman.actor.tree.growth import Grown, Growth, Search, calls_of_one, outcomes_of
from steersman.actor.tree.rules import Floats, Rules, gumbel, puct
from steersman.actor.tree.stepping import Allowance, Stepper, nearest_choice, require_tree_sizes
from steersman.core import ConfigError, Critic, Plan, Planner, Problem, Streams, TensorRecord, register
from steersman.core.compiled import compiled

if TYPE_CHECKING:
    from steersman.actor.tree.closed import ClosedSearch


@dataclass(frozen=True)
class Visits(TensorRecord):
    """Share of visits (B, T, R) of each choice along the last plan: the prior that the next decision starts from."""

    share: Tensor


class MCTS(Configured["MCTS.Config"]):
    """Tree search over choices (Kocsis 2006; Silver 2018), in the forms of MuZero.

        each simulation: walk down by PUCT (c1 = 1.25, c2 = 19652) or Gumbel MuZero (16 choices considered at the root,
        sequential halving) to a choice that was not tried; imagine it; value what comes; tell the way back

    One model call a simulation for all problems; trees grow one at a time, so large batches want numba
    (`steersman[fast]`): 64 problems take a fifth of the time. Values are energies summed to the horizon, scaled between
    the least and the greatest of siblings, so no unit enters. What comes of a new state is the word of the critic,
    or of a term that the task weighs for what comes at the end (`cost.IntrinsicCritic`); without
    one, `rollout` random choices, and after them that the last energy goes on to the horizon. The prior is uniform,
    mixed with a policy's proposal (`Problem.proposal`) and with the visits along the last decision's plan.

    Where steps are left to chance (`WorldModel.support`), a choice is a chance node: all its outcomes are imagined at
    once, worth their expectation, and later walks enter the one that was entered least for its probability.

    What is known exactly, down to the horizon, is not searched again, and its value is the least, not a mean over what
    was tried: with enough simulations for the whole tree, the answer is value iteration's, whichever rule selects, and
    the search ends there (see `tree.tree.Tree`).

    A choice that a guardrail refuses, in any outcome that may come, is closed, and so is every choice that leads to a
    state with no open choice left. None open at the root -> the declared fallback. Continuous actions are chosen from a
    fan as in beam search. The plan follows the choices visited most, or known to be better, and the most probable
    outcomes; where the tree ends before the horizon, the least energy of a single step.

    Budget: simulations stop when calls or seconds are spent. Energies must be those of single steps, as in dynamic
    programming. Gumbel's draws and rollouts come from each problem's own stream.

    Errors: PlanningError for a belief whose history grows with every step, for outcomes with `hold` > 1.
    """

    @register(Planner)
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
        super().__init__(config)
        self.critic = critic

    @torch.inference_mode()
    def plan(self, problem: Problem) -> Plan:
        return _Decision(problem, self.config, self.critic).plan()


class _Decision:
    """One decision: what is searched, by which form, and the plan that comes of it."""

    def __init__(self, problem: Problem, config: MCTS.Config, critic: Critic | None) -> None:
        horizon = problem.horizon(config.horizon)
        self.problem, self.config, self.critic = problem, config, critic
        self.spending = Spending(problem, horizon)
        self.stepper = Stepper(problem, horizon, config.hold, config.fan)
        self.streams = Streams(problem.seeds, problem.decision)

    def plan(self) -> Plan:
        problem, stepper = self.problem, self.stepper
        compiled_form = self._compiled()
        outcomes = 1 if compiled_form is not None else outcomes_of(stepper)
        allowance = Allowance(problem, stepper.steps * (1 + len(stepper.choices)))
        simulations = self._affordable(allowance, calls_of_one(stepper, outcomes, self.config.rollout))
        search = Search(problem, stepper, allowance, self.streams, self._rules(simulations), simulations)
        if compiled_form is not None:
            return self._conclude(compiled_form.grown(search))
        return self._conclude(Growth(search, outcomes, self.config.rollout, self.critic).grown())

    def _compiled(self) -> ClosedSearch | None:
        if not compiled() or self.config.rollout or self.critic is not None or terminal_terms(self.problem):
            return None
        from steersman.actor.tree.closed import closed_search

        return closed_search(self.problem, self.stepper)

    def _affordable(self, allowance: Allowance, each: int) -> int:
        allowance.require(each, "one simulation")
        left = allowance.left()
        return self.config.simulations if left is None else min(self.config.simulations, left // each)

    def _rules(self, simulations: int) -> Rules:
        choices, prior = len(self.stepper.choices), self._prior()
        if self.config.select == "puct":
            return puct(choices, simulations, prior, self.config.c1, self.config.c2)
        draw = self.streams.uniform(choices).cpu().numpy().astype(np.float64)
        return gumbel(-np.log(-np.log(draw)), simulations, self.config.considered, prior)

    def _prior(self) -> Floats | None:
        """Probabilities (B, T, R) by depth, from what was proposed and what the last plan visited; None: uniform."""
        problem, depth, r = self.problem, self.stepper.depth, len(self.stepper.choices)
        wishes = []
        if problem.proposal is not None:
            proposed = fitted(problem.proposal, self.stepper.steps)[:, :: self.stepper.hold]
            wishes.append(torch.nn.functional.one_hot(nearest_choice(self.stepper.choices, proposed), r).double())
        warm = problem.warm
        if isinstance(warm, Visits) and warm.share.shape[0] == len(problem) and warm.share.shape[2] == r:
            moved = warm.share[:, -(-problem.since(self.config.execute) // self.stepper.hold) :][:, :depth].double()
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

    def _conclude(self, grown: Grown) -> Plan:
        problem, stepper = self.problem, self.stepper
        actions, warm = stepper.choices[grown.choice], Visits(torch.from_numpy(grown.share))
        actions = actions if stepper.hold == 1 else actions.repeat_interleave(stepper.hold, 1)
        calls, feasible = grown.calls + stepper.steps, grown.feasible
        if bool(feasible.all()):
            return Plan(actions, grown.imagined, grown.parts, feasible, grown.kept, grown.vetoed, _reasons(grown),
                        calls, self.spending.seconds, warm)
        energy = torch.stack(list(grown.parts.values())).sum(0).sum(1)
        best = Best(actions, feasible, energy, grown.parts, grown.imagined, grown.kept, grown.vetoed)
        scored = grown.simulations
        plan = decide(problem, Searched(best, scored, calls, warm), self.spending)
        words = zip(plan.reason, _reasons(grown), feasible.tolist(), strict=True)
        return replace(plan, reason=tuple(mine if ok else fallback for fallback, mine, ok in words))


def _reasons(grown: Grown) -> tuple[str, ...]:
    rows = zip(grown.visits.tolist(), grown.energy.tolist(), grown.simulations.tolist(), strict=True)
    return tuple(
        f"choice visited {n:.0f} times in {simulations} simulations, mean energy {total / max(n, 1):.4g} to the horizon"
        for n, total, simulations in rows
    )
