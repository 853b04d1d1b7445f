"""`steersman inspect PATH`: what a run, checkpoint, dataset or log holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.logs import INFERRED, LogOptions, read_options
from steersman.cli.terminal import Terminal
from steersman.core.errors import DataError
from steersman.core.signature import ObservationSpec
from steersman.studio.holdings import Holding, holding
from steersman.studio.quantities import number, size


@dataclass(frozen=True, kw_only=True)
class Inspect(Command):
    """Say what a run, checkpoint, dataset cache or log file holds.

    Nothing in it is executed. Hashes of checkpoints are verified. For a log: the columns, and which of them would be
    read as observations and actions.
    """

    EXAMPLE: ClassVar[str] = "steersman inspect runs/two-rooms-1"

    path: Annotated[str, tyro.conf.Positional, option("PATH")]
    """A run, a checkpoint (folder or .safetensors), a dataset, or a log (CSV, Parquet, Minari)."""
    rows: int = 40
    """Most rows of a table that are shown."""
    log: Annotated[LogOptions, tyro.conf.OmitArgPrefixes] = INFERRED
    """What is not said about the columns of a log is inferred from names, types and ranges, and noted."""

    def __call__(self, terminal: Terminal) -> Done:
        found = holding(Path(self.path)) or dataset(self.path, self.log)
        terminal.heading(f"{found.kind} {self.path}")
        terminal.pairs(found.facts)
        if found.rows:
            terminal.say()
            terminal.grid(found.header, found.rows[: self.rows])
            if len(found.rows) > self.rows:
                terminal.say(f"  … and {len(found.rows) - self.rows} more (--rows {len(found.rows)})")
        for warning in found.warnings:
            terminal.say(terminal.style(f"  ! {warning}", "warn"))
        return Done({"path": self.path, **found.plain})


def dataset(path: str, options: LogOptions) -> Holding:
    """A dataset cache or a log of any known format, read as training would read it."""
    from steersman import data

    source = data.read(path, read_options(options))
    signature = source.signature
    facts = [("format", source.format), ("steps", f"{source.steps:,}" if source.steps is not None else ""),
             ("fingerprint", source.fingerprint)]
    if Path(path).is_file():
        facts.append(("size", size(Path(path).stat().st_size)))
    rows = []
    for name, spec in signature.observations.items():
        shape = "×".join(map(str, spec.shape))
        rows.append((f"observation {name}", f"{spec.kind} {shape}", _words(spec)))
    action = signature.action
    if action.kind == "discrete":
        bounds = f"{action.choices} choices"
    else:
        limits = zip(action.low, action.high, strict=True)
        bounds = ", ".join(f"{number(low)} to {number(high)}" for low, high in limits)
    sort = "none" if action.kind == "none" else f"{action.kind} {action.size}"
    bounds = "nobody acts, or nobody wrote it down" if action.kind == "none" else bounds
    rows.append(("action", sort, ", ".join(x for x in (*action.names, bounds) if x)))
    rows += [(f"exogenous {name}", "", "") for name in signature.exogenous]
    plain: dict[str, object] = {"kind": "dataset" if source.format == "cache" else "log", "format": source.format,
                                "fingerprint": source.fingerprint, "steps": source.steps, "notes": list(source.notes)}
    warnings = list(source.notes)
    try:
        lengths = [len(episode) for episode in source.episodes()]
        span = f"of {min(lengths):,} to {max(lengths):,} steps" if max(lengths) else "single moments"
        facts.insert(2, ("episodes", f"{len(lengths):,}, {span}"))
        plain |= {"episodes": len(lengths), "shortest": min(lengths), "longest": max(lengths)}
    except DataError as error:
        warnings.append(str(error))
    return Holding(str(plain["kind"]), facts, ("what", "shape", "columns"), rows, warnings, plain)


def _words(spec: ObservationSpec) -> str:
    """What is known of an observation beside its shape: names, edges, extent, rate, vocabulary."""
    named = ", ".join((spec.columns or spec.channels)[:12])
    edges = ["periodic" if x else "open" for x in spec.periodic]
    found = [named, f"{' × '.join(edges)}" if edges else "", f"extent {' × '.join(map(number, spec.extent))}"
             if spec.extent else "", f"{spec.rate:g} samples a second" if spec.rate else "",
             f"{spec.vocabulary:,} different" if spec.vocabulary else "",
             f"measured every {spec.rows_per_update} rows" if spec.rows_per_update > 1 else ""]
    return "; ".join(x for x in found if x)
