"""Rivals on the same logs: other packages' world models, and methods without one, beside our recipe for pixels.

What is measured: goals reached from unseen starts, each with its own planner and, where there is a world model, with
ours, by latent distance and by a read-out of a few labels; and what training and deciding cost. Each training and each
acting has a process of its own, so that peak memory is its own.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import torch

from steersman import training
from steersman.agent import load_parts
from steersman.core import MismatchError, Pace, Signature
from steersman.data import CacheWriter, Dataset, pace_for
from steersman.evaluation import PROTOCOLS, PlanningProtocol
from steersman.evaluation.seeds import GUARD, LOG, derived
from steersman.evidence import filmed
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.peers import table
from steersman.evidence.peers.acting import Acted, act_in
from steersman.evidence.peers.our_planner import PLANNER, OurPlanner, read_out
from steersman.evidence.peers.policy import GoalPolicy, peak_memory
from steersman.evidence.peers.walled_room import WalledRoom
from steersman.evidence.peers.windowed import Leg, Windowed
from steersman.evidence.seeds import by_row
from steersman.objectives import Prediction, SIGReg
from steersman.runs import Run
from steersman.runs.artefacts import Column
from steersman.training import TrainConfig
from steersman.worlds import Labelled

WORLDS = ("two-rooms", "walled-room", "pendulum-pixels-by-picture", "push-t-by-picture", "empty-8x8")
"""Worlds whose goal is a picture, by the names of protocols. Everybody learns in the model steps that the log asks for
(`data.pace_for`)."""
USUAL = ("two-rooms",)
OURS, THEIR_LOSS, TEN = "steersman", "steersman-lewm-loss", "-ten"
PROTOCOL = {"walled-room": PlanningProtocol(world=WalledRoom())}
"""Protocols of worlds that are here only."""
_USUAL_RIVALS = ("lightly-lewm", "stable-lewm", "gciql")
_EXECUTED = 4
"""Steps of our planner's plans that are carried out on a package's model, whose predictor is large. lightly has 4."""


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """log: episodes recorded at most; seconds: of training; episodes: played at most; planning: seconds that deciding
    may take, for each planner: slow ones play fewer of the same episodes; labels: of the read-out; legs: sittings of a
    training that is ten times as long."""

    log: int = 1000
    seconds: float = 120.0
    episodes: int = 40
    planning: float = 90.0
    labels: int = 500
    legs: int = 5


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rival in one world; leg: which sitting, from 0, of a training that is ten times as long; None: of a plain
    one."""

    world: str
    rival: str
    sizes: Sizes
    leg: int | None = None


class Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the log asks for."""

    pace: Pace


class Played(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Goals reached by one planner: wins of n episodes, of the strongest walker that looks at nothing, seconds a
    decision."""

    wins: int
    n: int
    random: int
    seconds: float


def cells(seed: int, sizes: Sizes = Sizes()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """For each world a log; for each rival its training and its acting; packages also at ten times the seconds."""
    found: list[Cell] = []
    for world in WORLDS:
        usual = world in USUAL
        log = Cell(f"{world}/log", record, 60, seed, Settings(world, "", sizes), usual=usual)
        found.append(log)
        for name in (OURS, THEIR_LOSS, *table.RIVALS):
            found += _pair(log, Settings(world, name, sizes), usual and name in (OURS, *_USUAL_RIVALS))
        for name, one in table.RIVALS.items():
            if one.kind == "model":
                found += _long(log, Settings(world, name, sizes))
    return tuple(found)


def _pair(log: Cell, settings: Settings, usual: bool) -> tuple[Cell, Cell]:
    row, spent = f"{settings.world}/{settings.rival}", settings.sizes.seconds
    slow = settings.rival in table.RIVALS and table.rival(settings.rival).kind == "model"
    learned = Cell(f"{row}/training", learn, min(360, spent + 30), log.seed, settings, (log,), usual)
    return learned, Cell(row, act, 330 if slow else 90, log.seed, settings, (log, learned), usual)


def _long(log: Cell, settings: Settings) -> list[Cell]:
    row = f"{settings.world}/{settings.rival}{TEN}"
    found: list[Cell] = []
    for leg in range(settings.sizes.legs):
        needs = (log, *found[-1:])
        one = msgspec.structs.replace(settings, leg=leg)
        spent = 10 * settings.sizes.seconds / settings.sizes.legs
        found.append(Cell(f"{row}/training-{leg + 1}", learn, min(360, spent + 30), log.seed, one, needs, False))
    return [*found, Cell(row, act, 330, log.seed, msgspec.structs.replace(settings, leg=settings.sizes.legs),
                         (log, found[-1]), False)]


def protocol_of(world: str) -> PlanningProtocol:
    """The protocol of one of `WORLDS`."""
    return PROTOCOL[world] if world in PROTOCOL else PROTOCOLS[world]


def record(context: Context) -> Found:
    """The log that everybody learns from, pictures and actions, and the pace that it asks for."""
    settings: Settings = context.settings
    world = protocol_of(settings.world).world
    episodes, steps = world.recorded
    episodes = min(episodes, settings.sizes.log)
    context.say(f"{settings.world}: {episodes:,} episodes of {steps} steps")
    origin = f"{settings.world}, seed {context.seed}"
    with CacheWriter(context.folder / "log", world.signature, origin=origin) as writer:
        writer.append(world.log(episodes, steps, derived(context.seed, LOG)))
        writer.finish()
    return Found(record=Recorded(pace_for(Dataset.open(context.folder / "log"))))


def learn(context: Context) -> Found:
    """Train one rival, or one sitting of it, in a process of its own."""
    settings: Settings = context.settings
    log, *legs = context.needs
    before = legs[-1].folder if legs else None
    context.say(f"{settings.rival} learns {settings.world}")
    pace = log.record(Recorded).pace
    cost = _apart(_learn, settings, context.seed, log.folder / "log", pace, context.folder, before)
    row = f"{settings.world}/{settings.rival}{'' if settings.leg is None else TEN}"
    measured = {"parameters": cost.parameters, "training_memory": cost.memory / 2**20}
    if settings.leg is None:
        measured |= {"seconds": cost.seconds, "steps": cost.steps}
    elif settings.leg == settings.sizes.legs - 1:
        measured |= {"seconds": 10 * settings.sizes.seconds}
    return Found({row: measured} if settings.leg in (None, settings.sizes.legs - 1) else {}, cost)


def act(context: Context) -> Found:
    """Play with its own planner and with ours, in a process of its own."""
    settings: Settings = context.settings
    log, learned = context.needs
    context.say(f"{settings.rival} acts in {settings.world}")
    pace = log.record(Recorded).pace
    played, memory = _apart(_act, settings, context.seed, log.folder / "log", pace, learned.folder)
    row = f"{settings.world}/{settings.rival}{'' if settings.leg is None else TEN}"
    measured: dict[str, Any] = {"acting_memory": memory / 2**20}
    for key, one in played.items():
        measured |= {key: one.wins / one.n, f"{key}_episodes": one.n, f"{key}_decision": one.seconds}
    own = played.get("score") or next(iter(played.values()))
    return Found({row: measured | {"random": own.random / own.n}})


def summary(results: Results) -> Outcome:
    """{world/package: score, seconds, ours, …}: goals reached with its own planner (None: it has none for actions of
    this kind), seconds of training, and what our recipe comes to in that world."""
    columns = (
        Column(key="score", title="its own planner", form="share", better="higher"),
        Column(key="latent", title="our planner, latent distance", form="share", better="higher"),
        Column(key="read", title="our planner, read-out", form="share", better="higher"),
        Column(key="random", title="random", form="share"),
        Column(key="score_decision", title="a decision", form="seconds", better="lower"),
        Column(key="seconds", title="training", form="seconds"),
        Column(key="training_memory", title="memory, training", unit="MiB", better="lower"),
        Column(key="acting_memory", title="memory, acting", unit="MiB", better="lower"),
    )
    figures, shown = by_row(
        results, "pixel-peers", "Rivals on the same logs", columns,
        kinds=dict.fromkeys((f"{w}/{r}{t}" for w in WORLDS for r in table.RIVALS for t in ("", TEN)), "baseline"),
        notes=("Our own way towards a picture goes by a temporal distance that is fitted to the log.",
               "Goals reached from the same unseen starts; a planner that is slow plays the first of them, as many as "
               "its time allows (`*_episodes`).",
               "Packages train with the sizes, optimisers and schedules of their own scripts; rows ending in "
               f"{TEN} had ten times the seconds."))
    ours = {world: figures.get(f"{world}/{OURS}", {}).get("score") for world in WORLDS}
    for row, found in figures.items():
        figures[row] = {"score": None, "seconds": None} | found | {"ours": ours[row.split("/")[0]]}
    return Outcome(figures, (shown,))


# In a process of its own --------------------------------------------------------------------------------------------


def _apart(function: Callable[..., Any], *given: Any) -> Any:
    """What a function of this module returns, called in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def _learn(settings: Settings, seed: int, log: Path, pace: Pace, folder: Path, before: Path | None) -> table.Cost:
    opened = Dataset.open(log)
    if settings.rival in (OURS, THEIR_LOSS):
        return _learn_ours(settings, seed, opened, pace, folder)
    paced = table.rival(settings.rival).paced(opened, pace)
    if settings.leg is None:
        return table.train(settings.rival, paced, settings.sizes.seconds, seed, folder)
    legs = settings.sizes.legs
    leg = Leg(settings.leg / legs, (settings.leg + 1) / legs, None if before is None else before / "leg.safetensors",
              folder / "leg.safetensors")
    return table.train(settings.rival, paced, 10 * settings.sizes.seconds / legs, seed, folder, leg)


def _learn_ours(settings: Settings, seed: int, log: Dataset, pace: Pace, folder: Path) -> table.Cost:
    """The recipe for pixels, with as many steps as fit into the seconds."""
    config = _recipe(seed, pace)
    if settings.rival == THEIR_LOSS:
        config = msgspec.structs.replace(config, objectives=(Prediction.Config(), SIGReg.Config(weight=0.09)))
    config = filmed.within(config, log, settings.sizes.seconds, time.perf_counter)
    with training.create_run(folder / "run", config, log, recipe="pixels") as run:
        done = training.train(config, log, run)
    assert done.world_model is not None
    count = sum(p.numel() for part in (done.perception, done.world_model) for p in part.parameters())
    return table.Cost(done.seconds, done.step, count, peak_memory())


def _recipe(seed: int, pace: Pace) -> TrainConfig:
    from steersman.recipes import pixels

    return msgspec.structs.replace(pixels.recipe(seed=seed), pace=pace)


def _act(settings: Settings, seed: int, log: Path, pace: Pace, learned: Path) -> tuple[dict[str, Played], int]:
    protocol = protocol_of(settings.world)
    planner: Any = PLANNER
    if settings.rival in (OURS, THEIR_LOSS):
        loaded = load_parts(Run.open(learned / "run"))
        planner, signature = loaded.config.planner, loaded.signature
        assert loaded.parts.world_model is not None
        perception, model = loaded.parts.perception.eval(), loaded.parts.world_model.eval()
        own = None
    else:
        signature = table.rival(settings.rival).paced(Dataset.open(log), pace).signature
        there = table.load(settings.rival, signature, learned)
        if isinstance(there, GoalPolicy):
            return {"score": _play(there, settings, protocol, seed)}, peak_memory()
        assert isinstance(there, Windowed)
        (perception, model), own = table.boxes(there), there
    found = {} if own is None else _with_own(own, settings, protocol, seed)
    labelled = _labelled(settings, protocol, signature, seed)
    for key, readout in (("latent", None), ("read", read_out(perception, labelled, seed))):
        ours = OurPlanner(signature, perception, model, readout, planner, 1 if own is None else _EXECUTED, seed)
        found[key] = _play(ours, settings, protocol, seed)
    if own is None:  # its own way towards a picture
        opened = Dataset.open(log)
        far = OurPlanner(signature, perception, model, None, planner, 1, seed,
                         opened if pace.plain else opened.paced(pace))
        found = {"score": _play(far, settings, protocol, seed), **found}
    return found, peak_memory()


def _with_own(model: Windowed, settings: Settings, protocol: PlanningProtocol, seed: int) -> dict[str, Played]:
    """With the package's planner, where it plans actions of this kind."""
    try:
        own = model.own_planner(seed)
    except MismatchError:
        return {}
    return {"score": _play(own, settings, protocol, seed)}


def _play(policy: GoalPolicy, settings: Settings, protocol: PlanningProtocol, seed: int) -> Played:
    sizes = settings.sizes
    acted: Acted = act_in(policy, protocol, sizes.episodes, protocol.seed(seed), sizes.planning)
    return Played(wins=int(acted.success.sum()), n=len(acted.success), random=int(acted.random.sum()),
                  seconds=acted.seconds)


def _labelled(settings: Settings, protocol: PlanningProtocol, signature: Signature, seed: int) -> Labelled:
    """A few frames with their truth, in the moments of the model: observations name -> (n, 1, …)."""
    generator = torch.Generator().manual_seed(derived(seed, GUARD))
    found = protocol.world.labelled(settings.sizes.labels, signature.pace.before, generator)
    moments = found.moments(signature.pace)
    return dataclasses.replace(found, observations={name: moment[:, None] for name, moment in moments.items()})
