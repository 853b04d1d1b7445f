"""`steersman replay RUN:STEP`: a recorded decision made again, and compared bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from steersman.cli import decisions
from steersman.cli.command import option
from steersman.cli.done import Done
from steersman.cli.imports import Extensible
from steersman.cli.progress import Watcher
from steersman.cli.terminal import Terminal

if TYPE_CHECKING:
    from steersman.agent.replay import Stretch


@dataclass(frozen=True, kw_only=True)
class Replay(Extensible):
    """Make recorded decisions again from the same weights, inputs and seeds; the actions must be the same, bit for bit.

    Where the agent learned while it acted, its updates are made again from its experience first. Refused if the weights
    are no longer those that decided, or cannot be made any more. Exit code 1 if an action differs.
    """

    EXAMPLE: ClassVar[str] = ("steersman replay runs/pendulum:12\nsteersman replay runs/pendulum\n"
                              "steersman replay runs/pendulum --list")

    decision: Annotated[str, tyro.conf.Positional, option("RUN:STEP")]
    """The run's directory and the number of the decision, counted from 0; without a number all that are there."""
    session: str = "latest"
    """Which session of the run: each command that acts is one."""
    list: Annotated[bool, option()] = False
    """Say which decisions can still be replayed, and make none."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman.agent.replay import replayable, replays
        from steersman.runs.decisions import sessions
        from steersman.training import GradientCorrector  # noqa: F401  it is registered

        path, number = decisions.place(self.decision)
        there_are = [folder.name for folder in sessions(path)]
        if len(there_are) > 1:
            terminal.say(f"session {there_are[-1] if self.session == 'latest' else self.session} of "
                         f"{', '.join(there_are)} (--session)")
        stretches = [] if number is not None else replayable(path, session=self.session)
        if self.list:
            return _listed(terminal, stretches or replayable(path, session=self.session))
        there = [stretch for stretch in stretches if not stretch.refusal]
        numbers = [n for x in there for n in range(x.first, x.last + 1)] if number is None else [number]
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
        for note in (*notes, *(f"{_span(x)}: {x.refusal}" for x in stretches if x.refusal)):
            terminal.say(note)
        if number is not None:
            terminal.say("identical, bit for bit" if same else f"DIFFERENT: by up to {worst:.3g}")
        else:
            terminal.say(f"{same} of {made} decisions identical, bit for bit"
                         + ("" if same == made else f"; largest difference {worst:.3g}"))
        facts = {"decisions": made, "identical": same, "largest_difference": worst, "notes": [*notes], **shown,
                 "gone": _count(x for x in stretches if x.refusal)}
        return Done(facts, 0 if same == made else 1)


def _listed(terminal: Terminal, stretches: Sequence[Stretch]) -> Done:
    """Which decisions can still be replayed, weights after weights."""
    rows = [(_span(x), f"{x.updates:,}", f"{x.through:,}", x.refusal or "yes") for x in stretches]
    terminal.grid(("decisions", "updates learned", "moments experienced", "can be replayed"), rows)
    listed = [{"first": x.first, "last": x.last, "updates": x.updates, "through": x.through, "refusal": x.refusal}
              for x in stretches]
    return Done({"replayable": _count(x for x in stretches if not x.refusal),
                 "gone": _count(x for x in stretches if x.refusal), "stretches": listed})


def _span(stretch: Stretch) -> str:
    return f"{stretch.first} to {stretch.last}" if stretch.last > stretch.first else f"{stretch.first}"


def _count(stretches: Iterable[Stretch]) -> int:
    return sum(x.last - x.first + 1 for x in stretches)


COMMAND = Replay
