"""A dataset: episodes in a memory-mapped cache, read as windows. Knows nothing of formats or of models.

Shapes: B windows, L steps, E episodes, R rows of the cache, A action size, k rows a step and F pictures a moment.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from steersman.core.errors import DataError, UsageError
from steersman.core.pacing import chunked, stacked
from steersman.core.records import rows as rows_of
from steersman.core.signature import Pace, Signature
from steersman.core.types import Episode, Window
from steersman.data.buffers import Buffers
from steersman.data.cache import Index, checksums, open_cache
from steersman.data.schema import Schema
from steersman.data.statistics import Columns, Statistics, count, fit
from steersman.data.stored import widened

_BLOCK = 1 << 16
_MOMENTS_SAMPLED = 2000
_NUMBERS = 1 << 24
"""Most numbers of large observations that are looked at together."""


class Dataset:
    """E episodes of one signature. A part of a dataset (`split`, `subset`) is a dataset over the same mapping.

    signature    what every episode looks like
    fingerprint  SHA-256 of the source that the cache was made from
    lengths      (E,) int64 steps in each episode
    notes        what the reader wants people to know (inferred roles and bounds, …)
    schema       what the columns of the source are, where it has columns
    pace         how its moments and steps are made of rows as they are read (`paced`); the default: every row is one. A
                 log of what a paced agent experienced is in its steps already, as its signature says
    """

    def __init__(
        self, path: Path, index: Index, fields: Mapping[str, Tensor], first: Tensor, lengths: Tensor,
        buffers: Buffers | None = None, pace: Pace = Pace(),  # noqa: B008 (frozen)
    ) -> None:
        self.path, self.index, self.lengths, self.pace = path, index, lengths, pace
        self.signature: Signature = index.signature if pace.plain else index.signature.paced(pace)
        self.fingerprint: str = index.fingerprint
        self.notes: tuple[str, ...] = index.notes
        self.schema: Schema | None = index.schema
        self._fields, self._first, self._buffers = fields, first, buffers or Buffers()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Dataset:
        """Map the cache at `path`; milliseconds, whatever its size.

        Raises:
            DataError: no cache, foreign, of a future version, altered, truncated.
        """
        index, fields = open_cache(path)
        offsets = fields["offsets"].flatten().clone()
        lengths = offsets.diff() - 1
        shortest = 0 if index.signature.action.kind == "none" else 1
        if int(offsets[0]) != 0 or int(offsets[-1]) != index.rows or int(lengths.min()) < shortest:
            raise DataError(
                f"episodes that fill {index.rows} rows in {path}", "other offsets",
                "delete the folder and build it again from its source",
            )
        return cls(Path(path), index, fields, offsets[:-1], lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def steps(self) -> int:
        """Steps in all episodes."""
        return int(self.lengths.sum())

    @property
    def moments(self) -> int:
        """Observed moments in all episodes: one more than steps in each."""
        return self.steps + len(self)

    @property
    def acted(self) -> bool:
        """Whether the log says what was done. If not, episodes and windows may be single moments, of 0 steps."""
        return self.signature.action.kind != "none"

    def paced(self, pace: Pace) -> Dataset:
        """The same log in steps of `pace.step` rows and moments of `pace.frames` pictures.

        An episode of T rows becomes k = `pace.step` episodes, which begin at rows that follow each other, so that every
        row is the beginning of a step in one of them; those that are too short for a step are left out. The rows that
        the first moment shows beside its own are no moments.

        Raises:
            ConfigError: a dataset that is paced otherwise, or a signature that cannot be (`Signature.paced`).
            DataError: no episode is long enough.
        """
        if pace == self.signature.pace:
            return self
        self.signature.paced(pace)
        phase = torch.arange(pace.step)
        lengths = (self.lengths[:, None] - pace.before - phase) // pace.step
        first = self._first[:, None] + pace.before + phase
        some = lengths >= (1 if self.acted else 0)
        if not bool(some.any()):
            raise DataError(f"an episode of at least {pace.before + pace.step} steps", f"the longest has "
                            f"{int(self.lengths.max())}", "record for longer, or choose shorter model steps")
        return Dataset(self.path, self.index, self._fields, first[some], lengths[some], self._buffers, pace)

    # Reading ---------------------------------------------------------------------------------------------------

    def windows(self, episode: Tensor, start: Tensor, length: int) -> Window:
        """Gather B windows of L = `length` steps: episode (B,), start (B,) -> Window. One gather a field. Where nobody
        acts, 0 steps are a window, too: a single moment.

        Raises:
            DataError: a window that would leave its episode.
        """
        if not len(episode) or length < self.acted:
            least = "at least one window of at least one step" if self.acted else "at least one window"
            raise DataError(least, f"{len(episode)} of {length}", "ask for more")
        outside = (episode < 0) | (episode >= len(self))
        if not bool(outside.any()):
            outside = (start < 0) | (start + length > self.lengths[episode])
        if bool(outside.any()):
            b = int(outside.nonzero()[0])
            raise DataError(
                "windows inside one episode", f"episode {int(episode[b])}, steps {int(start[b])} to "
                f"{int(start[b]) + length}", "draw episode and start with Dataset.draw",
            )
        pieces = self._pieces(self._first[episode] + start * self.pace.step, length)
        return Window(pieces.observations, pieces.actions, pieces.exogenous, episode.clone(), start.clone(),
                      pieces.measured)

    def episode(self, index: int) -> Episode:
        """Episode `index` as a copy in memory."""
        if not 0 <= index < len(self):
            raise DataError(f"an episode in 0..{len(self) - 1}", f"{index}", "check the index")
        first, steps = int(self._first[index]), int(self.lengths[index])
        if not self.pace.plain:
            pieces = self._pieces(self._first[index : index + 1], steps)
            return replace(rows_of(pieces, 0), info={"episode": f"{index}"})

        def rows(field: str, count: int) -> Tensor:
            return self._fields[field].narrow(0, first, count).clone()

        observations = {}
        for name, spec in self.signature.observations.items():
            seen = rows(f"observation.{name}", steps + 1).view(steps + 1, *spec.shape)
            observations[name] = widened(seen) if spec.kind == "tokens" else seen
        acted = rows("action", steps) if self.acted else torch.zeros(steps, 0)
        known = rows("exogenous", steps) if self.signature.exogenous else None
        measured = {name: rows(f"measured.{name}", steps + 1)[:, 0].bool() for name in self.signature.slow}
        return Episode(observations, acted, known, {"episode": f"{index}"}, measured)

    def field(self, name: str, index: int) -> Tensor:
        """One field of episode `index` in the log's own rows, flat: "action" (T, A) or "observation.NAME" (T + 1, n), a
        view of the mapped file, of which nothing is read before it is looked at."""
        rows = int(self.lengths[index]) * self.pace.step + (name != "action")
        return self._fields[name].narrow(0, int(self._first[index]), rows)

    def episodes(self) -> Iterator[Episode]:
        """All episodes, one after the other."""
        return (self.episode(i) for i in range(len(self)))

    def frames(self, episode: Tensor, row: Tensor) -> dict[str, Tensor]:
        """Single observations: episode (B,), row (B,) in 0..T -> name -> (B, …)."""
        if bool(((row < 0) | (row > self.lengths[episode])).any()):
            raise DataError("rows inside their episodes", "a row outside", "rows of an episode of T steps are 0..T")
        rows = self._first[episode] + row * self.pace.step
        return {name: self._observed(name, rows, 1).view(*rows.shape, *self.signature.observations[name].shape)
                for name in self.signature.observations}

    def moment(self, episode: int, row: int, pace: Pace) -> dict[str, Tensor]:
        """One moment of a log in rows as a model of this pace sees it: name -> (1, …). At the beginning of an episode
        the first picture stands for those before it."""
        earlier = (row - pace.apart * torch.arange(pace.frames)).clamp(min=0)
        seen = self.frames(torch.full_like(earlier, episode), earlier)
        specs = self.signature.observations
        return {name: stacked(x)[None] if specs[name].kind == "image" else x[:1] for name, x in seen.items()}

    def measured(self, episode: Tensor, row: Tensor) -> dict[str, Tensor]:
        """Of the observations of `frames`, those that are not measured in every row: name -> (B,) bool."""
        rows = self._first[episode] + row * self.pace.step
        return {name: self._measured(name, rows.flatten(), 1).view(rows.shape) for name in self.signature.slow}

    def _pieces(self, first: Tensor, length: int) -> Episode:
        """B pieces of `length` steps that begin at rows `first` (B,) of the cache, each like an episode."""
        count, inputs, step = len(first), len(self.signature.exogenous), self.pace.step
        acted = self._acted(first, length) if self.acted else torch.zeros(count, length, 0)
        known = self._gather("exogenous", first, length * step).view(count, length, inputs) if inputs else None
        return Episode(
            {name: self._observed(name, first, length + 1) for name in self.signature.observations},
            acted, known, {},
            {name: self._measured(name, first, length + 1) for name in self.signature.slow},
        )

    def _acted(self, first: Tensor, length: int) -> Tensor:
        """(B, length, A): where a step is several rows, their actions as one."""
        spec, step = self.signature.action, self.pace.step
        rows = self._gather("action", first, length * step)
        if step == 1:
            return rows.view(len(first), length, spec.size)
        return chunked(rows.view(len(first), length, step, spec.single.size), spec)

    def _measured(self, name: str, first: Tensor, moments: int) -> Tensor:
        """(B, moments) bool."""
        return self._moments(f"measured.{name}", first, moments).view(len(first), moments).bool()

    def _observed(self, name: str, first: Tensor, moments: int) -> Tensor:
        """(B, moments, *shape)."""
        spec = self.signature.observations[name]
        if self.pace.frames > 1 and spec.frames > 1:
            rows = self._rows(first, moments)[..., None] - self.pace.apart * torch.arange(spec.frames)
            found = self._gather(f"observation.{name}", rows, 1)
            return stacked(found.view(*rows.shape, *spec.single.shape))
        found = self._moments(f"observation.{name}", first, moments).view(-1, moments, *spec.shape)
        return widened(found) if spec.kind == "tokens" else found

    def _moments(self, field: str, first: Tensor, moments: int) -> Tensor:
        """A field at `moments` moments from each of the rows `first` (B,) on."""
        if self.pace.step == 1:
            return self._gather(field, first, moments)
        return self._gather(field, self._rows(first, moments), 1)

    def _rows(self, first: Tensor, moments: int) -> Tensor:
        """(B, moments): rows of the cache."""
        return first[..., None] + self.pace.step * torch.arange(moments)

    def _gather(self, field: str, first: Tensor, rows: int) -> Tensor:
        """(B, rows · n): from each row of `first` (B,) on, `rows` rows of a field, which follow each other in the file:
        one copy a window."""
        flat, first = self._fields[field], first.flatten()
        total, size = flat.shape
        if not rows:
            return flat.new_empty(len(first), 0)
        if len(first) == 1:  # index_select is slow at one long row
            return flat.narrow(0, int(first), rows).clone().view(1, -1)
        found = self._buffers.take((len(first), rows * size), flat.dtype)
        windows = flat.as_strided((total - rows + 1, rows * size), (size, 1))
        return torch.index_select(windows, 0, first, out=found)

    # Drawing ---------------------------------------------------------------------------------------------------

    def starts(self, length: int) -> Tensor:
        """(E,) int64: how many windows of `length` steps each episode holds."""
        return (self.lengths - length + 1).clamp(min=0)

    def draw(self, count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random windows: (episode (count,), start (count,)), uniform over all windows of `length` steps.

        Raises:
            DataError: no episode is long enough.
        """
        starts = self.starts(length)
        if not bool((starts > 0).any()):
            raise DataError(
                f"an episode of at least {length} steps", f"the longest has {int(self.lengths.max())}",
                "use shorter windows or longer episodes",
            )
        mass = starts.double().cumsum(0)
        below_one = torch.rand(count, generator=generator, dtype=torch.float64).clamp(max=1 - 2.0**-52)
        episode = torch.searchsorted(mass, below_one * mass[-1], right=True)
        start = (torch.rand(count, generator=generator, dtype=torch.float64) * starts[episode]).long()
        return episode, torch.minimum(start, starts[episode] - 1)

    # Parts -----------------------------------------------------------------------------------------------------

    def subset(self, episodes: Tensor) -> Dataset:
        """Some episodes, by index (n,)."""
        first, lengths = self._first[episodes], self.lengths[episodes]
        return Dataset(self.path, self.index, self._fields, first, lengths, self._buffers, self.pace)

    def split(
        self, held_out: float = 0.1, seed: int = 0, by: Literal["time", "episode"] = "time",
        embargo: int | None = None,
    ) -> tuple[Dataset, Dataset]:
        """Training part and held-out part, which share no row, so that no window of one overlaps one of the other.

        by       "time": held out is the last part of the log in recorded order, whole episodes if that comes near the
                 share (half of it to twice), else the episode at the border is cut; "episode": whole episodes, drawn
                 with `seed`, for episodes whose order means nothing. A share is one of steps; of moments, where
                 nobody acts
        embargo  steps left out between the parts, on the training side (default: the schema's); in recorded order

        Raises:
            DataError: too little data to split.
            UsageError: held_out outside (0, 1); a paced log, whose episodes share rows.
        """
        if not self.pace.plain:
            raise UsageError("a log in rows, to split", f"one of which {self.pace.words()}", "split it, then pace it")
        if not 0 < held_out < 1:
            raise UsageError("held_out between 0 and 1", f"{held_out}", "hold out 0.1, say")
        if by == "time":
            schema = self.schema or Schema(columns={})
            return self._split_time(held_out, schema.embargo if embargo is None else embargo)
        if len(self) < 2:
            raise DataError("at least 2 episodes to hold one out", f"{len(self)}", 'split with by="time"')
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        count = min(max(round(held_out * len(self)), 1), len(self) - 1)
        return self.subset(order[count:].sort().values), self.subset(order[:count].sort().values)

    def _split_time(self, held_out: float, embargo: int) -> tuple[Dataset, Dataset]:
        more = 0 if self.acted else 1  # what an episode counts beyond its steps: without actions, moments are counted
        ends = (self.lengths + more).cumsum(0)
        total = int(ends[-1])
        asked = max(round(held_out * total), 1)
        whole = ends[(total - ends >= asked / 2) & (total - ends <= 2 * asked) & (ends > embargo)]
        nearest = whole[(total - whole - asked).abs().argmin()] if len(whole) else None
        cut = int(nearest) if nearest is not None else total - asked
        border = int(torch.searchsorted(ends, torch.tensor(cut), right=True))
        inside = cut - (int(ends[border]) - int(self.lengths[border]) - more)
        learned = _with_last(self.lengths[: border + 1], inside - 1)
        counted = (learned + more).clamp(min=0)
        tail = counted.flip(0).cumsum(0).flip(0)  # what is trained on from each episode on, to the cut
        learned = learned - (embargo - (tail - counted)).clamp(min=0)
        parts = []
        for first, lengths in (
            (self._first[: border + 1], learned),
            (_moved(self._first[border:], inside), _moved(self.lengths[border:], -inside)),
        ):
            some = lengths + more > 0
            parts.append(Dataset(self.path, self.index, self._fields, first[some], lengths[some], self._buffers))
        if not len(parts[0]) or not len(parts[1]):
            unit = "steps" if self.acted else "moments"
            got = f"{total} {unit} with an embargo of {embargo}"
            raise DataError(f"enough {unit} to hold some out", got, "record more, or hold out another share")
        return parts[0], parts[1]

    # Describing ------------------------------------------------------------------------------------------------

    def statistics(self) -> Statistics:
        """Mean, spread and range of every column over this part, counts of its tokens; of images, fields and waveforms
        from at most 2,000 moments."""
        if not self.pace.plain:
            raise UsageError("a log in rows, to describe", f"one of which {self.pace.words()}",
                             "describe the log itself")
        exogenous = fit(self._blocks("exogenous", actions=True)) if self.signature.exogenous else None
        observations, tokens = {}, {}
        for name, spec in self.signature.observations.items():
            large = spec.kind in ("image", "field", "waveform")
            blocks = self._blocks(f"observation.{name}", actions=False, large=math.prod(spec.shape) if large else 0)
            if spec.kind == "tokens":
                tokens[name] = count(map(widened, blocks), spec.vocabulary)
            else:
                observations[name] = fit(b.view(-1, spec.shape[-1]) for b in blocks)
        action = fit(self._blocks("action", actions=True)) if self.acted else Columns((), (), (), (), 0)
        return Statistics(observations, action, exogenous, tokens)

    def _blocks(self, field: str, *, actions: bool, large: int = 0) -> Iterator[Tensor]:
        """Rows of this part, some at a time; of observations of `large` numbers a moment, evenly spread ones."""
        lengths = self.lengths if actions else self.lengths + 1
        within = torch.arange(int(lengths.sum())) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        rows = self._first.repeat_interleave(lengths) + within
        if large and len(rows) > _MOMENTS_SAMPLED:
            rows = rows[torch.linspace(0, len(rows) - 1, _MOMENTS_SAMPLED).long()]
        size = max(1, min(100, _NUMBERS // large)) if large else _BLOCK
        return (self._gather(field, rows[i : i + size], 1) for i in range(0, len(rows), size))

    def verify(self) -> None:
        """Read everything and compare it with the checksums of when it was written.

        Raises:
            DataError: names the altered field.
        """
        wrong = [name for name, same in checksums(self.path, self.index).items() if not same]
        if wrong:
            raise DataError(
                f"unaltered fields in {self.path}", f"altered: {', '.join(wrong)}",
                "delete the folder and build it again from its source",
            )


def _with_last(values: Tensor, last: int) -> Tensor:
    return torch.cat([values[:-1], torch.tensor([last])])


def _moved(values: Tensor, by: int) -> Tensor:
    return torch.cat([values[:1] + by, values[1:]])
