"""What was fitted to an agent, in its run's directory: found again by `Agent.load`.

    kept/kept.json                           what there is, each part's configuration and hash; its own hash last
    kept/cost.NAME-0123456789ab.safetensors  tensors of one part; the name holds the first of its hash

The folder is written whole (`runs.folders`): what is kept is the old or the new.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType
from safetensors.torch import save as encode
from torch import Tensor

from steersman.agent.building.fingerprint import model_fingerprint
from steersman.agent.building.parts import tensors
from steersman.agent.config import require_name
from steersman.agent.fitted.additions import (
    Additions,
    CostRecord,
    GuardrailRecord,
    PolicyRecord,
    Record,
    build_addition,
    key,
    recorded,
)
from steersman.core import (
    CheckpointError,
    ConfigError,
    Perception,
    Readout,
    RunError,
    SealError,
    Signature,
    WorldModel,
)
from steersman.core.parts import convert, origins
from steersman.runs import Run
from steersman.runs.checkpoints import LIMIT, FileRecord
from steersman.runs.files import parse_json, pretty, read_capped, sha256, write_new
from steersman.runs.folders import steady, whole, writing
from steersman.runs.seals import seal, seal_holds
from steersman.runs.tensors import parse_header

FOLDER, INDEX = "kept", "kept.json"
FORMAT = 2
"""1: folders without policies; they are still written so, for earlier versions."""
_HASH = re.compile("[0-9a-f]{64}")
_AGAIN = "restore the file from a copy, or fit it again: Agent.load(run, additions=False)"


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One part: model is the fingerprint of the weights that it was fitted to; tensors None: it has none."""

    model: str
    tensors: FileRecord | None = None
    cost: CostRecord | None = None
    guardrail: GuardrailRecord | None = None
    policy: PolicyRecord | UnsetType = UNSET

    @property
    def record(self) -> Record:
        found = [record for record in (self.cost, self.guardrail, self.policy or None) if record is not None]
        if len(found) != 1:
            raise CheckpointError(f"one cost, guardrail or policy in an entry of {INDEX}", f"{len(found)}", _AGAIN)
        return found[0]

    @property
    def file(self) -> str:
        assert self.tensors is not None
        require_name(self.record.name)
        if not _HASH.fullmatch(self.tensors.sha256):
            raise CheckpointError(f"a SHA-256 of {key(self.record)} in {INDEX}", repr(self.tensors.sha256), _AGAIN)
        return f"{key(self.record)}-{self.tensors.sha256[:12]}.safetensors"


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`kept.json`. parts: where other people's Configs come from; sha256: of the file with this entry empty."""

    format: int = 1
    entries: tuple[Entry, ...] = ()
    parts: dict[str, str] = {}
    sha256: str = ""


def save_additions(
    run: Run, additions: Additions, signature: Signature, perception: Perception, model: WorldModel,
    readout: Readout | None,
) -> list[str]:
    """Add what was added to an agent to what its run keeps; a part of the same kind and name is replaced. Its names.

    Raises:
        ConfigError: a part that no registered Config builds.
        RunError: what the run keeps already is damaged. StorageError: the disk refused.
    """
    latent, fingerprint = perception.latent_shape, model_fingerprint((perception, model))
    entries = {key(entry.record): entry for entry in read_index(run).entries}
    contents: dict[str, bytes] = {}
    found = recorded(additions, latent, readout)
    for record, values in found:
        content = encoded(values)
        entry = Entry(
            model=fingerprint, tensors=FileRecord(len(content), sha256(content)) if values else None,
            cost=record if isinstance(record, CostRecord) else None,
            guardrail=record if isinstance(record, GuardrailRecord) else None,
            policy=record if isinstance(record, PolicyRecord) else UNSET,
        )
        where = f"{key(record)} of this agent"
        _build(Additions(), entry, content, signature, perception, readout, where)  # what is kept can be read
        entries[key(record)] = entry
        if values:
            contents[entry.file] = content
    _write(run, entries.values(), contents)
    return [key(record) for record, _ in found]


def drop_addition(run: Run, kind: str, name: str) -> None:
    """Keep one part no longer; kind "cost", "guardrail" or "policy".

    Raises:
        ConfigError: there is none of that name. RunError: what the run keeps is damaged. StorageError: as above.
    """
    entries = {key(entry.record): entry for entry in read_index(run).entries}
    if f"{kind}.{name}" not in entries:
        raise ConfigError(f"a kept part among {', '.join(entries) or 'none'}", f"{kind}.{name}", "correct the name")
    del entries[f"{kind}.{name}"]
    _write(run, entries.values(), {})


def load_additions(
    run: Run, signature: Signature, perception: Perception, model: WorldModel, readout: Readout | None
) -> Additions:
    """What a run keeps for these weights; what it keeps for others is named as outdated.

    Raises:
        CheckpointError: missing, damaged, altered, foreign, or of a later format.
        SealError: an intrinsic cost is not what it was, or was fitted to other weights.
        ConfigError: a part that nobody registered, or that does not fit.
    """
    return steady(run.path / FOLDER, lambda: _loaded(run, signature, perception, model, readout))


def _loaded(
    run: Run, signature: Signature, perception: Perception, model: WorldModel, readout: Readout | None
) -> Additions:
    index = read_index(run)
    if not index.entries:
        return Additions()
    fingerprint, additions = model_fingerprint((perception, model)), Additions()
    for entry in index.entries:
        record = entry.record
        where = f"{run.path / FOLDER / (entry.file if entry.tensors else INDEX)}"
        if entry.model != fingerprint:
            if isinstance(record, CostRecord) and record.seal is not None:
                raise SealError(f"the weights that intrinsic cost {record.name!r} was fitted to, {entry.model[:12]}…",
                                f"{fingerprint[:12]}…", "fit it to these: Agent.load(run, additions=False)")
            additions.outdated += (record.name,)
            continue
        content = b"" if entry.tensors is None else _verified(run.path / FOLDER / entry.file, entry.tensors)
        _build(additions, entry, content, signature, perception, readout, where)
    return additions


def read_index(run: Run) -> Index:
    """`kept.json` of a run, verified against its own hash; empty where nothing is kept.

    Raises:
        CheckpointError: damaged, altered, foreign, or of a later format. PartError: a part that nobody registered.
    """
    path = whole(run.path / FOLDER) / INDEX
    if not path.exists():
        if path.parent.is_dir() and any(path.parent.glob("*.safetensors")):
            raise CheckpointError(f"{path}, beside tensors that are kept", "no such file", _AGAIN)
        return Index()
    try:
        content = read_capped(path, 16 << 20)
        plain = parse_json(content)
        version = plain.get("format") if isinstance(plain, dict) else None
        if isinstance(version, int) and version > FORMAT:
            raise CheckpointError(f"parts of format {FORMAT} or earlier in {path}", f"format {version}",
                                  "update steersman")
        said = msgspec.convert(plain.get("parts", {}), dict[str, str]) if isinstance(plain, dict) else {}
        index = convert(plain, Index, origins=said)
    except CheckpointError:
        raise
    except (OSError, RunError, msgspec.MsgspecError) as error:
        raise CheckpointError(f"what a run keeps in {path}", f"{error}", _AGAIN) from error
    if not seal_holds(content):
        raise CheckpointError(f"an unaltered {path}", "content that does not fit its own SHA-256", _AGAIN)
    return index


def encoded(values: Mapping[str, Tensor]) -> bytes:
    """A safetensors file."""
    return encode({name: value.detach().cpu().contiguous().clone() for name, value in values.items()})


def _write(run: Run, entries: Iterable[Entry], contents: Mapping[str, bytes]) -> None:
    entries = tuple(entries)
    named = {entry.file for entry in entries if entry.tensors is not None}
    with writing(run.path / FOLDER, "what is kept", keep=named - set(contents)) as folder:
        for name, content in contents.items():
            write_new(folder / name, content)
        version = FORMAT if any(entry.policy for entry in entries) else 1
        write_new(folder / INDEX, seal(pretty(Index(format=version, entries=entries, parts=origins(entries)))))


def _verified(path: Path, record: FileRecord) -> bytes:
    try:
        size = path.stat().st_size
        if size != record.bytes or size > LIMIT:
            raise CheckpointError(f"{min(record.bytes, LIMIT)} bytes in {path}", f"{size}", _AGAIN)
        content = read_capped(path, record.bytes)
    except OSError as error:
        raise CheckpointError(f"what is kept at {path}", f"{error.strerror or error}".lower(), _AGAIN) from error
    if sha256(content) != record.sha256:
        raise CheckpointError(f"SHA-256 {record.sha256[:12]}… of {path}", f"{sha256(content)[:12]}…", _AGAIN)
    return content


def _build(
    additions: Additions, entry: Entry, content: bytes, signature: Signature, perception: Perception,
    readout: Readout | None, where: str,
) -> None:
    header = parse_header(content, where) if entry.tensors is not None else {}
    values = tensors(content, where) if entry.tensors is not None else {}
    build_addition(additions, entry.record, values, header, signature, perception, readout, where)
