"""Read-outs of a run on disk: `readouts/<name>.safetensors` and a JSON file with its configuration and hash.

The hash is checked before a byte is decoded; no pickle.
"""

from __future__ import annotations

from typing import cast

import msgspec
from safetensors.torch import load as decode
from safetensors.torch import save as encode

from steersman.agent.building.blueprint import build_like
from steersman.core import CheckpointError, ConfigError, Readout, ReadoutConfig
from steersman.core.parts import convert
from steersman.perception import ColumnReadout, LinearReadout
from steersman.runs import Run
from steersman.runs.files import pretty, read_capped, sha256, write_new
from steersman.runs.folders import steady, whole, writing
from steersman.runs.tensors import parse_header

FOLDER = "readouts"


class ReadoutRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a read-out is, beside its tensors."""

    config: ReadoutConfig
    columns: tuple[str, ...]


def readout_record(readout: Readout) -> ReadoutRecord:
    """That of a fitted read-out.

    Raises:
        ConfigError: one that no registered configuration builds.
    """
    config = LinearReadout.Config(ridge=readout.ridge) if type(readout) is LinearReadout else getattr(
        readout, "config", None)
    if not isinstance(readout, ColumnReadout) or config is None:
        raise ConfigError("a read-out of this library", type(readout).__name__, "fit one with agent.fitting")
    return ReadoutRecord(cast(ReadoutConfig, config), tuple(readout.columns))


class _Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    config: ReadoutConfig
    columns: tuple[str, ...]
    latent_shape: tuple[int, ...]
    checkpoint: int
    rows: int
    sha256: str
    r2: dict[str, float] = {}


def save_readout(
    run: Run, name: str, readout: ColumnReadout, config: ReadoutConfig, latent_shape: tuple[int, ...], checkpoint: int,
    rows: int,
) -> None:
    """Keep a fitted read-out with the run, and its `r2`; `rows` labelled states were used, latents are those of
    `checkpoint`.

    Raises:
        StorageError: the disk refused.
    """
    data = encode({k: v.contiguous() for k, v in readout.state_dict().items()})
    card = _Card(config, readout.columns, latent_shape, checkpoint, rows, sha256(data), dict(readout.r2))
    there = whole(run.path / FOLDER)
    others = {path.name for path in there.glob("[!.]*")} - {f"{name}.safetensors", f"{name}.json"}
    with writing(there, "a read-out", keep=others) as folder:
        write_new(folder / f"{name}.safetensors", data)
        write_new(folder / f"{name}.json", pretty(card))


def build_readout(config: ReadoutConfig, columns: tuple[str, ...], latent_shape: tuple[int, ...]) -> ColumnReadout:
    """What `config` builds, which must be one that is fitted to columns.

    Raises:
        ConfigError: it is not.
    """
    readout = config.build(columns, latent_shape)
    if not isinstance(readout, ColumnReadout):
        raise ConfigError("a perception.ColumnReadout, which is fitted after training", type(readout).__name__,
                          "derive the read-out from it")
    return readout


def load_readout(run: Run, name: str) -> ColumnReadout | None:
    """A run's read-out, or None if it has none of that name.

    Raises:
        CheckpointError: damaged, or not what its card says.
    """
    return steady(run.path / FOLDER, lambda: _loaded(run, name))


def _loaded(run: Run, name: str) -> ColumnReadout | None:
    if not (run.path / FOLDER / f"{name}.json").exists():
        return None
    again = "fit it again with `steersman train --resume`"
    path = run.path / FOLDER / f"{name}.safetensors"
    try:
        card = convert(
            run.read_json(f"{FOLDER}/{name}.json"), _Card, strict=False, origins=run.manifest.config.get("parts")
        )
        data = read_capped(path)
    except (OSError, msgspec.ValidationError) as error:
        raise CheckpointError(f"a read-out at {path}", f"{error}", again) from error
    if sha256(data) != card.sha256:
        raise CheckpointError(f"SHA-256 {card.sha256[:12]}… of {path}", f"{sha256(data)[:12]}…", again)
    def build() -> ColumnReadout:
        return build_readout(card.config, card.columns, card.latent_shape)

    readout = build_like(build, parse_header(data, str(path)), str(path), card.config, card.latent_shape)
    readout.load_state_dict(decode(data))
    readout.r2 = card.r2
    return readout.eval()
