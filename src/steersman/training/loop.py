"""Trains a run from its start, or from where it was left. A step is `learner`'s work, a sitting `session`'s.

Plain PyTorch. Knows boxes through core's interfaces, the dataset through `WindowSource`; draws nothing on a screen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from steersman.agent.fitted.sealing import build_sealed, seals
from steersman.core.errors import ConfigError, MismatchError
from steersman.core.growing import Change
from steersman.core.parts import convert, origins
from steersman.core.signature import Signature
from steersman.nn import retain_freed_memory
from steersman.runs import Run
from steersman.runs.checkpoints import folder_name
from steersman.training.building import require_weights
from steersman.training.config import TrainConfig
from steersman.training.gauges import Gauge
from steersman.training.interrupts import Interrupts
from steersman.training.parts import paced, settled
from steersman.training.precision import choose_device
from steersman.training.processes import Processes, joined
from steersman.training.session import Progress, Session, Trained
from steersman.training.source import WindowSource


def train(
    config: TrainConfig,
    dataset: WindowSource,
    run: Run | None,
    *,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    gauges: Sequence[Gauge] = (),
    checkpoint: str | None = None,
) -> Trained:
    """Train what `config` describes on `dataset`, writing to `run` (None: write nothing).

    Started by torchrun, every process calls this with the same config and dataset; only the first needs a run.
    Two runs of the same seed on one machine give the same weights, interrupted and resumed or not.

    progress    called after every step
    stop        asked before every step; True saves and returns. So do Ctrl-C and SIGTERM
    gauges      more gauges than the built-in ones
    checkpoint  go on from this one of the run's checkpoints ("latest"); every process then needs the run. `resume`
                is the usual way

    Raises:
        ConfigError, DataError: parts or data that do not fit together.
        LockedError: another process is writing to this run.
        DivergedError: NaN or infinity; the last good checkpoint stands.
        SealError: an intrinsic cost changed.
        StorageError: the disk refused.
    """
    config = _with_pace(config, dataset, run)
    device = choose_device(config.device)
    retain_freed_memory()
    if run is not None and checkpoint is None and run.checkpoints():
        raise ConfigError(f"a run without checkpoints at {run.path}", "one that has some", "resume it instead")
    with ExitStack() as stack:
        stack.enter_context(_own_randomness(device, config.seed))
        processes = stack.enter_context(joined(device.type))
        if run is not None and processes.leads:
            stack.enter_context(run.writer())
        where = None if run is None or checkpoint is None else _left_at(run, checkpoint, processes, device)
        changes: tuple[Change, ...] = ()
        if run is not None and where is not None:
            file = run.checkpoint(where)
            require_weights(config, signature_of(config, dataset), file)
            changes = file.changes
        session = Session(config, dataset, run, device, processes, gauges, changes)
        stack.callback(session.feed.close)
        session.begin(where)
        asked = stack.enter_context(Interrupts())
        while session.done < config.steps:
            wanted = asked.asked or (stop is not None and stop())
            if session.advance(wanted, progress):
                break
        session.save()
        return session.trained()


def resume(
    path: Path | str,
    *,
    dataset: WindowSource | None = None,
    checkpoint: str = "latest",
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    gauges: Sequence[Gauge] = (),
) -> Trained:
    """Go on with the run at `path` exactly where its checkpoint left off; nothing else is needed.

    dataset  instead of the one that the run names (it must be the same, or the same part of it)

    Raises:
        RunError, CheckpointError: the run or its checkpoint is missing, damaged or of a later format.
        MismatchError: the dataset is not the one that the run was trained on.
    """
    run = Run.open(path)
    config = stored_config(run)
    dataset = open_log(run) if dataset is None else dataset
    _require_same_data(run, dataset)
    return train(config, dataset, run, progress=progress, stop=stop, gauges=gauges, checkpoint=checkpoint)


def create_run(
    path: Path | str, config: TrainConfig, dataset: Any, *, recipe: str, log: Path | None = None
) -> Run:
    """A run directory for this training, its writer's lock held.

    The manifest's config is {"train": config}; "parts" names where parts that are not ours come from.
    log: the folder of `dataset`, where the run is to have it, see `Run.create`; `dataset.path` says `path`/log already.

    Raises:
        ConfigError: a part that could not be read back: register its Config (`core.register`).
    """
    config = settled(config, dataset)
    _require_readable(config)
    path, signature = Path(path), signature_of(config, dataset)
    place = Path(dataset.path).absolute()
    inside = place.is_relative_to(path.absolute())
    data = {
        "path": str(place.relative_to(path.absolute()) if inside else place),
        "signature": signature,
        **_identity(dataset),
    }
    parts: dict[str, Any] = {"parts": theirs} if (theirs := origins(config)) else {}
    if config.agent.intrinsic:
        parts["seals"] = seals(build_sealed(config.agent, signature))
    config_ = {"train": config, **parts}
    return Run.create(path, recipe=recipe, config=config_, seeds={"train": config.seed}, data=data, log=log)


def _require_readable(config: TrainConfig) -> None:
    """Refuse a configuration that a run could store and nobody could open."""
    try:
        same = convert(msgspec.to_builtins(config), TrainConfig) == config
    except (ConfigError, msgspec.ValidationError, NotImplementedError, TypeError) as error:
        raise ConfigError("parts that a stored run can name", f"{error}", "put @core.register(BOX) on the Config of "
                          "each part of yours") from error
    if not same:
        raise ConfigError("a configuration that is the same when read back", "another one",
                          "let every field have its declared type")


def stored_config(run: Run) -> TrainConfig:
    """The training configuration of a run.

    Raises:
        ConfigError: it does not fit this version's schema (names the field), or a part that nobody registered.
    """
    try:
        config = run.manifest.config
        return convert(config["train"], TrainConfig, origins=config.get("parts"))
    except (KeyError, msgspec.ValidationError) as error:
        got = "none" if isinstance(error, KeyError) else f"{error}"
        fix = f"use steersman {run.manifest.versions.get('steersman', 'as it was')}, which made it"
        raise ConfigError(f"a training configuration in {run.path}", got, fix) from error


def open_data(run: Run) -> Any:
    """The dataset that a run names, in the steps of its model.

    Raises:
        DataError: it is not there any more, or damaged.
    """
    return paced(open_log(run), stored_config(run))


def open_log(run: Run) -> Any:
    """The dataset that a run names, row by row.

    Raises:
        DataError: it is not there any more, or damaged.
    """
    from steersman.data import Dataset

    return Dataset.open(run.path / run.manifest.data["path"])


def signature_of(config: TrainConfig, dataset: WindowSource) -> Signature:
    """What the parts of `config` see of the log."""
    assert config.pace != "auto", "settle it first"
    return dataset.signature.paced(config.pace)


def _with_pace(config: TrainConfig, dataset: WindowSource, run: Run | None) -> TrainConfig:
    """The configuration with the pace that the run keeps, or else with the one that the log needs."""
    if config.pace != "auto" or run is None:
        return settled(config, dataset)
    return settled(msgspec.structs.replace(config, pace=stored_config(run).pace), dataset)


def _identity(dataset: WindowSource) -> dict[str, Any]:
    """What must be the same for training to go on."""
    lengths = np.asarray(dataset.lengths)
    return {"fingerprint": dataset.fingerprint, "episodes": len(lengths), "steps": int(lengths.sum())}


def _require_same_data(run: Run, dataset: WindowSource) -> None:
    for name, found in _identity(dataset).items():
        wanted = run.manifest.data.get(name)
        if found != wanted:
            fix = "give the log, or the part of it, that was learned from"
            raise MismatchError(f"the data of {run.path}, {name} {wanted}", f"{found}", fix)


def _left_at(run: Run, checkpoint: str, processes: Processes, device: torch.device) -> str | None:
    """Name of the checkpoint to go on from, the first process's answer; None: the run stopped before its first."""
    step = -1
    if processes.leads and (checkpoint != "latest" or run.checkpoints()):
        step = run.checkpoint(checkpoint).step
    step = processes.lead(step, device)
    return None if step < 0 else folder_name(step)


@contextmanager
def _own_randomness(device: torch.device, seed: int) -> Iterator[None]:
    """Torch's generators seeded for the time of a training; the caller's state comes back."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
