"""`steersman replay RUN:STEP`: a recorded decision made again, and compared bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro

from steersman.cli import decisions
from steersman.cli.command import option
from steersman.cli.done import Done
from steersman.cli.imports import Extensible
from steersman.cli.progress import Watcher
from steersman.cli.terminal import Terminal


@dataclass(frozen=True, kw_only=True)
class Replay(Extensible):
    """Make recorded decisions again from the same weights, inputs and seeds; the actions must be the same, bit for bit.

    Refused if the weights are no longer those that decided. Exit code 1 if an action differs.
    """

    EXAMPLE: ClassVar[str] = "steersman replay runs/pendulum:12\nsteersman replay runs/pendulum"

    decision: Annotated[str, tyro.conf.Positional, option("RUN:STEP")]
    """The run's directory and the number of the decision, counted from 0; without a number all that are there."""
    session: str = "latest"
    """Which session of the run: each command that acts is one."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman.agent.replay import replays

        path, number = decisions.place(self.decision)
        numbers = None if number is None else range(number, number + 1)
        made, same, worst = 0, 0, 0.0
        notes: tuple[str, ...] = ()
        shown: dict[str, object] = {}
        with Watcher(terminal) as watcher:
            for again in replays(path, numbers, session=self.session):
                made, same, notes = made + 1, same + again.identical, again.notes
                worst = max(worst, again.difference)
                watcher.count("decisions", made, None)
                if number is not None:
                    shown = {"action": again.actions.tolist(), "recorded": again.recorded.tolist()}
        for note in notes:
            terminal.say(note)
        if number is not None:
            terminal.say("identical, bit for bit" if same else f"DIFFERENT: by up to {worst:.3g}")
        else:
            terminal.say(f"{same} of {made} decisions identical, bit for bit"
                         + ("" if same == made else f"; largest difference {worst:.3g}"))
        facts = {"decisions": made, "identical": same, "largest_difference": worst, "notes": list(notes), **shown}
        return Done(facts, 0 if same == made else 1)
