"""What each part of the objective prevents: the same short training with one part cut, one log, one seed.

What is measured: whether the agent's position can still be read from the latent (a probe on frozen latents of frames
never trained on), how many dimensions the latent uses, and how many goals in the other room are reached.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import torch

from steersman import training
from steersman.agent import Agent
from steersman.core import DivergedError, ObjectiveConfig
from steersman.data import Dataset
from steersman.evaluation import PROTOCOLS, evaluate, wilson
from steersman.evaluation.seeds import LOG, derived
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import png
from steersman.objectives import InverseDynamics, Motion, VICReg
from steersman.perception import MLPReadout
from steersman.recipes import two_rooms
from steersman.recipes.demo_pictures import dot_position
from steersman.runs.artefacts import Column, Figure, Picture, Row, Table
from steersman.training import TrainConfig
from steersman.worlds.two_rooms import STEP_LIMIT

Objectives = tuple[ObjectiveConfig, ...]


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """log: episodes recorded; steps: of each training; episodes: evaluated, of at most `step_limit` actions; frames:
    for the probe, a fifth of them tests it."""

    log: int = 2000
    steps: int = 500
    episodes: int = 60
    frames: int = 1500
    step_limit: int = STEP_LIMIT


def without(kind: type, objectives: Objectives) -> Objectives:
    """The objectives less those of one kind.

    >>> len(without(Motion.Config, (Motion.Config(), InverseDynamics.Config())))
    1
    """
    return tuple(x for x in objectives if not isinstance(x, kind))


def _weigh(objectives: Objectives, **weights: float) -> Objectives:
    return tuple(msgspec.structs.replace(x, **weights) if isinstance(x, VICReg.Config) else x for x in objectives)


CUTS: Mapping[str, tuple[str, Callable[[Objectives], Objectives]]] = {
    "full": ("everything", lambda x: x),
    "without_variance": ("without variance", lambda x: _weigh(x, variance=0.0, within=0.0)),
    "without_covariance": ("without covariance", lambda x: _weigh(x, covariance=0.0)),
    "without_idm": ("without inverse dynamics", lambda x: without(InverseDynamics.Config, x)),
    "without_auxiliary": ("without motion in the pixels", lambda x: without(Motion.Config, x)),
}
"""Key in the figures -> (words for people, what is left of the objectives)."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One training: which cut."""

    sizes: Sizes
    cut: str = "full"


class Cut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one training gave.

    probe       px: root mean square error of the position read from latents; `still` reads nothing
    rank, std   effective rank and mean deviation of the latents
    success     wins of n episodes
    """

    probe: float | None
    rank: float | None
    std: float | None
    wins: int
    n: int
    random: int
    seconds: float


def cells(seed: int, sizes: Sizes = Sizes()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """One log, and five trainings on it."""
    log = Cell("log", record, 60, seed, sizes)
    return (log, *(Cell(name, perform, 120, seed, Settings(sizes, name), (log,)) for name in CUTS))


def record(context: Context) -> Found:
    """The log, and how far off a probe is that reads nothing."""
    sizes: Sizes = context.settings
    context.say(f"{sizes.log:,} random walks in two rooms")
    log = two_rooms.log(context.folder / "log", episodes=sizes.log, seed=derived(context.seed, LOG))
    return Found({"": {"probe_of_nothing": _still(log, sizes)}})


def perform(context: Context) -> Found:
    """Train with one part cut, look at the latents, act."""
    (needed,), sizes, name = context.needs, context.settings.sizes, context.settings.cut
    words, cut = CUTS[name]
    log = Dataset.open(needed.folder / "log")
    config = two_rooms.recipe(steps=sizes.steps, seed=context.seed)
    changed = msgspec.structs.replace(config, objectives=cut(config.objectives))
    found = _one(context, name, changed, log, sizes)
    context.say(f"{words}: {_words(found)}")
    return Found({"": _figures(name, found)}, found)


def _figures(name: str, cut: Cut) -> dict[str, Any]:
    return {f"probe_{name}": cut.probe, f"success_{name}": cut.wins / cut.n, f"rank_{name}": cut.rank}


def summary(results: Results) -> Outcome:
    """`probe_*` in px, `success_*` as shares."""
    cuts: dict[str, Cut] = {}
    figures: dict[str, Any] = {}
    for one in results:
        figures |= one.kept.figures[""]
        if one.cell.row in CUTS:
            cuts[one.cell.row] = one.record(Cut)
            sizes: Sizes = one.cell.settings.sizes
    if "full" not in cuts or "probe_of_nothing" not in figures:
        return Outcome({"": figures})
    floor, full = figures["probe_of_nothing"], cuts["full"]
    chance = full.random / full.n
    figures |= {"random_success": chance, "episodes": sizes.episodes, "steps": sizes.steps}
    picture = Picture(
        name="cuts", title="What each part prevents", file="cuts.png",
        alt="error of the position probe and goals reached, for the whole objective and with each part cut",
        caption="Left: error of a position probe on frozen latents (dashed: one that reads nothing). Right: goals "
                "reached (dashed: the strongest random walker), with Wilson's 95% intervals.",
    )
    return Outcome({"": figures}, (_table(results.seed, sizes, cuts, floor),),
                   ((picture, {"cuts.png": _draw(cuts, floor, chance)}),))


def _one(context: Context, name: str, config: TrainConfig, log: Dataset, sizes: Sizes) -> Cut:
    path = context.folder / "run"
    protocol = msgspec.structs.replace(PROTOCOLS["two-rooms"], step_limit=sizes.step_limit)
    try:
        with training.create_run(path, config, log, recipe="two-rooms") as run:
            trained = training.train(config, log, run, progress=context.progress)
    except DivergedError as error:
        context.say(f"{name}: {error}")
        return Cut(None, None, None, 0, sizes.episodes, 0, 0.0)
    agent = Agent.load(path)
    measured = evaluate(agent, protocol, sizes.episodes, protocol.seed(context.seed))
    assert measured.random is not None
    probe, rank, std = _look(agent, log, sizes)
    return Cut(probe, rank, std, int(measured.success.sum()), len(measured), int(measured.random.sum()),
               trained.seconds)


def _frames(log: Dataset, sizes: Sizes) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    episode = torch.randint(len(log), (sizes.frames,), generator=generator)
    row = (torch.rand(sizes.frames, generator=generator) * (log.lengths[episode] + 1)).long()
    return log.frames(episode, row)["image"]


def _look(agent: Agent, log: Dataset, sizes: Sizes) -> tuple[float, float, float]:
    """Probe error (px), effective rank, mean deviation of latents of logged frames."""
    pieces = _frames(log, sizes).split(256)
    places = torch.cat([dot_position(piece) for piece in pieces])
    states = torch.cat([agent.encode({"image": piece}).state for piece in pieces]).clone()
    test = len(states) // 5
    probe = MLPReadout.Config(hidden=(64, 64), steps=600).build(("x", "y"), agent.perception.latent_shape)
    probe.fit(states[test:], places[test:], 0)
    with torch.inference_mode():
        error = (probe.read(states[:test]) - places[:test]).square().sum(1).mean().sqrt()
    centred = (states - states.mean(0)).double()
    p = torch.linalg.svdvals(centred)
    p = p / p.sum().clamp_min(1e-12)
    rank = float((-(p * p.clamp_min(1e-12).log()).sum()).exp()) if float(centred.abs().max()) > 1e-6 else 0.0
    return float(error), rank, float(states.std(0).mean())


def _still(log: Dataset, sizes: Sizes) -> float:
    """The probe's error where the latent says nothing: everything is guessed to be at the mean (px)."""
    places = torch.cat([dot_position(piece) for piece in _frames(log, sizes).split(256)])
    return float((places - places.mean(0)).square().sum(1).mean().sqrt())


def _words(cut: Cut) -> str:
    if cut.probe is None:
        return "diverged"
    return f"probe ±{cut.probe:.2f} px, rank {cut.rank:.1f}, {cut.wins} of {cut.n} goals reached"


def _table(seed: int, sizes: Sizes, cuts: Mapping[str, Cut], floor: float) -> Table:
    rows = []
    for name, cut in cuts.items():
        low, high = wilson(cut.wins, cut.n)
        figures = {"success": Figure(value=cut.wins / cut.n, low=low, high=high, n=cut.n),
                   "probe": Figure(value=cut.probe), "rank": Figure(value=cut.rank), "std": Figure(value=cut.std),
                   "seconds": Figure(value=cut.seconds)}
        rows.append(Row(label=CUTS[name][0], kind="agent" if name == "full" else "ablation", figures=figures))
    full = cuts["full"]
    low, high = wilson(full.random, full.n)
    rows.append(Row(label="strongest random walker; a latent that says nothing", kind="baseline", figures={
        "success": Figure(value=full.random / full.n, low=low, high=high, n=full.n), "probe": Figure(value=floor)}))
    return Table(
        name="collapse", title="The objective with each part cut",
        caption="One log, one training seed, the same starts and goals in every row. Short trainings: read the rows "
                "beside each other, not beside the demo.",
        columns=(Column(key="success", title="success", form="share", better="higher"),
                 Column(key="probe", title="position probe", unit="px", better="lower"),
                 Column(key="rank", title="effective rank", better="higher"),
                 Column(key="std", title="deviation of latents"),
                 Column(key="seconds", title="training", form="seconds")),
        rows=tuple(rows), protocol={"episodes": sizes.episodes, "seed": seed, "steps": sizes.steps, "log": sizes.log},
        notes=_findings(cuts, floor),
    )


def _findings(cuts: Mapping[str, Cut], floor: float) -> tuple[str, ...]:
    """What was expected of each cut, and whether it came so; said either way."""
    full = cuts["full"]
    notes = ["Intervals: Wilson, 95%."]
    for name, expected in [("without_variance", "the latent collapses: the probe reads nothing"),
                           ("without_covariance", "dimensions repeat each other: the effective rank falls"),
                           ("without_idm", "nothing asks for what actions change: success falls"),
                           ("without_auxiliary", "the saliency does not find what moves: success falls")]:
        if name not in cuts:
            continue
        cut = cuts[name]
        if cut.probe is None or full.probe is None or cut.rank is None or full.rank is None:
            came = True
        elif name == "without_variance":
            came = cut.probe > max(2 * full.probe, 0.5 * floor)
        elif name == "without_covariance":
            came = cut.rank < 0.9 * full.rank
        else:
            came = wilson(cut.wins, cut.n)[1] < wilson(full.wins, full.n)[0]
        verdict = "so it came" if came else "it did not come so in this run"
        notes.append(f"Expected {CUTS[name][0]}: {expected}; {verdict} ({_words(cut)}, against {_words(full)}).")
    return tuple(notes)


def _draw(cuts: Mapping[str, Cut], floor: float, chance: float) -> bytes:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(8, 2.6), layout="constrained")
    left, right = canvas.subplots(1, 2, sharey=True)
    for i, cut in enumerate(reversed(list(cuts.values()))):
        colour = "#0072b2" if i == len(cuts) - 1 else "#e69f00"
        if cut.probe is not None:
            left.barh(i, cut.probe, color=colour)
        low, high = wilson(cut.wins, cut.n)
        right.plot([100 * low, 100 * high], [i, i], color=colour, linewidth=2)
        right.plot(100 * cut.wins / cut.n, i, "o", color=colour)
    left.axvline(floor, color="#555555", linewidth=0.8, linestyle="--")
    right.axvline(100 * chance, color="#555555", linewidth=0.8, linestyle="--")
    left.set_yticks(range(len(cuts)), [CUTS[name][0] for name in reversed(list(cuts))], fontsize="small")
    left.set_xlabel("position probe: error (px)")
    right.set_xlabel("goals reached (%)")
    right.set_xlim(0, 101)
    return png(canvas)
