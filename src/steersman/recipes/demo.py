"""The main job, whole: a log of random wandering in two rooms -> a world model -> goals in the other room, measured.

`demo` writes a run with everything to look at; `cli demo` says it on a terminal and draws the report. The true state
is used for measuring and for the guardrail's few labelled frames, never for training or acting.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

import msgspec

from steersman import training
from steersman.actor import CEM, Greedy
from steersman.agent import Agent
from steersman.core import Planner, RunError
from steersman.data import Dataset
from steersman.data.card import data_card
from steersman.evaluation import PROTOCOLS, Evaluation, PlanningProtocol, Seen, evaluate
from steersman.evaluation.guarding import Guard, fit_guard
from steersman.evaluation.seeds import FRAMES, GUARD, LOG, derived
from steersman.recipes import demo_pictures as pictures
from steersman.recipes import two_rooms
from steersman.recipes.demo_results import LIKE, NEVER, THREE, Results
from steersman.runs import Run
from steersman.runs.artefacts import write
from steersman.training import Progress, RidgeProbe, StagedLog
from steersman.worlds import TwoRooms

CHEAP_CEM = CEM.Config(samples=128, iterations=4, elites=16, horizon=30, hold=3, execute=10)
GREEDY = Greedy.Config(ahead=2, execute=2)
"""Decides as often as search in imagination does."""
_FILMED = 4  # episodes of each evaluation whose plans are kept


class Watching(Protocol):
    """Who is told how far the demo is; `cli.progress.Watcher` is one."""

    def say(self, message: str) -> None: ...

    def count(self, label: str, done: int, total: int | None) -> None: ...

    def __call__(self, progress: Progress) -> None: ...


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much of everything; the defaults are the demo's promise.

    log, log_steps    recorded episodes and the steps of each
    steps, batch_size of training; None: the recipe's
    like, never, three, greedy, cem, guarded   episodes; greedy and CEM act in the first of those of `like`
    labels            frames with a known position that the guardrail's probe may use, calibration included
    frames            logged frames that films show imagined states with
    """

    log: int = two_rooms.EPISODES
    log_steps: int = two_rooms.STEPS
    steps: int | None = None
    batch_size: int | None = None
    like: int = 200
    never: int = 200
    three: int = 100
    greedy: int = 100
    cem: int = 12
    guarded: int = 200
    labels: int = 500
    frames: int = 2000
    step_limit: int | None = None


def demo(path: Path, seed: int, watcher: Watching, sizes: Sizes | None = None) -> dict[str, Any]:
    """Record, train, evaluate; leave a run at `path` and return its figures, as `demo --json` prints them.

    Raises:
        RunError: there is something at `path` already.
        KeyboardInterrupt: training was stopped; what was learned is in the run.
        StorageError: the disk refused.
    """
    sizes, began = sizes or Sizes(), time.perf_counter()
    clock = _Clock()
    with _recorded(path, derived(seed, LOG), sizes, watcher) as log:
        clock.lap("data")
        agent = _train(path, seed, sizes, log, watcher)
    clock.lap("train")
    shown = _Measuring(agent, seed, sizes, watcher)
    results, judge = shown.results()
    clock.lap("evaluate")
    _show(path, agent, log.dataset, shown, judge, derived(seed, FRAMES), sizes)
    clock.lap("pictures")
    seconds = dict(clock.seconds)
    for table in results.tables():
        write(path, table)
    write(path, results.summary(sizes.log, seconds, f"steersman demo --seed {seed}"))
    facts = {**results.facts(), "seed": seed, "run": str(path)}
    if judge is not None:
        facts["guardrail"] |= judge.figures()
    facts["seconds"] = {**seconds, "total": round(time.perf_counter() - began, 2)}
    Run.open(path).write_json("demo.json", facts)
    return facts


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage], self._last = round(now - self._last, 2), now


# Log and training ------------------------------------------------------------------------------------------------


def _recorded(path: Path, seed: int, sizes: Sizes, watcher: Watching) -> StagedLog:
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise RunError(f"a new folder for the run at {path}", "one that is in use", "choose another name")
    return StagedLog(path, lambda place: two_rooms.log(
        place, episodes=sizes.log, steps=sizes.log_steps, seed=seed,
        progress=lambda done, total: watcher.count("recording random walks", done, total)))


def _train(path: Path, seed: int, sizes: Sizes, log: StagedLog, watcher: Watching) -> Agent:
    changes = {"steps": sizes.steps, "batch_size": sizes.batch_size}
    given = {name: value for name, value in changes.items() if value is not None}
    config = two_rooms.recipe(seed=seed % 2**31, **given)
    with training.create_run(path, config, log.dataset, recipe="two-rooms", log=log.place) as run:
        write(path, *data_card(log.dataset, source="TwoRooms, recorded by steersman", title="Random walks in two rooms",
                               behaviour="random heading and speed; after a bump it mostly goes on pushing",
                               layouts="wall and door positions differ from episode to episode"))
        probe = RidgeProbe(("x", "y"), pictures.dot_positions)  # a look from outside; it trains nothing
        trained = training.train(config, log.dataset, run, progress=watcher, gauges=[probe])
    if not trained.finished:
        raise KeyboardInterrupt
    return Agent.load(path)


# Measuring -------------------------------------------------------------------------------------------------------


class _Measuring:
    """Every evaluation of the demo, with what the first episodes' planner imagined."""

    def __init__(self, agent: Agent, seed: int, sizes: Sizes, watcher: Watching) -> None:
        self.agent, self.seed, self.sizes, self.watcher = agent, seed, sizes, watcher
        self.shown: dict[str, pictures.Shown] = {}

    def results(self) -> tuple[Results, Guard | None]:
        """Figures, and the factory of guardrails if there was one."""
        n = self.sizes
        like = self._of(LIKE, "two-rooms", n.like)
        never = self._of(NEVER, "held-out", n.never)
        three = self._of(THREE, "three-rooms", n.three)
        greedy = self._of("greedy", "two-rooms", n.like, GREEDY.build(), n.greedy)
        cem = self._of("CEM", "two-rooms", n.like, CHEAP_CEM.build(), n.cem)
        if not n.guarded:
            return Results(self.seed, like, never, three, greedy, cem), None
        free = self._of("unguarded", "guarded", n.guarded)
        factory = fit_guard(self.agent, TwoRooms.Config(), derived(self.seed, GUARD), labels=n.labels)
        told = self._of("guarded", "guarded", n.guarded, guardrails=factory)
        return Results(self.seed, like, never, three, greedy, cem, free, told), factory

    def _of(self, label: str, name: str, episodes: int, planner: Planner | None = None,
            first: int | None = None, guardrails: Any = None) -> Evaluation:
        agent = self.agent
        if planner is not None:
            agent = Agent(agent.config, agent.signature, agent.perception, agent.world_model, planner=planner)
        count = min(first or episodes, episodes)

        def report(seen: Seen) -> None:
            self.watcher.count(f"{label}: goals reached", seen.done, count)

        recorder = pictures.Recorder(_FILMED if planner is None else 0, report)
        protocol = self._protocol(name)
        measured = evaluate(agent, protocol, episodes, protocol.seed(self.seed), guardrails=guardrails,
                            random=planner is None, first=first and count, watch=recorder)
        self.shown[label] = pictures.Shown(measured, recorder)
        figures = measured.figures()
        words = f"{label}: {100 * figures['success']:.1f}% of {count} goals reached, SPL {figures['spl']:.2f}"
        if measured.forbids:
            words += f", {figures['violations']} of {count} enter the disk"
        self.watcher.say(words)
        return measured

    def _protocol(self, name: str) -> PlanningProtocol:
        protocol, limit = PROTOCOLS[name], self.sizes.step_limit
        return protocol if limit is None else msgspec.structs.replace(protocol, step_limit=limit)


# Showing ---------------------------------------------------------------------------------------------------------


def _show(path: Path, agent: Agent, dataset: Dataset, measuring: _Measuring, judge: Guard | None,
          seed: int, sizes: Sizes) -> None:
    """Films, maps, margins, decisions."""
    bank = pictures.Bank(agent, dataset, sizes.frames, seed)
    shown, order = measuring.shown, 0
    for group, rows in [(LIKE, (0, 1)), (NEVER, (0, 1)), (THREE, (0,))]:
        for row in rows:
            one = shown[group]
            if row in one.recorder.futures:
                pictures.film(path, f"episode-{order}", group, order, one.measured, one.recorder, row, bank)
                order += 1
    pictures.goal_maps(path, agent, shown[LIKE].measured)
    decisions = shown[LIKE].recorder.decisions[0]
    pictures.flight(path, "episode-0", f"Episode 0, {LIKE}", decisions, {})
    if judge is None:
        return
    free, told = shown["unguarded"], shown["guarded"]
    entered = free.measured.violated[:_FILMED].nonzero()[:, 0].tolist()
    row = entered[0] if entered else 0
    for label, one in [("unguarded", free), ("guarded", told)]:
        pictures.film(path, label, "A forbidden disk on the way", order, one.measured, one.recorder, row, bank,
                      title=f"Episode {row}, {label}")
        order += 1
    masks = told.measured.trials.painted()
    assert masks is not None
    judged = pictures.judged(told.recorder, row, judge, masks[row])
    pictures.margins(path, row, told.measured, free.measured, judged)
    pictures.flight(path, "guarded", f"Episode {row}, guarded", told.recorder.decisions[row], judged)
