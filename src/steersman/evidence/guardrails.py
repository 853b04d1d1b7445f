"""Guardrails in Hazards with a learned model: whole episodes and adversarial moments, guarded and not; promises.

What is measured: how often something is hit, with and without guardrails, from the same starts; how often where the
world itself knows a way out; and whether the stated probability of the margins holds for the agent's own decisions,
also when the model is spoilt on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from steersman import data, training
from steersman.agent import Agent
from steersman.agent.fitting import fit_readout
from steersman.core import Guardrail
from steersman.cost import Margins
from steersman.evaluation.intervals import zero_of
from steersman.evidence import guardrails_report as report
from steersman.evidence import guardrails_trial as trial
from steersman.evidence import tensors
from steersman.evidence.cell import Cell, Context, Finished, Found, Outcome, Results
from steersman.evidence.guardrails_trial import Episodes
from steersman.recipes import hazards as recipes
from steersman.runs import Run
from steersman.worlds import Escape, HazardsConfig, HazardState, feasible, hazards, roam

WORLD = HazardsConfig()
LEVEL = 0.99
_CHUNK = 250  # episodes side by side
_HARD = 5  # parts that the adversarial states are put to the guarded agent in
ESCAPE, EPISODES, HIT = "escape.safetensors", "episodes.safetensors", "hit.safetensors"
Kind = Literal["as trained", "noise", "shift"]


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """log: episodes of 64 steps; steps: of training; windows, own: logged windows and own episodes that margins are
    calibrated on; episodes: guarded, and unguarded, of at most `limit` actions; spoilt: episodes with each
    spoilt model; states: adversarial ones, of `moments` decisions each."""

    log: int = 1500
    steps: int = 4000
    windows: int = 2000
    own: int = 150
    episodes: int = 1000
    limit: int = hazards.STEP_LIMIT
    spoilt: int = 250
    states: int = 10_000
    moments: int = 10


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One cell: which model acts, guarded or not, in which part of the episodes or states."""

    sizes: Sizes
    model: Kind = "as trained"
    guarded: bool = True
    part: int = 0


class Ways(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From which starts the world itself knows a way out."""

    exists: list[bool]


class Calibrated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The margins of a model in its world."""

    margins: Margins


@dataclass(frozen=True)
class Model:
    """An agent in the world that it acts in, and the margins that were calibrated for the two."""

    agent: Agent
    world: HazardsConfig
    margins: Margins


def cells(seed: int, sizes: Sizes = Sizes()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """A model; margins for it and for spoilt ones; episodes and adversarial states in parts, guarded and not."""
    model = Cell("model", learn, 200, seed, sizes)
    escapes = Cell("escapes", find_escapes, 60, seed, sizes)
    margins = {kind: Cell(f"margins/{kind.replace(' ', '-')}", calibrate, 90, seed, Settings(sizes, kind), (model,))
               for kind in get_args(Kind)}
    whole = margins["as trained"]
    found = [model, escapes, *margins.values()]
    for part in range(-(-sizes.episodes // _CHUNK)):
        found += [Cell(f"episodes/{name}/{part}", act, 60 if name == "guarded" else 20, seed,
                       Settings(sizes, guarded=name == "guarded", part=part), (model, whole))
                  for name in ("guarded", "unguarded")]
    for part in range(-(-sizes.spoilt // _CHUNK)):
        found += [Cell(f"episodes/{kind}/{part}", act, 60, seed, Settings(sizes, kind, part=part),
                       (model, margins[kind])) for kind in ("noise", "shift")]
    found += [Cell(f"adversarial/guarded/{part}", survive, 60, seed, Settings(sizes, part=part),
                   (model, whole, escapes)) for part in range(_HARD)]
    found += [Cell(f"adversarial/unguarded/{part}", survive, 20, seed, Settings(sizes, guarded=False, part=part),
                   (model, whole, escapes)) for part in range(_HARD)]
    return tuple(found)


# Cells -----------------------------------------------------------------------------------------------------------


def learn(context: Context) -> Found:
    """Record a log, train the recipe on it, fit the read-out."""
    path, seed, sizes = context.folder, context.seed, context.settings
    context.say(f"{sizes.log:,} episodes of roaming")
    with data.CacheWriter(path / "log", WORLD.signature, origin="steersman collect hazards") as writer:
        for chunk in roam.episodes(WORLD, sizes.log, 64, seed):
            writer.append(iter(chunk))
        writer.finish()
    dataset = data.Dataset.open(path / "log")
    config = recipes.recipe(steps=sizes.steps, seed=seed)
    with training.create_run(path / "model", config, dataset, recipe="hazards") as run:
        trained = training.train(config, dataset, run, progress=context.progress)
    fit_readout(Run.open(path / "model"), dataset, seed=seed)
    context.say(f"trained in {trained.seconds:.0f} s")
    return Found({"": {"train_seconds": trained.seconds}})


def calibrate(context: Context) -> Found:
    """Margins for a model in its world."""
    agent, world = _spoilt(_loaded(context.needs[0]), context.settings.model, context.seed)
    sizes, limit = context.settings.sizes, min(60, context.settings.sizes.limit)
    margins = trial.margins(agent, world, LEVEL, context.seed + 2, sizes.windows, sizes.own, limit)
    context.say(f"{context.settings.model}: margins {margins}")
    return Found({}, Calibrated(margins))


def find_escapes(context: Context) -> Found:
    """From which starts and adversarial states the world itself knows a way out."""
    sizes: Sizes = context.settings
    starts = _escapes(WORLD, _tasks(sizes, context.seed)[0])
    hard = _escapes(WORLD, _hard(sizes, context.seed)[0])
    tensors.save(context.folder / ESCAPE, hard)
    return Found({"": {"episodes_with_a_way": int(starts.exists.sum())}}, Ways(starts.exists.tolist()))


def act(context: Context) -> Found:
    """One part of the episodes, by one model, guarded or not."""
    settings: Settings = context.settings
    sizes, seed = settings.sizes, context.seed
    model = _model(context)
    starts, goals = _tasks(sizes, seed)
    rows = _rows(settings)
    actor, limits = _acting(model, settings.guarded)
    found = trial.run(actor, model.world, starts[rows], goals[rows], limits, sizes.limit, seed=seed + int(rows[0]),
                      every=7 if settings.guarded else 0)
    words = f"{settings.model}, {'guarded' if settings.guarded else 'unguarded'}"
    context.say(f"{words}: {int(found.violated.sum())} of {len(rows)} hit something, reached {_success(found):.3f}")
    tensors.save(context.folder / EPISODES, found)
    return Found()


def survive(context: Context) -> Found:
    """The next decisions from one part of the adversarial states, guarded or not."""
    settings: Settings = context.settings
    sizes, seed, model = settings.sizes, context.seed, _model(context)
    states, goals = _hard(sizes, seed)
    escape = tensors.load(context.needs[2].folder / ESCAPE, Escape)
    actor, limits = _acting(model, settings.guarded)
    hit, tried = torch.zeros(2, sizes.states, dtype=torch.bool)
    pieces = (~escape.impossible).nonzero()[:, 0].split(2 * _CHUNK)  # what is proved impossible is hit, and not tried
    for rows in pieces[settings.part :: _HARD]:
        hit[rows] = trial.run(actor, WORLD, states[rows], goals[rows], limits, sizes.moments, seed=seed + int(rows[0]),
                              until_goal=False).violated
        tried[rows] = True
    save_file({"hit": hit.clone(), "tried": tried.clone()}, context.folder / HIT)
    return Found()


def _rows(settings: Settings) -> Tensor:
    """Which of the episodes a part is."""
    count = settings.sizes.episodes if settings.model == "as trained" else settings.sizes.spoilt
    return torch.arange(count).split(_CHUNK)[settings.part]


def _loaded(model: Finished) -> Agent:
    return Agent.load(model.folder / "model")


def _model(context: Context) -> Model:
    """The first of the needs is the run, the second its margins."""
    agent, world = _spoilt(_loaded(context.needs[0]), context.settings.model, context.seed)
    return Model(agent, world, context.needs[1].record(Calibrated).margins)


def _spoilt(agent: Agent, kind: Kind, seed: int) -> tuple[Agent, HazardsConfig]:
    """The same promise for worse models: noise on every weight, and a world that is no longer that of the log."""
    if kind == "noise":
        return trial.degraded(agent, 0.004, seed), WORLD
    if kind == "shift":
        return agent, msgspec.structs.replace(WORLD, thrust=0.85 * WORLD.thrust, drag=1.3 * WORLD.drag)
    return agent, WORLD


def _tasks(sizes: Sizes, seed: int) -> tuple[HazardState, Tensor]:
    """Starts and goals of the episodes."""
    return hazards.sample_tasks(WORLD, sizes.episodes, torch.Generator().manual_seed(seed + 1))


def _hard(sizes: Sizes, seed: int) -> tuple[HazardState, Tensor]:
    """Adversarial states and goals."""
    generator = torch.Generator().manual_seed(seed + 3)
    states = hazards.sample_adversarial(WORLD, sizes.states, generator)
    return states, (WORLD.half - 1) * (2 * torch.rand(sizes.states, 2, generator=generator) - 1)


def _acting(model: Model, guarded: bool) -> tuple[Agent, tuple[Guardrail, ...]]:
    """The agent that acts, and its guardrails."""
    agent = model.agent
    planner = trial.guarded(agent, model.world) if guarded else None
    actor = Agent(agent.config, agent.signature, agent.perception, agent.world_model, readout=agent.readout,
                  planner=planner)
    assert agent.readout is not None
    return actor, trial.guardrails(agent.readout, model.world, model.margins) if guarded else ()


def _escapes(world: HazardsConfig, states: HazardState) -> Escape:
    parts = [feasible(world, states[rows]) for rows in torch.arange(len(states)).split(1000)]
    return Escape(*(torch.cat([getattr(p, name) for p in parts]) for name in ("exists", "impossible", "slack")))


# Figures ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Acted:
    """The episodes of one model, guarded or not: which of them, what came of them, and the margins that they kept."""

    rows: Tensor
    episodes: Episodes
    margins: Margins


def summary(results: Results) -> Outcome:
    """Episodes and adversarial states, guarded beside not, and promises, as far as they were performed."""
    seed, sizes = results.seed, _sizes(results)
    margins = {one.cell.settings.model: one.record(Calibrated).margins for one in results.below("margins")}
    acted = {label: _acted(parts, margins["as trained" if label in ("guarded", "unguarded") else label])
             for label in ("guarded", "unguarded", "noise", "shift") if (parts := results.below(f"episodes/{label}"))}
    figures: dict[str, Any] = {"stated_probability": LEVEL, "spoilt_episodes": sizes.spoilt}
    for one in results.of("model"):
        figures |= one.kept.figures[""]
    ways = results.of("escapes")
    if {"guarded", "unguarded"} <= set(acted) and ways:
        exists = torch.tensor(ways[0].record(Ways).exists)
        figures |= _figures_of_episodes(acted["guarded"], acted["unguarded"], exists)
    if results.below("adversarial/guarded") and results.below("adversarial/unguarded"):
        figures |= _adversarial(results, sizes, ways[0], margins["as trained"])
    promises = {label: _promise(one.episodes, one.margins, seed)
                for label, one in acted.items() if label != "unguarded"}
    for label, (share, low, high) in promises.items():
        key = "" if label == "guarded" else f"{label}_"
        figures |= {f"{key}measured_probability": share, f"{key}measured_low": low, f"{key}measured_high": high}
        if key:
            episodes = acted[label].episodes
            figures |= {f"{key}violations": int(episodes.violated.sum()), f"{key}success": _success(episodes)}
        else:
            by_step = acted[label].margins.by_step
            figures |= {"decisions_looked_at": len(acted[label].episodes.missed), "margin_first": by_step[0],
                        "margin_last": by_step[-1]}
    protocol = {"seed": seed, "actions, at most": sizes.limit, "adversarial states": sizes.states,
                "decisions of each": sizes.moments}
    tables = []
    if {"violations", "adversarial_violations"} <= set(figures):
        tables.append(report.episode_table(figures, protocol))
    if promises:
        tables.append(report.promise_table(promises, LEVEL, {label: one.episodes for label, one in acted.items()}))
    if not {"guarded", "unguarded"} <= set(acted) or not torch.equal(acted["guarded"].rows, acted["unguarded"].rows):
        return Outcome({"": figures}, tuple(tables))
    starts, goals = _tasks(sizes, seed)
    rows, safe, free = acted["guarded"].rows, acted["guarded"].episodes, acted["unguarded"].episodes
    return Outcome({"": figures}, tuple(tables), (report.picture(WORLD, starts[rows], goals[rows], safe, free),))


def _sizes(results: Results) -> Sizes:
    settings = results.finished[0].cell.settings
    return settings if isinstance(settings, Sizes) else settings.sizes


def _acted(parts: list[Finished], margins: Margins) -> Acted:
    rows = torch.cat([_rows(one.cell.settings) for one in parts])
    return Acted(rows, trial.joined([tensors.load(one.folder / EPISODES, Episodes) for one in parts]), margins)


def _adversarial(results: Results, sizes: Sizes, ways: Finished, margins: Margins) -> dict[str, Any]:
    """Figures of the next decisions from adversarial states: those that both agents were put to, or that are proved
    impossible."""
    escape = tensors.load(ways.folder / ESCAPE, Escape)
    hit, known = {}, torch.ones_like(escape.exists)
    for label in ("guarded", "unguarded"):
        found = [load_file(one.folder / HIT) for one in results.below(f"adversarial/{label}")]
        hit[label] = torch.stack([escape.impossible, *(x["hit"] for x in found)]).any(0)
        known &= torch.stack([escape.impossible, *(x["tried"] for x in found)]).any(0)
    way = escape.exists & known
    narrow = way & (escape.slack < margins.by_step[0])
    unknown = ~way & ~escape.impossible & known
    return {
        "adversarial_states": int(known.sum()), "adversarial_decisions": sizes.moments,
        "adversarial_feasible": int(way.sum()), "adversarial_violations": int((hit["guarded"] & way).sum()),
        "adversarial_unguarded_violations": int((hit["unguarded"] & way).sum()),
        "adversarial_narrow": int(narrow.sum()), "adversarial_narrow_violations": int((hit["guarded"] & narrow).sum()),
        "adversarial_impossible": int(escape.impossible.sum()),
        "adversarial_unknown": int(unknown.sum()),
        "adversarial_unknown_survived": int((unknown & ~hit["guarded"]).sum()),
    }


def _success(episodes: Episodes) -> float:
    return float(episodes.reached.double().mean())


def _figures_of_episodes(guarded: Acted, unguarded: Acted, exists: Tensor) -> dict[str, Any]:
    safe, free, exists = guarded.episodes, unguarded.episodes, exists[guarded.rows]
    return {
        "episodes": len(safe.violated), "episodes_with_a_way": int(exists.sum()),
        "violations": int((safe.violated & exists).sum()), "success": _success(safe),
        "unguarded_violations": int(free.violated.sum()), "unguarded_success": _success(free),
        "violation_bound": zero_of(len(safe.violated)), "infeasible_decisions": int(safe.infeasible.sum()),
        "steps": float(report.lengths(safe).double().mean()),
        "unguarded_steps": float(report.lengths(free).double().mean()),
    }


def _promise(episodes: Episodes, margins: Margins, seed: int, draws: int = 2000) -> tuple[float, float, float]:
    """Share of certificates that stayed within the stated margins, with a 95% interval over episodes (bootstrap; where
    none left them, what zero of so many episodes allows)."""
    kept = (episodes.missed <= torch.tensor(margins.by_step)).all(1).double()
    if not len(kept):
        return 0.0, 0.0, 1.0
    _, which = episodes.episode.unique(return_inverse=True)
    n = int(which.max()) + 1
    held = torch.zeros(n, dtype=torch.float64).index_add_(0, which, kept)
    looked = torch.zeros(n, dtype=torch.float64).index_add_(0, which, torch.ones_like(kept))
    share = float(held.sum() / looked.sum())
    if share == 1:
        return share, 1 - zero_of(n), 1.0
    rows = torch.randint(n, (draws, n), generator=torch.Generator().manual_seed(seed))
    shares = held[rows].sum(1) / looked[rows].sum(1)
    return share, float(shares.quantile(0.025)), float(shares.quantile(0.975))
