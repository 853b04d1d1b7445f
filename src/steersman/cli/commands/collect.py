"""`steersman collect WORLD`: a log of random or scripted actions, as a user's recording would be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.own import load
from steersman.cli.progress import Watcher
from steersman.cli.terminal import Terminal
from steersman.core.errors import UsageError
from steersman.runs.files import size_of
from steersman.studio.quantities import size

if TYPE_CHECKING:
    from steersman.core import Episode, Signature
    from steersman.worlds import Behaviour, Habit, World

    _Recording = tuple[Signature, Iterator[Episode], int | None, Callable[[], None]]


@dataclass(frozen=True, kw_only=True)
class Collect(Command):
    """Record a log of a world of ours, as it is usually met, or of any Gymnasium environment, where chance acts unless
    --behaviour says who does.

    --pixels records what the environment's camera shows instead of what it observes. No reward and no goal is
    recorded. The name of the output decides its format, as for `data convert` (.csv, .parquet, .h5, .npz, NAME-v0,
    .lerobot), or --to does; any other name is a dataset that training opens at once.
    """

    EXAMPLE: ClassVar[str] = (
        "steersman collect two-rooms --episodes 8000 --out logs/two-rooms\n"
        "steersman collect hazards --episodes 1500 --out logs/hazards\n"
        "steersman collect Pendulum-v1 --steps 20000 --out pendulum.csv\n"
        "steersman collect Pendulum-v1 --pixels 64 --hold 5 --steps 20000 --out logs/pendulum"
    )

    world: Annotated[str, tyro.conf.Positional, option("WORLD")]
    """A world of ours or behind a camera (one of `steersman.worlds.OURS` and `FILMED`), the id of a Gymnasium
    environment, or FILE.py:FUNCTION that makes one."""
    out: Annotated[Path, option("PATH")]
    """The log to write."""
    to: Annotated[str, option("NAME")] = ""
    """Its format, where the name does not tell: one of `steersman data formats`."""
    steps: Annotated[int | None, option("INT")] = None
    """Steps to record in all (or give --episodes)."""
    episodes: Annotated[int | None, option("INT")] = None
    """Episodes to record (a world of ours has a number of its own)."""
    length: Annotated[int | None, option("INT")] = None
    """Cut episodes at this many steps (default: the world's own end)."""
    pixels: Annotated[int | None, option("INT")] = None
    """See a Gymnasium environment through its camera, as square pictures of this size."""
    hold: Annotated[float | None, option("STEPS")] = None
    """Hold each random action for so many steps on average, so that what it does can be seen (default: 1)."""
    behaviour: Annotated[str, option("WHO")] = ""
    """Who acts in a Gymnasium environment: `scripted` (the script that some worlds have, before a camera), or
    FILE.py:FUNCTION, called with observations {name: (1, ...)} and a torch.Generator, that returns actions (1, A);
    before a camera the observation "truth" holds what the environment observes itself (default: chance)."""
    seed: int = 0
    """The same seed gives the same log."""

    def __call__(self, terminal: Terminal) -> Done:
        if self.out.exists():
            raise UsageError(f"a new name for the log at {self.out}", "one that is in use", "choose another --out")
        for name, value in (("steps", self.steps), ("episodes", self.episodes), ("length", self.length)):
            if value is not None and value < 1:
                raise UsageError(f"at least one of {name}", f"{value}", f"raise --{name}")
        if self.steps is not None and self.episodes is not None:
            raise UsageError("a number of steps or of episodes", "both", "give one")
        with Watcher(terminal) as watcher:
            from steersman.worlds import FILMED, OURS

            format = _format(self.out, self.to)
            ours = (OURS | FILMED).get(self.world)
            signature, episodes, total, close = self._gymnasium() if ours is None else self._ours(ours)
            try:
                counts = _write(self.out, format, signature, self._counted(episodes, total, watcher), self.world)
            finally:
                close()
        total_bytes = size_of(self.out)
        terminal.say(f"{self.out}: {counts[0]:,} episodes, {counts[1]:,} steps, {size(total_bytes)}")
        return Done({"path": str(self.out), "format": format, "world": self.world, "episodes": counts[0],
                     "steps": counts[1], "bytes": total_bytes, "seed": self.seed})

    def _counted(self, episodes: Iterator[Episode], total: int | None, watcher: Watcher) -> Iterator[Episode]:
        done = 0
        for episode in episodes:
            done += len(episode) if self.steps else 1
            watcher.count("steps" if self.steps else "episodes", min(done, total or done), total)
            yield episode

    def _ours(self, world: World) -> _Recording:
        from steersman.worlds import steps_of

        for name, value in (("pixels", self.pixels), ("hold", self.hold), ("behaviour", self.behaviour or None)):
            if value is not None:
                raise UsageError(f"a Gymnasium environment for --{name}", f"the world {self.world!r}, which has a log "
                                 "of its own", f"leave --{name} out")
        count, length = (given if given is not None else usual
                         for given, usual in zip((self.episodes, self.length), world.recorded, strict=True))
        if self.steps is not None and world.ends_early:
            return world.signature, steps_of(world, self.steps, length, self.seed), self.steps, lambda: None
        if self.steps is not None:
            count = -(-self.steps // length)
        return world.signature, world.log(count, length, self.seed), self.steps or count, lambda: None

    def _gymnasium(self) -> _Recording:
        from steersman.worlds import CameraEnv, film, held, make_world, record

        if self.steps is None and self.episodes is None:
            raise UsageError(f"a number of steps or of episodes for {self.world}", "neither", "give one")
        world = make_world(self.world, pixels=self.pixels)
        total = self.steps or self.episodes
        if self.pixels is not None:
            if not isinstance(world.env, CameraEnv):
                raise UsageError("a Gymnasium environment for --pixels", f"the world {self.world!r}", "leave it out")
            episodes = film(world.env.camera, self._behaviour() or self._habit(), steps=self.steps,
                            episodes=self.episodes, longest=self.length, seed=self.seed)
            return world.signature, episodes, total, world.close
        chance = held(world.signature.action, self.hold) if self.hold is not None else None
        behaviour = self._behaviour() or chance
        episodes = record(world.env, steps=self.steps, episodes=self.episodes, seed=self.seed, longest=self.length,
                          behaviour=behaviour, adapter=world.adapter)
        return world.signature, episodes, total, world.close

    def _habit(self) -> Habit:
        from steersman.worlds import Habit

        return Habit(1.0 if self.hold is None else self.hold, scripted=float(self.behaviour == "scripted"))

    def _behaviour(self) -> Behaviour | None:
        """The user's own, or None: chance or a script."""
        if self.behaviour in ("", "scripted"):
            if self.behaviour and self.pixels is None:
                raise UsageError("--behaviour scripted with --pixels", "without", "add --pixels 64")
            return None
        if self.hold is not None:
            raise UsageError("--hold or a behaviour of your own", "both", "hold actions in your function")
        path, colon, function = self.behaviour.rpartition(":")
        if not colon:
            raise UsageError("`scripted`, or FILE.py:FUNCTION, for --behaviour", repr(self.behaviour), "correct it")
        act: Behaviour = load(Path(path), function)
        return act


def _format(out: Path, to: str) -> str:
    """What the name asks for, or `to`; a name that asks for nothing is a cache."""
    from steersman.data.formats import FORMATS, named

    return named(to).name if to else next((f.name for f in FORMATS if f.asks(str(out))), "cache")


def _write(out: Path, format: str, signature: Signature, episodes: Iterator[Episode], world: str) -> tuple[int, int]:
    """Write the log; how many episodes and steps it has."""
    from steersman import data

    counts = [0, 0]

    def counted() -> Iterator[Episode]:
        for episode in episodes:
            counts[0] += 1
            counts[1] += len(episode)
            yield episode

    if format != "cache":
        data.write(out, signature, counted(), format)
    else:
        with data.CacheWriter(out, signature, origin=f"steersman collect {world}") as writer:
            writer.append(counted())
            writer.finish()
    return counts[0], counts[1]


COMMAND = Collect
