"""Sound and vibration in wav files: a file, or a folder of them, each an episode; a moment is a hop of some samples.

RIFF with PCM of 8, 16, 24 or 32 bits or floats of 32 or 64, any number of channels. Whole numbers of b bits become
floats by x / 2^(b-1). Written as floats of 32 bits, which lose nothing. The standard library's `wave` reads no floats.

Shapes: N samples, S samples a moment (hop), C channels, T steps.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from steersman.core.errors import DataError, UsageError
from steersman.core.recording import Array, Recording
from steersman.core.signature import ActionSpec, ObservationSpec, Signature
from steersman.data.formats import kinds
from steersman.data.formats.unsound import reading
from steersman.data.source import Draft, Format, ReadOptions, Saved, Source, fingerprint
from steersman.data.storage import sha256

NAME, HOP = "waveform", 0.01
"""Name of the observation, and seconds of a moment: 10 ms, the frame shift that speech recognisers use."""
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_CODINGS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "IMA ADPCM", 0x55: "MP3"}
_KINDS = {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}
_UNKNOWN = (0, 0xFFFFFFFF)
"""Lengths of data that a program writes which does not know it yet."""
_LARGEST, _CHANNELS = 0xFFFFFFFF - 64, 0xFFFF // 4


@dataclass(frozen=True)
class Sound:
    """What the header of a wav file says: coding and bits of a sample, and where the samples are.

    samples  N, by channel
    stated   bytes of samples that the header claims, where it claims more than there are
    """

    file: Path
    coding: int
    bits: int
    channels: int
    rate: int
    start: int
    samples: int
    stated: int = 0

    @property
    def frame(self) -> int:
        """Bytes of a sample of all channels."""
        return self.channels * self.bits // 8


class Wav(Format):
    """Sound or vibration, a wav file or a folder of them: hops of 10 ms (--hop) are moments. Written as floats."""

    name = "wav"

    def matches(self, path: str) -> bool:
        return kinds.looks_like(path, self.name)

    def asks(self, path: str) -> bool:
        return False

    def losses(self, signature: Signature) -> tuple[str, ...]:
        return ("times of a wav file are those of its rate, from 0",)

    def open(self, path: str, options: ReadOptions) -> Source:
        options.only({"hop", "names"}, self.name)
        notes: list[str] = []
        files = kinds.files_of(path, self.name, options, notes)
        said = kinds.description(path, "waveform")
        sounds = kinds.headers(files, lambda file: _whole(header(file)))
        _alike(sounds)
        name, spec = said[1:] if said else (NAME, None)
        spec = _spec(name, sounds[0], spec, options)
        hop, rate = spec.shape[0], spec.rate or float(sounds[0].rate)
        _long_enough(sounds, hop, notes)
        timed = said is None or said[0].times

        def stream() -> Iterator[Recording]:
            for sound in sounds:
                moments = sound.samples // hop
                values = samples(sound, moments * hop).reshape(moments, *spec.shape)
                times = np.arange(moments) * (hop / rate) if timed else None
                info = kinds.about(sound.file, path)
                yield Recording({name: values}, kinds.still(moments - 1), times=times, info=info)

        steps = sum(sound.samples // hop - 1 for sound in sounds)
        content = fingerprint(self.name, sha256(path), options)
        signature = Signature({name: spec}, ActionSpec("none"))
        return Source(self.name, path, signature, content, stream, steps, tuple(notes))

    def salvage(self, path: str, folder: Path, error: DataError) -> Saved:
        """Of a file that is shorter than its header says, the samples that are there."""
        if not Path(path).is_file():
            raise error
        sound, copy = header(Path(path)), folder / Path(path).name
        content = Path(path).read_bytes()[: sound.start + sound.samples * sound.frame]
        size = struct.pack("<I", sound.samples * sound.frame)
        copy.write_bytes(content[: sound.start - 4] + size + content[sound.start :])
        lost = max(0, sound.stated // sound.frame - sound.samples)
        return Saved(copy, f"kept {sound.samples:,} samples; lost: the {lost:,} after them")

    def put(self, path: Path, draft: Draft) -> None:
        spec = next(iter(draft.signature.observations.values()), None)
        if spec is not None and spec.kind == "waveform" and spec.shape[1] > _CHANNELS:
            raise UsageError(f"at most {_CHANNELS:,} channels in a wav", f"{spec.shape[1]:,}", "write .npz instead")

        def store(file: Path, recording: Recording) -> None:
            (values,) = recording.observations.values()
            rate = spec.rate if spec is not None else 0.0
            file.write_bytes(_riff(values, int(np.clip(round(rate), 1, 0xFFFFFFFF)), file.name))

        kinds.put(path, draft, self.name, "waveform", ".wav", store)


# Roles ------------------------------------------------------------------------------------------------------------


def _spec(name: str, sound: Sound, said: ObservationSpec | None, options: ReadOptions) -> ObservationSpec:
    if said is not None and said.shape[1] != sound.channels:
        raise kinds.unlike(sound.file, f"{said.shape[1]} channels", f"{sound.channels}")
    if said is not None and said.rate and round(said.rate) != sound.rate:
        raise kinds.unlike(sound.file, f"{said.rate:g} samples a second", f"{sound.rate}")
    rate = said.rate if said else float(sound.rate)
    hop = said.shape[0] if said else max(1, round(rate * HOP))
    if options.hop is not None:
        hop = max(1, round((rate or sound.rate) * options.hop))
    channels = tuple(options.names.get(name, ())) or (said.channels if said else ())
    if channels and len(channels) != sound.channels:
        raise DataError(f"{sound.channels} names for the channels of {name!r}", f"{len(channels)}", "name each channel")
    return ObservationSpec("waveform", (hop, sound.channels), channels=channels, rate=rate)


def _whole(sound: Sound) -> Sound:
    if sound.stated > sound.samples * sound.frame:
        raise DataError(f"{sound.stated:,} bytes of samples in {sound.file}, as its header says",
                        f"{sound.samples * sound.frame:,}", "repair it (steersman data convert … --repair)")
    return sound


def _alike(sounds: list[Sound]) -> None:
    first = sounds[0]
    for sound in sounds:
        if (sound.rate, sound.channels) != (first.rate, first.channels):
            alike = f"{first.rate} samples a second of {first.channels} channels in every file, as in {first.file}"
            raise DataError(alike, f"{sound.rate} of {sound.channels} in {sound.file}",
                            "put such files into folders of their own, or resample them")


def _long_enough(sounds: list[Sound], hop: int, notes: list[str]) -> None:
    """Refuse a file without a whole hop; say what is left over."""
    for sound in sounds:
        if sound.samples < hop:
            raise DataError(f"at least one hop of {hop} samples in {sound.file}", f"{sound.samples} samples",
                            "remove it, or say a shorter hop (--hop SECONDS)")
    rests = [sound.samples % hop for sound in sounds if sound.samples % hop]
    if rests:
        notes.append(f"left out: up to {max(rests)} samples at the end of {len(rests)} files, less than a hop of {hop}")
    if (deep := sum(sound.bits > 24 and (sound.coding, sound.bits) != (_FLOAT, 32) for sound in sounds)):
        notes.append(f"{deep} files of more than 24 bits a sample are rounded to float32")


# Files ------------------------------------------------------------------------------------------------------------


def header(file: Path) -> Sound:
    """What a wav file says of itself; no sample is read.

    Raises:
        DataError: no RIFF, another coding than PCM and floats, no samples.
    """
    with reading(f"a sound wav file at {file}", struct.error), file.open("rb") as opened:
        size = file.stat().st_size
        magic, _, kind = _read(opened, "<4sI4s")
        if magic != b"RIFF" or kind != b"WAVE":
            raise ValueError(f"a file that begins with {magic!r}")
        form: tuple[int, ...] = ()
        while True:
            name, length = _read(opened, "<4sI")
            if name == b"data":
                break
            if name == b"fmt ":
                form = _read(opened, "<HHIIHH")
                if form[0] == _EXTENSIBLE and length >= 26:
                    form = (*_read(opened, "<8xH"), *form[1:])
                    length -= 10
                length -= 16
            opened.seek(length + length % 2, 1)
        start = opened.tell()
        if not form:
            raise ValueError("samples before a word on what they are")
    coding, channels, rate, _, frame, bits = form
    if (coding, bits) not in _KINDS:
        found = f"{_CODINGS.get(coding, f'coding {coding}')} of {bits} bits"
        raise DataError(f"PCM of 8 to 32 bits or floats in {file}", found, "convert it to PCM")
    if channels < 1 or rate < 1 or frame != channels * bits // 8:
        what = f"{channels} channels, {rate} samples a second, {frame} bytes a sample"
        raise DataError(f"a sound wav file at {file}", what, "record it again")
    length = size - start if length in _UNKNOWN else length
    count = min(length, size - start) // frame
    if not count:
        raise DataError(f"samples in {file}", "none", "remove it, or record it again")
    return Sound(file, coding, bits, channels, rate, start, count, length if length > size - start else 0)


def _read(opened: BinaryIO, form: str) -> tuple[Any, ...]:
    """The next few numbers of a header. Raises ValueError: the file ends before."""
    size = struct.calcsize(form)
    content = opened.read(size)
    if len(content) < size:
        raise ValueError("a file that ends inside its header" if content or opened.tell() else "an empty file")
    return struct.unpack(form, content)


def samples(sound: Sound, count: int) -> Array:
    """The first `count` samples, (N, C) float32.

    Raises:
        DataError: fewer, NaN or infinity.
    """
    kind = {8: "u1", 16: "<i2", 24: "u1", 32: "<i4"}[sound.bits] if sound.coding == _PCM else f"<f{sound.bits // 8}"
    numbers = count * sound.channels * (3 if sound.bits == 24 else 1)
    with reading(f"a sound wav file at {sound.file}"):
        raw = np.fromfile(sound.file, kind, numbers, offset=sound.start)
        if len(raw) < numbers:
            raise ValueError("fewer samples than when it was opened")
    if sound.coding == _FLOAT:
        with np.errstate(over="ignore"):
            values: Array = raw.astype(np.float32)
        if not np.isfinite(values).all():
            place, channel = divmod(int(np.flatnonzero(~np.isfinite(values))[0]), sound.channels)
            raise DataError(f"finite samples in {sound.file}", f"{values[place * sound.channels + channel]} at sample "
                            f"{place} of channel {channel}", "repair it, or remove it")
    elif sound.bits == 8:
        values = (raw.astype(np.float32) - 128) / 128
    elif sound.bits == 24:
        words = np.zeros((len(raw) // 3, 4), np.uint8)
        words[:, 1:] = raw.reshape(-1, 3)
        values = words.reshape(-1).view("<i4").astype(np.float32) / 2**31
    else:
        values = raw.astype(np.float32) / 2 ** (sound.bits - 1)
    return values.reshape(count, sound.channels)


def _riff(values: Array, rate: int, name: str) -> bytes:
    """(T+1, S, C) float32 as a wav file of floats."""
    content, channels = values.astype("<f4").tobytes(), values.shape[2]
    if len(content) > _LARGEST:
        raise UsageError(f"less than 4 GiB of samples in {name}", f"{len(content):,} bytes", "write .npz or .h5")
    frame = 4 * channels
    form = struct.pack("<4sIHHIIHHH", b"fmt ", 18, _FLOAT, channels, rate, min(rate * frame, 0xFFFFFFFF), frame, 32, 0)
    fact = struct.pack("<4sII", b"fact", 4, len(content) // frame)
    head = struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(fact) + 8 + len(content), b"WAVE")
    return head + form + fact + struct.pack("<4sI", b"data", len(content)) + content
