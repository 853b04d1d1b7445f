"""`steersman explore RUN`: guarded curiosity, and what to record next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from steersman.cli import imports
from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.imports import Modules
from steersman.cli.progress import Watcher
from steersman.cli.terminal import Terminal
from steersman.core.errors import UsageError

if TYPE_CHECKING:
    from steersman.evaluation.exploring import Explored
    from steersman.evaluation.living import Place
    from steersman.evaluation.next_minutes import Region
    from steersman.runs import Run


@dataclass(frozen=True, kw_only=True)
class Explore(Command):
    """Explore where the ensemble of a run disagrees, inside limits; train anew on it; say what to record next.

    In each round, episodes side by side go where the members of the world model disagree (the term "curiosity"), inside
    the limits of --keep. What happens is recorded in the run's experience, and the run's configuration is trained anew
    on its log and this experience: RUN/rounds/1, RUN/rounds/2, …, each a run like any other. The same command goes on
    from the last of them. Then: success at each length of the log, a forecast for twice as much, and the regions of the
    observed columns in which the ensemble still disagrees most.
    """

    EXAMPLE: ClassVar[str] = (
        "steersman explore runs/hazards --env hazards --keep 'x<=4.5' --keep 'x>=-4.5' --rounds 3\n"
        "steersman explore runs/pendulum --env Pendulum-v1 --keep 'speed<=6' --trips 0 --json"
    )

    run: Annotated[Path, tyro.conf.Positional, option("RUN")]
    """The run's directory; its world model is an ensemble (`steersman train --recipe vectors --members 5`)."""
    env: Annotated[str, option("ID")]
    """The id of a Gymnasium environment that looks like the training data, or a world of ours by name."""
    keep: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("LIMIT")] = ()
    """A limit that holds at every imagined step, e.g. --keep 'speed<=6', or the name of a kept guardrail
    (`steersman fit`); may be given several times."""
    rounds: int = 1
    """How often to explore and to train anew."""
    episodes: int = 16
    """Episodes side by side in a round."""
    length: int = 100
    """Actions of an episode, at most."""
    trips: int = 24
    """Trips to goals that the world sets, by which success is measured after each round; 0: none."""
    regions: int = 5
    """Regions to name at the end."""
    seed: int = 0
    """Starts and planning."""
    imports: Modules = ()
    """A module, or FILE.py, that registers parts of your own; a run never imports one by itself."""

    def __call__(self, terminal: Terminal) -> Done:
        imports.load(self.imports)
        from steersman import training
        from steersman.agent import Agent
        from steersman.cli import goals
        from steersman.evaluation.exploring import require_ensemble
        from steersman.evaluation.living import place
        from steersman.evaluation.next_minutes import next_minutes
        from steersman.runs import Run
        from steersman.training.rounds import latest, successor

        if min(self.rounds, self.episodes, self.length, self.regions) < 1 or self.trips < 0:
            raise UsageError("at least one round, episode, step and region, and trips of at least 0",
                             f"{self.rounds}, {self.episodes}, {self.length}, {self.regions}, {self.trips}",
                             "correct the numbers")
        first = Run.open(self.run)
        number, run = latest(first)
        agent = Agent.load(run)
        require_ensemble(agent)
        goals.limits(self.keep, agent)
        where = place(self.env, max(self.episodes, self.trips))
        where.begin(1, self.seed).signature.require(agent.signature.world, f"the world {self.env}", f"{self.run}")
        lengths, reached, rounds = list[int](), list[int](), list[dict[str, Any]]()
        if self.trips:
            lengths.append(training.open_log(run).steps)
            reached.append(self._reached(agent, where))
            terminal.say(f"{lengths[-1]:,} steps of log: {reached[-1]} of {self.trips} goals reached")
        for _ in range(self.rounds):
            number += 1
            found, broken = self._explored(run, where, number, terminal)
            with Watcher(terminal) as watcher:
                run = successor(run, first.path / training.ROUNDS / str(number), progress=watcher)
            agent = Agent.load(run)
            log = training.open_log(run)
            one = {"run": str(run.path), "explored": found.steps, "log": log.steps, "infeasible": found.infeasible,
                   "violated": int(found.violated.sum()) if found.forbids else None, "limits_broken": broken}
            if self.trips:
                lengths.append(log.steps)
                reached.append(self._reached(agent, where))
                one["reached"] = reached[-1]
            rounds.append(one)
            terminal.say(_said(number, one, self.trips))
        told: dict[str, Any] = {}
        if self.trips:
            told = self._forecast(lengths, reached, terminal)
        regions = next_minutes(agent, training.open_log(run), regions=self.regions, seed=self.seed)
        _show(regions, terminal)
        terminal.say(f"steersman run {run.path} --env {self.env}")
        return Done({"run": str(self.run), "env": self.env, "rounds": rounds, "forecast": told,
                     "next": [_plain(region) for region in regions]})

    def _explored(self, run: Run, where: Place, number: int, terminal: Terminal) -> tuple[Explored, int]:
        """One round of exploration, recorded; how many of its moments lie outside the limits of --keep as shown."""
        from steersman.agent import Agent, record_experience
        from steersman.cli import goals
        from steersman.cli.gathering import close
        from steersman.evaluation.exploring import broken_moments, explore

        agent = Agent.load(run)
        limits = goals.limits(self.keep, agent)
        log = record_experience(agent, run)
        before = log.count
        try:
            with Watcher(terminal) as watcher:
                found = explore(
                    agent, where.begin(self.episodes, self.seed + 1000 * number), min(self.length, where.limit), limits,
                    seed=self.seed + number,
                    watch=lambda seen: watcher.count("exploring, step", seen.step, self.length))
        finally:
            close(agent)
        return found, broken_moments(run, before, limits)

    def _reached(self, agent: Any, where: Place) -> int:
        from steersman.cli import goals
        from steersman.evaluation.exploring import reached

        trials = where.begin(self.trips, self.seed + 1)
        return reached(agent, trials, where.limit, goals.limits(self.keep, agent), seed=self.seed)

    def _forecast(self, lengths: list[int], reached: list[int], terminal: Terminal) -> dict[str, Any]:
        from steersman.evaluation.learning_curve import forecast_success

        ahead = forecast_success(lengths, reached, self.trips, 2.0 * lengths[-1])
        terminal.say(f"with {ahead.length:,.0f} steps of log, twice as many: about {ahead.middle:.0%} of such goals "
                     f"({ahead.low:.0%} to {ahead.high:.0%}, 90%)")
        return {"steps": ahead.length, "success": ahead.middle, "low": ahead.low, "high": ahead.high}


def _said(number: int, one: dict[str, Any], trips: int) -> str:
    words = f"round {number}: {one['explored']:,} steps explored, {one['infeasible']} decisions without a plan " \
            f"inside the limits, {one['limits_broken']} moments outside them"
    words += "" if one["violated"] is None else f", {one['violated']} episodes did what the world forbids"
    return words + (f"; {one['reached']} of {trips} goals reached" if trips else "") + f"; {one['log']:,} steps of log"


def _show(regions: tuple[Region, ...], terminal: Terminal) -> None:
    terminal.say()
    terminal.say("what to record next, where the ensemble disagrees most (disagreement of a step, 1 is the mean):")
    terminal.grid(("disagreement", "share", "where", "for instance from", "towards"), [
        (f"{region.times:.1f}", f"{region.share:.0%}", region.words, _some(region.start, region),
         _some(region.goal, region)) for region in regions])


def _some(values: Any, region: Region) -> str:
    return ",".join(f"{name}={values[name]:.3g}" for name in region.limits)


def _plain(region: Region) -> dict[str, Any]:
    return {"where": region.words, "times": region.times, "share": region.share, "start": dict(region.start),
            "goal": dict(region.goal)}


COMMAND = Explore
