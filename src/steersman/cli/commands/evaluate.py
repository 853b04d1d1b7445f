"""`steersman evaluate RUN`: a frozen protocol, the random floor beside the agent; or, from the log alone, trust."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from steersman.cli import imports
from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.gathering import gathered, gathering
from steersman.cli.imports import Modules
from steersman.cli.logs import INFERRED, LogOptions, read_options
from steersman.cli.progress import Watcher
from steersman.cli.terminal import Terminal
from steersman.core.errors import MismatchError, UsageError
from steersman.runs.artefacts import Column, Figure, Row, Table, write

if TYPE_CHECKING:
    from steersman.agent import Agent
    from steersman.evaluation import Evaluation, PlanningProtocol


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Measure a trained agent under a frozen protocol: starts, goals, budgets, success test and seeds are fixed by it.

    Every world of ours has a protocol, the run's own is the default. The random floor is measured on the same starts,
    none of which satisfies its goal already; what is forbidden is looked for on the whole way, and every episode
    counts. The table goes into the run, for the report.

    With --offline no world is needed: what the model predicts for the part of the log that it never saw, beside no
    change and a linear model, with conformal bounds and the horizon up to which it can be trusted.
    """

    EXAMPLE: ClassVar[str] = (
        "steersman evaluate runs/demo --protocol held-out --episodes 200 --seed 1 --json\n"
        "steersman evaluate runs/reactor --keep 'T_R<=139'\n"
        "steersman evaluate runs/pendulum --offline"
    )

    run: Annotated[Path, tyro.conf.Positional, option("RUN")]
    """The run's directory."""
    protocol: Annotated[str, option("NAME")] = ""
    """Which protocol, one of `steersman.evaluation.PROTOCOLS` (default: the first for the world of this run)."""
    episodes: Annotated[int | None, option("INT")] = None
    """Episodes (default: the protocol's)."""
    seed: int = 0
    """Starts, goals and planning. The demo's own episodes are those of the demo's seed."""
    task: Annotated[Path | None, option("FILE.toml")] = None
    """The task in a file: goal, weights, guardrails, stages, planner, skill, … (see "Tasks" in the docs). Its last goal
    is each episode's; --keep and --weight add to it."""
    keep: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("LIMIT")] = ()
    """A limit that holds at every imagined step, e.g. --keep 'T_R<=139', or the name of a kept guardrail
    (`steersman fit`); may be given several times."""
    weight: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("TERM=NUMBER")] = ()
    """Weight of a cost term of the agent, e.g. --weight temporal-distance=1 for one that was fitted (the goal weighs
    1)."""
    unguarded: Annotated[bool, option()] = False
    """Do not tell the agent what the protocol forbids (a protocol of pictures tells it, by a guardrail fitted on
    labelled frames)."""
    labels: int = 500
    """Frames with a known position that fitting the guardrail may use, calibration included."""
    planner: Annotated[str, option("NAME")] = ""
    """Plan with another planner than the run's own: its name (cem, icem, astar, …) or its configuration as JSON."""
    checkpoint: str = "latest"
    """Which checkpoint acts."""
    experience: Annotated[bool, option()] = False
    """Add what happens to the experience of the run, RUN/experience: a log that can be trained on."""
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
        from steersman.cli import goals
        from steersman.cli.planners import planner
        from steersman.core import ColumnGoal
        from steersman.evaluation.seeds import GUARD, derived
        from steersman.runs import Run
        from steersman.studio import build

        if self.episodes is not None and self.episodes < 1:
            raise UsageError("at least one episode", f"{self.episodes}", "raise --episodes")
        run = Run.open(self.run)
        agent = Agent.load(run, self.checkpoint, planner(self.planner))
        gathering(agent, run, self.experience, 0)
        name, protocol = self._protocol(agent)
        if not self.protocol:
            terminal.say(f"protocol {name}: its world shows the same columns as this run's log; if yours is another "
                         "world, --offline measures from the log alone")
        asked = protocol.world.begin(1, protocol.seed(self.seed)).goals()  # each episode has its own, all of this kind
        task = goals.task(self.task, agent, None, lambda: ColumnGoal({}), self.weight, self.keep, asked)
        guard = None
        if not self.unguarded and protocol.log is not None:
            guard = evaluation.fit_guard(agent, protocol.log, derived(self.seed, GUARD), labels=self.labels)
            terminal.say(f"guardrail: {guard.labels_used} labelled frames, conformal margin {guard.margin:.2f}")
        with Watcher(terminal) as watcher:
            count = self.episodes or protocol.episodes
            measured = evaluation.evaluate(
                agent, protocol, self.episodes, protocol.seed(self.seed), guardrails=guard, task=task,
                watch=lambda seen: watcher.count("goals reached", seen.done, count))
        if agent.log is not None:
            agent.log.close()
            terminal.say(gathered(agent, self.run))
        figures = measured.figures() | {"seed": self.seed}
        if guard is not None:
            figures["guardrail"] = guard.figures()
        table = self._table(name, measured, figures, goals.guarded(task, self.keep))
        write(run.path, table)
        build(run.path)
        terminal.table(table)
        return Done({"run": str(self.run), "protocol": name, **figures})

    def _protocol(self, agent: Agent) -> tuple[str, PlanningProtocol]:
        """The one that was named, or the one for the world of this run."""
        from steersman import evaluation

        try:
            name = self.protocol or evaluation.fitting(agent.signature.world)
            protocol = evaluation.protocol(name)
            protocol.world.signature.require(agent.signature.world, f"the world of protocol {name}", "the run")
        except MismatchError as error:
            raise MismatchError(error.expected, error.got, "`--offline` measures from the log alone, "
                                f"`steersman run {self.run} --env ID` in an environment") from error
        return name, protocol

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

    def _table(
        self, name: str, measured: Evaluation, figures: dict[str, Any], limits: tuple[str, ...]
    ) -> Table:
        from steersman.evaluation.intervals import zero_of

        n, world = len(measured), measured.protocol.world
        columns = [Column(key="success", title="success", form="share", better="higher"),
                   Column(key="steps", title="steps", form="number", better="lower"),
                   Column(key="planning", title="planning an episode", form="seconds", better="lower")]
        agent = {"success": _share(int(measured.success.sum()), n), "steps": Figure(value=figures["steps"]),
                 "planning": Figure(value=figures["planning_seconds"])}
        floor: dict[str, Figure] = {}
        if measured.random is not None:
            floor["success"] = _share(int(measured.random.sum()), n)
        for key, title in (("mean_return", "return, mean"), ("worst_return", "return, worst")):
            if key in figures:
                columns.append(Column(key=key, title=title, form="number", better="higher"))
                agent[key] = Figure(value=figures[key])
                if f"random_{key}" in figures:
                    floor[key] = Figure(value=figures[f"random_{key}"])
        if "spl" in figures:
            columns.insert(1, Column(key="spl", title="path efficiency, SPL", better="higher"))
            agent["spl"] = Figure(value=figures["spl"])
        if measured.forbids:
            columns.append(Column(key="violated", title=world.violation, form="share", better="lower"))
            agent["violated"] = _share(figures["violations"], n)
            if measured.random_violated is not None:
                floor["violated"] = _share(figures["random_violations"], n)
        checks = "".join(f" {figures[check]} {check.replace('_', ' ')}." for check in measured.checks)
        notes = [f"{figures['solved_at_start']} of {n} starts already satisfied the goal.{checks} "
                 "Intervals: Wilson, 95%."]
        if measured.forbids and not figures["violations"]:
            notes.append(f"0 of {n} allows a rate of at most {zero_of(n):.2%} (95%).")
        if limits:
            notes.append(f"{measured.infeasible} decisions found no plan within {', '.join(limits)}.")
        rows = (Row(label="agent", figures=agent), Row(label="strongest random policy", kind="baseline", figures=floor))
        return Table(name=name, title=f"Protocol {name}", columns=tuple(columns), rows=rows, notes=tuple(notes),
                     protocol={"episodes": n, "seed": self.seed, "steps": measured.protocol.limit,
                               "success": world.success, "limits": ", ".join(limits) or None,
                               "task": str(self.task) if self.task else None})


def _share(count: int, n: int) -> Figure:
    from steersman.evaluation.intervals import wilson

    low, high = wilson(count, n)
    return Figure(value=count / n, low=low, high=high, n=n)


COMMAND = Evaluate
