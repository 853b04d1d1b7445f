"""After training: the read-out of a run's vector columns, fitted on frozen latents of its own log, kept with the run.

Nothing that was learned changes. Shapes: n rows, D latent size, C columns.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from steersman.agent.believing import encode
from steersman.agent.building.loading import load_parts
from steersman.agent.building.readouts import build_readout, save_readout
from steersman.agent.moments import moment_of
from steersman.core import Pace, Signature
from steersman.cost import column_names
from steersman.perception.attending import evenly
from steersman.perception.readout import ColumnReadout
from steersman.runs import Run

NAME = "observation"
_BATCH = 512


class Frames(Protocol):
    """What is asked of a dataset, the part that was trained on; see `data.Dataset`."""

    signature: Signature
    lengths: Tensor

    def frames(self, episode: Tensor, row: Tensor) -> dict[str, Tensor]:
        """episode (n,), row (n,) -> name -> (n, …)."""

    def measured(self, episode: Tensor, row: Tensor) -> dict[str, Tensor]:
        """episode (n,), row (n,) -> name -> (n,) bool, of observations that are not measured in every row."""

    def paced(self, pace: Pace) -> Frames:
        """The same in steps of several rows and moments of several pictures."""


def fit_readout(run: Run, dataset: Frames, rows: int = 8192, seed: int = 0) -> ColumnReadout | None:
    """Fit the read-out that the run's configuration asks for, and save it as the run's "observation" read-out.

    Latents of `rows` moments of the log, drawn uniformly, against the vector columns of the same moments, or against
    what the perception itself reads there (`Perception.columns`); a value that only repeats an earlier measurement does
    not count. Of a perception that knows tasks, latents of all of them and of none in particular, in turn. None if the
    configuration asks for none, or if there are no columns.

    Raises:
        StorageError: the disk refused.
    """
    loaded = load_parts(run)
    if not loaded.signature.pace.plain:
        dataset = dataset.paced(loaded.signature.pace)
    config, perception = loaded.config.readout, loaded.parts.perception
    columns = perception.columns or column_names(dataset.signature)
    if config is None or not columns:
        return None
    generator = torch.Generator().manual_seed(seed)
    moments = torch.repeat_interleave(torch.arange(len(dataset.lengths)), dataset.lengths + 1)
    first = (dataset.lengths + 1).cumsum(0) - (dataset.lengths + 1)
    picked = torch.randperm(len(moments), generator=generator)[:rows].sort().values
    episode = moments[picked]
    row = picked - first[episode]
    names = [name for name, spec in sorted(dataset.signature.observations.items()) if spec.kind == "vector"]
    states, values = [], []
    for start in range(0, len(picked), _BATCH):
        batch = slice(start, start + _BATCH)
        frames = dataset.frames(episode[batch], row[batch])
        moment = moment_of(frames, loaded.signature)
        with torch.inference_mode():
            task = evenly(perception.tasks, len(episode[batch]), start)
            states.append(encode(perception, moment, task).state)
            read = perception.told({name: x[:, None] for name, x in moment.items()})[:, 0] if perception.columns else (
                torch.cat([frames[name] for name in names], -1))
        values.append(read)
    known = None if perception.columns else measured_columns(dataset, names, episode, row)
    readout = build_readout(config, columns, perception.latent_shape)
    readout.fit(torch.cat(states).clone(), torch.cat(values).clone(), seed, known)
    save_readout(run, NAME, readout, config, perception.latent_shape, loaded.step, len(picked))
    return readout


def measured_columns(dataset: Frames, names: list[str], episode: Tensor, row: Tensor) -> Tensor | None:
    """(n, C): which values of the vector columns are measurements; None: all of them."""
    known = dataset.measured(episode, row)
    if not known:
        return None
    always = torch.ones(len(row), dtype=torch.bool)
    widths = [dataset.signature.observations[name].shape[0] for name in names]
    return torch.cat(
        [known.get(name, always)[:, None].expand(-1, width) for name, width in zip(names, widths, strict=True)], 1
    )
