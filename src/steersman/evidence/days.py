"""Acting for days: a run in Hazards by `steersman run --steps`, killed and gone on with, watched from outside.

What is measured: steps taken in all, the slope of the resident memory behind warm-up, whether a step that was counted
is missing from the experience after the process was killed, and what is on the disk. The usual cell takes 20,000 steps,
`--full` 100,000.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from steersman import data, training
from steersman.agent.fitting import fit_readout
from steersman.core import UsageError
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import canvas, picture
from steersman.recipes import hazards as recipe
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.runs.living import read_living, slope
from steersman.runs.status import status_of
from steersman.worlds import HazardsConfig, roam

WARM = 0.5
"""Share of the last process's steps that warm-up takes: libraries, and what the allocator keeps for later."""
_KILLED = (0.1, 0.2)  # shares of the steps at which the process is killed


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """log: episodes of 64 steps; train: steps of training; steps: taken in all; batch: episodes side by side."""

    log: int = 300
    train: int = 600
    steps: int = 20_000
    batch: int = 64


class Days(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What came of it.

    steps, episodes, reached, begun, seconds  as `runs.living.Living`
    killed       steps that had been counted when the process was killed, each time
    missing      actions that were counted, and whose moments are not in the experience
    resident     (steps, bytes) of the last process
    disk         folder -> bytes
    """

    steps: int
    episodes: int
    reached: int
    begun: int
    seconds: float
    killed: list[int]
    missing: int
    resident: list[tuple[int, int]]
    disk: dict[str, int]


def cells(seed: int) -> tuple[Cell, ...]:
    """The usual count, and the whole one."""
    return (Cell("20000-steps", perform, 150, seed, Sizes()),
            Cell("100000-steps", perform, 360, seed, Sizes(steps=100_000), usual=False))


def perform(context: Context) -> Found:
    """Train a little; act, be killed twice, go on to the end."""
    path, seed, sizes = context.folder, context.seed, context.settings
    world = HazardsConfig()
    with data.CacheWriter(path / "log", world.signature, origin="steersman collect hazards") as writer:
        for chunk in roam.episodes(world, sizes.log, 64, seed):
            writer.append(iter(chunk))
        writer.finish()
    log = data.Dataset.open(path / "log")
    config = recipe.recipe(steps=sizes.train, seed=seed)
    with training.create_run(path / "run", config, log, recipe="hazards") as run:
        training.train(config, log, run, progress=context.progress)
    run = Run.open(path / "run")
    fit_readout(run, log, seed=seed)
    words = [sys.executable, "-m", "steersman", "run", str(run.path), "--env", "hazards", "--steps", str(sizes.steps),
             "--episodes", str(sizes.batch), "--seed", str(seed), "--experience"]
    killed = [_kill_at(words, run.path, round(share * sizes.steps)) for share in _KILLED]
    context.say(f"killed at {', '.join(f'{n:,}' for n in killed)} steps")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError("a run that goes on after it was killed", done.stderr.strip().splitlines()[-1], "report this")
    found = status_of(run)
    living = found.living
    assert living is not None
    begun = living.waves * sizes.batch  # moments that episodes began with; those of a killed wave are there, too
    days = Days(
        steps=living.steps, episodes=living.episodes, reached=living.reached, begun=living.begun,
        seconds=living.seconds, killed=killed, missing=max(0, living.steps + begun - found.moments - found.made_room),
        resident=list(living.resident), disk=dict(found.disk))
    figures = _figures(days)
    context.say(f"{days.steps:,} steps, memory grows by {figures['rss_slope']:.3g} KiB in 1,000 steps")
    return Found({f"{sizes.steps}-steps": figures}, days)


def _kill_at(words: list[str], run: Path, steps: int) -> int:
    """Begin, and kill as soon as so many steps are counted; how many were."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            now = read_living(run)
            if now is not None and now.steps >= steps:
                break
            time.sleep(0.2)
    finally:
        process.kill()
        process.wait()
    now = read_living(run)
    return 0 if now is None else now.steps


def _figures(days: Days) -> dict[str, Any]:
    grown = slope(tuple(days.resident), WARM)
    return {
        "steps": days.steps, "rss_slope": None if grown is None else 1000 * grown / 1024,
        "rss_mib": days.resident[-1][1] / 2**20 if days.resident else None, "episodes": days.episodes,
        "success": days.reached / max(1, days.episodes), "killed": len(days.killed), "missing": days.missing,
        "disk_mib": sum(days.disk.values()) / 2**20, "steps_per_second": days.steps / max(1e-9, days.seconds),
    }


def summary(results: Results) -> Outcome:
    """A row for each count."""
    found = [(one.cell.row, one.record(Days)) for one in results]
    figures = {row: _figures(days) for row, days in found}
    table = Table(
        name="days", title="Acting for days in Hazards, killed twice",
        columns=(Column(key="steps", title="steps", form="count"),
                 Column(key="rss_slope", title="memory grows, KiB in 1,000 steps", better="lower", target=0.0),
                 Column(key="rss_mib", title="memory, MiB"),
                 Column(key="missing", title="counted steps missing", form="count", better="lower", target=0.0),
                 Column(key="success", title="reached", form="share", better="higher"),
                 Column(key="disk_mib", title="disk, MiB"),
                 Column(key="steps_per_second", title="steps a second", better="higher")),
        rows=tuple(Row(label=row, figures={
            name: Figure(value=value) for name, value in figures[row].items() if value is not None})
            for row, _ in found),
        notes=("Memory: the slope is the median over all pairs of samples of the last process, without its first "
               "half.",),
    )
    shown = picture(_draw(found), "memory", "Memory of the process that acts", "resident memory against steps",
                    "One line a count, from where the process was last begun.")
    return Outcome(figures, (table,), (shown,))


def _draw(found: list[tuple[str, Days]]) -> Any:
    figure, axes = canvas(7, 3)
    for row, days in found:
        axes.plot([n for n, _ in days.resident], [size / 2**20 for _, size in days.resident], label=row)
    axes.set_xlabel("steps")
    axes.set_ylabel("MiB")
    axes.legend()
    return figure
