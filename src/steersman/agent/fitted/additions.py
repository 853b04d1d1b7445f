"""What was fitted to an agent and is kept with it: cost terms, guardrails and policies, as configurations and tensors.

Knows no folder: `agent.fitted.in_run` puts them into a run, `agent.sharing.pretrained` into a folder for hubs. No
pickle, no code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
from msgspec import UNSET, UnsetType
from torch import Tensor

from steersman.agent.building.blueprint import build_like, require_same, require_sane
from steersman.agent.building.fingerprint import model_fingerprint
from steersman.agent.building.readouts import ReadoutRecord, build_readout, readout_record
from steersman.agent.config import require_name
from steersman.core import (
    CheckpointError,
    ConfigError,
    Cost,
    FittedCost,
    FittedPolicy,
    Guardrail,
    MismatchError,
    Perception,
    PlanningError,
    Readout,
    Signature,
)
from steersman.core.parts import CostConfig, FittedCostConfig, FittedPolicyConfig, GuardrailConfig, registered
from steersman.cost import Sealed
from steersman.runs.tensors import Header

_AGAIN = "fit it again and keep that"


class CostRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A cost term: `config` of one without weights, `fitted` of one with.

    seal  what was sealed, part by part, of an intrinsic one (`cost.Sealed`); None: an ordinary one
    """

    name: str
    config: CostConfig | None = None
    fitted: FittedCostConfig | None = None
    latent_shape: tuple[int, ...]
    seal: dict[str, str] | None = None


class GuardrailRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A guardrail under the name that tasks call it by; readout: its own, None: it reads by the agent's."""

    name: str
    config: GuardrailConfig
    latent_shape: tuple[int, ...]
    readout: ReadoutRecord | None = None


class PolicyRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A policy with weights, under the name that the agent calls it by."""

    name: str
    config: FittedPolicyConfig
    latent_shape: tuple[int, ...]


Record = CostRecord | GuardrailRecord | PolicyRecord


class Records(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of them; policies are absent from a file that has none, so that earlier versions read it."""

    costs: tuple[CostRecord, ...] = ()
    guardrails: tuple[GuardrailRecord, ...] = ()
    policies: tuple[PolicyRecord, ...] | UnsetType = UNSET

    @classmethod
    def of(cls, records: Iterable[Record]) -> Records:
        """These, by kind."""
        each = tuple(records)
        policies = tuple(x for x in each if isinstance(x, PolicyRecord))
        return cls(costs=tuple(x for x in each if isinstance(x, CostRecord)),
                   guardrails=tuple(x for x in each if isinstance(x, GuardrailRecord)), policies=policies or UNSET)

    def __iter__(self) -> Iterator[Record]:
        return iter((*self.costs, *self.guardrails, *(self.policies or ())))

    def __bool__(self) -> bool:
        return bool(tuple(self))


@dataclass
class Additions:
    """What was added to an agent beside its configuration.

    costs       name -> term, `Sealed` if it is intrinsic
    guardrails  name -> guardrail
    policies    name -> policy with weights
    outdated    names of those that a run keeps for other weights
    """

    costs: dict[str, Cost] = field(default_factory=dict)
    guardrails: dict[str, Guardrail] = field(default_factory=dict)
    policies: dict[str, FittedPolicy] = field(default_factory=dict)
    outdated: tuple[str, ...] = ()

    def add_policy(
        self, name: str, policy: FittedPolicy, own: Mapping[str, Any], latent_shape: tuple[int, ...]
    ) -> None:
        """own: the policies of the configuration.

        Raises:
            ConfigError: one of these has this name. MismatchError: a policy for other states than of `latent_shape`.
        """
        if name in own:
            raise ConfigError("a name that no policy of the configuration has", repr(name), "choose another name")
        if tuple(policy.latent_shape) != latent_shape:
            raise MismatchError(f"a policy for states {latent_shape}", f"{tuple(policy.latent_shape)}",
                                "use it with the agent that it was made for")
        self.policies[name] = policy.eval()

    def fingerprints(self) -> dict[str, str]:
        """Name -> SHA-256 of each fitted cost."""
        inner = {name: cost.inner if isinstance(cost, Sealed) else cost for name, cost in self.costs.items()}
        return {name: model_fingerprint([cost]) for name, cost in inner.items() if isinstance(cost, FittedCost)}


def key(record: Record) -> str:
    """What tells it apart from all others: "cost.NAME", "guardrail.NAME", "policy.NAME"."""
    kinds = {CostRecord: "cost", GuardrailRecord: "guardrail", PolicyRecord: "policy"}
    return f"{kinds[type(record)]}.{record.name}"


# Writing down -----------------------------------------------------------------------------------------------------


def record_cost(cost: Cost, latent_shape: tuple[int, ...]) -> tuple[CostRecord, dict[str, Tensor]]:
    """A term as configuration and tensors.

    Raises:
        ConfigError: no registered Config builds it; a name that no file can carry.
    """
    inner = cost.inner if isinstance(cost, Sealed) else cost
    fitted = isinstance(inner, FittedCost)
    config = _config_of(inner, FittedCost if fitted else Cost, f"cost {cost.name!r}")
    record = CostRecord(
        name=require_name(cost.name), config=None if fitted else config, fitted=config if fitted else None,
        latent_shape=inner.latent_shape if isinstance(inner, FittedCost) else latent_shape,
        seal=cost.fingerprint if isinstance(cost, Sealed) else None,
    )
    return record, dict(inner.state_dict()) if isinstance(inner, FittedCost) else {}


def record_guardrail(
    name: str, guardrail: Guardrail, own: Readout | None, latent_shape: tuple[int, ...]
) -> tuple[GuardrailRecord, dict[str, Tensor]]:
    """A guardrail as configuration and tensors, its read-out's among them unless that is the agent's `own`.

    Raises:
        ConfigError: no registered Config builds it or its read-out; a name that no file can carry.
    """
    config = _config_of(guardrail, Guardrail, f"guardrail {name!r}")
    tensors = {f"guardrail.{k}": v for k, v in guardrail.tensors().items()}
    readout, record = guardrail.readout, None
    if readout is not None and readout is not own:
        record = readout_record(readout)
        tensors |= {f"readout.{k}": v for k, v in readout.state_dict().items()}
    return GuardrailRecord(
        name=require_name(name), config=config, latent_shape=latent_shape, readout=record
    ), tensors


def record_policy(name: str, policy: FittedPolicy) -> tuple[PolicyRecord, dict[str, Tensor]]:
    """A policy as configuration and tensors.

    Raises:
        ConfigError: no registered Config builds it; a name that no file can carry.
    """
    config = _config_of(policy, FittedPolicy, f"policy {name!r}")
    record = PolicyRecord(name=require_name(name), config=config, latent_shape=tuple(policy.latent_shape))
    return record, dict(policy.state_dict())


def recorded(
    additions: Additions, latent_shape: tuple[int, ...], own: Readout | None
) -> list[tuple[Record, dict[str, Tensor]]]:
    """All of them; raises as above."""
    costs = additions.costs.values()
    found: list[tuple[Record, dict[str, Tensor]]] = [record_cost(cost, latent_shape) for cost in costs]
    found += [record_guardrail(name, x, own, latent_shape) for name, x in additions.guardrails.items()]
    return found + [record_policy(name, x) for name, x in additions.policies.items()]


def _config_of(part: Any, box: type, what: str) -> Any:
    config = getattr(part, "config", None)
    if type(config) not in registered(box):
        raise ConfigError(
            f"a `config` of {what} that register({box.__name__}) knows", type(config or part).__name__,
            "give its class one (see docs/extend.md), or leave it out: code cannot be kept",
        )
    return config


# Building ---------------------------------------------------------------------------------------------------------


def build_cost(
    record: CostRecord, tensors: Mapping[str, Tensor], header: Header, signature: Signature,
    latent_shape: tuple[int, ...], where: str,
) -> Cost:
    """The term again; nothing is allocated that its tensors do not vouch for.

    Raises:
        CheckpointError: not what its record says. ConfigError: its configuration is refused.
        SealError: an intrinsic one that is not what was sealed.
    """
    require_name(record.name)
    _require_latent(record, latent_shape, where)
    if (record.config is None) == (record.fitted is None):
        raise CheckpointError(f"one configuration of cost {record.name!r} in {where}", "none or two", _AGAIN)
    cost: Cost
    if record.fitted is not None:
        config = record.fitted
        built = build_like(lambda: config.build(latent_shape), header, where, config)
        built.load_state_dict(dict(tensors))
        cost = built.eval().requires_grad_(False)
    else:
        require_sane(record.config, where)
        require_same({}, header, where)
        cost = cast(CostConfig, record.config).build(signature)
    if cost.name != record.name:
        raise CheckpointError(f"the cost {record.name!r} in {where}", repr(cost.name), _AGAIN)
    if record.seal is None:
        return cost
    sealed = Sealed(cost)
    sealed.verify(record.seal)
    return sealed


def build_guardrail(
    record: GuardrailRecord, tensors: Mapping[str, Tensor], header: Header, own: Readout | None,
    latent_shape: tuple[int, ...], where: str,
) -> Guardrail:
    """The guardrail again, as `build_cost`."""
    require_name(record.name)
    require_sane(record.config, where)
    _require_latent(record, latent_shape, where)
    places = ("guardrail.",) if record.readout is None else ("guardrail.", "readout.")
    stray = sorted(name for name in header if not name.startswith(places))
    if stray:
        raise CheckpointError(f"tensors of guardrail {record.name!r} in {where}", stray[0], _AGAIN)
    readout, mine = own, under("guardrail.", tensors)
    if record.readout is not None:
        r = record.readout
        reading = build_like(lambda: build_readout(r.config, r.columns, latent_shape), under("readout.", header),
                             where, r, latent_shape)
        reading.load_state_dict(under("readout.", tensors))
        readout = reading.eval().requires_grad_(False)
    try:
        guardrail = record.config.build(readout, latent_shape, mine)
    except PlanningError as error:
        raise CheckpointError(f"{error.expected}, of {record.name!r} in {where}", error.got, error.fix) from error
    require_same(guardrail.tensors(), under("guardrail.", header), where)
    return guardrail


def build_policy(
    record: PolicyRecord, tensors: Mapping[str, Tensor], header: Header, signature: Signature, perception: Perception,
    where: str,
) -> FittedPolicy:
    """The policy again, as `build_cost`."""
    require_name(record.name)
    _require_latent(record, perception.latent_shape, where)
    policy = build_like(lambda: record.config.build(signature, perception.latent_shape, perception.context_shape),
                        header, where, record.config)
    policy.load_state_dict(dict(tensors))
    return policy.eval().requires_grad_(False)


def build_addition(
    additions: Additions, record: Record, tensors: Mapping[str, Tensor], header: Header, signature: Signature,
    perception: Perception, own: Readout | None, where: str,
) -> None:
    """One part again, in its place among the additions; raises as its builder."""
    latent = perception.latent_shape
    if isinstance(record, CostRecord):
        additions.costs[record.name] = build_cost(record, tensors, header, signature, latent, where)
    elif isinstance(record, GuardrailRecord):
        additions.guardrails[record.name] = build_guardrail(record, tensors, header, own, latent, where)
    else:
        additions.policies[record.name] = build_policy(record, tensors, header, signature, perception, where)


def rebuilt(
    records: Records, tensors: Mapping[str, Tensor], header: Header, signature: Signature, perception: Perception,
    own: Readout | None, where: str,
) -> Additions:
    """All of them, from tensors that are named "KEY.NAME"; raises as above, and for tensors that belong to none."""
    additions, rest = Additions(), set(header)
    every = tuple(records)
    for record in every:
        mine, heads = (under(f"{key(record)}.", named) for named in (tensors, header))
        rest -= {f"{key(record)}.{name}" for name in heads}
        build_addition(additions, record, mine, heads, signature, perception, own, where)
    if rest or len({key(record) for record in every}) != len(every):
        raise CheckpointError(f"each kept part once in {where}", f"{min(rest, default='one twice')}", _AGAIN)
    return additions


def _require_latent(record: Record, latent_shape: tuple[int, ...], where: str) -> None:
    if record.latent_shape != latent_shape:
        raise CheckpointError(f"{record.name!r} for latents {latent_shape} in {where}", f"{record.latent_shape}",
                              _AGAIN)


def under(prefix: str, named: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `named` whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}

