"""What happens in trials, as experience of the agent that acts in them. Knows trials and the agent, no world.

Shapes: B episodes, A action size.
"""

from __future__ import annotations

from torch import Tensor

from steersman.agent import Transition
from steersman.core import UsageError
from steersman.core.records import rows
from steersman.evaluation.deciding import Decides, rows_between
from steersman.worlds import Trials


class Experiencing:
    """Adds every step of trials to the experience of an agent; nothing, where it records none."""

    def __init__(self, agent: Decides, trials: Trials) -> None:
        """The moments with which the episodes begin are added at once.

        Raises:
            UsageError: experience is made of whole steps of the model, and the agent decides anew before one is over.
        """
        self.agent, self.trials = agent, trials
        if agent.log is not None:
            if rows_between(agent) < agent.signature.pace.step:
                raise UsageError(f"whole steps of {agent.signature.pace.step} rows, of which experience is made",
                                 f"an agent that decides anew after {rows_between(agent)}",
                                 "set `react` to 0 in the agent's configuration, or record no experience")
            agent.experience(Transition(trials.observe()))

    def stepped(self, actions: Tensor, moving: Tensor) -> None:
        """Actions (B, A) were just taken in the episodes that went on, moving (B,) bool."""
        if self.agent.log is None or not bool(moving.any()):
            return
        self.agent.experience(Transition(
            rows(self.trials.observe(), moving), actions[moving], terminal=self.trials.over()[moving],
            stream=moving.nonzero()[:, 0],
        ))
