"""Looking into files without trusting them: headers of safetensors, checkpoints, runs."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.core.errors import CheckpointError, RunError
from steersman.runs import Run
from steersman.runs.tensors import read_header
from steersman.studio.holdings import holding

GOOD = {"__metadata__": {"a": "b"}, "encoder.w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "head.b": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]}}


def write(path: Path, header: object, body: int = 26, length: int | None = None) -> Path:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(content) if length is None else length).to_bytes(8, "little") + content + bytes(body))
    return path


def test_tensors_are_named_counted_and_summed(tmp_path: Path) -> None:
    found = holding(write(tmp_path / "a.safetensors", GOOD))
    assert found is not None
    assert found.rows == [("encoder.w", "2×3", "F32", "6"), ("head.b", "1", "BF16", "1")]
    assert found.plain["numbers"] == 7
    assert ("  encoder", "6") in found.facts


def entry(**changes: object) -> dict[str, object]:
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


BAD = {
    "empty": (b"", 0, 0), "longer than the file": (b"{}", 0, 99), "far too long": (b"{}", 0, 2**62),
    "no JSON": (b"{nonsense", 0, None), "not UTF-8": (b'{"\xff\xfe": 1}', 0, None), "a list": (b"[]", 0, None),
    "overlap": ({**entry(), "v": entry()["w"]}, 8, None), "gap": (entry(data_offsets=[4, 12]), 12, None),
    "size and shape disagree": (entry(shape=[3]), 8, None), "negative": (entry(data_offsets=[0, -8]), 0, None),
    "huge shape": (entry(shape=[2**40, 2**40]), 8, None), "truncated": (entry(), 7, None), "tail": (entry(), 9, None),
    "another field": (entry(code="x"), 8, None), "text as shape": (entry(shape="2"), 8, None),
    "deep": (b'{"w":' + b"[" * 5000 + b"]" * 5000 + b"}", 0, None),
}


@pytest.mark.parametrize("case", BAD, ids=list(BAD))
def test_a_header_that_lies_is_refused_in_words(case: str, tmp_path: Path) -> None:
    header, body, length = BAD[case]
    with pytest.raises(CheckpointError, match="restore the file"):
        read_header(write(tmp_path / "a.safetensors", header, body, length))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        assert isinstance(read_header(path), dict)


def test_a_run_says_what_it_holds(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", recipe="tiny", config={"train": {"steps": 9}}, seeds={"train": 4},
                    data={"episodes": 3, "steps": 87, "fingerprint": "ab" * 32}) as run:
        run.metrics.append(5, loss=0.25)
    found = holding(tmp_path / "run")
    assert found is not None
    facts = dict(found.facts)
    assert facts["trained"] == "5 of 9 steps"
    assert facts["last loss"] == "0.25"
    assert facts["data"].startswith("3 episodes, 87 steps")
    assert found.plain["finished"] is False
    assert holding(tmp_path / "run" / "manifest.json") == found


def test_what_is_no_run_is_not_taken_for_one(tmp_path: Path) -> None:
    assert holding(tmp_path) is None
    assert holding(tmp_path / "nothing") is None
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(RunError):
        holding(tmp_path)
