"""Text: a file, or a folder of them, each an episode of bytes: observation `text`, one token of 256 a moment.

Text is watched, or spoken: with `ReadOptions(action=("text",))` the token of the next moment is the action,
actions[t] = tokens[t+1], one of 256 choices. Files must be UTF-8; what is read back is what was written, byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from steersman.core.errors import DataError, UsageError
from steersman.core.recording import Array, Recording
from steersman.core.signature import ActionSpec, ObservationSpec, Signature
from steersman.data.formats import kinds
from steersman.data.formats.unsound import reading
from steersman.data.source import Draft, Format, ReadOptions, Source, fingerprint
from steersman.data.storage import sha256

NAME, VOCABULARY = "text", 256
_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
"""How files begin that were saved in other encodings."""


class Text(Format):
    """UTF-8 text, a file or a folder (txt, md, py, …): bytes as tokens; with --action text, words that are actions."""

    name = "text"

    def matches(self, path: str) -> bool:
        return kinds.looks_like(path, self.name)

    def asks(self, path: str) -> bool:
        return False

    def losses(self, signature: Signature) -> tuple[str, ...]:
        return ("text keeps no times",)

    def open(self, path: str, options: ReadOptions) -> Source:
        options.only({"action"}, self.name)
        notes: list[str] = []
        files = kinds.files_of(path, self.name, options, notes)
        said = kinds.description(path, "tokens")
        name = said[1] if said else NAME
        if options.action not in ((), (name,)):
            raise UsageError(f"{name!r} as the action of text: the next token", f"{list(options.action)}",
                             f"say --action {name}, or leave it out")
        if said and (said[2].shape != (1,) or said[2].vocabulary != VOCABULARY):
            raise kinds.unlike(files[0], f"tokens of shape {said[2].shape} of {said[2].vocabulary}", "bytes")
        acts = bool(options.action) or (said is not None and said[0].signature.action.kind != "none")
        with reading(f"files that can be read in {path}"):
            sizes = {file: file.stat().st_size for file in files}
        short = [file for file in files if sizes[file] < 1 + acts]
        if short:
            notes.append(f"left out: {len(short)} files of less than {1 + acts} bytes ({short[0].name})")
        files = [file for file in files if sizes[file] > acts]
        if not files:
            raise DataError(f"text in {path}", f"{len(short)} empty files", "check the path")
        action = ActionSpec("discrete", choices=VOCABULARY) if acts else ActionSpec("none")
        signature = Signature({name: ObservationSpec("tokens", (1,), vocabulary=VOCABULARY)}, action)

        def stream() -> Iterator[Recording]:
            for file in files:
                tokens = tokens_of(file)
                spoken = tokens[1:].astype(np.int64) if acts else kinds.still(len(tokens) - 1)
                yield Recording({name: tokens}, spoken, info=kinds.about(file, path))

        content = fingerprint(self.name, sha256(path), options)
        steps = sum(sizes[file] - 1 for file in files)
        return Source(self.name, path, signature, content, stream, steps, tuple(notes))

    def put(self, path: Path, draft: Draft) -> None:
        for name, spec in draft.signature.observations.items():
            if spec.kind == "tokens" and (spec.shape != (1,) or spec.vocabulary != VOCABULARY):
                raise UsageError(f"bytes: tokens of shape (1,) of a vocabulary of {VOCABULARY}",
                                 f"{spec.shape} of {spec.vocabulary} in {name!r}", "write .npz or .h5 instead")
        action = draft.signature.action
        spoken = action.kind == "discrete" and action == ActionSpec("discrete", choices=VOCABULARY)
        kinds.put(path, draft, self.name, "tokens", ".txt", _store, acts=spoken)


def tokens_of(file: Path) -> Array:
    """The bytes of a text file, (T+1, 1) int32.

    Raises:
        DataError: not UTF-8: says where, and what is there.
    """
    with reading(f"a readable file {file}"):
        content = file.read_bytes()
    require_utf8(content, str(file))
    return np.frombuffer(content, np.uint8).astype(np.int32)[:, None]


def require_utf8(content: bytes, where: str) -> None:
    """Refuse bytes that are no UTF-8.

    Raises:
        DataError: says at which byte, and what is there.
    """
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        looks = f", which begins as {_MARKS[content[:2]]} does" if content[:2] in _MARKS else ""
        found = f"byte 0x{content[error.start]:02x} at offset {error.start} (line {line}){looks}"
        raise DataError(f"text in UTF-8 in {where}", found, "convert it to UTF-8, or remove it") from None


def _store(file: Path, recording: Recording) -> None:
    ((name, tokens),) = recording.observations.items()
    if recording.actions.shape[1] and not np.array_equal(recording.actions, tokens[1:]):
        row = int(np.flatnonzero(recording.actions[:, 0] != tokens[1:, 0])[0])
        found = f"{recording.actions[row, 0]} before {tokens[row + 1, 0]} at row {row}"
        raise DataError(f"actions that are the next token of {name!r}", found, "write .npz or .h5 instead")
    content = tokens.astype(np.uint8).tobytes()
    require_utf8(content, f"the episode for {file.name}")
    file.write_bytes(content)
