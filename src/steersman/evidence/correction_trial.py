"""What every world of `correction` has in common: one stream of decisions with correction, and what came of it.

Knows the agent, trials and the corrector; knows no world.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from steersman.agent import Agent, Alarm, correct_with, record_experience
from steersman.core import Corrector, Task
from steersman.evaluation.protocol import Seen, follow
from steersman.evaluation.success import Tally
from steersman.runs import Run
from steersman.worlds import Trials


class Corrected(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one seed gave.

    before, shifted, recovered, old_again  the world's figure, higher is better, of the same starts
    uncorrected_again  in the old world with the weights of the changed one: what correcting back regains
    best_before, best_shifted  the most that is possible in the old and in the changed world; None: not known
    decisions     lived in the changed world until the last update that counts
    back          the same in the old world, when it returned
    updates       made in the changed world; false_alarms, level  share of undisturbed decisions with an alarm, as
                  measured and as stated
    """

    before: float
    shifted: float
    recovered: float
    old_again: float
    uncorrected_again: float
    best_before: float | None = None
    best_shifted: float | None = None
    decisions: int
    back: int
    updates: int
    false_alarms: float
    level: float

    def figures(self) -> dict[str, float | None]:
        """For `--json` and tables. lost: how much worse what is reached stands to what is possible than before."""
        found: dict[str, float | None] = {
            name: getattr(self, name) for name in
            ("before", "shifted", "recovered", "old_again", "uncorrected_again", "decisions", "back", "updates",
             "false_alarms", "level")}
        found["lost"] = _worse(self.recovered, self.best_shifted) - _worse(self.before, self.best_before)
        found["lost_uncorrected"] = _worse(self.shifted, self.best_shifted) - _worse(self.before, self.best_before)
        found["lost_again"] = _worse(self.old_again, self.before)
        return found


def _worse(value: float, best: float | None) -> float:
    """Share of |best| by which a value is worse; of a figure without a best: of 1."""
    return 1 - value if best is None else (best - value) / abs(best)


@dataclass
class Stream:
    """One agent that lives through worlds with correction, one stretch after the other.

    decisions, alarms  in all; latest  the decision of this stretch at which the last update was made
    """

    agent: Agent
    decisions: int = 0
    alarms: int = 0
    latest: int = 0

    @classmethod
    def begin(cls, agent: Agent, run: Run, corrector: Corrector, alarm: Alarm) -> Stream:
        """Record experience, and correct only when surprised."""
        record_experience(agent, run)
        correct_with(agent, run, corrector, alarm=alarm)
        return cls(agent)

    def live(self, trials: Trials, task: Task, steps: int, seed: int) -> None:
        """So many decisions in trials."""
        agent, stood = self.agent, self.agent.standing.updates
        self.latest, before = 0, self.decisions

        def look(seen: Seen) -> None:
            nonlocal stood
            if agent.standing.updates > stood:  # made after the decision before this one
                self.latest, stood = self.decisions - before, agent.standing.updates
            self.decisions += 1
            assert agent.learning is not None
            assert agent.learning.watch is not None
            self.alarms += agent.learning.watch.raised

        follow(agent, Tally(trials, steps), task, seed, look)
        if agent.standing.updates > stood:
            self.latest = self.decisions - before


def measured(agent: Agent, trials: Trials, task: Task, steps: int, seed: int, *, recorded: bool = False) -> Tally:
    """Episodes with the weights as they are: nothing is learned, and nothing recorded as experience unless it is to
    be."""
    kept = agent.log, agent.learning
    agent.log, agent.learning = agent.log if recorded else None, None
    try:
        tally = Tally(trials, steps)
        follow(agent, tally, task, seed)
    finally:
        agent.log, agent.learning = kept
    return tally
