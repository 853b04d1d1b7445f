"""What `data-modes` does with one way in which data arrive: find things, record, learn their motion, look, and act.

Knows the playground, the keypoints and the world model of slots; no table. Shapes: E episodes, T steps, N things.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steersman.actor import CEM, Gaze
from steersman.core import CallableGoal, Imagined, ObservationSpec, Problem, Signature, Task
from steersman.cost import GoalCost
from steersman.objectives import place_variance
from steersman.perception import KeypointEncoder
from steersman.world_model import KalmanSlots
from steersman.world_model.kalman_slots import UNKNOWN, Followed
from steersman.worlds import Played, Playground
from steersman.worlds.playground import OWN, Mode

RATE, PIECE, BATCH, BURN = 8e-3, 9, 192, 3
WATCHED, AHEAD, REACHED = 15, 8, 0.15
_FAR = 25.0  # squared deviations beyond which an error counts linearly: hits are rare and large
_CHUNK = 64
PLANNER = CEM.Config(samples=40, iterations=3, elites=8, horizon=12, hold=3, execute=4)


@dataclass(frozen=True)
class Log:
    """What one way gave: measured slots (E, T+1, N, 3), pushes of one's own (E, T, 2), 0 where there were none."""

    seen: Tensor
    own: Tensor


def signature(world: Playground) -> Signature:
    return Signature({"image": ObservationSpec("image", (world.size, world.size, 3)),
                      "corner": ObservationSpec("vector", (2,), ("row", "column"))}, world.action)


def find_things(world: Playground, films: int, updates: int, labels: int, seed: int) -> tuple[KeypointEncoder, Tensor]:
    """Keypoints learned from films in which nobody acts, without a label, for `updates` or until no slot has begun anew
    for a while; then `labels` labelled frames say which slot
    is which thing. -> the encoder, and each thing's correlation with its slot."""
    g = torch.Generator().manual_seed(seed)
    played = world.play("stream", films, 40, g)
    pictures = world.picture(played.states)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = KeypointEncoder.Config(image="image", corner="corner", scene=world.size, slots=world.count)
        encoder = config.build(signature(world))
        optimiser, settled = torch.optim.Adam(encoder.parameters(), lr=3e-3), 0
        for update in range(3 * updates):
            films_ = torch.randint(films, (48, 1), generator=g)
            rows = torch.randint(36, (48, 1), generator=g) + 2 * torch.arange(3)
            places = encoder.found(whole(pictures[films_, rows]))[0]
            loss = place_variance(places)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if update % 40 == 39:
                settled = 0 if encoder.redraw(places[:, 1].detach()) else settled + 1
                if update >= updates and settled >= 3:
                    break
    encoder.eval()
    encoder.calibrate(whole(pictures[:, 20]))
    some = torch.randperm(films, generator=g)[:labels]
    with torch.no_grad():
        found = encoder.encode(whole(pictures[some, 10:11])).state[:, 0, :, :2]
    return encoder, encoder.arrange(found, played.states[some, 10, :, :2])


@torch.no_grad()
def seen_whole(encoder: KeypointEncoder, world: Playground, states: Tensor) -> Tensor:
    """Slots (E, T+1, N, 3) measured on whole pictures."""
    return torch.cat([encoder.encode(whole(world.picture(x))).state for x in states.split(_CHUNK)])


@torch.no_grad()
def seen_through(encoder: KeypointEncoder, world: Playground, states: Tensor, corners: Tensor) -> Tensor:
    """Slots measured through windows at corners (E, T+1, 2)."""
    return torch.cat([encoder.encode({"image": world.look(world.picture(x), at), "corner": at}).state
                      for x, at in zip(states.split(_CHUNK), corners.split(_CHUNK), strict=True)])


LOOKS = ("planned", "random", "raster", "middle")


class Follower:
    """What is believed of the things of E episodes, moment by moment; by whole pictures (look None), or by a window
    that is moved as one of `LOOKS` says: only "planned" cares for what is believed."""

    def __init__(self, model: KalmanSlots, encoder: KeypointEncoder, world: Playground, episodes: int,
                 look: str | None = None, seed: int = 0) -> None:
        self.model, self.encoder, self.world, self.look = model, encoder, world, look
        self.gaze = Gaze(scene=world.size, window=world.window, radius=world.radius * world.size / 2)
        self.where = self.gaze.begin(episodes, world.count)
        self.g, self.t = torch.Generator().manual_seed(seed), 0
        self.now: Followed | None = None

    @torch.no_grad()
    def watch(self, states: Tensor, own: Tensor) -> tuple[Followed, Tensor]:
        """The next moment of the world (E, N, 4), after pushes (E, 2): what is believed, and measured (E, N, 3)."""
        model, nothing = self.model, torch.zeros(len(states), self.world.count, 3)
        foreseen = model.fresh(nothing) if self.now is None else model.step(self.now, own)
        picture = self.world.picture(states)
        if self.look is None:
            moment = self.encoder.encode(whole(picture[:, None])).state[:, 0]
        else:
            corner = self._corner(foreseen)
            window = {"image": self.world.look(picture, corner)[:, None], "corner": corner[:, None]}
            moment = self.encoder.encode(window).state[:, 0]
            seen = moment[..., 2] > 0.5
            gone = self.gaze.gone(corner, foreseen.place, foreseen.aa, seen)
            self.where = self.gaze.looked(self.where, corner, moment[..., :2], seen)
            wide = torch.full_like(foreseen.aa, UNKNOWN)
            foreseen = model.lost(foreseen, gone, self.gaze.expected(self.where, foreseen.place, wide))
        self.now = model.fresh(moment) if self.now is None else model.measure(foreseen, moment)
        self.t += 1
        return self.now, moment

    def _corner(self, foreseen: Followed) -> Tensor:
        many = len(foreseen.place)
        if self.look == "planned":
            return self.gaze.look(self.where, foreseen.place, foreseen.aa, float(self.model.r))
        if self.look == "random":
            return self.world.jumps((many,), self.g)
        if self.look == "raster":
            return self.gaze.raster(self.t + 1)[-1].expand(many, 2)
        assert self.look == "middle", self.look
        return torch.full((many, 2), (self.world.size - self.world.window) // 2)


def follow(
    model: KalmanSlots, encoder: KeypointEncoder, world: Playground, states: Tensor, own: Tensor, look: str | None,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """What is believed of every moment's places, (E, T+1, N, 2), and what was measured, (E, T+1, N, 3)."""
    follower = Follower(model, encoder, world, len(states), look, seed)
    found = [follower.watch(states[:, t], own[:, max(t - 1, 0)]) for t in range(states.shape[1])]
    return torch.stack([now.place for now, _ in found], 1), torch.stack([moment for _, moment in found], 1)


def record(mode: Mode, world: Playground, encoder: KeypointEncoder, episodes: int, steps: int, seed: int,
           model: KalmanSlots | None = None) -> Log:
    """A log of this way; model: whose belief plans where to look, for foveation."""
    g = torch.Generator().manual_seed(seed)
    played = world.play(mode, episodes, steps, g)
    if mode == "foveation":
        assert model is not None
        return Log(follow(model, encoder, world, played.states, played.own, "planned")[1], played.own)
    if mode == "egomotion":
        corners = world.carried(episodes, steps, g)[1].cumsum(1)  # by its own motion, from the middle on
        corners = torch.cat([torch.zeros_like(corners[:, :1]), corners], 1) + (world.size - world.window) // 4 * 2
        return Log(seen_through(encoder, world, played.states, corners), played.own)
    return Log(seen_whole(encoder, world, played.states), played.own)


def built(world: Playground, seed: int) -> KalmanSlots:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return KalmanSlots.Config().build(signature(world), (world.count, 3), None)


def fit(model: KalmanSlots, log: Log, updates: int, seed: int, only: tuple[torch.nn.Parameter, ...] = (),
        rate: float = RATE) -> None:
    """Descend -log density of what is measured, each moment foreseen from those before, stretches of which are hidden;
    only: the parameters that change, all where none is named."""
    g = torch.Generator().manual_seed(seed)
    parameters = list(only or model.parameters())
    optimiser = torch.optim.Adam(parameters, lr=rate)
    piece = min(PIECE, log.own.shape[1])
    for update in range(updates):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (update + 1) / 30) * max(0.03, 1 - update / updates)
        episode = torch.randint(len(log.seen), (BATCH, 1), generator=g)
        first = torch.randint(log.own.shape[1] - piece + 1, (BATCH, 1), generator=g)
        seen = log.seen[episode, first + torch.arange(piece + 1)]
        own = log.own[episode, first + torch.arange(piece)]
        loss = _unlikely(model, seen, _hidden(seen, g), own)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()


def _hidden(seen: Tensor, g: torch.Generator) -> Tensor:
    """`seen`, with a stretch of each slot out of sight."""
    rows, steps, slots = seen.shape[:3]
    begin = torch.randint(BURN, steps, (rows, 1, slots), generator=g)
    length = torch.randint(1, 8, (rows, 1, slots), generator=g)
    t = torch.arange(steps)[None, :, None]
    dark = (t >= begin) & (t < begin + length)
    return torch.cat([seen[..., :2], seen[..., 2:] * ~dark[..., None]], -1)


def _unlikely(model: KalmanSlots, seen: Tensor, given: Tensor, own: Tensor) -> Tensor:
    """Mean nats of a measured place; large errors count linearly."""
    now, total, count = model.fresh(given[:, 0]), seen.new_zeros(()), seen.new_zeros(())
    for t in range(1, seen.shape[1]):
        foreseen = model.step(now, own[:, t - 1])
        if t >= BURN:
            wide = foreseen.aa + model.r
            error = (seen[:, t, :, :2] - foreseen.place).square().sum(-1) / wide
            error = torch.where(error < _FAR, error, 2 * (_FAR * error.clamp(min=1e-6)).sqrt() - _FAR)
            known = (seen[:, t, :, 2] > 0.5).to(wide)
            total, count = total + (known * (0.5 * error + wide.log())).sum(), count + known.sum()
        now = model.measure(foreseen, given[:, t])
    return total / count.clamp(min=1)


@torch.no_grad()
def foresee(model: KalmanSlots, seen: Tensor, own: Tensor, states: Tensor) -> Tensor:
    """Distances (M, N) of foreseen places from the true ones `AHEAD` steps later, in halves of the picture's side; of
    whole pictures watched for `WATCHED` steps, then not at all."""
    found = []
    for first in range(0, own.shape[1] - WATCHED - AHEAD + 1, AHEAD):
        now = model.fresh(seen[:, first])
        for t in range(first, first + WATCHED + AHEAD):
            now = model.step(now, own[:, t])
            if t < first + WATCHED:
                now = model.measure(now, seen[:, t + 1])
        found.append((now.place - states[:, first + WATCHED + AHEAD, :, :2]).norm(dim=-1))
    return torch.cat(found)


@torch.no_grad()
def control(
    model: KalmanSlots | None, encoder: KeypointEncoder, world: Playground, episodes: int, steps: int, seed: int,
    look: str | None = None,
) -> Tensor:
    """(E,) distance of one's own thing from its goal in the end, planned by CEM on what is believed; model None: random
    pushes. look: through windows; None: whole pictures. The first moments are watched."""
    g = torch.Generator().manual_seed(seed)
    states = world.start(episodes, g)
    goal = 0.8 * (2 * torch.rand(episodes, 2, generator=g) - 1)
    played = world.play("action", episodes, WATCHED + steps, g)
    pushes = torch.zeros(episodes, PLANNER.execute, 2)
    warm, planner = None, PLANNER.build()
    follower = None if model is None else Follower(model, encoder, world, episodes, look, seed)

    def energy(columns: object, imagined: Imagined) -> Tensor:
        return (imagined.states[:, :, 1:, OWN, :2] - goal[:, None, None]).square().sum(-1)

    task = Task(CallableGoal(energy, "own thing at its goal"), horizon=PLANNER.horizon)
    own = torch.zeros(episodes, 2)
    for t in range(WATCHED + steps):
        if model is None or follower is None:
            own = played.own[:, t] * (t >= WATCHED)
        else:
            now = follower.watch(states, own)[0]
            if t >= WATCHED:
                number, since = divmod(t - WATCHED, PLANNER.execute)
                if since == 0:
                    plan = planner.plan(Problem(
                        model, model.believed(now), (GoalCost(),), task, world.action,
                        seed * 100_000 + torch.arange(episodes), torch.full((episodes,), number), warm=warm))
                    pushes, warm = plan.actions, plan.warm
                own = pushes[:, since].clamp(-1, 1)
        states = world.step(states, own, played.other[:, t])
    return (states[:, OWN, :2] - goal).norm(dim=-1)


@torch.no_grad()
def latent_action_r2(model: KalmanSlots, played: Played, seen: Tensor, thing: int, around: int = 2) -> float:
    """R² of a linear probe from the latent actions inferred of a thing, of 2 `around` + 1 steps, to the true pushes: on
    the second half of the episodes, fitted to the first."""
    z = model.inferred(seen, played.own)[:, :, thing].double()
    z = z / z.std().clamp(min=1e-12)
    near = torch.stack([z[:, i : z.shape[1] - 2 * around + i] for i in range(2 * around + 1)], -1).flatten(2)
    near = torch.cat([near, torch.ones_like(near[..., :1])], -1)
    true = played.other[:, around : z.shape[1] - around].double()
    half = len(z) // 2
    fitted = torch.linalg.lstsq(near[:half].flatten(0, 1), true[:half].flatten(0, 1)).solution
    off = near[half:].flatten(0, 1) @ fitted - true[half:].flatten(0, 1)
    return float(1 - off.square().sum() / (true[half:] - true[:half].mean((0, 1))).square().sum())


def few(log: Log, episodes: int, steps: int) -> Log:
    """The first steps of a few of its episodes."""
    return replace(log, seen=log.seen[:episodes, : steps + 1], own=log.own[:episodes, :steps])


def whole(pictures: Tensor) -> dict[str, Tensor]:
    """Pictures (…, P, P, 3) of the whole scene, as the encoder takes them."""
    return {"image": pictures, "corner": torch.zeros(*pictures.shape[:-3], 2)}
