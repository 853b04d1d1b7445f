"""`steersman why RUN:STEP`: one recorded decision explained, in words and as a page with pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from steersman.cli import decisions
from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.terminal import Terminal
from steersman.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Why(Command):
    """Explain a decision: what was weighed, what each guardrail refused, what the agent expected of its plan.

    Says what was written down when the decision was made (`steersman run` records every one); leaves a page with
    pictures beside the record.
    """

    EXAMPLE: ClassVar[str] = "steersman why runs/pendulum:12\nsteersman why runs/pendulum:12 --episode 3 --open"

    decision: Annotated[str, tyro.conf.Positional, option("RUN:STEP")]
    """The run's directory and the number of the decision, counted from 0; without a number the last one."""
    episode: int = 0
    """Which of the episodes that were decided together."""
    session: str = "latest"
    """Which session of the run: each command that acts is one."""
    out: Annotated[Path | None, option("FILE.html")] = None
    """Where the page goes (default: beside the record)."""
    open: Annotated[bool, option()] = False
    """Open the page in the browser."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman.runs import Run
        from steersman.runs.decisions import session_at
        from steersman.studio import why

        path, number = decisions.place(self.decision)
        reader = session_at(Run.open(path).path, self.session)
        if number is None:
            span = reader.span()
            if not span:
                raise UsageError(f"a recorded decision in {reader.path}", "none", "act first: steersman run")
            number = span[-1]
        record = reader.read(number)
        if not 0 <= self.episode < len(record.actions):
            raise UsageError(f"an episode of 0 to {len(record.actions) - 1}", f"{self.episode}", "correct --episode")
        words = why.sentences(record, reader.session, self.episode)
        for sentence in words:
            terminal.say(sentence)
        where = f"{path}, session {reader.path.name}"
        out = self.out or reader.path / f"why-{number}-{self.episode}.html"
        page = why.write_page(out, record, reader.session, where, self.episode)
        terminal.say()
        terminal.say(f"{page}  (steersman replay {path}:{number} makes it again)")
        if self.open:
            import webbrowser

            webbrowser.open(page.resolve().as_uri())
        return Done({**why.facts(record, reader.session, self.episode), "page": str(page)})
