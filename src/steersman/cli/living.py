"""`steersman run --steps`: acting for days, and what came of it in a few lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from steersman.cli.done import Done
from steersman.cli.gathering import close
from steersman.cli.progress import Watcher
from steersman.cli.terminal import Terminal

if TYPE_CHECKING:
    from steersman.agent import Agent
    from steersman.core import Goal, Task
    from steersman.runs import Run
    from steersman.runs.living import Living


def living(
    agent: Agent, run: Run, asked: Living, goal: Goal | None, task: Callable[[Goal], Task], terminal: Terminal, *,
    batch: int, record: bool,
) -> Done:
    """Act until as many steps were taken as are asked for, those of earlier calls counted.

    goal  None: the goals that the world sets; record  write decisions down

    Raises:
        UsageError: another life stands in this run.
    """
    from steersman.agent import record_decisions
    from steersman.evaluation.living import live, place
    from steersman.runs.decisions import retire_sessions

    recorder = None
    if record:
        retire_sessions(run.path)
        recorder = record_decisions(agent, run, world=asked.env)
    try:
        with Watcher(terminal) as watcher:
            found = live(
                agent, run, place(asked.env, batch), asked,
                lambda trials: task(trials.goals() if goal is None else goal), batch=batch,
                watch=lambda now: watcher.count(
                    f"{now.episodes:,} episodes, {now.updates} updates, step", now.steps, now.asked))
    finally:
        if recorder is not None:
            recorder.close()
        close(agent)
    terminal.say(f"{found.steps:,} steps, {found.episodes:,} episodes: steersman status {run.path}")
    return Done({
        "run": str(run.path), "env": found.env, "goal": found.goal, "steps": found.steps, "asked": found.asked,
        "episodes": found.episodes, "reached": found.reached, "violated": found.violated, "decisions": found.decisions,
        "infeasible": found.infeasible, "alarms": found.alarms, "updates": found.updates, "begun": found.begun,
        "seconds": found.seconds,
    })
