"""`steersman run --steps`: acting for days, and what came of it in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steersman.cli.done import Done
from steersman.cli.progress import Watcher
from steersman.cli.terminal import Terminal

if TYPE_CHECKING:
    from steersman.agent import Agent
    from steersman.cli.commands.act import Act
    from steersman.runs import Run
    from steersman.worlds import Trials


def living(act: Act, agent: Agent, run: Run, terminal: Terminal) -> Done:
    """Act until as many steps were taken as the command asks for, those of earlier calls counted.

    Raises:
        UsageError: another life stands in this run.
    """
    from steersman.agent import record_decisions
    from steersman.cli import goals
    from steersman.core import Task
    from steersman.evaluation.living import live, place
    from steersman.runs.decisions import retire_sessions
    from steersman.runs.living import Living

    limits = goals.limits(act.keep, agent)
    given = goals.goal(act.goal, agent, act.run) if act.goal else None

    def task(trials: Trials) -> Task:
        goal = trials.goals() if given is None else given
        return Task(goal, goals.weights(act.weight, agent, goal), limits)

    asked = Living(env=act.env, goal=act.goal, keep=act.keep, seed=act.seed, asked=act.steps)
    recorder = None
    if not act.no_record:
        retire_sessions(run.path)
        recorder = record_decisions(agent, run, world=act.env)
    try:
        with Watcher(terminal) as watcher:
            def told(now: Living) -> None:
                watcher.count(f"{now.episodes:,} episodes, {now.updates} updates, step", now.steps, now.asked)

            found = live(agent, run, place(act.env, act.episodes), asked, task, batch=act.episodes,
                         watch=told)
    finally:
        if recorder is not None:
            recorder.close()
        if agent.log is not None:
            agent.log.close()
    terminal.say(f"{found.steps:,} steps, {found.episodes:,} episodes: steersman status {act.run}")
    return Done({
        "run": str(act.run), "env": act.env, "goal": act.goal, "steps": found.steps, "asked": found.asked,
        "episodes": found.episodes, "reached": found.reached, "violated": found.violated, "decisions": found.decisions,
        "infeasible": found.infeasible, "alarms": found.alarms, "updates": found.updates, "begun": found.begun,
        "seconds": found.seconds,
    })

