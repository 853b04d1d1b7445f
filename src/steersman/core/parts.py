"""Which parts a configuration may name: the Configs of every box, ours and other people's, by their tags. No torch.

What is stored says `{"type": TAG, …}`, and only a Config that was registered in this process is built from it: a run
never imports code by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import msgspec

from steersman.core.errors import ConfigError, PartError
from steersman.core.view_configs import MasksConfig, ViewConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from steersman.core.boxes import (
        Configurator,
        Cost,
        Critic,
        FittedCost,
        FittedPolicy,
        Memory,
        Objective,
        Perception,
        Policy,
        Readout,
    )
    from steersman.core.corrector import Corrector
    from steersman.core.guardrail import Guardrail
    from steersman.core.latent_variable import LatentVariable
    from steersman.core.optimiser import Optimiser
    from steersman.core.planner import Planner
    from steersman.core.signature import Signature
    from steersman.core.world_model import WorldModel

T = TypeVar("T")

_OURS = "steersman."
_ORIGIN = re.compile(r"\w[\w.]{0,99}:\w[\w.<>]{0,99}")
_PARTS: dict[str, dict[str, type]] = {}  # box -> tag -> Config
_EARLIER: dict[type, Mapping[str, Any]] = {}  # Config -> what fields meant before there were any


# What the Config of each box offers -----------------------------------------------------------------------------


@runtime_checkable
class PerceptionConfig(Protocol):
    """Configuration of an encoder."""

    def build(self, signature: Signature) -> Perception: ...


@runtime_checkable
class WorldModelConfig(Protocol):
    """Configuration of a predictor, for states of `latent_shape` and scene maps of `context_shape`, if there are."""

    def build(
        self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
    ) -> WorldModel: ...


@runtime_checkable
class PlannerConfig(Protocol):
    """Configuration of a planner."""

    def build(self) -> Planner: ...


@runtime_checkable
class CostConfig(Protocol):
    """Configuration of a cost term; a task weighs it by the term's `name`."""

    def build(self, signature: Signature) -> Cost: ...


@runtime_checkable
class FittedCostConfig(Protocol):
    """Configuration of a cost that is fitted to frozen latents; built, it has the shapes of its fitted numbers."""

    def build(self, latent_shape: tuple[int, ...]) -> FittedCost: ...


@runtime_checkable
class GuardrailConfig(Protocol):
    """Configuration of a guardrail that can be kept: its attribute `config`, and what `tensors()` returned.

    readout  what its columns are read by; None: the agent has none
    """

    def build(
        self, readout: Readout | None, latent_shape: tuple[int, ...], tensors: Mapping[str, Tensor]
    ) -> Guardrail: ...


@runtime_checkable
class ReadoutConfig(Protocol):
    """Configuration of a read-out; to be fitted after training it is a `perception.ColumnReadout`."""

    def build(self, columns: tuple[str, ...], latent_shape: tuple[int, ...]) -> Readout: ...


@runtime_checkable
class PolicyConfig(Protocol):
    """Configuration of a policy without weights: a manoeuvre. readout: what its columns are read by, if anything."""

    def build(self, signature: Signature, readout: Readout | None) -> Policy: ...


@runtime_checkable
class FittedPolicyConfig(Protocol):
    """Configuration of a policy with weights; built, it has the shapes of its weights."""

    def build(
        self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
    ) -> FittedPolicy: ...


@runtime_checkable
class CriticConfig(Protocol):
    """Configuration of a critic."""

    def build(self, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None) -> Critic: ...


@runtime_checkable
class MemoryConfig(Protocol):
    """Configuration of a memory, for keys of `keys` numbers and values of `values` numbers."""

    def build(self, keys: int, values: int) -> Memory: ...


@runtime_checkable
class ConfiguratorConfig(Protocol):
    """Configuration of a configurator."""

    def build(self, signature: Signature) -> Configurator: ...


@runtime_checkable
class LatentVariableConfig(Protocol):
    """Configuration of what a world model leaves to chance; it stands in the world model's own Config.

    given  how many numbers the world model knows before a step
    """

    def build(self, signature: Signature, latent_shape: tuple[int, ...], given: int) -> LatentVariable: ...


@runtime_checkable
class CorrectorConfig(Protocol):
    """Configuration of who learns while the agent acts.

    run  directory of the run whose weights these are: how they were trained, and on what
    """

    def build(self, perception: Perception, world_model: WorldModel, run: Path) -> Corrector: ...


@runtime_checkable
class OptimiserConfig(Protocol):
    """Configuration of an optimiser of named parameters."""

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> Optimiser: ...


@runtime_checkable
class ObjectiveConfig(Protocol):
    """Configuration of an energy over parameters."""

    def build(
        self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
    ) -> Objective: ...


_BOXES: dict[type, str] = {kind: kind.__name__.removesuffix("Config") for kind in (
    PerceptionConfig, ReadoutConfig, WorldModelConfig, LatentVariableConfig, MemoryConfig, CriticConfig, CostConfig,
    FittedCostConfig, GuardrailConfig, PolicyConfig, FittedPolicyConfig, PlannerConfig, ConfiguratorConfig,
    CorrectorConfig, ObjectiveConfig, ViewConfig, MasksConfig, OptimiserConfig,
)}  # fmt: skip
"""What a field of a configuration is declared as -> the abstract class of what is built: every box that has a name."""


# Registering ----------------------------------------------------------------------------------------------------


def register(box: type, *, earlier: Mapping[str, Any] | None = None) -> Callable[[type[T]], type[T]]:
    """Class decorator: a Config that stored runs may name. `box` is the abstract class of what it builds.

    earlier  values of fields that were added later and whose default is not what parts did before: a stored
             configuration that lacks such a field is read with this value

    >>> class Scale(Perception):                                                                # doctest: +SKIP
    ...     @register(Perception)
    ...     class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="scale"):
    ...         factor: float = 10.0
    ...
    ...         def build(self, signature): return Scale(self.factor)

    Registered again under the same name (a notebook's cell run twice), the newer one counts.

    Raises:
        ConfigError: not a frozen msgspec Struct with a tag that refuses unknown fields; a tag that is another's.
    """
    if box.__name__ not in _BOXES.values():
        raise ConfigError(f"a box of {', '.join(_BOXES.values())}", box.__name__, "name the abstract class that it is")

    def add(config: type[T]) -> type[T]:
        form = getattr(config, "__struct_config__", None)
        if form is None or not (form.frozen and form.forbid_unknown_fields and isinstance(form.tag, str)):
            raise ConfigError(
                f"{config.__qualname__}(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=…)",
                "another kind of class" if form is None else "a Struct without one of these",
                "add them: the tag is what a stored run calls it",
            )
        known = _PARTS.setdefault(box.__name__, {})
        other = known.get(form.tag, config)
        if _origin(other) != _origin(config):
            raise ConfigError(f"a tag of its own for {_origin(config)}", f"{form.tag!r}, which {_origin(other)} has",
                              "choose another tag")
        known[form.tag] = config
        _EARLIER[config] = dict(earlier or {})
        return config

    return add


def registered(box: type) -> tuple[type, ...]:
    """The Configs of a box, ours and other people's, in the order of their tags: it does not depend on what was
    imported first."""
    return tuple(config for _, config in sorted(_PARTS.get(box.__name__, {}).items()))


def origins(value: Any) -> dict[str, str]:
    """Other people's parts in a configuration: "Perception scale" -> "their_module:Scale.Config"."""
    named = {_origin(config): f"{box} {tag}" for box, known in _PARTS.items() for tag, config in known.items()}
    found = {_origin(type(part)) for part in _structs(value)} & named.keys()
    return {named[origin]: origin for origin in sorted(found) if not origin.startswith(_OURS)}


def _origin(config: type) -> str:
    return f"{config.__module__}:{config.__qualname__}"


def _structs(value: Any) -> Iterator[msgspec.Struct]:
    if isinstance(value, msgspec.Struct):
        yield value
        for name in value.__struct_fields__:
            yield from _structs(getattr(value, name))
    elif isinstance(value, (tuple, list)):
        for inner in value:
            yield from _structs(inner)
    elif isinstance(value, Mapping):
        yield from _structs(list(value.values()))


# Reading what was stored ----------------------------------------------------------------------------------------


def convert(value: Any, kind: type[T], *, strict: bool = True, origins: Mapping[str, str] | None = None) -> T:
    """Plain values -> `kind`, as `msgspec.convert` does; parts become their registered Configs.

    origins  where parts were registered when this was stored, for the error (see `origins`)

    Raises:
        PartError: a part that nobody registered in this process.
        msgspec.ValidationError: values that do not fit.
    """

    def part(box: type, stored: Any) -> Any:
        name = _BOXES.get(box)
        if name is None:
            raise NotImplementedError  # what msgspec asks of a hook that does not know a type
        if not isinstance(stored, dict) or not isinstance(stored.get("type"), str):
            raise ValueError(f"Expected a {name} with its `type`")
        tag, known = stored["type"], _PARTS.get(name, {})
        if tag not in known:
            raise _unknown(name, tag, origins or {})
        try:
            stored = {**_EARLIER[known[tag]], **stored}
            return msgspec.convert(stored, known[tag], dec_hook=part, strict=strict)
        except msgspec.ValidationError as error:
            words = f"{error}".replace(" - at `$.", f" in {tag!r} at `")  # msgspec adds the way to here
            raise ValueError(words) from error

    try:
        return msgspec.convert(value, kind, dec_hook=part, strict=strict)
    except RecursionError as error:
        raise msgspec.ValidationError("Expected parts within parts a few levels deep") from error


def _unknown(box: str, tag: str, origins: Mapping[str, str]) -> PartError:
    origin = origins.get(f"{box} {tag}", "")  # words of a file that may be foreign
    module, _, name = origin.partition(":") if _ORIGIN.fullmatch(origin) else ("", "", "")
    whose = f" ({name} of {module})" if name else ""
    where = f"; on the command line: --import {module}" if name and module != "__main__" else ""
    return PartError(
        f"{'an' if box[0] in 'AEIO' else 'a'} {box} that this process knows: "
        f"{', '.join(sorted(_PARTS.get(box, {})))}", f"{tag!r}{whose}",
        f"this run needs the part {tag!r}: import the module that registers it{where}",
    )
