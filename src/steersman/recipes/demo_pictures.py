"""What the demo leaves to look at: films of episodes, maps of goals, margins beside the limit, decisions.

Computed from recorded plans and from positions measured in the pictures themselves; nothing here reaches the agent.

Shapes: n frames, N episodes, T steps, H horizon, D latent size.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.core import Belief, Imagined, Latent, LatentGoal, LearningBatch, Problem, Readout, Task
from steersman.data import Dataset
from steersman.evaluation import Evaluation, Seen
from steersman.evaluation.acting import decision_of
from steersman.perception import MLPReadout
from steersman.runs.artefacts import Decision, Film, Flight, Limit, Line, Lines, Map, Mark, Track, write
from steersman.runs.strips import thin, write_film
from steersman.worlds import Painter, Rooms, rooms
from steersman.worlds.rooms_sampling import SUCCESS_RADIUS

_BATCH = 256
_FARTHEST = 1e4  # steps; the planner's value of a place to which it knows no way is above


def dot_position(images: Tensor) -> Tensor:
    """Where the agent's red dot is: (…, 64, 64, 3) uint8 -> (…, 2) pixels, by the centroid of its colour.

    Redness is R - (G + B)/2; what lies less than half-way from the picture's median to the dot's red does not count.
    A measurement for people (probes, labels of films): exact to about .1 px, and never seen in training or acting.
    """
    flat = images.flatten(0, -4).float()
    red = (flat[..., 0] - (flat[..., 1] + flat[..., 2]) / 2).flatten(1)
    colour = torch.tensor(rooms.AGENT_RGB)
    full = float(colour[0] - (colour[1] + colour[2]) / 2)
    weight = (red - (red.median(1, keepdim=True).values + full) / 2).clamp_min(0) + 1e-6
    weight = (weight / weight.sum(1, keepdim=True)).view(-1, *images.shape[-3:-1])
    pixel = torch.arange(images.shape[-2], dtype=torch.float32)
    x, y = (weight.sum(1) * pixel).sum(1), (weight.sum(2) * pixel).sum(1)
    return torch.stack([x, y], 1).view(*images.shape[:-3], 2)


def dot_positions(batch: LearningBatch) -> Tensor:
    """Targets of the online position probe: (B, L+1, 2)."""
    return dot_position(batch.window.observations["image"])


class Bank:
    """Frames of the log with their latents, encoded once: what a film shows for a state that was only imagined."""

    def __init__(self, agent: Agent, dataset: Dataset, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        episode = torch.randint(len(dataset), (count,), generator=generator)
        row = (torch.rand(count, generator=generator) * (dataset.lengths[episode] + 1)).long()
        self.frames = dataset.frames(episode, row)["image"]
        pieces = self.frames.split(_BATCH)
        self.states = torch.cat([agent.encode({"image": piece}).state for piece in pieces]).clone()
        self.positions = torch.cat([dot_position(piece) for piece in pieces])
        probe = MLPReadout.Config(steps=300, hidden=(64, 64)).build(("x", "y"), agent.perception.latent_shape)
        probe.fit(self.states, self.positions, seed)
        self.probe: Readout = probe.eval()

    def nearest(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """States (n, D) -> frames (n, 64, 64, 3) uint8 nearest to them, and how far those lie (n,)."""
        distance, index = torch.cdist(states, self.states).min(1)
        return self.frames[index], distance

    def read(self, states: Tensor) -> Tensor:
        """States (n, D) -> positions in pixels (n, 2), by a probe fitted to the bank."""
        with torch.inference_mode():
            return self.probe.read(states)


class Recorder:
    """Keeps what the first few episodes' planner imagined and decided, and reports how far an evaluation is."""

    def __init__(self, episodes: int, report: Callable[[Seen], None]) -> None:
        self.episodes, self._report = episodes, report
        self.futures: dict[int, list[tuple[int, Imagined, Tensor]]] = defaultdict(list)
        self.decisions: dict[int, list[Decision]] = defaultdict(list)

    def __call__(self, seen: Seen) -> None:
        for i, row in enumerate(seen.rows.tolist()):
            if row < self.episodes:
                ours = seen.plan.actions[i : i + 1, None].clone()
                self.futures[row].append((seen.step, self._own(seen.plan.imagined, i), ours))
                self.decisions[row].append(decision_of(seen.plan, i, row, seen.step))
        self._report(seen)

    @staticmethod
    def _own(imagined: Imagined, i: int) -> Imagined:
        return imagined.map(lambda x: x[i : i + 1].clone())

    def expected(self, row: int, steps: int) -> Tensor:
        """What was expected of each step when it was decided on: (steps+1, D), the encoded start first."""
        start = self.futures[row][0][1].states[0, 0, 0]
        states = start.expand(steps + 1, -1).clone()
        for step, imagined, _ in self.futures[row]:
            ahead = imagined.states[0, 0, 1 : steps + 1 - step]
            states[step + 1 : step + 1 + len(ahead)] = ahead  # a later decision overwrites what it replaces
        return states


def rooms_of(measured: Evaluation) -> Rooms:
    """The rooms that were measured in."""
    assert isinstance(measured.trials, Rooms)
    return measured.trials


def ways(measured: Evaluation) -> Tensor:
    """The ways taken (N, T+1, 2)."""
    assert measured.paths is not None
    return measured.paths


# Films -----------------------------------------------------------------------------------------------------------


def film(run: Path, name: str, group: str, order: int, measured: Evaluation, recorder: Recorder, row: int,
         bank: Bank, title: str = "") -> Path:
    """Write the film of one episode: what happened beside what was imagined."""
    steps = int(measured.steps[row])
    path = ways(measured)[row, : steps + 1]
    picked = torch.tensor(thin(steps + 1))
    world = rooms_of(measured)
    actual = Painter(world.layout[row : row + 1], world.noise).frames(path[None])[0][picked]
    states = recorder.expected(row, steps)
    shown, distance = bank.nearest(states[picked])
    pace = float((states[1:] - states[:-1]).norm(dim=1).median())
    places = _marks(measured, row)
    tracks = (
        Track(title="what happened", file="", across=0,
              marks=(*places, Mark(shape="path", points=_points(path[picked]), role="actual", grows=True,
                                   label="way taken"))),
        Track(title="what was imagined: the nearest logged frame", file="", across=0,
              distances=tuple(distance.tolist()), distance_title="latent distance to the frame shown",
              marks=(*places, Mark(shape="path", points=_points(bank.read(states[picked])), role="imagined",
                                   grows=True, label="way imagined, read by a probe"))),
    )
    reached = bool(measured.success[row])
    outcome = f"goal in {steps} steps" if reached else f"not reached in {steps} steps"
    if world.forbidden is not None:
        outcome += ", entered the disk" if bool(measured.violated[row]) else ", never in the disk"
    return write_film(run, Film(
        name=name, title=title or f"Episode {row}", group=group, order=order, outcome=outcome, success=reached,
        size=(64, 64), steps=tuple(picked.tolist()), tracks=tracks,
        caption="Right: for each state, as it was imagined when its action was chosen, the frame of the log whose "
                f"latent is nearest (the walls are that frame's own); one step is about {pace:.2g} in latent space.",
    ), [actual.numpy(), shown.numpy()])


def _marks(measured: Evaluation, row: int) -> tuple[Mark, ...]:
    world = rooms_of(measured)
    marks = [
        Mark(shape="dot", points=_points(ways(measured)[row, :1]), role="start", label="start"),
        Mark(shape="circle", points=_points(world.goal[row : row + 1]), radius=SUCCESS_RADIUS, role="goal",
             label="goal"),
    ]
    if world.forbidden is not None:
        x, y, radius = world.forbidden[row].tolist()
        marks.append(Mark(shape="circle", points=((x, y),), radius=radius, role="forbidden", label="forbidden"))
    return tuple(marks)


def _points(places: Tensor) -> tuple[tuple[float, float], ...]:
    return tuple((round(x, 1), round(y, 1)) for x, y in places.tolist())


# Margins and decisions -------------------------------------------------------------------------------------------

Margins = dict[int, float]
"""Step of a decision -> largest guardrail margin along the plan's first action."""


def judged(recorder: Recorder, row: int, factory: Callable[[Tensor], tuple], mask: Tensor) -> Margins:
    """What the guardrail of one episode says of the first imagined step of each of its decisions."""
    limits = factory(mask[None])
    with torch.inference_mode():
        return {
            step: max(float(limit.margin(imagined, actions)[0, 0, 0]) for limit in limits)
            for step, imagined, actions in recorder.futures[row]
        }


def margins(run: Path, row: int, guarded: Evaluation, unguarded: Evaluation, judgements: Margins) -> Path:
    """Write how deep each step of an episode went, guarded and unguarded, beside what the guardrail expected."""
    forbidden = rooms_of(guarded).forbidden
    assert forbidden is not None
    disk = forbidden[row]
    lines = []
    for label, measured, role in [("guarded", guarded, "actual"), ("unguarded", unguarded, "baseline")]:
        path = ways(measured)[row, : int(measured.steps[row]) + 1]
        depth = disk[2] - rooms.segment_distance(path[:-1], path[1:], disk[:2])
        x = tuple(float(i) for i in range(1, len(path)))
        lines.append(Line(label=label, x=x, y=tuple(round(d, 2) for d in depth.tolist()), role=role))  # type: ignore[arg-type]
    expected = tuple(round(m, 2) for m in judgements.values())
    lines.append(Line(label="expected by the guardrail, its margin added", role="imagined",
                      x=tuple(float(step + 1) for step in judgements), y=expected))
    return write(run, Lines(
        name="margins", title=f"How near to the forbidden disk, episode {row}", x_title="step", y_title="margin (px)",
        lines=tuple(lines), limits=(Limit(label="edge of the disk", y=0.0),),
        caption="The true swept way's depth in the disk (above 0: inside), and what the guardrail expected of the step "
                "when it allowed it: read from the imagined latent by the probe, the conformal margin added.",
        alt="depth in the forbidden disk over time, guarded and unguarded",
    ))


def flight(run: Path, name: str, title: str, decisions: list[Decision], judgements: Margins) -> Path:
    """Write one episode's decisions; `judgements` as of `judged`, or empty."""
    told = tuple(
        msgspec.structs.replace(d, margins={"forbidden region": judgements[d.step]} if d.step in judgements else {})
        for d in decisions
    )
    return write(run, Flight(name=name, title=title, decisions=told,
                             caption="Every decision of the planner in this episode, with its reason."))


# Maps ------------------------------------------------------------------------------------------------------------


def goal_maps(run: Path, agent: Agent, measured: Evaluation, row: int = 0, across: int = 13) -> None:
    """Write two maps for one start: what the planner thinks of a goal at each place, and plain latent distance."""
    layout, start = rooms_of(measured).layout[row : row + 1], ways(measured)[row, :1]
    painter = Painter(layout, 0.0)
    line = torch.linspace(rooms.LOW, rooms.HIGH, across)
    places = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).flatten(0, 1)
    free = rooms.is_free(layout, places[None])[0]
    latents = agent.encode({"image": painter.frames(places[free][None])[0]}).state
    now = agent.encode({"image": painter.frames(start[None])[0]})
    half = float(line[1] - line[0]) / 2
    edge = (rooms.LOW - half, rooms.LOW - half, rooms.HIGH + half, rooms.HIGH + half)
    image = _png(painter.frames(start[None])[0, 0])
    mark = Mark(shape="dot", points=_points(start), role="start", label="start")

    def save(name: str, title: str, values: Tensor, value_title: str, caption: str, order: int) -> None:
        grid = torch.full((across * across,), torch.nan)
        grid[free] = values
        table = tuple(tuple(None if v != v else round(v, 2) for v in line) for line in grid.view(across, -1).tolist())
        write(run, Map(name=name, title=title, values=table, extent=edge, value_title=value_title, alt=title,
                       caption=caption, file=f"{name}.png", size=(64, 64), marks=(mark,), order=order),
              {f"{name}.png": image})

    save("goal-steps", "Steps to a goal at each place, as planned", _planned(agent, now, latents), "steps",
         "Search in imagination from one start: the steps that it expects to a goal there. It follows the way through "
         "the door; empty: walls, and goals to which it imagines no way.", 0)
    save("goal-distance", "Plain latent distance to a goal at each place",
         (latents - now.state).flatten(1).norm(dim=1), "latent distance",
         "The distance that greedy descent and CEM minimise: it knows nothing of the wall.", 1)


def _planned(agent: Agent, now: Latent, goals: Tensor) -> Tensor:
    """(n,) steps to each goal from one state; NaN where the planner knows no way. The graph is grown once."""
    with torch.inference_mode():
        none = torch.zeros(1, 0, agent.signature.action.size)
        belief = agent.world_model.begin(now.map(lambda x: x[:, None]), none)
        graph, steps = None, []
        for piece in goals.split(16):
            if graph is None:
                graph = agent.planner.plan(_to(agent, belief, piece[:1], None)).warm
            same = torch.zeros(len(piece), dtype=torch.long)
            warm = graph.map(lambda x, same=same: x[same])
            warm = replace(warm, pushed=torch.zeros_like(warm.pushed))  # nothing has been done yet
            plan = agent.planner.plan(_to(agent, belief[same], piece, warm))
            steps.append(plan.energy["goal"][:, 0])
    every = torch.cat(steps).clone()
    return every.masked_fill(every > _FARTHEST, torch.nan)


def _to(agent: Agent, belief: Belief, goals: Tensor, warm: Any) -> Problem:
    count = torch.zeros(len(goals), dtype=torch.long)
    return Problem(agent.world_model, belief, agent.costs, Task(LatentGoal(Latent(goals))), agent.signature.action,
                   count, count, warm=warm)


def _png(frame: Tensor) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(frame.numpy()).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


@dataclass(frozen=True)
class Shown:
    """An evaluation with what was recorded of its first episodes."""

    measured: Evaluation
    recorder: Recorder
