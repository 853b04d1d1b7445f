"""Trees of arrays that other programs wrote, as episodes: which array plays which role, where episodes end.

  grouped   a group per episode that holds `actions` and observations (`demo_N/obs/…` as robomimic writes them)
  flat      all episodes one after the other, and where they end: `terminals` and `timeouts` (D4RL), `episode_ends`,
            `ep_len`, or an episode number per row

An episode with as many observations as actions ends with its last observation, unless `next_…` arrays hold one more.

Shapes: N rows of an array.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from steersman.core.errors import DataError
from steersman.core.signature import ObservationSpec, Signature
from steersman.data.formats import actions
from steersman.data.formats.arrays import Layout, Leaf, Piece, Tree, columns, ours
from steersman.data.source import ReadOptions, listed, matching

ALLOWED = {"observation", "action", "exogenous", "time", "low", "high", "discrete", "names"}
"""Options that mean something for a tree of arrays."""

_ACTION = ("actions", "action", "act")
_OBSERVED = ("observations", "observation", "obs")
_STATE = ("states", "state", "qpos")
_NEXT = ("next_observations", "next_observation", "next_obs")
_EXOGENOUS = ("exogenous", "exo", "disturbance", "disturbances")
_TIMES = ("times", "time", "timestamps", "timestamp")
_FLAGS = ("terminals", "terminations", "terminated", "dones", "done", "timeouts", "truncations", "truncated")
_ENDS = ("episode_ends", "meta/episode_ends")
_LENGTHS = ("ep_len", "episode_lengths")
_NUMBERS = ("episode", "episodes", "episode_id", "episode_index", "ep_idx", "trajectory")
_NOISE = re.compile(
    r"(next_.*|rewards?|returns?|infos?|metadata|meta|steps?|step_idx|index|ep_\w+|discounts?|masks?)(/.*)?"
)


def understand(tree: Tree, description: bytes | None, options: ReadOptions, where: str) -> Layout:
    """Find episodes and roles in a tree of arrays.

    Raises:
        DataError: no actions, nothing to observe, arrays of other lengths or types than an episode needs.
    """
    if description is not None and not options.stated():
        return ours(tree, description, where)
    notes: list[str] = []
    prefix, action, grouped = _find_actions(tree, options, where)
    inside = {p.removeprefix(prefix): leaf for p, leaf in tree.items() if p.startswith(prefix)}
    exogenous = matching(inside, options.exogenous, "an array", where, "correct its name")
    exogenous = exogenous or [p for p in inside if p.split("/")[0] in _EXOGENOUS]
    times = options.time or next((p for p in _TIMES if p in inside), None)
    if times is not None and times not in inside:
        raise DataError(f"an array {times!r} in {where}", listed(inside, "an array"), "name the times (--time)")
    taken = {action, *exogenous, *([times] if times else [])}
    observed = _find_observed(inside, taken, options, notes, where)
    following = {name: p for name, path in observed.items() if (p := _next_of(path)) in inside}
    if len(following) != len(observed):
        following = {}
    pieces = _groups(tree, action, observed, following, where) if grouped else _flat(
        tree, inside, prefix, action, observed, following, notes, where
    )
    specs = {name: _spec(name, inside[path], options, where) for name, path in observed.items()}
    values = np.concatenate([
        columns(tree[p.prefix + action].read(p.start, p.start + p.steps)).astype(np.float64) for p in pieces
    ])
    names = tuple(options.names.get("action", ()))
    whole = inside[action].dtype.kind in "iu"
    spec = actions.infer(list(values.T), whole, names, options, where, notes)
    inputs = tuple(name for p in exogenous for name in _entries(p, inside[p]))
    signature = Signature(specs, spec, inputs)
    return Layout(signature, pieces, observed, following, action, tuple(exogenous), times, tuple(notes))


def _find_actions(tree: Tree, options: ReadOptions, where: str) -> tuple[str, str, bool]:
    """Prefix of the first episode (or of all), path of the actions under it, whether episodes are groups."""
    said = list(options.action)
    if len(said) > 1:
        raise DataError(f"one array of actions in {where}", f"{said}", "name one array; its columns are the entries")
    wanted = said or list(_ACTION)
    found = sorted((p for p in tree if any(p == w or p.endswith(f"/{w}") for w in wanted)), key=natural)
    if not found:
        raise DataError(f"an array of actions in {where}", listed(tree, "an array"), "name it (--action)")
    name = next(w for w in wanted if any(p == w or p.endswith(f"/{w}") for p in found))
    found = [p for p in found if p == name or p.endswith(f"/{name}")]
    prefix = found[0][: len(found[0]) - len(name)]
    numbered = bool(re.search(r"\d+/$", prefix))
    return prefix, name, len(found) > 1 or numbered


def _find_observed(
    inside: Tree, taken: set[str], options: ReadOptions, notes: list[str], where: str
) -> dict[str, str]:
    """Observation name -> path."""
    if options.observation:
        return {_short(p): p for p in matching(inside, options.observation, "an array", where, "correct its name")}
    paths = [p for p in inside if p.split("/")[0] in _OBSERVED and p not in taken]
    paths = paths or [p for p in inside if p in _STATE and p not in taken]
    rows = {leaf.shape[0] for p, leaf in inside.items() if p in taken}
    if not paths:
        paths = [
            p for p, leaf in inside.items() if p not in taken and not _NOISE.fullmatch(p)
            and p not in (*_FLAGS, *_ENDS, *_LENGTHS, *_NUMBERS) and {leaf.shape[0], leaf.shape[0] - 1} & rows
            and leaf.dtype.kind in "biuf" and len(leaf.shape) <= 4
        ]
        if paths:
            notes.append(f"taken as observations: {', '.join(paths)} (no array is called obs… or observation…)")
    if not paths:
        raise DataError(f"an array of observations in {where}", listed(inside, "an array"), "name it (--observation)")
    if len(paths) == 1 and "/" not in paths[0] and paths[0] in (*_OBSERVED, *_STATE):
        return {"image" if _is_image(inside[paths[0]]) else "vector": paths[0]}
    return {_short(p): p for p in paths}


def _short(path: str) -> str:
    """`obs/arm/angle` -> `arm.angle`."""
    head, slash, rest = path.partition("/")
    return (rest if slash and head in _OBSERVED else path).replace("/", ".")


def _next_of(path: str) -> str:
    head, slash, rest = path.partition("/")
    return f"next_{head}{slash}{rest}"


def _groups(
    tree: Tree, action: str, observed: Mapping[str, str], following: Mapping[str, str], where: str
) -> tuple[Piece, ...]:
    pieces = []
    prefixes = sorted((p[: -len(action)] for p in tree if p == action or p.endswith(f"/{action}")), key=natural)
    for prefix in prefixes:
        rows = tree[prefix + action].shape[0]
        sizes = set()
        for name, path in observed.items():
            if prefix + path not in tree:
                raise DataError(f"{prefix}{path} in {where}", "no such array", "give every episode the same arrays")
            have = tree[prefix + path].shape[0]
            sizes.add(have - 1 if have == rows + 1 else rows if have == rows and name in following else rows - 1)
            if have not in (rows, rows + 1):
                raise DataError(f"{rows} or {rows + 1} rows of {prefix}{path} in {where}", f"{have}", "cut it to size")
        steps = min(sizes)
        if steps < 1:
            raise DataError(f"at least 2 rows in each episode of {where}", f"{rows} in {prefix}", "drop it")
        pieces.append(Piece(prefix, 0, rows, steps))
    return tuple(pieces)


def _flat(
    tree: Tree, inside: Tree, prefix: str, action: str, observed: Mapping[str, str], following: Mapping[str, str],
    notes: list[str], where: str,
) -> tuple[Piece, ...]:
    rows = inside[action].shape[0]
    for path in observed.values():
        if inside[path].shape[0] not in (rows, rows + 1):
            raise DataError(f"{rows} rows of {path} in {where}", f"{inside[path].shape[0]}", "cut it to size")
    cuts = _cuts(tree, inside, rows, notes, where)
    pieces, short = [], 0
    single = len(cuts) == 2 and all(inside[path].shape[0] == rows + 1 for path in observed.values())
    for start, stop in pairwise(cuts):
        steps = stop - start if following or single else stop - start - 1
        if steps < 1:
            short += 1
            continue
        pieces.append(Piece(prefix, start, stop, steps))
    if short:
        notes.append(f"left out: {short} episodes of a single row")
    if not pieces:
        raise DataError(f"an episode of at least 2 rows in {where}", "none", "record some steps")
    return tuple(pieces)


def _cuts(tree: Tree, inside: Tree, rows: int, notes: list[str], where: str) -> list[int]:
    """Rows at which episodes begin, and the end."""
    for path in (*_ENDS, *_LENGTHS):
        if path in tree and len(tree[path].shape) == 1 and tree[path].dtype.kind in "iu":
            ends = tree[path].whole().astype(np.int64)
            ends = ends.cumsum() if path in _LENGTHS else ends
            if len(ends) < 1 or ends[0] < 1 or ends[-1] != rows or (np.diff(ends) < 1).any():
                raise DataError(f"{path} that grow to {rows} in {where}", f"{ends[:4].tolist()}…", "correct it")
            return [0, *ends.tolist()]
    numbers = next((p for p in _NUMBERS if p in inside and inside[p].shape[:1] == (rows,)), None)
    if numbers is not None:
        values = inside[numbers].whole().reshape(rows, -1)[:, 0]
        return [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), rows]
    flags = [inside[p].whole().reshape(rows, -1)[:, 0] != 0 for p in _FLAGS if _is_row_of_numbers(inside, p, rows)]
    if not flags:
        notes.append("nothing says where episodes end: the whole log is one episode")
        return [0, rows]
    ends = np.flatnonzero(np.any(flags, 0)) + 1
    return sorted({0, *ends.tolist(), rows})


def _is_row_of_numbers(inside: Tree, path: str, rows: int) -> bool:
    return path in inside and inside[path].shape in ((rows,), (rows, 1))


def _spec(name: str, leaf: Leaf, options: ReadOptions, where: str) -> ObservationSpec:
    if leaf.dtype.kind not in "biuf" or leaf.dtype.itemsize > 8:
        raise DataError(f"numbers in {name!r} of {where}", f"{leaf.dtype}", "name the arrays to use (--observation)")
    if _is_image(leaf):
        shape = leaf.shape[1:]
        if len(shape) == 2:
            return ObservationSpec("image", (*shape, 1))
        if shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4):
            return ObservationSpec("image", (shape[1], shape[2], shape[0]))
        return ObservationSpec("image", shape)
    if len(leaf.shape) > 2 or 0 in leaf.shape[1:]:
        raise DataError(
            f"vectors (rows, columns) or uint8 images (rows, height, width, channels) in {name!r} of {where}",
            f"{leaf.dtype} {leaf.shape}", "reshape it, or name the arrays to use (--observation)",
        )
    size = leaf.shape[1] if len(leaf.shape) == 2 else 1
    labels = tuple(options.names.get(name, ()))
    if labels and len(labels) != size:
        raise DataError(f"{size} names for the entries of {name!r}", f"{len(labels)}", "name each entry")
    return ObservationSpec("vector", (size,), labels)


def _is_image(leaf: Leaf) -> bool:
    return leaf.dtype == np.uint8 and len(leaf.shape) in (3, 4) and 0 not in leaf.shape[1:]


def _entries(path: str, leaf: Leaf) -> tuple[str, ...]:
    short = path.rsplit("/", 1)[-1]
    size = leaf.shape[1] if len(leaf.shape) == 2 else 1
    return (short,) if size == 1 else tuple(f"{short}.{i}" for i in range(size))


def natural(path: str) -> list[tuple[int, str]]:
    """Sorts `demo_2` before `demo_10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", path)]
