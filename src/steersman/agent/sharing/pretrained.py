"""An agent as a folder that model hubs understand: config.json, model.safetensors, README.md. No pickle, no code.

    config.json        what the parts are, signature, read-out, origin; hash of the weights, and of itself
    model.safetensors  perception.*, world_model.*, readout.* (scales included: they are buffers), of what else the
                       configuration names critic.*, memory.*, configurator.*, policy.NAME.*, and of what was
                       fitted and kept kept.cost.NAME.*, kept.guardrail.NAME.*, kept.policy.NAME.*
    README.md          the model card

The folder may come from anybody: nothing is allocated before sizes are known to agree (`agent.blueprint`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec import UNSET, UnsetType
from safetensors.torch import save as encode
from torch import Tensor, nn

from steersman.agent.building.blueprint import build_like, require_plannable
from steersman.agent.building.further import POLICY, FurtherBoxes, policies
from steersman.agent.building.origin import Origin
from steersman.agent.building.parts import build_parts, parts_of, tensors
from steersman.agent.building.readouts import ReadoutRecord, readout_record
from steersman.agent.config import FURTHER, AgentConfig, require_world_model
from steersman.agent.fitted.additions import (
    Additions,
    Records,
    key,
    rebuilt,
    recorded,
    under,
)
from steersman.agent.fitted.sealing import Seals
from steersman.agent.sharing.card import model_card
from steersman.core import (
    CheckpointError,
    ConfigError,
    PartError,
    Perception,
    Planner,
    Readout,
    RunError,
    Signature,
    StorageError,
    WorldModel,
)
from steersman.core.parts import convert, origins, registered
from steersman.nn import merged
from steersman.runs.checkpoints import LIMIT, FileRecord
from steersman.runs.files import parse_json, pretty, read_capped, sha256, write_new
from steersman.runs.folders import is_free, steady, writing
from steersman.runs.seals import seal, seal_holds
from steersman.runs.tensors import parse_header

FORMAT = 3
"""1: agents of perception and world model beside which nothing is kept; 2: something is. They are still written so, for
earlier versions; 3: agents with further boxes, or policies that are kept."""
CONFIG, WEIGHTS, CARD = FILES = ("config.json", "model.safetensors", "README.md")
_ADDITIONS = "kept."
_CONFIG_LIMIT = 16 << 20
_FIX = "get the folder again from where it was published"


class Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`config.json`. The first three fields are what hubs look for; `parts` says where other people's come from."""

    library_name: str = "steersman"
    model_type: str = "steersman-agent"
    architectures: tuple[str, ...] = ("Agent",)
    format: int = FORMAT
    agent: AgentConfig
    signature: Signature
    readout: ReadoutRecord | None = None
    origin: Origin = Origin()
    parts: dict[str, str] = {}
    seals: Seals = {}
    kept: Records | UnsetType = UNSET  # absent where there is nothing
    weights: FileRecord
    sha256: str = ""

    def sealed(self) -> bytes:
        """The file's content, hash included."""
        plain = msgspec.to_builtins(msgspec.structs.replace(self, sha256=""))
        plain["agent"] = {name: value for name, value in plain["agent"].items() if value or name not in FURTHER}
        return seal(pretty(plain))


@dataclass(frozen=True)
class Pretrained:
    """The parts of an agent, apart from what it remembers."""

    config: AgentConfig
    signature: Signature
    perception: Perception
    world_model: WorldModel
    readout: Readout | None
    origin: Origin
    seals: Seals = field(default_factory=dict)
    further: FurtherBoxes = field(default_factory=FurtherBoxes)
    additions: Additions = field(default_factory=Additions)


def save(parts: Pretrained, planner: Planner, folder: Path | str) -> Path:
    """Write the folder, whole or not at all, in the place of a model that is there already. Returns the folder.

    Low-rank layers become part of the weights under them.

    Raises:
        ConfigError: the agent is made of parts that its configuration does not build.
        StorageError: something else is in the folder, or the disk refused; what was there stands.
    """
    folder = Path(folder)
    config = _with_planner(parts.config, planner)
    modules: dict[str, nn.Module] = {"perception": parts.perception, "world_model": parts.world_model}
    modules |= {name: box for name, box in parts.further.named().items() if not name.startswith(f"{POLICY}.")}
    modules |= {POLICY: policies(parts.further.policies)} if parts.further.policies else {}
    record = None
    if parts.readout is not None:
        record = readout_record(parts.readout)
        modules["readout"] = parts.readout
    plain = merged(nn.ModuleDict(modules))
    state = {name: x.detach().cpu().contiguous().clone() for name, x in plain.state_dict().items()}
    records, added = _records(parts)
    weights = encode(state | added, {"format": "pt"})
    stored = Stored(
        format=_format(config, records), agent=config, signature=parts.signature, readout=record, origin=parts.origin,
        parts=origins((config, record, records)), seals=parts.seals, kept=records or UNSET,
        weights=FileRecord(len(weights), sha256(weights)),
    )
    content = stored.sealed()
    try:
        _loaded(stored, weights, "this agent")
    except CheckpointError as error:
        raise ConfigError("parts that the agent's configuration builds", error.got, "save agents of a run") from error
    card = model_card(config, parts.signature, parts.readout, parts.origin, records).encode()
    if not is_free(folder) and (not folder.is_dir() or {path.name for path in folder.iterdir()} - set(FILES)):
        raise StorageError(f"a folder for the model at {folder}, new or with a model and nothing else in it",
                           "one with other things", "choose another name")
    with writing(folder, "a model") as made:
        for name, data in ((WEIGHTS, weights), (CARD, card), (CONFIG, content)):
            write_new(made / name, data)
    return folder


def load(folder: Path | str) -> Pretrained:
    """Read a folder that `save` wrote, or that somebody says it did. Hashes are checked, nothing is executed.

    Raises:
        RunError: there is no such folder.
        CheckpointError: truncated, altered, foreign, of a later format, or sizes that do not agree.
        ConfigError: parts that do not fit together.
        PartError: a part that nobody registered.
    """
    folder = Path(folder)
    return steady(folder, lambda: _read(folder))


def _read(folder: Path) -> Pretrained:
    stored = read_config(folder)
    path = folder / WEIGHTS
    try:
        size = path.stat().st_size
        if size != stored.weights.bytes or size > LIMIT:
            raise CheckpointError(f"{min(stored.weights.bytes, LIMIT)} bytes in {path}", f"{size}", _FIX)
        content = read_capped(path, stored.weights.bytes)
    except OSError as error:
        raise CheckpointError(f"weights at {path}", f"{error.strerror or error}".lower(), _FIX) from error
    found = sha256(content)
    if found != stored.weights.sha256:
        raise CheckpointError(f"SHA-256 {stored.weights.sha256[:12]}… of {path}", f"{found[:12]}…", _FIX)
    return _loaded(stored, content, str(path))


def read_config(folder: Path) -> Stored:
    """`config.json` of a folder, verified against its own hash.

    Raises:
        RunError, CheckpointError, PartError: as `load`.
    """
    path = folder / CONFIG
    if not folder.is_dir():
        raise RunError(f"a model's folder at {folder}", "no such folder", "check the path or the hub's id")
    try:
        content = read_capped(path, _CONFIG_LIMIT)
        version = parse_json(content, _Head).format
        if version > FORMAT:
            raise CheckpointError(f"a model of format {FORMAT} or earlier at {folder}", f"format {version}",
                                  "update steersman")
        stored = convert(plain := parse_json(content), Stored, origins=_parts(plain))
        whole = seal_holds(content)
    except (CheckpointError, PartError):
        raise
    except (OSError, RunError, ConfigError, msgspec.MsgspecError, RecursionError) as error:
        raise CheckpointError(f"a steersman model's {CONFIG} in {folder}", f"{error}", _FIX) from error
    if not whole:
        raise CheckpointError(f"an unaltered {path}", "content that does not fit its own SHA-256", _FIX)
    return stored


def _parts(plain: Any) -> dict[str, str]:
    """What the file says about other people's parts, read before anything else is."""
    return msgspec.convert(plain.get("parts", {}), dict[str, str])


class _Head(msgspec.Struct):
    format: int


def _format(config: AgentConfig, records: Records) -> int:
    if any(getattr(config, name) for name in FURTHER) or records.policies:
        return FORMAT
    return 2 if records else 1


def _records(parts: Pretrained) -> tuple[Records, dict[str, Tensor]]:
    """What is kept, and its tensors as they are named in the weights' file."""
    found = recorded(parts.additions, parts.perception.latent_shape, parts.readout)
    tensors = {f"{_ADDITIONS}{key(record)}.{name}": value.detach().cpu().contiguous().clone()
               for record, values in found for name, value in values.items()}
    return Records.of(record for record, _ in found), tensors


def _loaded(stored: Stored, content: bytes, where: str) -> Pretrained:
    """Everything from verified bytes; nothing is allocated that they do not vouch for."""
    header, values = parse_header(content, where), tensors(content, where)
    added, heads = under(_ADDITIONS, values), under(_ADDITIONS, header)
    own = {name: head for name, head in header.items() if not name.startswith(_ADDITIONS)}

    require_world_model(stored.agent, where)

    def build() -> nn.ModuleDict:
        parts = build_parts(stored.agent, stored.signature)
        if stored.readout is not None:
            latent_shape = cast(Perception, parts["perception"]).latent_shape
            parts["readout"] = stored.readout.config.build(stored.readout.columns, latent_shape)
        return parts

    require_plannable(stored.agent.planner, where)
    parts = build_like(build, own, where, stored.agent, stored.signature)
    parts.load_state_dict({name: values[name] for name in own})
    boxes = parts_of(parts)
    perception, readout = boxes.perception, cast(Readout, parts["readout"]) if "readout" in parts else None
    records = Records() if stored.kept is UNSET else stored.kept
    found = rebuilt(records, added, heads, stored.signature, perception, readout, where)
    assert boxes.world_model is not None
    return Pretrained(
        stored.agent, stored.signature, perception, boxes.world_model, readout, stored.origin, stored.seals,
        boxes.further, found,
    )


def _with_planner(config: AgentConfig, planner: Planner) -> AgentConfig:
    """The configuration with the planner that the agent really has."""
    mine = config.planner if planner.config is None else planner.config
    known = registered(Planner)
    if type(mine) not in known:
        names = ", ".join(kind.__qualname__.partition(".")[0] for kind in known)
        raise ConfigError(f"a planner of {names}", type(planner).__name__, "give the agent one of these")
    return msgspec.structs.replace(config, planner=mine)
