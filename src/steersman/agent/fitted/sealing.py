"""An agent's intrinsic costs: built, sealed, and compared with what a run or a folder says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steersman.agent.config import AgentConfig
from steersman.core import ConfigError, Cost, SealError, Signature
from steersman.cost import Sealed

Seals = dict[str, dict[str, str]]
"""Name of an intrinsic cost -> its fingerprint (`Sealed.fingerprint`)."""


def build_sealed(config: AgentConfig, signature: Signature) -> tuple[Sealed, ...]:
    """The intrinsic costs of a configuration, sealed.

    Raises:
        ConfigError: one has trainable parameters or cannot be hashed.
    """
    return tuple(Sealed(cost.build(signature)) for cost in config.intrinsic)


def seals(costs: Sequence[Sealed]) -> Seals:
    """What a run keeps of them."""
    return {cost.name: cost.fingerprint for cost in costs}


def verify_sealed(costs: Sequence[Sealed], stored: Mapping[str, Mapping[str, str]] | None = None) -> None:
    """Compare with what was sealed, and with what was stored.

    Raises:
        SealError: one changed, is missing, or nobody knows of its seal.
    """
    names = {cost.name for cost in costs}
    if stored is not None and stored.keys() != names:
        raise SealError(f"the intrinsic costs that were sealed: {', '.join(sorted(stored)) or 'none'}",
                        ", ".join(sorted(names)) or "none", "restore the configuration")
    for cost in costs:
        cost.verify(None if stored is None else stored[cost.name])


def distinct(costs: Sequence[Cost]) -> tuple[Cost, ...]:
    """The same, if no two share a name: a task weighs them by it, and one would hide the other.

    Raises:
        ConfigError: two do.
    """
    names = [cost.name for cost in costs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError("costs with names of their own", f"{', '.join(twice)} twice", "rename or drop one")
    return tuple(costs)
