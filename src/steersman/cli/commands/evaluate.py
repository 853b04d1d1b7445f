"""`steersman evaluate RUN`: a frozen protocol, the random floor beside the agent; or, from the log alone, trust."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from steersman.cli import imports
from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.imports import Modules
from steersman.cli.logs import INFERRED, LogOptions, read_options
from steersman.cli.progress import Watcher
from steersman.cli.terminal import Terminal
from steersman.core.errors import MismatchError, UsageError
from steersman.runs.artefacts import Column, Figure, Row, Table, write

if TYPE_CHECKING:
    from steersman.agent import Agent
    from steersman.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Measure a trained agent under a frozen protocol: starts, goals, budgets, success test and seeds are fixed by it.

    The random floor is measured on the same starts; starts that already satisfy the goal are rejected; whole paths are
    checked, and every episode counts. The table goes into the run, for the report.

    With --offline no world is needed: what the model predicts for the part of the log that it never saw, beside no
    change and a linear model, with conformal bounds and the horizon up to which it can be trusted.
    """

    EXAMPLE: ClassVar[str] = (
        "steersman evaluate runs/demo --protocol held-out --episodes 200 --seed 1 --json\n"
        "steersman evaluate runs/pendulum --offline"
    )

    run: Annotated[Path, tyro.conf.Positional, option("RUN")]
    """The run's directory."""
    protocol: str = "two-rooms"
    """Which protocol: two-rooms, held-out, three-rooms, guarded, guarded-held-out."""
    episodes: Annotated[int | None, option("INT")] = None
    """Episodes (default: the protocol's)."""
    seed: int = 0
    """Starts, goals and planning. The demo's own episodes are those of the demo's seed."""
    unguarded: Annotated[bool, option()] = False
    """Do not tell the agent of forbidden disks (the default tells it, by a guardrail fitted on labelled frames)."""
    labels: int = 500
    """Frames with a known position that fitting the guardrail may use, calibration included."""
    planner: Annotated[str, option("NAME")] = ""
    """Plan with another planner than the run's own: its name (cem, icem, astar, …) or its configuration as JSON."""
    checkpoint: str = "latest"
    """Which checkpoint acts."""
    offline: Annotated[bool, option()] = False
    """Measure from the log alone how far the model can be trusted."""
    data: Annotated[str, option("PATH")] = ""
    """With --offline: another log of the same world, all of it unseen (default: the held-out part of the run's own)."""
    horizon: Annotated[int | None, option("INT")] = None
    """With --offline: steps to follow predictions (default: what the planner looks ahead)."""
    log: Annotated[LogOptions, tyro.conf.OmitArgPrefixes] = INFERRED
    """How to read the log of --data, in the words that were given to `steersman train`."""
    imports: Modules = ()
    """A module, or FILE.py, that registers parts of your own; a run never imports one by itself."""

    def __call__(self, terminal: Terminal) -> Done:
        imports.load(self.imports)
        if self.offline:
            return self._offline(terminal)
        from steersman import evaluation
        from steersman.agent import Agent
        from steersman.cli.planners import planner
        from steersman.evaluation.seeds import derived
        from steersman.runs import Run
        from steersman.studio import build

        if self.episodes is not None and self.episodes < 1:
            raise UsageError("at least one episode", f"{self.episodes}", "raise --episodes")
        protocol = evaluation.protocol(self.protocol)
        run = Run.open(self.run)
        agent = Agent.load(run, self.checkpoint, planner(self.planner))
        self._require_rooms(agent)
        guard = None
        if not self.unguarded and protocol.world.forbidden is not None:
            from steersman.evaluation.guarding import fit_guard

            guard = fit_guard(agent, derived(self.seed, "guard"), labels=self.labels)
            terminal.say(f"guardrail: {guard.labels_used} labelled frames, conformal margin "
                         f"{guard.margin:.2f} px")
        with Watcher(terminal) as watcher:
            count = self.episodes or protocol.episodes
            measured = evaluation.evaluate(
                agent, protocol, self.episodes, derived(self.seed, self.protocol), guardrails=guard,
                watch=lambda seen: watcher.count("goals reached", seen.done, count))
        figures = measured.figures() | {"seed": self.seed}
        if guard is not None:
            figures["guardrail"] = guard.figures()
        table = self._table(measured, figures)
        write(run.path, table)
        build(run.path)
        terminal.table(table)
        return Done({"run": str(self.run), "protocol": self.protocol, **figures})

    def _require_rooms(self, agent: Agent) -> None:
        from steersman.worlds.two_rooms import SIGNATURE

        try:
            SIGNATURE.require(agent.signature, "two rooms, the world of every protocol", "the run")
        except MismatchError as error:
            raise MismatchError(error.expected, error.got, "`--offline` measures from the log alone, "
                                f"`steersman run {self.run} --env ID` in an environment") from error

    def _offline(self, terminal: Terminal) -> Done:
        import msgspec

        from steersman.cli.trusting import measure_trust
        from steersman.evaluation import trust_report
        from steersman.runs import Run

        run = Run.open(self.run)
        trust = measure_trust(run, terminal, checkpoint=self.checkpoint, log=self.data, horizon=self.horizon,
                              seed=self.seed, options=read_options(self.log))
        terminal.table(trust_report.table(trust))
        terminal.say()
        terminal.say(f"steersman report {self.run}; steersman run {self.run} --trusted plans no farther than step "
                     f"{trust.horizon}" if trust.horizon else f"steersman report {self.run}")
        return Done({"run": str(self.run), **msgspec.to_builtins(trust)})

    def _table(self, measured: Evaluation, figures: dict[str, Any]) -> Table:
        from steersman.evaluation.intervals import wilson, zero_of

        n, low_high = len(measured), figures["success_ci95"]
        columns = [Column(key="success", title="success", form="share", better="higher"),
                   Column(key="spl", title="path efficiency, SPL", better="higher"),
                   Column(key="steps", title="steps", form="number", better="lower"),
                   Column(key="planning", title="planning an episode", form="seconds", better="lower")]
        agent = {"success": Figure(value=figures["success"], low=low_high[0], high=low_high[1], n=n),
                 "spl": Figure(value=figures["spl"]), "steps": Figure(value=figures["steps"]),
                 "planning": Figure(value=figures["planning_seconds"])}
        if measured.world.forbidden is not None:
            entered = figures["violations"]
            low, high = wilson(entered, n)
            columns.append(Column(key="entered", title="enter the forbidden disk", form="share", better="lower"))
            agent["entered"] = Figure(value=entered / n, low=low, high=high, n=n)
        rows = [Row(label="agent", figures=agent)]
        if measured.random is not None:
            wins = int(measured.random.sum())
            low, high = wilson(wins, n)
            rows.append(Row(label="strongest random walker", kind="baseline",
                            figures={"success": Figure(value=wins / n, low=low, high=high, n=n)}))
        notes: tuple[str, ...] = (f"{figures['solved_at_start']} of {n} starts already satisfied the goal; "
                                  f"{figures['wall_crossings']} paths crossed a wall. Intervals: Wilson, 95%.",)
        if measured.world.forbidden is not None and not figures["violations"]:
            notes += (f"0 of {n} allows a rate of at most {zero_of(n):.2%} (95%).",)
        return Table(name=self.protocol, title=f"Protocol {self.protocol}", columns=tuple(columns), rows=tuple(rows),
                     notes=notes, protocol={"episodes": n, "seed": self.seed, "steps": measured.protocol.step_limit,
                                            "radius": measured.protocol.success_radius})


COMMAND = Evaluate
