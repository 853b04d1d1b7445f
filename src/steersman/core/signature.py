"""What a world looks like from outside: named observations, an action, exogenous inputs. No torch, no data.

A signature travels with every dataset, run and checkpoint; comparing two of them is how a model for another
world is refused.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from steersman.core.errors import ConfigError, MismatchError

ObservationKind = Literal["image", "vector", "field", "waveform", "tokens"]

class Pace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the moments and steps of a model are made of the rows of a log. The default: each row is a moment.

    step    rows from one model step to the next; the `step` actions between them are one action of the model, a chunk
    frames  pictures in one moment, stacked along channels, the newest first
    apart   rows between these pictures
    """

    step: int = 1
    frames: int = 1
    apart: int = 1

    def __post_init__(self) -> None:
        if min(self.step, self.frames, self.apart) < 1:
            raise ConfigError("step, frames and apart of at least 1", f"{self}", "correct the pace")

    @property
    def before(self) -> int:
        """Rows that a moment shows beside its own."""
        return (self.frames - 1) * self.apart

    @property
    def plain(self) -> bool:
        """Whether every row is a moment, as it is."""
        return self.step == 1 and self.frames == 1

    def words(self) -> str:
        """For people."""
        rows = "a row" if self.step == 1 else f"{self.step} rows"
        return f"a model step is {rows}, a moment shows {self.frames} picture{'s' * (self.frames > 1)}" + (
            f", {self.apart} rows apart" if self.frames > 1 and self.apart > 1 else "")


_CHOICES = 4096
"""Most choices that a chunk of discrete actions may have."""

_FORMS: dict[str, tuple[tuple[int, ...], str]] = {
    "image": ((3,), "(H, W, C)"), "vector": ((1,), "(C,)"), "field": ((2, 3, 4), "(X, [Y, [Z,]] C)"),
    "waveform": ((2,), "(S, C)"), "tokens": ((1,), "(N,)"),
}


class ObservationSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named observation, as it is at one moment.

    kind     "image": uint8 of shape (H, W, C)
             "vector": float32 of shape (C,)
             "field": float32 of shape (X, [Y, [Z,]] C): C quantities on a regular grid of one to three axes
             "waveform": float32 of shape (S, C): the S samples of C channels from this moment to the next
             "tokens": int32 of shape (N,): N numbers below `vocabulary`
    columns  names of a vector's entries, for goals and guardrails on named columns
    rows_per_update  rows of a log from one measurement to the next; above 1 the rows between repeat the last one
    channels  names of what a field's or a waveform's last axis holds
    periodic  for each grid axis of a field, whether its end meets its beginning; (): none does
    extent    length of each grid axis of a field in its own unit; (): not known
    rate      samples a second of a waveform; 0: not known
    vocabulary  how many different tokens there are
    frames   pictures that an image stacks along its channels, the newest first
    """

    kind: ObservationKind
    shape: tuple[int, ...]
    columns: tuple[str, ...] = ()
    rows_per_update: int = 1
    channels: tuple[str, ...] = ()
    periodic: tuple[bool, ...] = ()
    extent: tuple[float, ...] = ()
    rate: float = 0.0
    vocabulary: int = 0
    frames: int = 1

    def __post_init__(self) -> None:
        ranks, form = _FORMS[self.kind]
        if len(self.shape) not in ranks or min(self.shape) < 1:
            raise ConfigError(f"{self.kind} observations of shape {form}", f"{self.shape}", "reshape the observation")
        if self.columns and (self.kind != "vector" or len(self.columns) != self.shape[0]):
            raise ConfigError(
                f"{self.shape[0]} column names for a vector", f"{list(self.columns)}", "give one name for each entry"
            )
        if self.frames < 1 or (self.frames > 1 and (self.kind != "image" or self.shape[-1] % self.frames)):
            raise ConfigError("frames that divide the channels of an image", f"{self.frames} in a {self.kind} of shape "
                              f"{self.shape}", "1 where nothing is stacked")
        if self.rows_per_update < 1:
            raise ConfigError("at least 1 row an update", f"{self.rows_per_update}", "use 1 for a value in every row")
        self._require_own()

    def _require_own(self) -> None:
        """What only some kinds say is said for them alone, and fits the shape."""
        axes = self.grid
        for name, value, fits, kinds in [
            ("channels", self.channels, len(self.channels) == self.shape[-1], ("field", "waveform")),
            ("periodic", self.periodic, len(self.periodic) == len(axes), ("field",)),
            ("extent", self.extent, len(self.extent) == len(axes) and min(self.extent, default=1) > 0, ("field",)),
            ("rate", self.rate, self.rate > 0 and math.isfinite(self.rate), ("waveform",)),
            ("vocabulary", self.vocabulary, self.vocabulary >= 1, ("tokens",)),
        ]:
            if value and not (fits and self.kind in kinds):
                raise ConfigError(f"`{name}` for a {' or a '.join(kinds)}, one entry an axis",
                                  f"{value} for a {self.kind} of shape {self.shape}", f"correct `{name}`")
        if self.kind == "tokens" and not 1 <= self.vocabulary <= 2**31 - 1:
            raise ConfigError("a vocabulary of 1 to 2^31 - 1 tokens", f"{self.vocabulary}", "256 for bytes")

    def stacked(self, frames: int) -> ObservationSpec:
        """The same with `frames` pictures in one; other kinds stay as they are."""
        if self.kind != "image" or frames == 1:
            return self
        return msgspec.structs.replace(self, shape=(*self.shape[:2], frames * self.shape[2]), frames=frames)

    @property
    def single(self) -> ObservationSpec:
        """One picture of the stack."""
        if self.frames == 1:
            return self
        return msgspec.structs.replace(self, shape=(*self.shape[:2], self.shape[2] // self.frames), frames=1)

    @property
    def dtype(self) -> Literal["uint8", "float32", "int32"]:
        """Type of its numbers in recordings, windows and caches."""
        return "uint8" if self.kind == "image" else "int32" if self.kind == "tokens" else "float32"

    @property
    def grid(self) -> tuple[int, ...]:
        """Points along each axis of a field's grid; () for other kinds."""
        return self.shape[:-1] if self.kind == "field" else ()


class ActionSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the agent may do at one step.

    kind     "continuous": float32 (A,) within [low, high]; "discrete": int64 (1,) in 0..choices-1; "none": float32
             (0,), nobody acts, or nobody wrote it down. An episode of such a log may be a single moment
    names    names of the entries, for people
    whole    indices of entries that hold whole numbers only (a gear, a valve that is open or shut), in a continuous
             action: amounts and choices mixed
    chunk    actions of the world that one action is, the first one first: their numbers side by side; discrete ones are
             the digits of one choice among choices^chunk, the first one leading
    """

    kind: Literal["continuous", "discrete", "none"]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    choices: int = 0
    names: tuple[str, ...] = ()
    whole: tuple[int, ...] = ()
    chunk: int = 1

    def __post_init__(self) -> None:
        self._require_chunk()
        if self.kind == "discrete":
            if self.choices < 1 or self.low or self.high or self.whole:
                raise ConfigError("a number of choices >= 1 and no bounds", f"{self.choices}", "set choices only")
            return
        if self.kind == "none":
            if self.low or self.high or self.choices or self.names or self.whole:
                raise ConfigError("no bounds, choices or names without an action", f"{self}", "leave them out")
            return
        if not self.low or len(self.low) != len(self.high):
            raise ConfigError("one low and one high bound per entry", f"{self.low}, {self.high}", "give both")
        for low, high in zip(self.low, self.high, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ConfigError("finite bounds with low < high", f"[{low}, {high}]", "state the real limits")
        for entry in self.whole:
            if not 0 <= entry < len(self.low):
                raise ConfigError(f"whole entries among 0..{len(self.low) - 1}", f"{entry}", "name entries by position")
            low, high = self.low[entry], self.high[entry]
            if max(abs(low), abs(high)) > 2**24 or math.ceil(low) > math.floor(high):
                raise ConfigError(
                    f"bounds of whole entry {entry} around a whole number, within 2^24", f"[{low}, {high}]",
                    "correct the bounds",
                )

    def _require_chunk(self) -> None:
        one = 1 if self.chunk < 1 else round(self.choices ** (1 / self.chunk)) if self.kind == "discrete" else 0
        fits = one**self.chunk == self.choices if self.kind == "discrete" else len(self.low) % max(1, self.chunk) == 0
        if self.chunk < 1 or (self.chunk > 1 and not fits):
            raise ConfigError("a chunk of at least 1 whole action", f"{self.chunk}", "use `chunked`")

    def chunked(self, count: int) -> ActionSpec:
        """`count` of these actions, one after the other, as one.

        Raises:
            ConfigError: more choices than a model can tell apart.
        """
        if count == 1 or self.kind == "none":
            return self
        if self.kind == "discrete":
            if self.choices**count > _CHOICES:
                raise ConfigError(f"at most {_CHOICES} choices in a chunk", f"{self.choices}^{count}",
                                  "shorten the model step")
            return msgspec.structs.replace(self, choices=self.choices**count, names=(), chunk=count)
        size = len(self.low)
        names = tuple(f"{name}+{i}" for i in range(count) for name in self.names)
        whole = tuple(entry + i * size for i in range(count) for entry in self.whole)
        return msgspec.structs.replace(
            self, low=self.low * count, high=self.high * count, names=names, whole=whole, chunk=count)

    @property
    def single(self) -> ActionSpec:
        """One action of the chunk."""
        if self.chunk == 1:
            return self
        if self.kind == "discrete":
            return msgspec.structs.replace(self, choices=round(self.choices ** (1 / self.chunk)), chunk=1)
        size = len(self.low) // self.chunk
        names = tuple(name.removesuffix("+0") for name in self.names[:size])
        whole = tuple(entry for entry in self.whole if entry < size)
        return msgspec.structs.replace(
            self, low=self.low[:size], high=self.high[:size], names=names, whole=whole, chunk=1)

    @property
    def size(self) -> int:
        """A: numbers per action (1 if discrete)."""
        return 1 if self.kind == "discrete" else len(self.low)

    @property
    def width(self) -> int:
        """Numbers that a network sees per action (one-hot if discrete)."""
        return self.choices if self.kind == "discrete" else len(self.low)


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Named observations, the action, the names of exogenous inputs (known in advance, never planned).

    pace  how its moments and steps are made of the rows of a log
    """

    observations: dict[str, ObservationSpec]
    action: ActionSpec
    exogenous: tuple[str, ...] = ()
    pace: Pace = Pace()

    def paced(self, pace: Pace) -> Signature:
        """This signature of rows as that of a model whose moments and steps are made of them.

        Raises:
            ConfigError: it is that of a model already; a chunk with too many choices; waveforms, whose samples fill
                the time between two rows, with steps of several rows.
        """
        if pace == self.pace:
            return self
        if not self.pace.plain:
            raise ConfigError("a log in rows", f"one of which {self.pace.words()}", "pace the log that it was made of")
        kinds = {spec.kind for spec in self.observations.values()}
        if pace.step > 1 and "waveform" in kinds:
            raise ConfigError("steps of one row, for waveforms", f"{pace.step}", "set step to 1")
        return Signature(
            {name: spec.stacked(pace.frames) for name, spec in self.observations.items()},
            self.action.chunked(pace.step),
            tuple(f"{name}+{i}" for i in range(pace.step) for name in self.exogenous) if pace.step > 1 else
            self.exogenous, pace)

    @property
    def world(self) -> Signature:
        """What the rows look like that this is made of."""
        if self.pace == Pace():
            return self
        count = len(self.exogenous) // self.pace.step
        exogenous = tuple(name.removesuffix("+0") for name in self.exogenous[:count])
        return Signature({name: spec.single for name, spec in self.observations.items()}, self.action.single,
                         exogenous if self.pace.step > 1 else self.exogenous)

    @property
    def slow(self) -> tuple[str, ...]:
        """Observations that are measured less often than rows are written."""
        return tuple(name for name, spec in self.observations.items() if spec.rows_per_update > 1)

    def image(self, name: str = "") -> str:
        """The image observation called `name`; "" means the only one.

        Raises:
            ConfigError: no such image, or several to choose from.
        """
        images = [key for key, spec in self.observations.items() if spec.kind == "image"]
        if name in images:
            return name
        if name or len(images) != 1:
            raise ConfigError(
                f"an image observation named {name!r}" if name else "exactly one image observation",
                f"images: {', '.join(images) or 'none'}", "give the name of one of them in `image`",
            )
        return images[0]

    def require(self, other: Signature, mine: str, theirs: str) -> None:
        """Refuse `other` unless shapes and kinds agree (bounds and names of columns are allowed to differ).

        Raises:
            MismatchError: names the first difference.
        """
        for label, a, b in [
            ("observations", _shapes(self), _shapes(other)),
            ("action", (self.action.kind, self.action.size, self.action.choices),
             (other.action.kind, other.action.size, other.action.choices)),
            ("exogenous inputs", len(self.exogenous), len(other.exogenous)),
        ]:
            if a != b:
                raise MismatchError(
                    f"{label} {a} as in {mine}", f"{b} from {theirs}", "use a model that was trained for this world"
                )


def _shapes(signature: Signature) -> dict[str, str]:
    return {name: f"{spec.kind}{list(spec.shape)}" for name, spec in sorted(signature.observations.items())}
