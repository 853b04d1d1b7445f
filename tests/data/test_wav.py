"""Wav files: every coding against numbers worked out by hand, hops, rates, and files that are cut."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lone import comes_back, everything, nothing_but, refused, same, signature, still

from steersman.core import DataError, ObservationSpec, UsageError
from steersman.core.recording import Array
from steersman.data import ReadOptions, read, repair, write


def riff(coding: int, bits: int, channels: int, samples: bytes, rate: int = 800, extensible: bool = False,
         before: bytes = b"", claimed: int | None = None) -> bytes:
    """A wav file, byte by byte."""
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", 0xFFFE if extensible else coding, channels, rate, rate * frame, frame, bits)
    if extensible:
        form += struct.pack("<HHIH14s", 22, bits, 0, coding, b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71")
    chunks = before + b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(samples) if claimed is None else claimed) + samples
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def values(path: Path, **options: float) -> Array:
    (episode,) = everything(read(path, ReadOptions(**options)))  # type: ignore[arg-type]
    return episode.observations["waveform"]


CODINGS: dict[str, tuple[int, int, bytes, list[float]]] = {
    "8": (1, 8, bytes([0, 128, 192, 255]), [-1, 0, 0.5, 127 / 128]),
    "16": (1, 16, struct.pack("<4h", -32768, 0, 16384, 32767), [-1, 0, 0.5, 32767 / 32768]),
    "24": (1, 24, b"\x00\x00\x80" b"\x00\x00\x00" b"\x00\x00\x40" b"\xff\xff\x7f", [-1, 0, 0.5, 1 - 2.0**-23]),
    "32": (1, 32, struct.pack("<4i", -(2**31), 0, 2**30, 2**31 - 1), [-1, 0, 0.5, 1]),
    "float": (3, 32, struct.pack("<4f", -1.5, 0, 0.1, 7e9), [-1.5, 0, float(np.float32(0.1)), float(np.float32(7e9))]),
    "double": (3, 64, struct.pack("<4d", -1.5, 0, 0.1, 7e9), [-1.5, 0, float(np.float32(0.1)), float(np.float32(7e9))]),
}


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("coding", CODINGS)
def test_samples_of_every_coding(tmp_path: Path, coding: str, extensible: bool) -> None:
    code, bits, content, wanted = CODINGS[coding]
    odd = b"LIST" + struct.pack("<I", 5) + b"abcde\0"  # an odd length is padded
    (tmp_path / "x.wav").write_bytes(riff(code, bits, 2, content, extensible=extensible, before=odd))
    found = values(tmp_path / "x.wav", hop=1 / 800)
    assert found.dtype == np.float32
    assert found.shape == (2, 1, 2)
    assert found.reshape(-1).tolist() == wanted


def test_files_of_the_standard_library(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, (250, 2), np.int16)
    with wave.open(str(tmp_path / "x.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(1000)
        file.writeframes(samples.tobytes())
    source = read(tmp_path / "x.wav")
    assert source.signature == signature("waveform", ObservationSpec("waveform", (10, 2), rate=1000.0))
    assert source.steps == 24
    (episode,) = everything(source)
    assert np.array_equal(episode.observations["waveform"].reshape(-1, 2), samples / np.float32(32768))
    assert np.allclose(episode.times, np.arange(25) * 0.01)  # type: ignore[arg-type]


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 9), st.integers(1, 3), st.lists(st.integers(0, 5), min_size=1, max_size=3), st.booleans())
def test_what_is_written_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, hop: int, channels: int, lengths: list[int], timed: bool
) -> None:
    rate = 44100.5
    spec = ObservationSpec("waveform", (hop, channels), channels=("a", "b", "c")[:channels], rate=rate)
    draw = np.random.default_rng(hop)
    log = [
        still("mic", draw.normal(0, 1e3, (n + 1, hop, channels)).astype(np.float32),
              times=np.arange(n + 1) * (hop / rate) if timed else None) for n in lengths
    ]
    path = tmp_path_factory.mktemp("wav") / "log"
    write(path, signature("mic", spec), log, format="wav")
    source = read(path, limits=None)
    assert source.signature == signature("mic", spec)
    for back, original in zip(source.recordings(), log, strict=True):
        same(back, original)


def test_a_log_comes_back_through_the_parser(tmp_path: Path) -> None:
    spec = ObservationSpec("waveform", (80, 2), rate=8000.0)
    log = [still("mic", np.random.default_rng(n).normal(size=(n, 80, 2)).astype(np.float32)) for n in (3, 1)]
    comes_back(tmp_path / "log", signature("mic", spec), log, "wav")


def test_a_hop_is_said_in_seconds_and_what_is_left_over_is_noted(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(riff(1, 8, 1, bytes(range(100, 123))))
    assert values(tmp_path / "x.wav", hop=0.005).shape == (5, 4, 1)
    source = read(tmp_path / "x.wav", ReadOptions(hop=0.005))
    assert source.notes == ("left out: up to 3 samples at the end of 1 files, less than a hop of 4",)
    refused(lambda: read(tmp_path / "x.wav", ReadOptions(hop=1.0)), DataError, "hop of 800 samples.*got 23.*--hop")
    refused(lambda: ReadOptions(hop=0.0), UsageError, "more than 0 seconds")
    named = ReadOptions(hop=0.005, names={"waveform": ("left", "right")})
    refused(lambda: read(tmp_path / "x.wav", named), DataError, "1 names for the channels.*got 2")


def test_folders_are_of_one_rate_and_one_number_of_channels(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(riff(1, 8, 1, bytes(16)))
    (tmp_path / "b.wav").write_bytes(riff(1, 16, 1, bytes(32)))
    assert len(everything(read(tmp_path))) == 2
    (tmp_path / "b.wav").write_bytes(riff(1, 8, 1, bytes(16), rate=1600))
    refused(lambda: read(tmp_path), DataError, r"800 samples a second of 1 channels.*got 1600 of 1 in .*b\.wav")
    (tmp_path / "b.wav").write_bytes(riff(1, 8, 2, bytes(32)))
    refused(lambda: read(tmp_path), DataError, r"got 800 of 2 in .*b\.wav")


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "a sound wav file"), "no RIFF": (b"ID3\x04" + bytes(60), "a file that begins with b'ID3"),
    "no samples": (riff(1, 16, 1, b""), "samples in .*got none"),
    "no data": (riff(1, 16, 1, b"")[:-8], "a sound wav file"),
    "data first": (b"RIFF\0\0\0\0WAVEdata\x04\0\0\0abcd", "samples before a word on what they are"),
    "MP3 inside": (riff(0x55, 16, 1, bytes(64)), "PCM of 8 to 32 bits or floats.*MP3"),
    "12 bits": (riff(1, 12, 1, bytes(64)), "coding 1 of 12 bits"),
    "no channels": (riff(1, 16, 0, bytes(64)), "0 channels"),
    "no rate": (riff(1, 16, 1, bytes(64), rate=0), "0 samples"),
    "cut": (riff(1, 16, 1, bytes(64))[:-20], "64 bytes of samples.*got 44.*--repair"),
    "NaN": (riff(3, 32, 2, struct.pack("<20f", *[0] * 13, float("nan"), *[0] * 6)), "got nan at sample 6 of channel 1"),
    "beyond float32": (riff(3, 64, 1, struct.pack("<10d", *[1e300] * 10)), "finite samples.*got inf at sample 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_by_name(tmp_path: Path, case: str) -> None:
    content, words = BAD[case]
    (tmp_path / "bad.wav").write_bytes(content)
    refused(lambda: everything(read(tmp_path / "bad.wav")), DataError, words)
    refused(lambda: everything(read(tmp_path)), DataError, r"bad\.wav")
    nothing_but(tmp_path, ["bad.wav"])


def test_a_recorder_that_did_not_know_the_length(tmp_path: Path) -> None:
    for claimed in (0, 0xFFFFFFFF):
        (tmp_path / "x.wav").write_bytes(riff(1, 8, 1, bytes(range(16)), claimed=claimed))
        assert values(tmp_path / "x.wav").size == 16


def test_a_cut_file_is_repaired_to_the_samples_that_are_there(tmp_path: Path) -> None:
    whole = riff(1, 16, 2, np.arange(64, dtype="<i2").tobytes())
    (tmp_path / "x.wav").write_bytes(whole[:-26])
    kept = repair(str(tmp_path / "x.wav"))
    (episode,) = everything(kept.source)
    assert np.array_equal(episode.observations["waveform"].reshape(-1), np.arange(48, dtype=np.float32) / 32768)
    assert kept.lost == ("kept 25 samples; lost: the 7 after them",)


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    kind = signature("mic", ObservationSpec("waveform", (1, 20_000), rate=8.0))
    refused(lambda: write(tmp_path / "x", kind, [], format="wav"), UsageError, "at most 16,383 channels")
    field = signature("f", ObservationSpec("field", (4, 1)))
    refused(lambda: write(tmp_path / "x", field, [], format="wav"), UsageError, r"kind waveform.*f \(field\)")
    nothing_but(tmp_path, [])


@pytest.mark.parametrize(("content", "said"), [
    (b"", "an empty file"), (b"RIFF\x10\0\0\0WAVEfmt ", "ends inside its header"),
])
def test_a_wav_file_that_is_empty_or_ends_in_its_header_says_so(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path / "a.wav", limits=None)
    assert "\n" not in f"{caught.value}"
