"""A small log in which the columns are known -> the run's read-out, and the curves of its report that show it."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from steersman.cli.logs import LogOptions, read_options
from steersman.core.errors import DataError

if TYPE_CHECKING:
    from steersman.agent.labelling import Labels
    from steersman.cli.terminal import Terminal
    from steersman.runs import Run


def fit_readout(run: Run, path: str, options: LogOptions, seed: int, terminal: Terminal) -> dict[str, Any]:
    """Fit, keep, say how well it reads, and write the report anew.

    Raises:
        DataError, MismatchError: a log that cannot be read, or whose labels do not fit the run.
    """
    from steersman import data
    from steersman.agent.labelling import fit_to_labels

    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory())) / "cache"
        source = data.read(path, read_options(options))
        log = data.Dataset.open(source.path) if source.format == "cache" else data.build(source, place)
        found = fit_to_labels(run, log, seed=seed)
        _say(found, str(run.path), terminal)
        _show(found, run, log, Path(path).name, terminal)
    return {"columns": list(found.readout.columns), "labels": found.count, "tested": found.tested, "r2": dict(found.r2),
            "constant": list(found.constant)}


def _say(found: Labels, run: str, terminal: Terminal) -> None:
    for name in found.readout.columns:
        told = f"R² {found.r2[name]:.3f}" if name in found.r2 else "always the same where it was tested"
        terminal.say(f"{name}: {told}")
    terminal.say(f"measured on {found.tested:,} of {found.count:,} labels, to which the read-out was fitted afterwards")
    if found.constant:
        terminal.say(f"left out, since they never change: {', '.join(found.constant)}")
    if not found.whole:
        terminal.say("its episodes are shorter than what one moment shows: what moves cannot be told from them")
    goal = ",".join(f"{name}=…" for name in found.readout.columns[:2])
    terminal.say(f"kept: steersman run {run} … --goal {goal}")


def _show(found: Labels, run: Run, log: Any, name: str, terminal: Terminal) -> None:
    """Curves of an episode of the labels, where steps of the model fit into one; else of the run's own log."""
    from steersman.agent import Agent, load_parts
    from steersman.evaluation.seen import kind_of, show_columns
    from steersman.studio import build
    from steersman.training import open_log, stored_config
    from steersman.training.parts import shown

    if load_parts(run).parts.world_model is not None:
        agent = Agent.load(run, additions=False)
        with suppress(DataError):
            _, later, unseen = shown(stored_config(run), open_log(run))
            show_columns(run, agent, later, f"an episode {kind_of(unseen)}")
        part, readout, fitted = log, None, "which the read-out was fitted to"
        if found.apart is not None:
            part, readout, fitted = log.subset(found.apart), found.measured, "read without having been fitted to it"
        with suppress(DataError):
            show_columns(run, agent, part.paced(agent.signature.pace), f"an episode of the labels, {name}, {fitted}",
                         readout)
    terminal.say(f"report {build(run.path)}")
