"""Guardrails in Hazards with a learned model: whole episodes and adversarial moments, guarded and not; promises.

What is measured: how often something is hit, with and without guardrails, from the same starts; how often where the
world itself knows a way out; and whether the stated probability of the margins holds for the agent's own decisions,
also when the model is spoilt on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman import data, training
from steersman.agent import Agent
from steersman.agent.fitting import fit_readout
from steersman.core import Guardrail
from steersman.cost import Margins
from steersman.evaluation.intervals import wilson, zero_of
from steersman.evidence import guardrails_trial as trial
from steersman.evidence.context import Context, Outcome
from steersman.evidence.drawing import png
from steersman.evidence.guardrails_trial import Episodes
from steersman.recipes import hazards as recipes
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Picture, Row, Table
from steersman.worlds import Escape, HazardsConfig, HazardState, feasible, hazards, roam

WORLD = HazardsConfig()
LEVEL = 0.99
_CHUNK = 250  # episodes side by side


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


@dataclass(frozen=True)
class Model:
    """An agent in the world that it acts in, and the margins that were calibrated for the two."""

    name: str
    agent: Agent
    world: HazardsConfig
    margins: Margins


def experiment(context: Context, sizes: Sizes = Sizes()) -> Outcome:  # noqa: B008 (frozen)
    """Train once, calibrate, act. See the module's head for what is measured."""
    seed, say = context.seed, context.say
    agent, seconds = train(context, sizes)
    whole = _calibrated("as trained", agent, WORLD, sizes, seed)
    say(f"margins {whole.margins}")
    starts, goals = hazards.sample_tasks(WORLD, sizes.episodes, torch.Generator().manual_seed(seed + 1))
    free = _episodes(whole, starts, goals, sizes.limit, seed, guarded=False)
    safe = _episodes(whole, starts, goals, sizes.limit, seed, guarded=True)
    figures = _figures_of_episodes(safe, free, _escapes(WORLD, starts).exists)
    say(f"{sizes.episodes} episodes: {figures['violations']} hit guarded, {figures['unguarded_violations']} not; "
        f"reached {figures['success']:.3f} and {figures['unguarded_success']:.3f}")
    promises = {"": _promise(safe, whole, seed)}
    spoilt = {}
    for model in _spoilt(agent, sizes, seed):
        parts = sizes.spoilt
        spoilt[model.name] = _episodes(model, starts[:parts], goals[:parts], sizes.limit, seed, guarded=True)
        promises[model.name] = _promise(spoilt[model.name], model, seed)
        say(f"{model.name}: margins {model.margins}; held {promises[model.name][0]:.4f}, "
            f"{int(spoilt[model.name].violated.sum())} violations")
    figures |= _adversarial(whole, sizes, seed, say) | {
        "stated_probability": LEVEL, "measured_probability": promises[""][0], "measured_low": promises[""][1],
        "measured_high": promises[""][2], "decisions_looked_at": len(safe.missed),
        "margin_first": whole.margins.by_step[0], "margin_last": whole.margins.by_step[-1], "train_seconds": seconds,
    }
    for name, episodes in spoilt.items():
        key = name.replace(" ", "_")
        share, low, high = promises[name]
        figures |= {
            f"{key}_measured_probability": share, f"{key}_measured_low": low, f"{key}_measured_high": high,
            f"{key}_violations": int(episodes.violated.sum()), f"{key}_success": _success(episodes),
        }
    figures["spoilt_episodes"] = sizes.spoilt
    tables = (_episode_table(figures, sizes, seed), _promise_table(promises, spoilt | {"": safe}))
    picture = Picture(
        name="episodes", title="The same starts, guarded and unguarded", file="episodes.png",
        alt="paths among obstacles: unguarded ones go through, guarded ones around",
        caption="Blue guarded, orange unguarded; discs are obstacles, moving ones where they were when the unguarded "
                "path came nearest, with their tracks; the green ring is the goal.",
    )
    return Outcome(figures, tables, ((picture, {"episodes.png": _draw(starts, goals, safe, free)}),))


def train(context: Context, sizes: Sizes) -> tuple[Agent, float]:
    """Record a log, train the recipe on it, fit the read-out."""
    path, seed = context.run, context.seed
    context.say(f"{sizes.log:,} episodes of roaming")
    with data.CacheWriter(path / "log", WORLD.signature, origin="steersman collect hazards") as writer:
        for chunk in roam.episodes(WORLD, sizes.log, 64, seed):
            writer.append(iter(chunk))
        writer.finish()
    dataset = data.Dataset.open(path / "log")
    config = recipes.recipe(steps=sizes.steps, seed=seed)
    with training.create_run(path / "model", config, dataset, recipe="hazards") as run:
        trained = training.train(config, dataset, run, progress=context.progress)
    fit_readout(Run.open(Path(path / "model")), dataset, seed=seed)
    context.say(f"trained in {trained.seconds:.0f} s")
    return Agent.load(path / "model"), trained.seconds


def _calibrated(name: str, agent: Agent, world: HazardsConfig, sizes: Sizes, seed: int) -> Model:
    limit = min(60, sizes.limit)
    return Model(name, agent, world, trial.margins(agent, world, LEVEL, seed + 2, sizes.windows, sizes.own, limit))


def _spoilt(agent: Agent, sizes: Sizes, seed: int) -> list[Model]:
    """The same promise for worse models: noise on every weight, and a world that is no longer that of the log."""
    noisy = trial.degraded(agent, 0.004, seed)
    shifted = msgspec.structs.replace(WORLD, thrust=0.85 * WORLD.thrust, drag=1.3 * WORLD.drag)
    return [_calibrated("noise", noisy, WORLD, sizes, seed), _calibrated("shift", agent, shifted, sizes, seed)]


# Acting ----------------------------------------------------------------------------------------------------------


def _acting(model: Model, guarded: bool) -> tuple[Agent, tuple[Guardrail, ...]]:
    """The agent that acts, and its guardrails."""
    agent = model.agent
    planner = trial.guarded(agent, model.world) if guarded else None
    actor = Agent(agent.config, agent.signature, agent.perception, agent.world_model, readout=agent.readout,
                  planner=planner)
    assert agent.readout is not None
    return actor, trial.guardrails(agent.readout, model.world, model.margins) if guarded else ()


def _episodes(model: Model, starts: HazardState, goals: Tensor, limit: int, seed: int, *, guarded: bool) -> Episodes:
    actor, limits = _acting(model, guarded)
    parts = [
        trial.run(actor, model.world, starts[rows], goals[rows], limits, limit, seed=seed + int(rows[0]),
                  every=7 if guarded else 0)
        for rows in torch.arange(len(starts)).split(_CHUNK)
    ]
    return trial.joined(parts)


def _escapes(world: HazardsConfig, states: HazardState) -> Escape:
    parts = [feasible(world, states[rows]) for rows in torch.arange(len(states)).split(1000)]
    return Escape(*(torch.cat([getattr(p, name) for p in parts]) for name in ("exists", "impossible", "slack")))


def _adversarial(model: Model, sizes: Sizes, seed: int, say: Any) -> dict[str, Any]:
    """Figures of the next decisions from adversarial states."""
    generator = torch.Generator().manual_seed(seed + 3)
    states = hazards.sample_adversarial(WORLD, sizes.states, generator)
    goals = (WORLD.half - 1) * (2 * torch.rand(sizes.states, 2, generator=generator) - 1)
    escape = _escapes(WORLD, states)
    way = escape.exists
    hit = {}
    for guarded in (True, False):  # what is proved impossible is hit, and not tried
        actor, limits = _acting(model, guarded)
        hit[guarded] = escape.impossible.clone()
        for rows in (~escape.impossible).nonzero()[:, 0].split(2 * _CHUNK):
            hit[guarded][rows] = trial.run(
                actor, WORLD, states[rows], goals[rows], limits, sizes.moments, seed=seed + int(rows[0]),
                until_goal=False).violated
    narrow = way & (escape.slack < model.margins.by_step[0])
    figures = {
        "adversarial_states": sizes.states, "adversarial_decisions": sizes.moments,
        "adversarial_feasible": int(way.sum()), "adversarial_violations": int((hit[True] & way).sum()),
        "adversarial_unguarded_violations": int((hit[False] & way).sum()),
        "adversarial_narrow": int(narrow.sum()), "adversarial_narrow_violations": int((hit[True] & narrow).sum()),
        "adversarial_impossible": int(escape.impossible.sum()),
        "adversarial_unknown": int((~way & ~escape.impossible).sum()),
        "adversarial_unknown_survived": int((~way & ~escape.impossible & ~hit[True]).sum()),
    }
    say(f"{sizes.states:,} adversarial states, {figures['adversarial_feasible']:,} with a way out: "
        f"{figures['adversarial_violations']} hit guarded, {figures['adversarial_unguarded_violations']:,} not")
    return figures


# Figures ---------------------------------------------------------------------------------------------------------


def _success(episodes: Episodes) -> float:
    return float(episodes.reached.double().mean())


def _figures_of_episodes(safe: Episodes, free: Episodes, exists: Tensor) -> dict[str, Any]:
    return {
        "episodes": len(safe.violated), "episodes_with_a_way": int(exists.sum()),
        "violations": int((safe.violated & exists).sum()), "success": _success(safe),
        "unguarded_violations": int(free.violated.sum()), "unguarded_success": _success(free),
        "violation_bound": zero_of(len(safe.violated)), "infeasible_decisions": int(safe.infeasible.sum()),
        "steps": float(_lengths(safe).double().mean()), "unguarded_steps": float(_lengths(free).double().mean()),
    }


def _lengths(episodes: Episodes) -> Tensor:
    """Steps in which the point moved, (B,)."""
    return (episodes.path.diff(dim=1) != 0).any(2).sum(1)


def _promise(episodes: Episodes, model: Model, seed: int, draws: int = 2000) -> tuple[float, float, float]:
    """Share of certificates that stayed within the stated margins, with a 95% interval over episodes (bootstrap; where
    none left them, what zero of so many episodes allows)."""
    kept = (episodes.missed <= torch.tensor(model.margins.by_step)).all(1).double()
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


def _share(count: int, n: int) -> Figure:
    low, high = wilson(count, n)
    return Figure(value=count / n if n else None, low=low, high=high, n=n)


def _episode_table(figures: dict[str, Any], sizes: Sizes, seed: int) -> Table:
    n, hard = figures["episodes"], figures["adversarial_feasible"]
    row = lambda label, kind, hit, reached, trapped: Row(  # noqa: E731
        label=label, kind=kind, figures={
            "hit": _share(hit, n), "reached": _share(round(reached * n), n), "trapped": _share(trapped, hard)})
    return Table(
        name="guardrails", title="Hit something, or reached the goal",
        columns=(Column(key="hit", title="episodes with a violation", form="share", better="lower", target=0.0),
                 Column(key="reached", title="goal reached", form="share", better="higher"),
                 Column(key="trapped", title="adversarial states: violation", form="share", better="lower")),
        rows=(row("guarded", "agent", figures["violations"], figures["success"], figures["adversarial_violations"]),
              row("unguarded", "baseline", figures["unguarded_violations"], figures["unguarded_success"],
                  figures["adversarial_unguarded_violations"])),
        protocol={"seed": seed, "episodes": n, "actions, at most": sizes.limit, "adversarial states": sizes.states,
                  "with a way out": hard, "decisions of each": sizes.moments},
        notes=(f"Zero of {n} episodes leaves a rate below {figures['violation_bound']:.2%} standing (95%).",
               f"A way out is one that the true dynamics show to touch nothing, by however little; "
               f"{figures['adversarial_narrow']} of them keep less than the margin of one step "
               f"({1000 * figures['margin_first']:.2g} mm), of which {figures['adversarial_narrow_violations']} are "
               "hit."),
    )


def _promise_table(promises: dict[str, tuple[float, float, float]], episodes: dict[str, Episodes]) -> Table:
    rows = [
        Row(label=name or "as trained", kind="ablation" if name else "agent", figures={
            "held": Figure(value=share, low=low, high=high, n=len(episodes[name].missed)),
            "hit": _share(int(episodes[name].violated.sum()), len(episodes[name].violated)),
            "reached": _share(int(episodes[name].reached.sum()), len(episodes[name].reached)),
        })
        for name, (share, low, high) in promises.items()
    ]
    return Table(
        name="promises", title="Does what the margins state hold?",
        columns=(Column(key="held", title="certificates within the margins", form="share", target=LEVEL),
                 Column(key="hit", title="episodes with a violation", form="share", better="lower"),
                 Column(key="reached", title="goal reached", form="share", better="higher")),
        rows=tuple(rows),
        notes=("Noise: on every weight of the world model, 0.4% of its tensor's deviation. Shift: 15% less thrust and "
               "30% more drag than in the log. Margins are calibrated anew on logged windows; the model is not.",
               "Held: every 7th decision's whole certificate, carried out in the true world without looking again."),
    )


def _draw(starts: HazardState, goals: Tensor, safe: Episodes, free: Episodes) -> bytes:
    from matplotlib.figure import Figure as Canvas
    from matplotlib.patches import Circle

    canvas = Canvas(figsize=(9, 6), layout="constrained")
    shown = (free.violated & safe.reached).nonzero()[:6, 0].tolist()
    for axes, b in zip(canvas.subplots(2, 3).flat, shown, strict=False):
        state, ways = starts[b : b + 1], {"#d55e00": free.path[b], "#0072b2": safe.path[b]}
        times = torch.arange(free.path.shape[1]) * WORLD.step
        places = torch.stack([hazards.obstacles_after(WORLD, state, t)[0][0] for t in times.tolist()])  # (T, N, 2)
        apart = (places - free.path[b][:, None]).norm(dim=-1) - state.radius[0]
        apart[int(_lengths(free)[b]) + 1 :] = torch.inf
        for i in range(WORLD.obstacles):
            moment, moving = int(apart[:, i].argmin()), i >= WORLD.still
            colour = "#e6a04c" if moving else "#70727f"
            axes.add_patch(Circle(_pair(places[moment, i]), float(state.radius[0, i]), color=colour, alpha=0.8))
            axes.plot(*places[:, i].T.tolist(), color=colour, linewidth=0.6)
        for colour, path in ways.items():
            axes.plot(*path.T.tolist(), color=colour, linewidth=1.4)
        axes.add_patch(Circle(_pair(goals[b]), hazards.SUCCESS_RADIUS, fill=False, color="#009e73", linewidth=1.5))
        axes.plot(*starts.position[b].tolist(), "ko", markersize=4)
        axes.set(xlim=(-WORLD.half, WORLD.half), ylim=(-WORLD.half, WORLD.half), aspect="equal", xticks=[], yticks=[])
    return png(canvas)


def _pair(point: Tensor) -> tuple[float, float]:
    return float(point[0]), float(point[1])
