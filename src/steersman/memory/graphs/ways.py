"""Logged episodes' latents -> a graph of ways: states that cover the log, and edges that level 1 has imagined.

Knows a world model by its abstract class. Shapes: F frames, N nodes, C ways tried from a node (chunks and rays),
H steps of a way, D latent size, P entries of a place, A action size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import torch
from torch import Tensor

from steersman.core import Belief, DataError, Readout, WorldModel
from steersman.core.way_graph import Known, WayConfig, WayGraph
from steersman.memory.graphs.known import is_known, is_known_on_the_way, known_from
from steersman.memory.graphs.leaks import follow_ways
from steersman.memory.graphs.nearest import along_curve, nearest, nearest_within, spread_out
from steersman.memory.graphs.places import read_places, units_of

_AT_ONCE = 4096  # ways that are imagined at a time
_CHANGED = 0.05
_BEYOND = 4  # imagined nodes over logged ones, at most
_SLACK = 1.1  # touch, in the distance of the farthest logged state
_FOLLOWED = 48  # ways that are followed in imagination
_MORE, _SHRUNK = 1.5, 0.8  # nodes, and touch, of a graph that is made finer


@torch.no_grad()
def build_ways(
    latents: Sequence[Tensor], actions: Sequence[Tensor], model: WorldModel, fan: Tensor,
    config: WayConfig | None = None, readout: Readout | None = None, context: Tensor | None = None,
) -> WayGraph:
    """Episodes' latents, each (T+1, D), and actions, each (T, A) -> the graph.

    fan      (R, A) held actions that are tried from every node (`actor.primitives.rays`)
    readout  reads the columns in which states are near or far; None: latents
    context  (1, M, C) the scene map that all of them share, if the model reads one

    Nodes are logged states, each the farthest from those before (Gonzalez 1985). From each, level 1 imagines what was
    done in the log from states near it, and held actions; every `stride` steps it looks which node lies nearest. An
    edge counts only if imagining ends within `touch` of that node and never left what the log knows (`known_from`); it
    costs the steps to there and the rest of the way. So nothing is believed of two states that merely look alike, and
    nothing of a perceptron that imagines its way through a wall, as long as `touch` is less than the wall is thick.

    With `mend`, values are checked in imagination (`follow_ways`), and a graph in which too many cannot be kept is made
    finer, so many times at most; of those that were built the one that keeps most is returned.

    Raises:
        DataError: no step, latents that are not vectors, or episodes whose lengths do not fit.
    """
    c = config or WayConfig()
    if not latents or any(x.dim() != 2 or len(x) != len(a) + 1 or not len(a) for x, a in zip(latents, actions,
                                                                                           strict=True)):
        raise DataError("latents (T+1, D) and actions (T, A) of each episode, T >= 1", f"{len(latents)} episodes",
                        "encode whole episodes")
    frames = torch.cat(list(latents))
    values = read_places(frames[None], readout, context=context)[0]
    unit = units_of(values.split([len(x) for x in latents]))
    places = values / unit
    return _mended(lambda c: _built(frames, places, unit, latents, actions, model, fan, c, readout, context), c, frames,
                   model, fan, readout, context)


def _mended(
    build: Callable[[WayConfig], tuple[WayGraph, Tensor]], c: WayConfig, frames: Tensor, model: WorldModel, fan: Tensor,
    readout: Readout | None, context: Tensor | None,
) -> WayGraph:
    """The graph, made finer as long as its values leak, `mend` times at most. build -> the graph and the radius that
    its nodes cover."""
    graph, radius = build(c)
    if not c.mend or c.beyond:
        return graph
    starts, goals = frames[torch.randint(len(frames), (2, _FOLLOWED), generator=torch.Generator().manual_seed(0))]
    found: list[Tensor] = []
    best, least = graph, torch.inf
    for number in range(c.mend + 1):
        followed = follow_ways(graph, model, starts, goals, fan, readout, context)
        leaking, unknown = float(followed.leaks.float().mean()), float(followed.value.isinf().float().mean())
        found.append(torch.tensor([len(graph), float(graph.touch), leaking, unknown]))
        if leaking + unknown < least:
            best, least = graph, leaking + unknown
        if leaking <= c.leaks or number == c.mend:
            break
        if c.touch is not None and c.touch * _SHRUNK > _SLACK * float(radius):
            c = msgspec.structs.replace(c, touch=c.touch * _SHRUNK)
        else:
            c = msgspec.structs.replace(c, nodes=int(_MORE * c.nodes))
        graph, radius = build(c)
    return replace(best, leaks=torch.stack(found))


def _built(
    frames: Tensor, places: Tensor, unit: Tensor, latents: Sequence[Tensor], actions: Sequence[Tensor],
    model: WorldModel, fan: Tensor, c: WayConfig, readout: Readout | None, context: Tensor | None,
) -> tuple[WayGraph, Tensor]:
    """One graph of frames (F, D) at places (F, P), and the distance of the farthest frame from all nodes."""
    chosen, home, radius = spread_out(places, c.nodes)
    touch = (_SLACK * radius).clamp_min(1e-6) if c.touch is None else torch.tensor(float(c.touch))
    tried, known = _tried(home, chosen, [len(x) for x in latents], torch.cat([_padded(a) for a in actions]), fan, c)
    nodes = frames[chosen]
    seen, placed = known_from(places), places[chosen]
    if c.beyond:
        seen = replace(seen, seen=torch.ones_like(seen.seen))
        more = _grown(model, nodes, placed, fan, unit, touch, c, readout, context)
        placed = torch.cat([placed, read_places(more[None], readout, unit, context)[0]])
        nodes = torch.cat([nodes, more])
        held = fan[None, :, None].expand(len(more), -1, c.chunk, -1).to(tried.dtype)
        spare = held[:, :1].expand(-1, c.chunks, -1, -1)  # none of the log: its place is taken by what does not count
        tried = torch.cat([tried, torch.cat([spare, held], 1)])
        steps = torch.tensor([0] * c.chunks + [c.chunk] * len(fan))
        known = torch.cat([known, steps.expand(len(more), -1)])
    ends, cost = _landed(model, nodes, placed, tried, known, unit, touch, seen, c, readout, context)
    neighbour, cost, which = _listed(ends, cost)
    marks = ends.shape[1] // tried.shape[1]
    way, steps = which // marks, (which % marks + 1) * c.stride
    graph = WayGraph(nodes, placed, unit, neighbour, cost, tried, way, steps, touch, _held(actions), seen,
                     torch.zeros(0, 4))
    return graph, radius


def _grown(
    model: WorldModel, nodes: Tensor, places: Tensor, fan: Tensor, unit: Tensor, touch: Tensor, c: WayConfig,
    readout: Readout | None, context: Tensor | None,
) -> Tensor:
    """Imagined states (n, D) that touch no node (N, D): ends of held actions, round by round from those before, at most
    4 N of them, within a range that is three times the log's."""
    belief, limit, every, newest = Belief(nodes[:1], context), _BEYOND * len(nodes), places, nodes
    low, high = places.amin(0), places.amax(0)
    low, high = low - (high - low), high + (high - low)
    marks = torch.arange(c.stride, c.chunk + 1, c.stride)
    added: list[Tensor] = []
    for _ in range(c.beyond):  # over the length of ways
        ways = fan[None, :, None].expand(len(newest), -1, c.chunk, -1).flatten(0, 1)
        pieces = zip(newest.repeat_interleave(len(fan), 0).split(_AT_ONCE), ways.split(_AT_ONCE), strict=True)
        ends = torch.cat([model.branch(belief, a[None], w[None]).states[0, :, marks].flatten(0, 1) for a, w in pieces])
        at = read_places(ends[None], readout, unit, context)[0]
        inside = ((at >= low) & (at <= high)).all(1) & torch.isfinite(at).all(1)
        ends, at = ends[inside], at[inside]
        far = nearest(at, every)[0] > touch
        ends, at = ends[far], at[far]
        room = limit - sum(map(len, added))
        if not len(at) or room < 1:
            break
        chosen = spread_out(at, room)[0]
        apart = (at[chosen][:, None] - at[chosen]).norm(dim=2)
        kept = ~((apart < touch) & (torch.arange(len(chosen)) < torch.arange(len(chosen))[:, None])).any(1)
        newest = ends[chosen[kept]]
        every = torch.cat([every, at[chosen[kept]]])
        added.append(newest)
    return torch.cat(added) if added else nodes[:0]


def _held(actions: Sequence[Tensor]) -> Tensor:
    """Steps that an action lasts, on average: steps over changes, a change being more than a twentieth of the range."""
    every = torch.cat(list(actions)).double()
    range_ = (every.amax(0) - every.amin(0)).clamp_min(1e-9)
    changes = sum(float(((a.double().diff(dim=0) / range_).abs() > _CHANGED).any(1).sum()) for a in actions)
    return torch.tensor(len(every) / (changes + len(actions)))


def _padded(actions: Tensor) -> Tensor:
    return torch.cat([actions, actions[-1:]])


def _tried(
    home: Tensor, chosen: Tensor, lengths: list[int], actions: Tensor, fan: Tensor, c: WayConfig,
) -> tuple[Tensor, Tensor]:
    """What is imagined from every node: actions (N, C, H, A), and how many steps of each count, (N, C)."""
    n, f = len(chosen), len(home)
    last = torch.tensor(lengths).cumsum(0) - 1  # of every episode
    end = last.repeat_interleave(torch.tensor(lengths))
    left = (end - torch.arange(f)).clamp(max=c.chunk)
    home = home.clone()
    home[chosen] = torch.arange(n)
    # frames with enough to come, by node; a node's own frame first, then others in a fixed shuffled order
    shuffled = torch.randperm(f, generator=torch.Generator().manual_seed(0))
    shuffled[chosen] = -1
    order = (home * (f + 1) + shuffled + 1).argsort()
    order = order[left[order] >= c.stride]
    at = home[order]
    first = torch.searchsorted(at, torch.arange(n))
    rank = torch.arange(len(order)) - first[at]
    taken = rank < c.chunks
    start = torch.full((n, c.chunks), -1)
    start[at[taken], rank[taken]] = order[taken]
    steps = (start.clamp(min=0)[..., None] + torch.arange(c.chunk)).clamp(max=f - 1)
    chunks = actions[steps]
    rays = fan[None, :, None].expand(n, -1, c.chunk, -1).to(chunks.dtype)
    known = torch.where(start >= 0, left[start.clamp(min=0)], 0)
    return torch.cat([chunks, rays], 1), torch.cat([known, torch.full((n, len(fan)), c.chunk)], 1)


def _landed(
    model: WorldModel, nodes: Tensor, places: Tensor, tried: Tensor, known: Tensor, unit: Tensor, touch: Tensor,
    seen: Known, c: WayConfig, readout: Readout | None, context: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The node that each way touches every `stride` steps, (N, C·T) int64, and the steps to there, infinite: none."""
    n, ways = tried.shape[:2]
    marks = torch.arange(c.stride, c.chunk + 1, c.stride)
    ends = torch.zeros(n, ways, len(marks), dtype=torch.int64)
    cost = torch.full((n, ways, len(marks)), torch.inf)
    belief = Belief(nodes[:1], context)
    for rows in along_curve(places).split(max(1, _AT_ONCE // ways)):  # neighbours together: their ends lie close
        starts = nodes[rows].repeat_interleave(ways, 0)
        states = model.branch(belief, starts[None], tried[rows].flatten(0, 1)[None]).states
        passed = read_places(states, readout, unit, context)[0]
        at = passed[:, marks].flatten(0, 1)
        apart, node = nearest_within(at, places, float(touch))
        believed = is_known_on_the_way(seen, passed)[:, marks - 1]
        believed &= is_known(seen, (at + places[node]) / 2).view_as(believed)
        needed = marks + apart.view(-1, len(marks))
        here = rows.repeat_interleave(ways)[:, None]
        counts = (apart.view_as(needed) <= touch) & (marks <= known[rows].flatten()[:, None])
        counts &= believed & (node.view_as(needed) != here)
        ends[rows] = node.view(len(rows), ways, -1)
        cost[rows] = needed.masked_fill(~counts, torch.inf).view(len(rows), ways, -1)
    return ends.flatten(1), cost.flatten(1)


def _listed(ends: Tensor, cost: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of several ways from one node to the same the cheapest: neighbour, cost, and which of `ends`, (N, E) each."""
    n = len(ends)
    which = cost.argsort(dim=1, stable=True)
    ends, cost = ends.gather(1, which), cost.gather(1, which)
    ends = ends.masked_fill(~torch.isfinite(cost), n)
    by_end = ends.argsort(dim=1, stable=True)  # within one end still in the order of cost
    ends, cost, which = ends.gather(1, by_end), cost.gather(1, by_end), which.gather(1, by_end)
    fresh = torch.cat([torch.ones(n, 1, dtype=torch.bool), ends[:, 1:] != ends[:, :-1]], 1) & (ends < n)
    width = max(1, int(fresh.sum(1).max()))
    kept = (~fresh).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    there = fresh.gather(1, kept)
    neighbour = torch.where(there, ends.gather(1, kept), -1)
    return neighbour, cost.gather(1, kept).masked_fill(~there, torch.inf), which.gather(1, kept)
