"""`steersman rehearse RUN`: search for states from which a guardrail fails, before the world finds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from steersman.cli import imports
from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.imports import Modules
from steersman.cli.progress import Watcher
from steersman.cli.terminal import Terminal
from steersman.core.errors import UsageError

if TYPE_CHECKING:
    from steersman.agent import Agent
    from steersman.evaluation.rehearsal import Found, Rehearsal
    from steersman.runs import Run
    from steersman.runs.rehearsal import Case

KINDS = ("world", "model", "cornered")
_WORDS = {
    "world": "plans that were called safe and broke the limit in the world",
    "model": "the agent's own imagination, followed for a while",
    "cornered": "states in which no safe plan was found and the fallback broke the limit",
}


@dataclass(frozen=True, kw_only=True)
class Rehearse(Command):
    """Search for states from which a guardrail fails, in the world and inside the model.

    First tries the cases that earlier rehearsals kept; then property-based search (Hypothesis): a start, a few pushes,
    then the agent acts under its limits. What fails is shrunk to the smallest case and kept with the run, to be tried
    again. Exit code 1 if a plan that was called safe broke a limit.
    """

    EXAMPLE: ClassVar[str] = (
        "steersman rehearse runs/pendulum --env Pendulum-v1 --goal 'cos=1,speed=0' --keep 'speed<=6'\n"
        "steersman rehearse runs/pendulum --saved"
    )

    run: Annotated[Path, tyro.conf.Positional, option("RUN")]
    """The run's directory."""
    env: Annotated[str, option("ID")] = ""
    """The id of a Gymnasium environment, FILE.py:FUNCTION that makes one, or a world of ours by name."""
    goal: Annotated[str, option("GOAL")] = ""
    """What the agent is after, in the words of `steersman run`: cos=1,speed=0; 1,0,0; a file; log:3:40; …"""
    keep: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("LIMIT")] = ()
    """A limit, e.g. --keep 'speed<=6', or the name of a kept guardrail on columns; may be given several times."""
    judge: Literal["auto", "columns", "world"] = "auto"
    """Who says whether a limit broke: the world's columns, or the world itself by `bad` or `cost` in its info (auto:
    its columns, or the world where it shows pictures only or a guardrail reads no column)."""
    saved: Annotated[bool, option()] = False
    """Only try the cases that were kept: the regression suite of this run."""
    kinds: Annotated[str, option("KINDS")] = ",".join(KINDS)
    """Which failures to look for."""
    examples: int = 100
    """Ways into a state to try for each kind; shrinking tries more."""
    decisions: int = 20
    """Actions of the agent that follow."""
    seed: int = 0
    """Of the search."""
    checkpoint: str = "latest"
    """Which checkpoint acts."""
    imports: Modules = ()
    """A module, or FILE.py, that registers parts of your own; a run never imports one by itself."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman.agent import Agent
        from steersman.agent.moments import require_acting
        from steersman.runs import Run

        imports.load(self.imports)
        wanted = self._kinds()
        run = Run.open(self.run)
        agent = Agent.load(run, self.checkpoint)
        require_acting(agent.signature)
        with Watcher(terminal) as watcher:
            again = list(self._again(run, agent, watcher))
            found = [] if self.saved else list(self._search(run, agent, wanted, watcher, terminal))
        facts: dict[str, Any] = {"saved": len(again), "saved_failing": sum(failed for _, failed in again)}
        for case, failed in again:
            terminal.say(f"kept case {_way(case)}: {'STILL FAILS' if failed else 'holds now'}")
        for one in found:
            facts[one.kind] = self._told(one, terminal)
        broken = any(failed and case.kind != "cornered" for case, failed in again)
        broken = broken or any(one.failure is not None and one.kind != "cornered" for one in found)
        if not again and self.saved:
            terminal.say("no case was kept: nothing failed in earlier rehearsals, or there was none")
        return Done(facts, 1 if broken else 0)

    def _kinds(self) -> tuple[str, ...]:
        wanted = tuple(word.strip() for word in self.kinds.split(",") if word.strip())
        unknown = [word for word in wanted if word not in KINDS]
        if unknown or not wanted:
            raise UsageError(f"--kinds of {', '.join(KINDS)}", ", ".join(unknown) or "none", "correct --kinds")
        if not self.saved and not (self.env and self.goal and self.keep):
            raise UsageError("--env, --goal and --keep, or --saved", "fewer", "say where, what for, and within what")
        if self.examples < 1 or self.decisions < 1:
            raise UsageError("--examples and --decisions of at least 1", f"{self.examples}, {self.decisions}",
                             "raise them")
        return wanted

    def _again(self, run: Run, agent: Agent, watcher: Watcher) -> Iterator[tuple[Case, bool]]:
        from steersman.runs.rehearsal import read_cases

        for number, case in enumerate(read_cases(run), 1):
            if not case.keep:
                raise UsageError("kept cases whose limits are words", f"a case of {case.env} given in Python",
                                 "try it again from Python: Rehearsal(…).again(case)")
            rehearsal = _rehearsal(run, agent, case.env, case.goal, case.keep, case.decisions, case.judge)
            try:
                yield case, rehearsal.again(case) is not None
            finally:
                rehearsal.world.close()
            watcher.count("kept cases", number, None)

    def _search(
        self, run: Run, agent: Agent, kinds: tuple[str, ...], watcher: Watcher, terminal: Terminal
    ) -> Iterator[Found]:
        from steersman.evaluation.rehearsal import search
        from steersman.runs.rehearsal import add_case

        rehearsal = _rehearsal(run, agent, self.env, self.goal, self.keep, self.decisions, self.judge)
        if rehearsal.judges is None:
            terminal.say("judged by what the world says of itself in its info, not by its columns")
        try:
            for kind in kinds:
                found = search(rehearsal, kind, examples=self.examples, seed=self.seed,  # type: ignore[arg-type]
                               watch=lambda n, kind=kind: watcher.count(kind, n, None))  # type: ignore[misc]
                if found.failure is not None:
                    add_case(run, self._case(found, rehearsal))
                yield found
        finally:
            rehearsal.world.close()

    def _case(self, found: Found, rehearsal: Rehearsal) -> Case:
        from steersman.runs.rehearsal import Case

        assert found.failure is not None
        return Case(
            env=self.env, kind=found.kind, seed=found.seed, pushes=found.pushes, decisions=self.decisions,
            step=found.failure.step, guardrail=found.failure.guardrail, margin=found.failure.margin, goal=self.goal,
            keep=self.keep, found=datetime.now(UTC).isoformat(timespec="seconds"), model=rehearsal.agent.fingerprint(),
            judge="world" if rehearsal.judges is None else "columns",
        )

    def _told(self, found: Found, terminal: Terminal) -> dict[str, Any]:
        what = _WORDS[found.kind]
        if found.failure is None:
            near = f"; the nearest came within {-found.nearest:.4g}" if -1e9 < found.nearest <= 0 else ""
            terminal.say(f"{found.kind}: none in {found.tried} ways tried ({what}){near}")
        else:
            failure, pushes = found.failure, ", ".join(
                f"({', '.join(f'{x:g}' for x in p.action)}) × {p.steps}" for p in found.pushes) or "no push"
            terminal.say(f"{found.kind}: FOUND after {found.tried} tries ({what})")
            terminal.say(f"  start {found.seed}, {pushes}; after {failure.step} of the agent's actions "
                         f"{failure.guardrail!r} is broken by {failure.margin:.4g}")
            terminal.say(f"  kept: steersman rehearse {self.run} --saved")
        return {"tried": found.tried, "found": found.failure is not None, "nearest": found.nearest,
                "margin": found.failure and found.failure.margin, "seed": found.seed,
                "pushes": [{"action": p.action, "steps": p.steps} for p in found.pushes]}


def _rehearsal(
    run: Run, agent: Agent, env: str, goal: str, keep: tuple[str, ...], decisions: int, judge: str
) -> Rehearsal:
    """The task in the command line's words, and judges that read what the world shows, or the world's own flag."""
    from steersman.cli import goals
    from steersman.core import Task
    from steersman.evaluation.measured_limits import told
    from steersman.evaluation.rehearsal import Rehearsal, shown
    from steersman.worlds import make_world

    world = make_world(env)
    if not agent.signature.pace.plain:
        raise UsageError("an agent whose moments are the world's rows, to rehearse", f"one for which "
                         f"{agent.signature.pace.words()}", "measure it with `steersman evaluate`")
    agent.signature.require(world.signature, "the agent", env)
    task = Task(goals.goal(goal, agent, run.path), guardrails=goals.limits(keep, agent))
    judges = None
    if judge != "world":
        try:
            judges = goals.judges(keep, agent, shown(world))
        except UsageError:
            world.reset(0)
            if judge == "columns" or told(world.info) is None:
                raise
    return Rehearsal(agent, world, task, judges, decisions=decisions)


def _way(case: Case) -> str:
    return f"{case.kind} in {case.env}, start {case.seed}, {len(case.pushes)} pushes, {', '.join(case.keep)}"


COMMAND = Rehearse
