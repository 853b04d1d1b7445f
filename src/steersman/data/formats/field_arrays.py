"""Arrays of a tree that are a field, as episodes: those of a folder of .npy files, and the HDF5 layout of data sets of
partial differential equations (an array (N, T, X, …) a quantity, or a group an episode, with coordinates beside it).

Shapes: N episodes, T moments, X, Y, Z points of the grid, C quantities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from steersman.core.errors import DataError, UsageError
from steersman.core.recording import Array, Recording
from steersman.core.signature import ActionSpec, ObservationSpec, Signature
from steersman.data.formats.arrays import Leaf, Tree
from steersman.data.formats.field_axes import Axes, as_floats, infer, said
from steersman.data.formats.kinds import still
from steersman.data.formats.layouts import natural
from steersman.data.source import ReadOptions, listed, matching

NAME = "field"
OPTIONS = {"axes", "periodic", "extent", "names", "observation"}
"""What a person may say about fields."""
_ACTIONS = ("actions", "action", "act")
_TIMES = ("t-coordinate", "t_coordinate", "grid/t", "times", "time", "t")
_COORDINATES = ("{}-coordinate", "{}_coordinate", "grid/{}", "{}")
_SAMPLE = 1 << 16
"""Numbers that are looked at to tell whether float64 loses anything."""


@dataclass(frozen=True)
class FieldLog:
    """How a tree is read as fields; offers what `arrays.Layout` does.

    groups  for each: paths of the arrays whose quantities are put beside each other, and of its times, if there are any
    """

    signature: Signature
    groups: tuple[tuple[tuple[str, ...], str | None], ...]
    axes: tuple[Axes, ...]
    name: str
    notes: tuple[str, ...] = ()
    schema: None = None

    @property
    def steps(self) -> int:
        return sum(axes.episodes * (axes.moments - 1) for axes in self.axes)

    def recordings(self, tree: Tree, where: str) -> Iterator[Recording]:
        """Read one episode after the other."""
        for (paths, clock), axes in zip(self.groups, self.axes, strict=True):
            times = None if clock is None else tree[clock].read(0, axes.moments).astype(np.float64)
            for number in range(axes.episodes):
                values = [_episode(tree[path], axes, number, inside(path, where)) for path in paths]
                field = values[0] if len(values) == 1 else np.concatenate(values, -1)
                info = {"file": where, "array": ", ".join(paths), "episode": str(number)}
                yield Recording({self.name: field}, still(len(field) - 1), times=times, info=info)


def _episode(leaf: Leaf, axes: Axes, number: int, where: str) -> Array:
    place = axes.letters.find("n")
    values = leaf.read(number, number + 1) if place == 0 else leaf.whole()
    if place >= 0:
        values = np.take(values, 0 if place == 0 else number, place)
    return as_floats(axes.arrange(values), axes, f"{where}, episode {number}" if place >= 0 else where)


def inside(path: str, where: str) -> str:
    """An array or a file of a log, for a message."""
    return where if path == where else f"{path} of {where}"


# Which arrays -----------------------------------------------------------------------------------------------------


def field_in(tree: Tree, options: ReadOptions, where: str) -> FieldLog | None:
    """The field in a tree of arrays, None if it is a log of another kind: if it has actions, or no floats with three
    axes or more and nobody speaks of a field.

    Raises:
        DataError: arrays of several shapes; see `assembled`.
    """
    wanted = bool(options.axes or options.periodic or options.extent)
    acted = options.action or any(PurePosixPath(path).name in _ACTIONS for path in tree)
    if acted and not wanted:
        return None
    least, types = (len(options.axes) or 2, "biuf") if wanted else (3, "f")
    found = {path: leaf for path, leaf in tree.items() if len(leaf.shape) >= least and leaf.dtype.kind in types}
    if options.observation:
        named = matching(tree, options.observation, "an array", where, "correct its name")
        found = {path: found[path] for path in named if path in found}
    if not found:
        if wanted:
            raise DataError(f"an array with the axes of a field in {where}", listed(tree, "an array"), "say its axes")
        return None
    groups = _grouped(sorted(found, key=natural))
    for paths in groups.values():
        shapes = {path: found[path].shape for path in paths}
        if len(set(shapes.values())) > 1:
            found_shapes = ", ".join(f"{path} {shape}" for path, shape in list(shapes.items())[:6])
            raise DataError(f"arrays of one shape, the quantities of a field, or an array of actions in {where}",
                            found_shapes, "name those of the field (--observation), or the actions (--action)")
    return assembled(tree, groups, options, where)


def _grouped(paths: list[str]) -> dict[str, tuple[str, ...]]:
    """Prefix -> arrays: a group each, where all are in numbered groups of the same content; else one."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        head, _, rest = path.partition("/")
        groups.setdefault(f"{head}/" if rest and any(c.isdigit() for c in head) else "", []).append(path)
    contents = {tuple(path.removeprefix(prefix) for path in group) for prefix, group in groups.items()}
    if "" in groups or len(contents) > 1:
        return {"": tuple(paths)}
    return {prefix: tuple(group) for prefix, group in groups.items()}


def assembled(tree: Tree, groups: Mapping[str, tuple[str, ...]], options: ReadOptions, where: str,
              known: tuple[str, ObservationSpec] | None = None) -> FieldLog:
    """The field whose arrays `groups` names, each group an array or several of one shape.

    known  name of the observation and what is known of it: then the axes are t, the grid, c

    Raises:
        DataError: another grid in one group than in others, axes that cannot be. UsageError: options that do not fit.
    """
    notes: list[str] = []
    leaves = {prefix: tree[paths[0]] for prefix, paths in groups.items()}
    first = next(iter(leaves.values()))
    letters = options.axes or (f"t{'xyz'[: len(known[1].grid)]}c" if known else "")
    if not letters:
        spoken = len(options.extent) or max(("xyz".find(letter) + 1 for letter in options.periodic), default=0)
        found = infer(first.shape, where, spoken)
        letters = found.letters
        notes.append(f"axes taken as {found.words()}; say --axes if they are others")
    axes = {prefix: said(letters, leaf.shape, inside(groups[prefix][0], where)) for prefix, leaf in leaves.items()}
    one = next(iter(axes.values()))
    for prefix, other in axes.items():
        if (other.grid, other.quantities) != (one.grid, one.quantities):
            raise DataError(f"fields of one grid in {where}, {one.grid} with {one.quantities} quantities as the first",
                            f"{other.grid} with {other.quantities} in {groups[prefix][0]}",
                            "keep fields of another grid in a log of their own")
    _precision(leaves[next(iter(leaves))], notes)
    paths = next(iter(groups.values()))
    spec = _spec(tree, next(iter(groups)), paths, one, options, known, notes)
    name = known[0] if known else NAME
    clocks = {prefix: _clock(tree, prefix, axes[prefix].moments, notes) for prefix in groups}
    clocks = clocks if all(clocks.values()) else dict.fromkeys(groups)
    pieces = tuple((paths, clocks[prefix]) for prefix, paths in groups.items())
    return FieldLog(Signature({name: spec}, ActionSpec("none")), pieces, tuple(axes.values()), name, tuple(notes))


# What is said about them ------------------------------------------------------------------------------------------


def _spec(tree: Tree, prefix: str, paths: tuple[str, ...], axes: Axes, options: ReadOptions,
          known: tuple[str, ObservationSpec] | None, notes: list[str]) -> ObservationSpec:
    count = axes.quantities * len(paths)
    labels = tuple(options.names.get(known[0] if known else NAME, ())) or (known[1].channels if known else ())
    if not labels and len(paths) > 1 and axes.quantities == 1:
        labels = tuple(path.removeprefix(prefix) for path in paths)
    if labels and len(labels) != count:
        raise DataError(f"{count} names for the quantities of the field", f"{len(labels)}", "name each of them")
    grid = "xyz"[: len(axes.grid)]
    if set(options.periodic) - set(grid):
        raise UsageError(f"periodic axes among {grid}", f"{options.periodic!r}", "correct --periodic")
    if options.extent and (len(options.extent) != len(grid) or not min(options.extent) > 0):
        raise UsageError(f"{len(grid)} lengths above 0 for the axes {grid}", f"{options.extent}", "correct --extent")
    periodic = tuple(letter in options.periodic for letter in grid) if options.periodic else ()
    extent = options.extent or (known[1].extent if known else _extent(tree, prefix, axes, notes))
    return ObservationSpec("field", (*axes.grid, count), channels=labels, extent=extent,
                           periodic=periodic or (known[1].periodic if known else ()))


def _clock(tree: Tree, prefix: str, moments: int, notes: list[str]) -> str | None:
    """The array of times of a group: increasing numbers, at least one a moment."""
    for path in (prefix + name for name in _TIMES):
        if path in tree and len(tree[path].shape) == 1 and tree[path].shape[0] >= moments:
            times = tree[path].read(0, moments).astype(np.float64)
            if np.isfinite(times).all() and (np.diff(times) > 0).all():
                return path
            notes.append(f"{path} does not increase: no times are taken from it")
    return None


def _extent(tree: Tree, prefix: str, axes: Axes, notes: list[str]) -> tuple[float, ...]:
    """Step of each coordinate times its points, where all axes of the grid have evenly spaced coordinates."""
    found = []
    for letter, points in zip("xyz", axes.grid, strict=False):
        path = next((p for p in (prefix + name.format(letter) for name in _COORDINATES) if p in tree), None)
        if path is None or tree[path].shape not in ((points,), (points + 1,)) or points < 2:
            return ()
        steps = np.diff(tree[path].whole().astype(np.float64))
        if not np.isfinite(steps).all() or not steps.mean() > 0 or np.ptp(steps) > 1e-2 * steps.mean():
            return ()
        found.append(float(steps.mean() * points))
    notes.append(f"extent of the grid taken from its coordinates: {' × '.join(f'{x:g}' for x in found)}")
    return tuple(found)


def _precision(leaf: Leaf, notes: list[str]) -> None:
    """A word where numbers do not fit into float32 as they are."""
    if leaf.dtype == np.float32 or leaf.dtype == np.float16 or leaf.dtype.itemsize == 1:
        return
    rows = max(1, _SAMPLE // max(1, int(np.prod(leaf.shape[1:]))))
    values = leaf.read(0, min(rows, leaf.shape[0])).reshape(-1)[:_SAMPLE]
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.array_equal(values.astype(np.float32).astype(values.dtype), values, equal_nan=True):
            notes.append(f"{leaf.dtype} is rounded to float32")
