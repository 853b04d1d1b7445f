"""The group `steersman data`: what it lists, how it refuses, and `data convert` at work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from steersman import data


def test_a_group_lists_its_commands_and_refuses_others(steersman: Callable) -> None:
    for words in (["data"], ["data", "--help"]):
        ended = steersman(*words)
        assert ended.code == 0
        assert "\n  data convert  " in ended.out
    ended = steersman("data", "convrt", "a", "b")
    assert ended.code == 2
    assert "did you mean `data convert`?" in ended.err


def test_a_log_becomes_one_of_another_format(steersman: Callable, log: Path) -> None:
    ended = steersman("data", "convert", "log.csv", "log.parquet", "--low", "-1", "--high", "1", "--json")
    assert ended.code == 0, ended.err
    facts = ended.json
    assert (facts["from"], facts["format"], facts["episodes"], facts["steps"]) == ("csv", "parquet", 3, 87)
    source = data.read("log.parquet")
    assert source.steps == 87
    assert source.signature.action.low == (-1.0,)
    assert steersman("data", "--json", "convert", "log.csv", "log.parquet").code == 2  # the name is in use
    ended = steersman("data", "convert", "log.csv", "even.npz", "--time", "x", "--period", "0.1")
    assert ended.code == 1
    assert "'x' to increase" in ended.err
    Path("timed.csv").write_text("time,x,push\n" + "".join(f"{30 * i},{i},{i % 3}.5\n" for i in range(9)))
    ended = steersman("data", "convert", "timed.csv", "even.npz", "--action", "push", "--period", "0.06",
                      "--time-unit", "0.001")
    assert ended.code == 0, ended.err
    assert "9 rows became 5 (5 kept, 0 moved, 0 made, 4 dropped); largest gap 0.03 s" in ended.out
    assert data.read("even.npz").steps == 4
    assert steersman("data", "convert", "log.csv", "log.unknown").code == 2


def test_logs_without_a_table_are_listed_and_converted(steersman: Callable, tmp_path: Path) -> None:
    listed = steersman("data", "formats", "--json").json["formats"]
    assert {"pictures", "films", "wav", "fields", "text"} <= set(listed)
    Path("photos/cat").mkdir(parents=True)
    Image.fromarray(np.full((8, 12, 3), 90, np.uint8)).save("photos/cat/1.png")
    ended = steersman("data", "convert", "photos", "small", "--to", "pictures", "--resize", "4", "6")
    assert ended.code == 0, ended.err
    assert "resized to 4×6 from 8×12" in ended.out
    assert data.read("small").signature.observations["image"].shape == (4, 6, 3)
    ended = steersman("data", "convert", "photos", "other", "--to", "pictures", "--resize", "4")
    assert ended.code == 2
    assert "a height and a width" in ended.err
    np.save("waves.npy", np.zeros((4, 5, 6), np.float32))
    ended = steersman("data", "convert", "waves.npy", "waves", "--to", "fields", "--axes", "ntx", "--periodic", "x")
    assert ended.code == 0, ended.err
    assert data.read("waves").signature.observations["field"].periodic == (True,)
    assert data.read("waves").steps == 4 * 4
    Path("book").mkdir()
    Path("book/1.txt").write_text("abc")
    assert steersman("data", "convert", "book", "said", "--to", "text", "--action", "text").code == 0
    assert data.read("said").signature.action.choices == 256
    Path("book/2.txt").write_bytes(b"ab\xff")
    ended = steersman("data", "convert", "book", "again", "--to", "text")
    assert ended.code == 1
    assert "byte 0xff at offset 2" in ended.err
    assert not Path("again").exists()
