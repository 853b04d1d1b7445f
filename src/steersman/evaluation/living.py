"""Acting for days: batches of episodes one after the other until so many steps were taken, in bounded memory; stopped
at any moment, it goes on from what is on disk.

Knows the agent, trials, and the run's file of counts. Shapes: B episodes side by side.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import torch

from steersman.agent import Agent
from steersman.core import Task, UsageError
from steersman.evaluation.acting import LONGEST
from steersman.evaluation.deciding import rows_between
from steersman.evaluation.protocol import Seen, follow, in_steps, steps_of
from steersman.evaluation.success import Tally
from steersman.runs import Run
from steersman.runs.living import Living, read_living, sampled, write_living
from steersman.worlds import OURS, GymnasiumTrials, Trials, make_world

EVERY = 2.0
"""Seconds from one writing of the counts to the next: as much is counted again at most, where a process is killed."""


@dataclass(frozen=True)
class Place:
    """Where episodes come from: begin(count, seed) -> B of them, of at most `limit` actions each."""

    begin: Callable[[int, int], Trials]
    limit: int


def place(env: str, batch: int) -> Place:
    """A world of ours by its name, vectorised; any other environment B times, made once and reset.

    Raises:
        UsageError: an environment that Gymnasium cannot make.
    """
    if env in OURS:
        return Place(OURS[env].begin, OURS[env].step_limit)
    worlds = [make_world(env) for _ in range(batch)]
    return Place(lambda count, seed: GymnasiumTrials(worlds[:count], [(seed + i) % 2**31 for i in range(count)]),
                 LONGEST)


def own_task(trials: Trials) -> Task:
    """The goals that the world sets, and nothing else. Raises UsageError: it sets none."""
    return Task(trials.goals())


def live(
    agent: Agent, run: Run, where: Place, asked: Living, task: Callable[[Trials], Task] = own_task, *, batch: int = 16,
    every: float = EVERY, watch: Callable[[Living], None] | None = None,
) -> Living:
    """Act until `asked.asked` steps were taken in all, those of earlier calls counted.

    Batches of B episodes follow one another, each a function of the seed and of its number; episodes that are over
    drop out. A process that is killed loses the counts of at most `every` seconds, and the episodes that it was in the
    middle of: the next call begins another batch. What the agent records and learns (`record_decisions`,
    `record_experience`, `correct_with`) has its own files, and its own limits on them.

    asked  what is asked for, as `Living` says it in words; its counts are not read
    task   what a batch of episodes is asked for: its own goals, or something else
    watch  called whenever the counts were written

    Raises:
        UsageError: another life stands in this run: other words, or another seed.
        StorageError: the disk refused the counts; what was written before stands.
    """
    there = read_living(run.path)
    if there is not None:
        mine, theirs = ((x.env, x.goal, x.keep, x.seed) for x in (asked, there))
        if mine != theirs:
            raise UsageError(f"the same env, goal, limits and seed as before: {theirs}", f"{mine}",
                             f"ask for these, or remove {run.path / 'living.json'} to begin anew")
    counts = msgspec.structs.replace(asked if there is None else there, asked=asked.asked,
                                     begun=1 if there is None else there.begun + 1,
                                     resident=())
    keeper = _Keeper(agent, run, counts, every, watch)
    try:
        while not keeper.now.done:
            keeper.wave(where, task, batch)
    finally:
        keeper.write()
    return keeper.now


class _Keeper:
    """Counts while episodes go on, and writes the counts."""

    def __init__(
        self, agent: Agent, run: Run, counts: Living, every: float, watch: Callable[[Living], None] | None
    ) -> None:
        self.agent, self.run, self.every, self.watch = agent, run, every, watch
        self.now = self._base = counts  # with the present batch, and without it
        self._written = time.monotonic()
        self._decided = counts.decisions

    def wave(self, where: Place, task: Callable[[Trials], Task], batch: int) -> None:
        """One batch of episodes, or as much of it as is left to do."""
        agent, number = self.agent, self._base.waves
        seed = _seed(self._base.seed, number)
        trials = in_steps(where.begin(batch, seed), agent, where.limit)
        tally = Tally(trials, -(-where.limit // rows_between(agent)))
        self._base = self.now = msgspec.structs.replace(self._base, waves=number + 1)
        follow(agent, tally, task(trials), seed, self._decided_on, lambda: self._enough(tally))
        self._count(tally)
        self._base = self.now

    def _enough(self, tally: Tally) -> bool:
        """Counts what the last decision led to, and writes it if it is time."""
        self._count(tally)
        if time.monotonic() - self._written >= self.every:
            self.write()
        return self.now.done

    def _decided_on(self, seen: Seen) -> None:
        plan, base = seen.plan, self._base
        refused = dict(base.refused)
        for name, count in plan.vetoed.items():
            refused[name] = refused.get(name, 0) + int(count.sum())
        watch = None if self.agent.learning is None else self.agent.learning.watch
        surprise, known = self.agent.surprise, None
        if surprise is not None and bool((rows := surprise.known.flatten(1).any(1)).any()):
            known = float(surprise.pooled()[rows].mean())
        self._base = msgspec.structs.replace(
            base, decisions=base.decisions + len(seen.rows), infeasible=base.infeasible + int((~plan.feasible).sum()),
            refused=refused, reason=plan.reason[0] if plan.reason else "",
            alarms=base.alarms + (watch is not None and watch.raised),
            surprise=known if watch is None or not watch.standing else watch.standing,
            threshold=None if watch is None else watch.alarm.threshold)

    def _count(self, tally: Tally) -> None:
        base, trials = self._base, tally.trials
        over = ~tally.on
        returned = base.returned
        if trials.returns is not None:
            returned = (returned or 0.0) + float(trials.returns[over].sum())
        self.now = msgspec.structs.replace(
            base, steps=base.steps + int(steps_of(tally).sum()), episodes=base.episodes + int(over.sum()),
            reached=base.reached + int((tally.success & over).sum()),
            violated=base.violated + int(tally.violated.sum()), returned=returned,
            updates=self.agent.standing.updates)

    def write(self) -> None:
        """Put the counts on disk. Objects that refer to each other are collected before: decisions leave some behind,
        and what Python collects by itself is so rare that memory would grow by tens of KiB in 1,000 steps."""
        gc.collect()
        now = time.monotonic()
        passed = now - self._written
        rate = (self.now.decisions - self._decided) / passed if passed > 0 else None
        seconds = self._base.seconds + passed
        resident = sampled(self.now.resident, self.now.steps)
        self._base = msgspec.structs.replace(self._base, seconds=seconds, rate=rate, resident=resident)
        self.now = msgspec.structs.replace(self.now, seconds=seconds, rate=rate, resident=resident, pid=os.getpid(),
                                           when=time.time())
        self._written, self._decided = now, self.now.decisions
        write_living(self.run.path, self.now)
        if self.watch is not None:
            self.watch(self.now)


def _seed(seed: int, number: int) -> int:
    """Of one batch of episodes."""
    return int(torch.randint(2**31, (1,), generator=torch.Generator().manual_seed(seed * 1_000_003 + number)))
