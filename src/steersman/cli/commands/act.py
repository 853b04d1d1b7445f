"""`steersman run RUN`: a trained agent acts in an environment, towards a goal that is named."""

from __future__ import annotations

import math
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from steersman.cli import imports
from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.gathering import SNAPSHOTS, close, gathered, gathering
from steersman.cli.imports import Modules
from steersman.cli.living import living
from steersman.cli.progress import Watcher
from steersman.cli.terminal import Terminal
from steersman.core.errors import UsageError
from steersman.runs.artefacts import Column, Figure, Flight, Line, Lines, Row, Table, write

if TYPE_CHECKING:
    from steersman.agent import Agent
    from steersman.evaluation.acting import Acted
    from steersman.runs import Run


@dataclass(frozen=True, kw_only=True)
class Act(Command):
    """Act with a trained agent in a Gymnasium environment, towards a goal, inside limits.

    Prints the returns where the environment gives rewards (the agent never sees them), beside random actions from the
    same starts. The table, the course of the first episode and its decisions go into the run, for the report.
    """

    EXAMPLE: ClassVar[str] = (
        "steersman run runs/pendulum --env Pendulum-v1 --goal '1,0,0' --episodes 20 --seed 0 --json\n"
        "steersman run runs/pendulum --env Pendulum-v1 --goal 'cos=1,speed=0' --keep 'speed<=6'\n"
        "steersman run runs/hazards --env hazards --steps 100000 --surprised .01"
    )

    run: Annotated[Path, tyro.conf.Positional, option("RUN")]
    """The run's directory."""
    env: Annotated[str, option("ID")]
    """The id of a Gymnasium environment that looks like the training data, FILE.py:FUNCTION that makes one, or a world
    of ours by name."""
    goal: Annotated[str, option("GOAL")] = ""
    """The observation to reach (1,0,0; a file: .png, .npy, .npz; a moment of the log: log:3:40; several by name:
    eye=FILE;arm=1,0); columns to bring to values (cos=1,speed=0~2: an error of 2 counts as 1); latent:GOAL, an
    observation as a latent; latent=FILE.npy; an energy FILE.py:FUNCTION (default: the goals that the world sets)."""
    task: Annotated[Path | None, option("FILE.toml")] = None
    """The task in a file: goal, weights, guardrails, stages, planner, skill, … (see "Tasks" in the docs). --goal,
    --keep and --weight add to it, and win where both say something."""
    keep: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("LIMIT")] = ()
    """A limit that holds at every imagined step, e.g. --keep 'speed<=6', or the name of a kept guardrail
    (`steersman fit`); may be given several times."""
    weight: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("TERM=NUMBER")] = ()
    """Weight of a cost term of the agent, e.g. --weight temporal-distance=1 for one that was fitted (the goal weighs
    1)."""
    episodes: int = 20
    """Episodes to act in; with --steps, so many side by side."""
    steps: Annotated[int, option("NUMBER")] = 0
    """Act for days: batches of episodes until so many steps were taken in all; stopped at any moment, the same command
    goes on (see `steersman status`)."""
    seed: int = 0
    """Starts and planning; starts differ from those of a log that `collect` recorded."""
    trusted: Annotated[bool, option()] = False
    """Plan no farther than the horizon that `steersman evaluate RUN --offline` measured."""
    planner: Annotated[str, option("NAME")] = ""
    """Plan with another planner than the run's own: its name (cem, icem, astar, …) or its configuration as JSON."""
    checkpoint: str = "latest"
    """Which checkpoint acts."""
    no_record: Annotated[bool, option()] = False
    """Do not write down the decisions (see `steersman why`, `steersman replay`)."""
    experience: Annotated[bool, option()] = False
    """Add what happens to the experience of the run, RUN/experience: a log that can be trained on."""
    learn: Annotated[int, option("MOMENTS")] = 0
    """Learn from that experience whenever so many moments were added, going on from what was learned before (0: do
    not); updates that lose their experience stay replayable by a copy of the weights after every tenth."""
    triplets: Annotated[bool, option()] = False
    """Remember what each moment costs, RUN/triplets, and the moments themselves: a critic learns from that."""
    surprised: Annotated[float, option("RATE")] = 0.0
    """Learn from that experience only while surprise stands above a threshold, calibrated on what was held out of the
    run's log, which an undisturbed moment exceeds with this probability, e.g. .01 (0: do not)."""
    imports: Modules = ()
    """A module, or FILE.py, that registers parts of your own; a run never imports one by itself."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman.agent import Agent, record_decisions
        from steersman.agent.moments import require_acting
        from steersman.cli import goals
        from steersman.cli.planners import planner
        from steersman.evaluation.acting import act_in, own_goal
        from steersman.runs import Run

        imports.load(self.imports)
        if self.episodes < 1 or self.steps < 0:
            raise UsageError("at least one episode, and steps of at least 0", f"{self.episodes} and {self.steps}",
                             "raise --episodes or --steps")
        run = Run.open(self.run)
        agent = Agent.load(run, self.checkpoint, planner(self.planner), trusted=self.trusted)
        require_acting(agent.signature)
        if self.steps and self.task is not None:
            raise UsageError("a goal on the command line beside --steps", f"--task {self.task}",
                             "say it by --goal, --weight and --keep, or act without --steps")
        gathering(agent, run, self.experience, self.learn, self.triplets, self.surprised,
                  snapshots=1 if self.steps else SNAPSHOTS)
        if self.steps:
            return self._live(agent, run, terminal)
        goal = goals.goal(self.goal, agent, self.run) if self.goal else None
        task = goals.task(self.task, agent, goal, lambda: own_goal(self.env, self.episodes, self.seed), self.weight,
                          self.keep)
        recorder = None if self.no_record else record_decisions(agent, run, world=self.env)
        with Watcher(terminal) as watcher:
            acted = act_in(agent, self.env, task, episodes=self.episodes, seed=self.seed,
                           watch=lambda steps, done, total: watcher.count(f"{total} episodes, step", steps, None))
        if recorder is not None:
            recorder.close()
        close(agent)
        table = self._table(acted, agent.trusted, goals.guarded(task, self.keep))
        name = "run-" + re.sub(r"[^a-z0-9]+", "-", self.env.lower()).strip("-")[-56:].lstrip("-")
        self._keep(run.path, name, table, acted)
        terminal.table(table)
        terminal.say()
        terminal.say(f"{acted.ms_per_act:.1f} ms a decision; steersman report {self.run}")
        if any(acted.lost) and (farther := _farther(agent)):
            terminal.say(f"to look farther ahead: steersman run {self.run} … --planner '{farther}'")
        if agent.log is not None:
            terminal.say(gathered(agent, self.run))
        if recorder is not None:
            terminal.say(recorder.failure or f"every decision is recorded: steersman why {self.run}:0")
        return Done({
            "run": str(self.run), "env": self.env, "goal": self.goal, "task": str(self.task or ""),
            "episodes": self.episodes, "seed": self.seed,
            "mean_return": statistics.fmean(acted.returns), "worst_return": min(acted.returns),
            "std_return": statistics.pstdev(acted.returns), "random_return": statistics.fmean(acted.random_returns),
            "returns": acted.returns, "lengths": acted.lengths, "ms_per_act": acted.ms_per_act,
            "infeasible": acted.infeasible, "lost": sum(acted.lost), "trusted_horizon": agent.trusted,
            "updates": agent.standing.updates, "moments": 0 if agent.log is None else agent.log.count,
        })

    def _live(self, agent: Agent, run: Run, terminal: Terminal) -> Done:
        """Act for days, see `--steps`."""
        from steersman.cli import goals
        from steersman.core import Task
        from steersman.runs.living import Living

        given, limits = goals.goal(self.goal, agent, self.run) if self.goal else None, goals.limits(self.keep, agent)
        asked = Living(env=self.env, goal=self.goal, keep=self.keep, seed=self.seed, asked=self.steps)
        return living(agent, run, asked, given,
                      lambda goal: Task(goal, goals.weights(self.weight, agent, goal), limits), terminal,
                      batch=self.episodes, record=not self.no_record)

    def _table(self, acted: Acted, trusted: int | None, limits: tuple[str, ...]) -> Table:
        columns = (Column(key="mean", title="return, mean", better="higher"),
                   Column(key="worst", title="worst", better="higher"),
                   Column(key="best", title="best", better="higher"), Column(key="steps", title="steps", form="count"))
        rows = (
            Row(label="agent", figures=_figures(acted.returns)
                | {"steps": Figure(value=statistics.fmean(acted.lengths))}),
            Row(label="random actions, same starts", kind="baseline", figures=_figures(acted.random_returns)),
        )
        notes = ["Intervals of the mean: 95%, normal approximation over episodes."]
        if limits:
            notes.append(f"{acted.infeasible} decisions found no plan within {', '.join(limits)}.")
        notes += [f"{lost[0].upper()}{lost[1:]}."] if (lost := _lost(acted)) else []
        protocol: dict[str, str | float | int | bool | None] = {
            "env": self.env, "goal": self.goal or (f"{self.task}" if self.task else "of the world"),
            "episodes": self.episodes,
            "seed": self.seed, "limits": ", ".join(limits) or None, "trusted horizon": trusted,
            "task": str(self.task) if self.task else None,
            "ms per decision": round(acted.ms_per_act, 2),
        }
        whose = f"task {self.task}" if self.task else "its own goals"
        title = f"{self.env}, goal {self.goal}" if self.goal else f"{self.env}, {whose}"
        return Table(name="run", title=title, columns=columns, rows=rows, notes=tuple(notes), protocol=protocol)

    def _keep(self, run: Path, name: str, table: Table, acted: Acted) -> None:
        """Leave table, decisions and course in the run, for the report."""
        import msgspec

        write(run, msgspec.structs.replace(table, name=name))
        if acted.decisions:
            write(run, Flight(name=name, title=f"{self.env}, first episode", caption=_lost(acted),
                              decisions=tuple(acted.decisions)))
        for i, (column, actual) in enumerate(acted.actual.items()):
            x = tuple(float(t + 1) for t in range(len(actual)))
            lines = [Line(label="actual", x=x, y=tuple(actual), role="actual")]
            if any(v is not None for v in acted.imagined[column]):
                lines.append(Line(label="imagined", x=x, y=tuple(acted.imagined[column]), role="imagined"))
            write(run, Lines(name=f"{name}-{i}", title=f"{column}, first episode", x_title="step", y_title=column,
                             lines=tuple(lines), order=i,
                             caption="What happened, and what was expected of the step when it was decided on."))


def _figures(values: list[float]) -> dict[str, Figure]:
    mean, n = statistics.fmean(values), len(values)
    half = 1.96 * statistics.stdev(values) / math.sqrt(n) if n > 1 else None
    interval = {} if half is None else {"low": mean - half, "high": mean + half}
    return {"mean": Figure(value=mean, n=n, **interval), "worst": Figure(value=min(values)),
            "best": Figure(value=max(values))}


def _lost(acted: Acted) -> str:
    """In how many decisions nothing imagined came nearer to the goal, in the words of the plans; "" if in none."""
    episodes = sum(n > 0 for n in acted.lost)
    return f"{sum(acted.lost):,} decisions, in {episodes} of {len(acted.lost)} episodes: {acted.notice}" \
        if episodes else ""


def _farther(agent: Agent) -> str:
    """The agent's planner, looking several times as far, as JSON; "" where no number says how far, or none is
    trusted."""
    import msgspec

    steps, config = agent.planner.horizon, agent.planner.config
    farther = min(7 * (steps or 0), agent.trusted or 1 << 20)
    if steps is None or farther <= steps or not hasattr(config, "horizon"):
        return ""
    return msgspec.json.encode(msgspec.structs.replace(config, horizon=farther)).decode()


COMMAND = Act
