"""The graphs of remembered states that planners search, from a run's log: built when first needed, kept with the run.

    memory/graph.json         what it was built from (weights, log, configuration) and its hash; its own hash last
    memory/graph.safetensors  the graph that A* searches (`core.LatentGraph`)
    ways/graph.json, ways/graph.safetensors  the same of the graph that Reach values (`core.WayGraph`)

It can always be built again, so what is damaged, or was built from other weights, another log or configuration, is.
Shapes: N nodes, E edges, M members, D latent size, A action size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load as decode
from safetensors.torch import save as encode

from steersman.actor.ground.primitives import held_rays, rays
from steersman.agent.believing import Boxes
from steersman.agent.building.fingerprint import model_fingerprint
from steersman.core import LatentGraph, Planner, PlanningError, Readout, RunError, TensorRecord
from steersman.core.latent_graph import GraphConfig
from steersman.core.records import tensors
from steersman.core.way_graph import Known, WayConfig, WayGraph
from steersman.data import Dataset
from steersman.memory import build_graph, build_ways
from steersman.runs import Run
from steersman.runs.files import parse_json, pretty, read_capped, sha256, write_new
from steersman.runs.folders import whole, writing
from steersman.runs.seals import seal, seal_holds

FOLDER, WAYS, FORMAT = "memory", "ways", 2
FRAMES = 20_000
"""Most moments of the log that are encoded for a graph, in whole episodes drawn at random."""
WAY_FRAMES = 60_000
"""The same for a graph of ways, which also tells by them what the log knows."""
_LIMIT = 4 << 30
_BATCH = 512
_KNOWN = "known."

G = TypeVar("G", LatentGraph, WayGraph)


class Built(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`graph.json`. model, log: fingerprints; planner: the part of its configuration that the graph depends on."""

    format: int = FORMAT
    model: str
    log: str
    planner: dict[str, object]
    graph: str
    sha256: str = ""


def memory_of(planner: Planner) -> str:
    """SHA-256 over the graphs that a planner searches; "" if it searches none."""
    found = [_encoded(graph) for graph in planner.remembered()]
    return sha256(b"".join(found)) if found else ""


def graph_of(run: Run, by: Boxes, config: GraphConfig, fan: int) -> LatentGraph:
    """The graph that the run keeps for these weights, or a new one from the run's log; fan: constant actions that
    neighbours are tried with.

    Raises:
        PlanningError: boxes, or actions, that no graph can be made for.
        DataError: the log is not there any more. StorageError: the disk refused.
    """
    _require_searchable(by, fan)
    dataset = Dataset.open(run.path / run.manifest.data["path"]).paced(by.signature.pace)
    wanted = Built(
        model=model_fingerprint((by.perception, by.world_model)), log=dataset.fingerprint, graph="",
        planner={"graph": msgspec.to_builtins(config), "fan": fan},
    )
    kept = _kept(run, FOLDER, wanted, LatentGraph, lambda graph: _sane(graph, by))
    if kept is not None:
        return kept
    latents, actions = _encoded_log(dataset, by, FRAMES)
    graph = build_graph(latents, actions, by.world_model, rays(by.signature.action, fan), config)
    _keep(run, FOLDER, wanted, graph)
    return graph


def ways_of(run: Run, by: Boxes, readout: Readout | None, config: WayConfig) -> WayGraph:
    """The graph of ways that the run keeps for these weights and this read-out, or a new one from the run's log.

    Raises:
        PlanningError: boxes, or actions, that no graph can be made for.
        DataError: the log is not there any more. StorageError: the disk refused.
    """
    _require_searchable(by, config.rays)
    dataset = Dataset.open(run.path / run.manifest.data["path"]).paced(by.signature.pace)
    reads = readout if isinstance(readout, torch.nn.Module) else None
    wanted = Built(
        model=model_fingerprint((by.perception, by.world_model, reads)), log=dataset.fingerprint, graph="",
        planner={"ways": msgspec.to_builtins(config)},
    )
    name = f"{WAYS}-beyond" if config.beyond else WAYS
    kept = _kept(run, name, wanted, WayGraph, lambda graph: _sane_ways(graph, by))
    if kept is not None:
        return kept
    graph = ways_from(dataset, by, readout, config)
    _keep(run, name, wanted, graph)
    return graph


@torch.inference_mode()
def ways_from(dataset: Dataset, by: Boxes, readout: Readout | None, config: WayConfig) -> WayGraph:
    """A graph of ways from a log, kept nowhere.

    Raises:
        PlanningError: boxes, or actions, that no graph can be made for.
    """
    _require_searchable(by, config.rays)
    latents, actions = _encoded_log(dataset, by, WAY_FRAMES)
    return build_ways(latents, actions, by.world_model, held_rays(by.signature.action, config.rays), config, readout)


def _require_searchable(by: Boxes, fan: int) -> None:
    why = ""
    if by.history > 1:
        why = f"a history of {by.history} moments"
    elif by.signature.exogenous:
        why = f"exogenous inputs {', '.join(by.signature.exogenous)}"
    elif by.perception.context_shape is not None:
        why = "a scene map: a way that was remembered in one scene may be closed in another"
    elif len(by.perception.latent_shape) != 1:
        why = f"states {by.perception.latent_shape} made of tokens"
    if why:
        raise PlanningError("an agent whose state is one vector that tells all, to remember a graph of", why,
                            "use planner 'icem' or 'search'")
    action = by.signature.action
    if action.kind == "continuous" and fan < 2 * action.size:
        raise PlanningError(
            f"a fan of at least {2 * action.size} constant actions, for {action.size} continuous entries",
            f"{fan}", "raise the planner's fan, or use planner 'icem': A* tries constant actions only")


@torch.inference_mode()
def _encoded_log(dataset: Dataset, by: Boxes, frames: int) -> tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]:
    """Latents (T+1, D) and actions (T, A) of whole episodes, drawn at random, of up to so many frames."""
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))
    size = (dataset.lengths[order] + 1).cumsum(0)
    taken = order[(size <= frames) | (torch.arange(len(order)) == 0)].sort().values
    counts = dataset.lengths[taken] + 1
    episode = taken.repeat_interleave(counts)
    row = torch.arange(len(episode)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    states, actions = [], []
    for e, r in zip(episode.split(_BATCH), row.split(_BATCH), strict=True):
        states.append(by.encode(dataset.frames(e, r)).state.float())
        actions.append(dataset.windows(e, torch.minimum(r, dataset.lengths[e] - 1), 1).actions[:, 0])
    each = counts.tolist()
    latents = torch.cat(states).clone().split(each)
    done = [part[:-1] for part in torch.cat(actions).clone().split(each)]
    return latents, done


def _keep(run: Run, name: str, wanted: Built, graph: TensorRecord) -> None:
    content = _encoded(graph)
    with writing(run.path / name, "a graph of remembered states") as folder:
        write_new(folder / "graph.safetensors", content)
        write_new(folder / "graph.json", seal(pretty(msgspec.structs.replace(wanted, graph=sha256(content)))))


def _kept(run: Run, name: str, wanted: Built, kind: type[G], sane: Callable[[G], bool]) -> G | None:
    """What the run keeps, if it is whole and was built from the same."""
    folder = whole(run.path / name)
    try:
        content = read_capped(folder / "graph.json")
        card = parse_json(content, Built)
        if not seal_holds(content) or msgspec.structs.replace(card, graph="", sha256="") != wanted:
            return None
        stored = read_capped(folder / "graph.safetensors", _LIMIT)
        if sha256(stored) != card.graph:
            return None
        graph = _decoded(kind, decode(stored))
    except (OSError, RunError, msgspec.MsgspecError, SafetensorError, TypeError):
        return None
    return graph if sane(graph) else None


def _decoded(kind: type[G], stored: Mapping[str, torch.Tensor]) -> G:
    """
    Raises:
        TypeError: other tensors than the record has.
    """
    inside = {name.removeprefix(_KNOWN): x for name, x in stored.items() if name.startswith(_KNOWN)}
    own: dict[str, Any] = {name: x for name, x in stored.items() if not name.startswith(_KNOWN)}
    if inside:
        own["known"] = Known(**inside)
    return kind(**own)


def _sane(graph: LatentGraph, by: Boxes) -> bool:
    n, e = len(graph.nodes), graph.neighbour.shape[-1]
    action = by.signature.action
    shapes = ((n, *by.perception.latent_shape), (n, e), (graph.cost.shape[0], n, e), (n, e, action.size), ())
    return (
        tuple(tuple(getattr(graph, f.name).shape) for f in fields(graph)) == shapes
        and graph.neighbour.dtype == torch.int64 and bool(((graph.neighbour >= -1) & (graph.neighbour < n)).all())
    )


def _sane_ways(graph: WayGraph, by: Boxes) -> bool:
    n, e, p = len(graph.nodes), graph.neighbour.shape[-1], graph.places.shape[-1]
    q, side = graph.known.seen.shape[:2]
    ways, length = graph.tried.shape[1:3]
    shapes = ((n, *by.perception.latent_shape), (n, p), (p,), (n, e), (n, e),
              (n, ways, length, by.signature.action.size), (n, e), (n, e), (), (), (p,), (), (q, 2), (q,),
              (q, side, side), (len(graph.leaks), 4))
    return (
        tuple(tuple(x.shape) for x in tensors(graph).values()) == shapes
        and bool(((graph.known.pairs >= 0) & (graph.known.pairs < p)).all())
        and bool(((graph.known.sides >= 1) & (graph.known.sides <= side - 4)).all())
        and graph.neighbour.dtype == torch.int64 and bool(((graph.neighbour >= -1) & (graph.neighbour < n)).all())
        and graph.way.dtype == graph.steps.dtype == torch.int64
        and bool(((graph.way >= 0) & (graph.way < ways) & (graph.steps >= 1) & (graph.steps <= length)).all())
    )


def _encoded(graph: TensorRecord) -> bytes:
    return encode({name: x.detach().cpu().contiguous() for name, x in tensors(graph).items()})
