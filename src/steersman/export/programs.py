"""torch.export: the same graphs as programs that PyTorch runs without this package, one `.pt2` file each.

Written, never read, by this package: `torch.export.load` unpacks a zip archive whose contents it trusts, so open only
files that you made yourself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from steersman.agent import Agent
from steersman.core import ConfigError, MismatchError, Observation
from steersman.export.further import further_graphs
from steersman.export.graphs import Graph, agent_graphs
from steersman.runs.folders import new_folder

TOLERANCE = 1e-5


def export_programs(
    agent: Agent, folder: Path | str, *, observation: Observation | None = None, seed: int = 0
) -> dict[str, float]:
    """Write `encode.pt2`, [`survey.pt2`], `step.pt2`, [`readout.pt2`], and of what else the agent has [`critic.pt2`],
    [`policy_NAME.pt2`] into the new folder `folder`; `export.left_out` says what no program stands for.

    Leading sizes are open. Each program is run on other sizes than it was traced with and compared with the agent's own
    parts: graph -> largest |difference| / (1 + |value|), at most 1e-5.

    Raises:
        ConfigError: a part that torch.export cannot trace.
        MismatchError: a program that computes something else.
        StorageError: there is something at `folder` already, or the disk refused; nothing is left behind.
    """
    folder = Path(folder)
    worst: dict[str, float] = {}
    with new_folder(folder, "an export") as temp:
        graphs = agent_graphs(agent, observation, seed) | further_graphs(agent, observation, seed)
        for name, graph in graphs.items():
            program = _traced(graph)
            worst[name] = _verified(graph, program, seed)
            torch.export.save(program, temp / f"{name}.pt2")
    return worst


def _traced(graph: Graph) -> Any:
    auto = torch.export.Dim.AUTO  # type: ignore[attr-defined]
    shapes = (tuple(dict.fromkeys(graph.open[name], auto) for name in graph.inputs),)
    try:
        with torch.enable_grad():
            return torch.export.export(graph.module, tuple(graph.inputs.values()), dynamic_shapes=shapes)
    except Exception as error:  # of torch.export's own kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(f"parts that torch.export can trace in {graph.name!r}", lines[0][:300],
                          "export as pretrained instead, or report it") from error


def _verified(graph: Graph, program: Any, seed: int) -> float:
    sizes = dict.fromkeys({name for axes in graph.open.values() for name in axes.values()}, 4)
    inputs = tuple(graph.sized(sizes, torch.Generator().manual_seed(seed + 1)).values())
    with torch.no_grad():
        pairs = zip(_tuple(graph.module(*inputs)), _tuple(program.module()(*inputs)), strict=True)
        worst = max(float(((a - b).abs() / (1 + a.abs())).max()) for a, b in pairs)
    if not worst <= TOLERANCE:
        raise MismatchError(f"{graph.name}.pt2 within {TOLERANCE:g} of the agent", f"{worst:.2g}", "report this")
    return worst


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
