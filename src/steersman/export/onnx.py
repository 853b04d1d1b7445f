"""ONNX: every graph of an agent in a file of its own, each verified against torch before the folder appears.

    encode.onnx  [survey.onnx]  step.onnx  [correct.onnx]  [readout.onnx]     see `export.graphs`
    [critic.onnx]  [policy.onnx]  [policy_NAME.onnx]                          see `export.further`
    export.json     signature, configuration, inputs and outputs of each file, hashes, measured differences
    README.md       the same for people, with the loop that rolls a plan out

Needs the extra `onnx`. Written for opset 20; leading sizes (batch, candidates) are open.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.core import ConfigError, MismatchError, Observation, UsageError
from steersman.core.parts import origins
from steersman.export.describe import describe
from steersman.export.further import further_graphs, left_out
from steersman.export.graphs import BATCH, CANDIDATES, Graph, agent_graphs
from steersman.export.manifest import OPSET, CarryRecord, FileOfGraph, OnnxManifest, Port
from steersman.runs.checkpoints import FileRecord
from steersman.runs.files import pretty, sha256, write_new
from steersman.runs.folders import new_folder

MANIFEST, README = "export.json", "README.md"
TOLERANCE = 1e-4

_SIZES = {BATCH: (1, 2, 5), CANDIDATES: (1, 7)}


@dataclass(frozen=True)
class Exported:
    """What was written: the folder; graph -> largest relative difference from torch; box -> why it was left out."""

    folder: Path
    worst: Mapping[str, float]
    left_out: Mapping[str, str]


def export_onnx(
    agent: Agent, folder: Path | str, *, observation: Observation | None = None, seed: int = 0,
    extra: Mapping[str, Graph] | None = None,
) -> Exported:
    """Write `agent` as ONNX files into the new folder `folder`.

    Each file is run by ONNX Runtime for batches of 1, 2 and 5 (candidates 1 and 7) and compared
    with torch: |onnx - torch| <= 1e-4 (1 + |torch|) for every number, or nothing is written.

    observation  examples from the log, name -> (n, …), n >= 2; random ones do as well
    extra        more graphs, for instance a distilled policy's

    Raises:
        UsageError: the extra `onnx` is not installed, or the world model cannot be exported.
        MismatchError: a graph does not compute what torch computes.
        StorageError: there is something at `folder` already, or the disk refused; nothing is left behind.
    """
    require_onnx()
    folder = Path(folder)
    with new_folder(folder, "an export") as temp:
        wanted = agent_graphs(agent, observation, seed) | further_graphs(agent, observation, seed) | dict(extra or {})
        missing = left_out(agent)
        contents, records = {}, {}
        for name, graph in wanted.items():
            contents[name] = _to_onnx(graph)
            worst = _verified(graph, contents[name], seed)
            record = FileRecord(len(contents[name]), sha256(contents[name]))
            records[name] = FileOfGraph(file=record, inputs=_inputs(graph), outputs=_outputs(graph), worst=worst,
                                        columns=graph.columns)
        manifest = OnnxManifest(
            agent=agent.config, signature=agent.signature,
            latent_shape=agent.perception.latent_shape, context_shape=agent.perception.context_shape,
            carry=tuple(CarryRecord(part.name, part.shape, part.type) for part in wanted["step"].carry),
            columns=tuple(agent.readout.columns) if agent.readout is not None else (),
            scale=dict(getattr(agent.readout, "scale", {})), origin=agent.origin, parts=origins(agent.config),
            graphs=records, left_out=missing,
        )
        files = {f"{name}.onnx": content for name, content in contents.items()}
        files |= {MANIFEST: pretty(manifest), README: describe(manifest).encode()}
        for name, content in files.items():
            write_new(temp / name, content)
    return Exported(folder, {name: record.worst for name, record in records.items()}, missing)


def require_onnx() -> None:
    """
    Raises:
        UsageError: the extra `onnx` is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError("ONNX and its runtime", f"{error}", "install steersman[onnx]") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter writes progress and advice to everybody; errors come as exceptions."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _to_onnx(graph: Graph) -> bytes:
    axes = tuple(dict(graph.open[key]) for key in graph.inputs)
    try:
        with _quiet(), torch.enable_grad():
            program: Any = torch.onnx.export(
                graph.module, tuple(graph.inputs.values()), dynamo=True, opset_version=OPSET, verbose=False,
                input_names=list(graph.inputs), output_names=list(graph.outputs),
                dynamic_shapes=(axes,),
            )
            content: bytes = program.model_proto.SerializeToString()
    except Exception as error:  # the exporter raises of its own kinds and of torch's
        lines = str(error).strip().splitlines() or [type(error).__name__]
        got = f"{type(error).__name__}: {lines[0]}"[:300]
        raise ConfigError(f"parts that ONNX can express in graph {graph.name!r}", got,
                          "export as pretrained instead, or report it") from error
    return content


def _verified(graph: Graph, content: bytes, seed: int) -> float:
    """Run both for many sizes; the largest relative difference.

    Raises:
        MismatchError: it is above the tolerance, or shapes differ.
    """
    session = open_session(content)
    generator, worst = torch.Generator().manual_seed(seed + 1), 0.0
    named = {name for sizes in graph.open.values() for name in sizes.values()}
    choices = {name: _SIZES[name] for name in sorted(named)}
    for combination in product(*choices.values()):
        sizes = dict(zip(choices, combination, strict=True))
        inputs = graph.sized(sizes, generator)
        with torch.no_grad():
            expected = graph.module(*inputs.values())
        expected = expected if isinstance(expected, tuple) else (expected,)
        for name, mine, theirs in zip(graph.outputs, expected, run_session(session, inputs), strict=True):
            if mine.shape != theirs.shape:
                raise MismatchError(f"{name} {tuple(mine.shape)} from {graph.name}.onnx", f"{tuple(theirs.shape)}",
                                    "report this")
            if mine.numel():
                worst = max(worst, float(((mine - theirs).abs() / (1 + mine.abs())).max()))
        if not worst <= TOLERANCE:
            at = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise MismatchError(
                f"{graph.name}.onnx within {TOLERANCE:g} of torch ({at})", f"{worst:.2g}",
                "report this; nothing was written",
            )
    return worst


def open_session(content: bytes) -> Any:
    """An ONNX Runtime session on the CPU, one thread a process as torch has it.

    Raises:
        ConfigError: ONNX Runtime does not take the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of ONNX Runtime's own kinds
        got = f"{error}".splitlines()[0][:300]
        raise ConfigError("a graph that ONNX Runtime takes", got, "export again") from error


def run_session(session: Any, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Inputs that the graph kept, by name -> outputs in order."""
    kept = {port.name for port in session.get_inputs()}
    feed = {name: x.detach().cpu().contiguous().numpy() for name, x in inputs.items() if name in kept}
    return [torch.from_numpy(y) for y in session.run(None, feed)]


def _inputs(graph: Graph) -> tuple[Port, ...]:
    return tuple(Port(name, _type(x), _shape(x, graph.open[name])) for name, x in graph.inputs.items())


def _outputs(graph: Graph) -> tuple[Port, ...]:
    with torch.no_grad():
        values = graph.module(*graph.inputs.values())
    values = values if isinstance(values, tuple) else (values,)
    first = next(iter(graph.open.values()))
    return tuple(Port(name, _type(y), _shape(y, first)) for name, y in zip(graph.outputs, values, strict=True))


def _shape(x: Tensor, axes: Mapping[int, str]) -> tuple[int | str, ...]:
    return tuple(axes.get(axis, size) for axis, size in enumerate(x.shape))


def _type(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
