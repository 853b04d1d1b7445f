"""Mixed encoder: several named observations, each with an encoder of its own, become one state.

Knows perceptions only through their abstract class. Shapes: B batch, T steps, D state size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import torch
from torch import Tensor, nn

from steersman.core.boxes import Perception
from steersman.core.errors import ConfigError, MismatchError
from steersman.core.parts import PerceptionConfig, register
from steersman.core.signature import ObservationKind, Signature
from steersman.core.task import Task
from steersman.core.types import Latent, Observation
from steersman.nn.batch_norm import BatchNorm
from steersman.perception.convolutional import ConvEncoder
from steersman.perception.field import FieldEncoder
from steersman.perception.token import TokenEncoder
from steersman.perception.vector import VectorEncoder
from steersman.perception.waveform import WaveformEncoder

_DEFAULTS: dict[ObservationKind, type] = {
    "image": ConvEncoder.Config, "vector": VectorEncoder.Config, "field": FieldEncoder.Config,
    "waveform": WaveformEncoder.Config, "tokens": TokenEncoder.Config,
}

class MixedEncoder(Perception):
    """state = Linear[state_1, …, state_k], or the parts' states side by side if `size` is 0.

    With `balanced`, what is fused is g_i·BatchNorm(state_i) with g_i = √(Σ_j D_j / (k·D_i)): at first each of the k
    parts makes as much of the state's variance as another, however many features D_i it has and however loud they are.
    A vector of three columns is then not drowned by a picture, nor the
    picture by columns that are easier to foresee; what training makes of it afterwards is its own. With `size` 0 each
    part has as much of a latent distance as another. Without `balanced`, parts count by their numbers of features and
    by the scale that their encoders happen to have.

    Each part is calibrated by its own observations: columns by their mean and deviation in the log, features of a
    frozen network by theirs, pixels by x/255 - 1/2.

    `parts` maps the name of an observation to the encoder that reads it (and it alone); an observation that is not
    named is ignored. If empty, every image gets a ConvEncoder, all vectors together a VectorEncoder, and every field,
    waveform and sequence of tokens the encoder of its kind, with their defaults. A part's states of N tokens are
    flattened. At most one part may draw a scene map; its map and its
    attention are this perception's.

    Raises:
        ConfigError: a part for an observation that does not exist or of the wrong kind, two scene maps, parts of
            different tasks.
        MismatchError: an observation is missing.
    """

    @register(Perception)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="mixed"):
        """parts: observation -> encoder; size: D (0: the sum of the parts' sizes); balanced: no part drowns another."""

        parts: dict[str, PerceptionConfig] = {}
        size: int = 64
        balanced: bool = False

        def build(self, signature: Signature) -> MixedEncoder:
            return MixedEncoder(self, signature)

    latent_shape: tuple[int, ...] = ()
    context_shape: tuple[int, int, int] | None = None

    def __init__(self, config: Config, signature: Signature) -> None:
        super().__init__()
        if config.size < 0:
            raise ConfigError("a size of at least 0", f"{config.size}", "use 0 to keep the parts side by side")
        self.config = config
        self.reads = _reads(config.parts, signature)
        self.parts = nn.ModuleDict()
        for name, observations in self.reads.items():
            part = Signature({o: signature.observations[o] for o in observations}, signature.action)
            self.parts[name] = _part(config.parts, name, part).build(part)
        mapped = [name for name in self.parts if self._of(name).context_shape is not None]
        if len(mapped) > 1:
            raise ConfigError("at most one part with a scene map", ", ".join(mapped), "set map_width = 0 in the others")
        known = sorted({self._of(name).tasks for name in self.parts if self._of(name).tasks})
        if len(known) > 1:
            raise ConfigError("the same tasks in every part that has any", " and ".join(map(str, known)),
                              "name the same ones, in one order")
        self._tasks = known[0] if known else ()
        self.mapped = mapped[0] if mapped else None
        whole = sum(math.prod(self._of(name).latent_shape) for name in self.parts)
        self.balance = nn.ModuleDict({
            name: _Balanced(math.prod(self._of(name).latent_shape), whole / len(self.parts)) for name in self.parts
        } if config.balanced else {})
        self.project = nn.Linear(whole, config.size) if config.size else nn.Identity()
        self.latent_shape = (config.size or whole,)
        self.context_shape = self._of(self.mapped).context_shape if self.mapped is not None else None

    @property
    def tasks(self) -> tuple[str, ...]:
        return self._tasks

    def initialise(self) -> None:
        for name in self.parts:
            self._of(name).initialise()

    def calibrate(self, observation: Observation) -> None:
        for name in self.parts:
            self._of(name).calibrate(self._given(name, observation))

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        latents = {name: self._of(name).encode(self._given(name, observation), task) for name in self.parts}
        states = {name: latent.state.flatten(2) for name, latent in latents.items()}
        if self.config.balanced:
            states = {name: self.balance[name](x) for name, x in states.items()}
        state = self.project(torch.cat(list(states.values()), -1))
        number = next((latent.task for latent in latents.values() if latent.task is not None), None)
        attention = latents[self.mapped].attention if self.mapped is not None else None
        return Latent(state, attention=attention, task=number)

    def measured(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Block by block if the parts' states stand side by side; a linear map of all of them mixes them."""
        if self.config.size:
            return super().measured(rows)
        always, blocks = torch.ones_like(next(iter(rows.values()))), []
        for name, reads in self.reads.items():
            part, given = self._of(name), {o: rows[o] for o in reads if o in rows}
            whole = always[(..., *[None] * len(part.latent_shape))]
            known = part.measured(given) if given else whole
            blocks.append(known.expand(*always.shape, *part.latent_shape).flatten(2))
        return torch.cat(blocks, -1)

    def survey(self, observation: Observation) -> Tensor | None:
        if self.mapped is None:
            return None
        return self._of(self.mapped).survey(self._given(self.mapped, observation))

    def _of(self, name: str) -> Perception:
        part = self.parts[name]
        assert isinstance(part, Perception)
        return part

    def _given(self, name: str, observation: Observation) -> Observation:
        missing = set(self.reads[name]) - set(observation)
        if missing:
            raise MismatchError(
                f"observations {', '.join(self.reads[name])}", f"{', '.join(observation) or 'nothing'}",
                f"add {', '.join(sorted(missing))}",
            )
        return {o: observation[o] for o in self.reads[name]}


class _Balanced(nn.Module):
    """(B, T, D_i) -> the same with variance `share`/D_i of every feature at first."""

    def __init__(self, size: int, share: float) -> None:
        super().__init__()
        self.norm, self.gain = BatchNorm(size), math.sqrt(share / size)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.gain * self.norm(x.flatten(0, -2)).view(x.shape)
        return y


def _reads(parts: dict[str, PerceptionConfig], signature: Signature) -> dict[str, tuple[str, ...]]:
    """Name of a part -> the observations that it reads."""
    unknown = set(parts) - set(signature.observations)
    if unknown:
        raise ConfigError(
            f"parts for observations among {', '.join(signature.observations)}", f"{', '.join(sorted(unknown))}",
            "name the parts after observations",
        )
    if parts:
        return {name: (name,) for name in parts}
    kinds = {name: spec.kind for name, spec in sorted(signature.observations.items())}
    reads = {name: (name,) for name, kind in kinds.items() if kind == "image"}
    vectors = tuple(name for name, kind in kinds.items() if kind == "vector")
    others = {name: (name,) for name, kind in kinds.items() if kind not in ("image", "vector")}
    together = "vectors"
    while together in reads or together in others:
        together += "_"
    return reads | ({together: vectors} if vectors else {}) | others


def _part(parts: dict[str, PerceptionConfig], name: str, signature: Signature) -> PerceptionConfig:
    return parts[name] if name in parts else default_part(next(iter(signature.observations.values())).kind)


def default_part(kind: ObservationKind, size: int | None = None) -> PerceptionConfig:
    """The encoder of one kind of observation, with its defaults, and `size` features if that is given."""
    config = _DEFAULTS[kind]()
    return config if size is None else msgspec.structs.replace(config, size=size)
