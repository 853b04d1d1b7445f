"""A point in a square, moved by what it does: logs of random actions, and how many goals a policy reaches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from steersman.core import ActionSpec, Episode, ObservationSpec, Signature
from steersman.data import CacheWriter, Dataset

STEP, NEAR, SIZE = 0.12, 0.1, 16
WAYS = torch.tensor([[0.0, 0.0], [1, 0], [-1, 0], [0, 1], [0, -1]])


class Square:
    """B points (x, y) in [0, 1]²; discrete: stay, or one of four ways; else any way of at most 1 an axis."""

    def __init__(self, kind: str, seen: str) -> None:
        self.kind, self.seen = kind, seen
        shape = (SIZE, SIZE, 3) if seen == "image" else (2,)
        action = ActionSpec("discrete", choices=5) if kind == "discrete" else ActionSpec(
            "continuous", (-1.0, -2.0), (1.0, 2.0))  # the second entry is worth half
        self.signature = Signature({seen: ObservationSpec(seen, shape)}, action)  # type: ignore[arg-type]

    def step(self, place: Tensor, action: Tensor) -> Tensor:
        way = WAYS[action[:, 0].long()] if self.kind == "discrete" else action / torch.tensor([1.0, 2.0])
        return (place + STEP * way).clamp(0, 1)

    def show(self, place: Tensor) -> dict[str, Tensor]:
        """(…, 2) -> what is seen: the place, or a bright blot on black."""
        if self.seen == "vector":
            return {"vector": place}
        at = torch.arange(SIZE) / (SIZE - 1)
        blot = [torch.exp(-((at - place[..., i, None]) / 0.12).square()) for i in (1, 0)]
        grey = 255 * blot[0][..., :, None] * blot[1][..., None, :]
        return {"image": grey[..., None].expand(*grey.shape, 3).to(torch.uint8)}

    def random(self, count: int, generator: torch.Generator) -> Tensor:
        if self.kind == "discrete":
            return torch.randint(5, (count, 1), generator=generator)
        return (torch.rand(count, 2, generator=generator) * 2 - 1) * torch.tensor([1.0, 2.0])

    def reached(self, act: Callable[..., Tensor], count: int = 100, steps: int = 14) -> float:
        """Share of goals that are met, from starts and to goals anywhere."""
        generator = torch.Generator().manual_seed(7)
        place, goal = torch.rand(2, count, 2, generator=generator)
        met = torch.zeros(count, dtype=torch.bool)
        for _ in range(steps):
            place = self.step(place, act(self.show(place), self.show(goal)))
            met |= (place - goal).norm(dim=1) < NEAR
        return float(met.float().mean())

    def random_floor(self) -> float:
        generator = torch.Generator().manual_seed(3)
        return self.reached(lambda seen, goal: self.random(100, generator))

    def log(self, path: Path, episodes: int = 120, steps: int = 24) -> Dataset:
        generator = torch.Generator().manual_seed(0)
        place = torch.rand(episodes, 2, generator=generator)
        places, actions = [place], []
        for _ in range(steps):
            actions.append(self.random(episodes, generator))
            places.append(self.step(places[-1], actions[-1]))
        seen, done = self.show(torch.stack(places, 1)), torch.stack(actions, 1)
        with CacheWriter(path, self.signature, origin="a point in a square") as writer:
            for i in range(episodes):
                writer.append(Episode({name: value[i] for name, value in seen.items()}, done[i]))
            writer.finish()
        return Dataset.open(path)


@pytest.fixture(scope="session")
def square(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Square, Dataset]]:
    """(kind of action, what is seen) -> the world and its log, written once."""
    made: dict[tuple[str, str], tuple[Square, Dataset]] = {}

    def make(kind: str, seen: str) -> tuple[Square, Dataset]:
        if (kind, seen) not in made:
            world = Square(kind, seen)
            made[kind, seen] = world, world.log(tmp_path_factory.mktemp("square") / "log")
        return made[kind, seen]

    return make
