"""A read-out for a run that learned from pictures alone, fitted to a small log in which the columns are known.

Nothing that was learned changes. Shapes: n labelled moments, C columns, F pictures a moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.agent.believing import encode
from steersman.agent.building.loading import Loaded, load_parts
from steersman.agent.building.readouts import build_readout, save_readout
from steersman.agent.fitting import NAME, Frames, measured_columns
from steersman.agent.moments import moment_of
from steersman.core import DataError, MismatchError, ReadoutConfig, Signature
from steersman.core.pacing import stacked
from steersman.cost import column_names
from steersman.perception.attending import evenly
from steersman.perception.readout import ColumnReadout, LinearReadout
from steersman.runs import Run
from steersman.worlds import Labelled

LEAST, SHARE = 20, 0.2
"""Fewest labelled moments that are worth a read-out, and the share of them that its R² is measured on."""
_BATCH, _EPISODES = 256, 5


@dataclass(frozen=True)
class Labels:
    """What a read-out was fitted to, and how well it reads.

    readout   as it is kept with the run: fitted to all labels
    count     labelled moments
    tested    of these, how many the R² are of: `measured`, a read-out fitted to the others, was measured on them
    apart     (m,) the episodes that hold them; None: they are the end of a log of few episodes
    r2        column -> 1 - Σ (y - ŷ)² / Σ (y - ȳ)² there; a column that does not change among them has none
    constant  columns that are the same in all labels, and are left out
    whole     whether every picture that a moment shows is the log's own; False: its episodes are too short for that,
              and the first picture of each stands for those before it, so that what moves cannot be told
    """

    readout: ColumnReadout
    count: int
    tested: int
    measured: ColumnReadout
    apart: Tensor | None
    r2: Mapping[str, float]
    constant: tuple[str, ...]
    whole: bool


def fit_to_labels(
    run: Run, log: Frames, config: ReadoutConfig | None = None, rows: int = 8192, seed: int = 0
) -> Labels:
    """Fit a read-out to the vector columns of a log that shows what the run's own shows, and save it as the run's
    "observation" read-out: its columns are then those of goals and guardrails.

    R² is measured on a fifth of the labels: whole episodes, drawn at random, where there are five or more, else the end
    of the log; moments that follow each other are too much alike to test each other.

    log     row by row; of more than `rows` moments so many are drawn
    config  None: the one that the run's configuration asks for, else a linear one; where a state has more numbers than
            there are labels a linear one whose ridge is chosen by leave-one-out

    Raises:
        MismatchError: another camera than the run's. DataError: no column, or too few labels.
        StorageError: the disk refused.
    """
    loaded = load_parts(run)
    _require(log.signature, loaded.signature)
    episode, row, whole = _moments(log, loaded.signature.pace.before, rows, seed)
    if len(episode) < LEAST:
        raise DataError(f"at least {LEAST} labelled moments", f"{len(episode)}", "label more; 500 are plenty")
    states, values, known = _read(loaded, log, episode, row)
    changing = [i for i in range(values.shape[1]) if bool((values[:, i] != values[0, i]).any())]
    names = column_names(log.signature)
    if not changing:
        raise DataError("columns that change from label to label", f"{', '.join(names)}, each always the same",
                        "label moments in which they differ")
    columns, values = tuple(names[i] for i in changing), values[:, changing]
    known = None if known is None else known[:, changing]
    if config is None:
        config = loaded.config.readout or LinearReadout.Config()
        if states.flatten(1).shape[1] > len(states) and isinstance(config, LinearReadout.Config):
            config = LinearReadout.Config(ridge=None)
    shape = loaded.parts.perception.latent_shape

    def fitted(some: Tensor) -> ColumnReadout:
        readout = build_readout(config, columns, shape)
        readout.fit(states[some], values[some], seed, None if known is None else known[some])
        return readout

    held_out, apart = _held_out(episode, seed)
    measured = fitted(~held_out)
    r2 = _r2(measured, states[held_out], values[held_out], None if known is None else known[held_out])
    readout = fitted(torch.ones_like(held_out))
    readout.r2 = r2
    save_readout(run, NAME, readout, config, shape, loaded.step, len(states))
    constant = tuple(name for name in names if name not in columns)
    return Labels(readout, len(states), int(held_out.sum()), measured, apart, r2, constant, whole)


def fit_labelled(run: Run, labelled: Labelled, config: ReadoutConfig | None = None, seed: int = 0) -> ColumnReadout:
    """The same for frames of a world that tells what they show (`World.labelled`), each of an episode of its own.

    labelled  n frames with the rows before them, of which a moment of several pictures shows some
    config    None: the one that the run's configuration asks for, else a linear one

    Raises:
        MismatchError: frames of another world. DataError: too few labels. StorageError: the disk refused.
    """
    loaded = load_parts(run)
    config, shape = config or loaded.config.readout or LinearReadout.Config(), loaded.parts.perception.latent_shape
    moments = moment_of(labelled.moments(loaded.signature.pace), loaded.signature)
    with torch.inference_mode():
        states = torch.cat([
            encode(loaded.parts.perception, {name: x[i : i + _BATCH] for name, x in moments.items()},
                   evenly(loaded.parts.perception.tasks, min(_BATCH, len(labelled.values) - i), i)).state.float()
            for i in range(0, len(labelled.values), _BATCH)
        ])
    states, values = states.clone(), labelled.values
    held_out, _ = _held_out(torch.arange(len(states)), seed)
    measured, readout = (build_readout(config, labelled.columns, shape) for _ in range(2))
    measured.fit(states[~held_out], values[~held_out], seed)
    readout.fit(states, values, seed)
    readout.r2 = _r2(measured, states[held_out], values[held_out], None)
    save_readout(run, NAME, readout, config, shape, loaded.step, len(states))
    return readout


def _require(labelled: Signature, model: Signature) -> None:
    """Refuse a log that does not show what the model sees, or tells nothing."""
    for name, spec in model.world.observations.items():
        found = labelled.observations.get(name)
        kind = "a picture" if spec.kind == "image" else f"a {spec.kind}"
        wanted = f"{kind} {name} of {'×'.join(map(str, spec.shape))} among the labels, as in the run's log"
        if found is None:
            raise MismatchError(wanted, f"{', '.join(labelled.observations) or 'nothing'}", f"call it {name} there")
        if (found.kind, found.shape) != (spec.kind, spec.shape):
            fix = "give --resize HEIGHT WIDTH" if found.kind == spec.kind == "image" else "record it so"
            raise MismatchError(wanted, f"{found.kind} of {'×'.join(map(str, found.shape))}", fix)
    if not column_names(labelled):
        raise DataError("columns of numbers beside the pictures, which are the labels", "none",
                        "name them with --observation, beside the picture")


def _moments(log: Frames, before: int, most: int, seed: int) -> tuple[Tensor, Tensor, bool]:
    """Episode (n,) and row (n,) of the labelled moments, in order; and whether all that they show is in the log."""
    whole = bool((log.lengths >= before).any())
    first = before if whole else 0
    counts = (log.lengths + 1 - first).clamp(min=0)
    picked = torch.randperm(int(counts.sum()), generator=torch.Generator().manual_seed(seed))[:most].sort().values
    episode = torch.searchsorted(counts.cumsum(0), picked, right=True)
    return episode, picked - (counts.cumsum(0) - counts)[episode] + first, whole


def _read(loaded: Loaded, log: Frames, episode: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """States (n, …), values (n, C) and which of them are measurements (n, C), or None: all."""
    pace, specs = loaded.signature.pace, log.signature.observations
    vectors = [name for name, spec in sorted(specs.items()) if spec.kind == "vector"]
    states, values = list[Tensor](), list[Tensor]()
    for e, r in zip(episode.split(_BATCH), row.split(_BATCH), strict=True):
        earlier = (r[:, None] - pace.apart * torch.arange(pace.frames)).clamp(min=0)
        seen = log.frames(e[:, None].expand_as(earlier), earlier)
        moment = {name: stacked(x) if specs[name].kind == "image" else x[:, 0] for name, x in seen.items()}
        with torch.inference_mode():
            task = evenly(loaded.parts.perception.tasks, len(e), _BATCH * len(states))
            states.append(encode(loaded.parts.perception, moment_of(moment, loaded.signature), task).state.float())
        values.append(torch.cat([seen[name][:, 0] for name in vectors], -1))
    return torch.cat(states).clone(), torch.cat(values), measured_columns(log, vectors, episode, row)


def _held_out(episode: Tensor, seed: int) -> tuple[Tensor, Tensor | None]:
    """(n,) bool: about a fifth of the moments; and the episodes (m,) that hold them, where these are whole."""
    episodes = episode.unique()
    if len(episodes) < _EPISODES:
        return torch.arange(len(episode)) >= round((1 - SHARE) * len(episode)), None
    order = episodes[torch.randperm(len(episodes), generator=torch.Generator().manual_seed(seed))]
    apart = order[: max(1, round(SHARE * len(order)))]
    return torch.isin(episode, apart), apart


@torch.inference_mode()
def _r2(readout: ColumnReadout, states: Tensor, values: Tensor, known: Tensor | None) -> dict[str, float]:
    error, found = (readout.read(states) - values).double().square(), {}
    for i, name in enumerate(readout.columns):
        rows = slice(None) if known is None else known[:, i]
        truth = values[rows, i].double()
        if len(truth) >= 2 and bool((truth != truth[0]).any()):
            found[name] = float(1 - error[rows, i].mean() / truth.var(correction=0))
    return found
