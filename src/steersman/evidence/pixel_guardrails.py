"""A guardrail read from pixels: hazards seen by a camera alone, the recipe for cameras, guarded and not.

The probe of clearance is fitted to labelled frames, its margins are conformal; nobody tells the agent where obstacles
are. A row for the learned agent, and what unguarded the same starts come to.
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch

from steersman.agent import Agent
from steersman.core import ColumnGoal, Task
from steersman.evaluation import PROTOCOLS, evaluate, fit_clear_guard, wilson
from steersman.evaluation.seeds import GUARD, derived
from steersman.evidence import filmed
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.filmed import Log
from steersman.evidence.seeds import mean
from steersman.recipes import pixels
from steersman.runs.artefacts import Column, Figure, Row, Table

PROTOCOL, EPISODES, ROUND = "hazards-pixels", 60, 0.7
"""Episodes of a cell; and the least radius of an obstacle, m, which bounds the way between two model steps."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """steps: of the training, None: the recipe's; labels: frames of which the truth is told; level: of the margins."""

    steps: int | None = None
    size: int = 32
    episodes: int = EPISODES
    labels: int = 500
    level: float = 0.99


class Guarded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Hits and successes of n episodes, guarded and not, from the same starts; the decoded error ahead."""

    n: int
    hits: int
    success: int
    hits_unguarded: int
    success_unguarded: int
    probe_error: float
    margin: float
    decoded_ratio: float | None
    seconds: float


def cells(seed: int, settings: Settings = Settings()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """A log and a training for each of three seeds."""
    found = []
    for i in range(3):
        log = Cell("log", filmed.record, 300, seed + i, Log(protocol=PROTOCOL), usual=i == 0)
        found.append(Cell("hazards", perform, 360, seed + i, settings, (log,), usual=i == 0))
    return tuple(found)


def perform(context: Context) -> Found:
    """Train, fit the probe and its margins, act unguarded and guarded from the same starts."""
    (log,), settings = context.needs, context.settings
    given = {} if settings.steps is None else {"steps": settings.steps}
    config = pixels.recipe(seed=context.seed, size=settings.size, **given)
    run, seconds, _ = filmed.learn(context, config, log.folder)
    _, ratio = filmed.foreseen(run, filmed.labels(log.folder / "tests.safetensors"))
    agent, asked = Agent.load(run), PROTOCOLS[PROTOCOL]
    guard = fit_clear_guard(agent, asked.world, derived(context.seed, GUARD), round=ROUND, labels=settings.labels,
                            level=settings.level)
    with torch.inference_mode():
        plain = evaluate(agent, asked, settings.episodes, asked.seed(context.seed), random=False)
        task = Task(ColumnGoal({}), guardrails=(guard.guardrail,))
        guarded = evaluate(agent, asked, settings.episodes, asked.seed(context.seed), task=task, random=False)
    found = Guarded(
        n=len(plain), hits=int(guarded.violated.sum()), success=int(guarded.success.sum()),
        hits_unguarded=int(plain.violated.sum()), success_unguarded=int(plain.success.sum()),
        probe_error=guard.probe_error, margin=guard.margins.by_step[0], decoded_ratio=ratio, seconds=seconds)
    context.say(f"hazards, seed {context.seed}: {found.hits} of {found.n} hit guarded ({found.success} reached), "
                f"{found.hits_unguarded} unguarded ({found.success_unguarded} reached)")
    return Found({"hazards": {"hits": found.hits, "hits_unguarded": found.hits_unguarded}}, found)


def summary(results: Results) -> Outcome:
    """{hazards: hits, hits_unguarded, episodes, success, success_unguarded, …}: sums over all seeds, the largest error
    of the probe, margin and training. `success_of_unguarded` is None where nothing was reached unguarded."""
    cells_ = [one.record(Guarded) for one in results.of("hazards")]
    if not cells_:
        return Outcome({})
    n = sum(one.n for one in cells_)
    total = {key: sum(getattr(one, key) for one in cells_) for key in
             ("hits", "hits_unguarded", "success", "success_unguarded")}
    figures: dict[str, Any] = {
        **total, "episodes": n, "hits_ci95": list(wilson(total["hits"], n)),
        "success_of_unguarded": total["success"] / total["success_unguarded"] if total["success_unguarded"] else None,
        "decoded_ratio": mean(one.decoded_ratio for one in cells_),
        "probe_error": max(one.probe_error for one in cells_), "margin": max(one.margin for one in cells_),
        "seconds": max(one.seconds for one in cells_),
    }
    rows = tuple(
        Row(label=label, kind="agent" if not key else "ablation", figures={
            "hits": Figure(value=total[f"hits{key}"] / n), "success": Figure(value=total[f"success{key}"] / n)})
        for label, key in (("guarded from pixels", ""), ("unguarded", "_unguarded")))
    table = Table(name="hazards", title="Hazards seen by a camera", rows=rows, columns=(
        Column(key="hits", title="episodes with a hit", form="share", better="lower"),
        Column(key="success", title="goals reached", form="share", better="higher")))
    return Outcome({"hazards": figures}, (table,))
