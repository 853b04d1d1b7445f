"""Whatever is wrong with a log: one error that says what was expected, what came and what to do; nothing is left."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from logs import CHOICES, MIXED, VECTORS, make_dataset, make_log

from steersman.core import ActionError, DataError, SteersmanError, StorageError, UsageError
from steersman.data import Dataset, ReadOptions, load, read, write

Case = tuple[str, str | bytes | None, ReadOptions, type[SteersmanError], str]
GOOD = "episode,t,x,action\n0,0,1,.1\n0,1,2,.2\n0,2,3,.3\n"
O = ReadOptions  # noqa: E741

CSV: dict[str, tuple[str | bytes, ReadOptions, type[SteersmanError], str]] = {
    "empty file": ("", O(), DataError, "a table with a header"),
    "header only": ("x,action\n", O(), DataError, "at least 2 rows.*got 0"),
    "one row": ("x,action\n1,2\n", O(), DataError, "at least 2 rows.*got 1"),
    "one-step episode": (GOOD + "1,0,9,.1\n", O(), DataError, r"each episode.*episode 1 with 1 row \(4\).*drop it"),
    "no action column": ("x,y\n1,2\n3,4\n", O(), DataError, "an action column.*columns x, y.*--action"),
    "no observation column": ("reward,action\n1,2\n3,4\n", O(), DataError, "an observation column"),
    "missing action column": (GOOD, O(action=("torque",)), DataError, "'torque'.*columns t?.*x, action"),
    "missing observation column": (GOOD, O(observation=("y*",)), DataError, r"a column 'y\*'.*correct the observation"),
    "missing exogenous column": (GOOD, O(exogenous=("w",)), DataError, "a column 'w'"),
    "missing episode column": (GOOD, O(episode="run"), DataError, "'run'.*name the episode column"),
    "missing time column": (GOOD, O(time="clock"), DataError, "'clock'.*name the time column"),
    "one column, two roles": (GOOD, O(action=("x",), observation=("x",)), DataError, "one role.*two for x"),
    "duplicate columns": ("x,x,action\n1,2,3\n4,5,6\n", O(), DataError, "twice: x.*rename"),
    "NaN": (GOOD.replace("2,.2", "nan,.2"), O(), DataError, r"finite.*'x'.*nan at row 2 \(1 such rows\)"),
    "empty cell": (GOOD.replace("2,.2", ",.2"), O(), DataError, "finite.*'x'.*row 2"),
    "infinity": (GOOD.replace("2,.2", "inf,.2"), O(), DataError, "finite.*inf at row 2"),
    "too large for float32": (GOOD.replace("2,.2", "1e300,.2"), O(), DataError, r"finite.*1e\+300"),
    "NaN action": (GOOD.replace("2,.2", "2,nan"), O(), DataError, "finite.*'action'.*row 2"),
    "text": (GOOD.replace("2,.2", "fast,.2"), O(observation=("x",)), DataError, "numbers in column 'x'.*string"),
    "empty column": ("x,action\n,1\n,2\n", O(), DataError, "numbers in column 'x'.*empty cells"),
    "ragged rows": (GOOD + "0,3,4\n", O(), DataError, "equally many values a row"),
    "not UTF-8": (b"x,\xff\xfeaction\n1,2\n3,4\n", O(), DataError, "."),
    "interleaved episodes": (
        "episode,x,action\n0,1,1\n0,2,1\n1,1,1\n1,3,1\n0,4,1\n0,5,2\n", O(), DataError, "episode 0 again at row 5.*sort"
    ),
    "time goes backwards": (GOOD.replace("0,2,3", "0,1,3"), O(), DataError, "'t' to increase.*1 after 1 at row 3"),
    "time is text": (GOOD.replace("0,1,2", "0,noon,2"), O(), DataError, "numbers or times in 't'"),
    "empty time": (GOOD.replace("0,1,2", "0,,2"), O(), DataError, "a value in every row of 't'"),
    "empty episode": (GOOD.replace("0,1,2", ",1,2"), O(), DataError, "a value in every row of 'episode'"),
    "constant action": (GOOD.replace(".2", ".1"), O(), DataError, "actions that vary.*state the real bounds"),
    "action out of bounds": (
        GOOD, O(low=(-0.1,), high=(0.15,)), ActionError, r"'action' within \[-0.1, 0.15\].*0.2 at row 2.*widen"
    ),
    "bounds of another size": (GOOD, O(low=(0.0, 0.0), high=(1.0, 1.0)), DataError, "1 or 1 bounds low.*got 2"),
    "bounds upside down": (GOOD, O(low=(1.0,), high=(-1.0,)), DataError, "state the real bounds"),
    "fractional choices": (GOOD, O(discrete=True), DataError, "whole numbers as choices"),
    "negative choices": (GOOD.replace(".", "-"), O(discrete=True), ActionError, "choices 0 to .*-3 to|-2 to"),
    "a choice beyond the last": (
        GOOD.replace(".", ""), O(discrete=True, high=(1.0,)), ActionError, "choices 0 to 1.*1 to 2.*high is the last"
    ),
    "unknown format name": (GOOD, O(format="xlsx"), UsageError, "a format among cache, experience, minari, csv"),
    "another format's name": (GOOD, O(format="parquet"), DataError, "a sound Parquet file"),
    "not a cache": (GOOD, O(format="cache"), DataError, "a cache with index.json"),
}


def nothing_but(path: Path, *names: str) -> None:
    assert sorted(p.name for p in path.iterdir()) == sorted(names)


def refused(act: Callable[[], object], kind: type[SteersmanError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("expected ")
    assert "; got " in text
    assert len(text) < 1000


@pytest.mark.parametrize("case", CSV)
def test_bad_csv(tmp_path: Path, case: str) -> None:
    content, options, kind, words = CSV[case]
    log = tmp_path / "log.csv"
    log.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(lambda: load(log, tmp_path / "cache", options), kind, words)
    nothing_but(tmp_path, "log.csv")


def table(**columns: object) -> pa.Table:
    return pa.table({"episode": [0, 0, 0], "x": [1.0, 2.0, 3.0], "action": [0.1, 0.2, 0.3]} | columns)


PARQUET: dict[str, tuple[Callable[[], pa.Table | bytes], type[SteersmanError], str]] = {
    "empty": (lambda: b"", DataError, "a sound Parquet file"),
    "not parquet": (lambda: b"PAR1 or so they say", DataError, "a sound Parquet file"),
    "no rows": (lambda: table().slice(0, 0), DataError, "at least 2 rows"),
    "no columns": (lambda: pa.table({}), DataError, "."),
    "ragged lists": (lambda: table(action=[[0.1], [0.2, 0.3], [0.4]]), DataError, r"lists of one length.*\[1, 2\]"),
    "missing lists": (lambda: table(action=[[0.1], None, [0.4]]), DataError, "lists of one length"),
    "empty lists": (
        lambda: table(action=pa.array([[], [], []], pa.list_(pa.float32()))), DataError, "lists of one length"
    ),
    "NaN inside a list": (lambda: table(x=[[0.1], [np.nan], [0.4]]), DataError, "finite.*'x.0'.*row 2"),
    "text": (lambda: table(x=["a", "b", "c"]), DataError, "numbers in column 'x'.*string: a"),
    "structs": (lambda: table(x=[{"a": 1}] * 3), DataError, "numbers in column 'x'"),
    "bytes without a shape": (
        lambda: table(x=pa.array([b"abc"] * 3, pa.binary(3))), DataError, "state the image's shape.*'shape'"
    ),
    "a foreign description": (
        lambda: table().replace_schema_metadata({"steersman": '{"roles": 1}'}), DataError, "a valid description"
    ),
}


@pytest.mark.parametrize("case", PARQUET)
def test_bad_parquet(tmp_path: Path, case: str) -> None:
    make, kind, words = PARQUET[case]
    log, content = tmp_path / "log.parquet", make()
    if isinstance(content, bytes):
        log.write_bytes(content)
    else:
        pq.write_table(content, log)
    refused(lambda: load(log, tmp_path / "cache"), kind, words)
    nothing_but(tmp_path, "log.parquet")


def edited(path: Path, **changes: object) -> None:
    index = json.loads((path / "index.json").read_text())
    (path / "index.json").write_text(json.dumps(index | changes))


CACHES: dict[str, tuple[Callable[[Path], object], str]] = {
    "index truncated": (lambda p: (p / "index.json").write_text('{"format"'), "a valid index.json"),
    "index empty": (lambda p: (p / "index.json").write_bytes(b""), "a valid index.json"),
    "index of another kind": (lambda p: (p / "index.json").write_text("[1, 2]"), "a valid index.json"),
    "index of another program": (lambda p: edited(p, format="zarr"), "a steersman cache"),
    "future version": (lambda p: edited(p, version=2), "cache format 1.*got format 2; update steersman"),
    "unknown field": (lambda p: edited(p, compression="zip"), "unknown field `compression`"),
    "another signature": (lambda p: resigned(p, exogenous=["w"]), "fields of its signature"),
    "impossible signature": (lambda p: resigned(p, action={"kind": "discrete"}), "index.json"),
    "more rows than there are": (lambda p: edited(p, rows=10**12), "rows of"),
    "negative rows": (lambda p: edited(p, rows=-1), "rows of"),
    "more episodes than there are": (lambda p: edited(p, episodes=10**12), "rows of offsets"),
    "a path that leaves the folder": (lambda p: moved_out(p), "rows of"),
    "a missing file": (lambda p: (p / "action-1.bin").unlink(), "file action-1.bin"),
    "a truncated file": (lambda p: (p / "action-1.bin").write_bytes(b"1234"), "bytes in.*got 4"),
}


def resigned(path: Path, **changes: object) -> None:
    edited(path, signature=json.loads((path / "index.json").read_text())["signature"] | changes)


def moved_out(path: Path) -> None:
    fields = json.loads((path / "index.json").read_text())["fields"]
    (path.parent / "secret.bin").write_bytes((path / "action-1.bin").read_bytes())
    fields["action"]["file"] = "../secret.bin"
    edited(path, fields=fields)


@pytest.mark.parametrize("case", CACHES)
def test_bad_cache(tmp_path: Path, case: str) -> None:
    damage, words = CACHES[case]
    make_dataset(tmp_path / "cache", VECTORS, [4, 5])
    damage(tmp_path / "cache")
    refused(lambda: Dataset.open(tmp_path / "cache"), DataError, words)


def test_bad_paths(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.odt").touch()
    (tmp_path / "notes.odt").write_text("hello")
    (tmp_path / "named.csv").mkdir()
    refused(lambda: read(tmp_path / "nothing.csv"), DataError, "nothing at")
    refused(lambda: read(tmp_path / "nothing"), DataError, "nothing at.*Minari dataset id")
    refused(lambda: read("D4RL/pen/human-v2"), DataError, "nothing at")
    refused(lambda: read(tmp_path / "folder"), DataError, "a folder of another kind")
    refused(lambda: read(tmp_path / "notes.odt"), DataError, r"known format.*\.odt")
    refused(lambda: read(tmp_path / "named.csv"), DataError, "a table with a header")
    refused(lambda: read(tmp_path / "nothing.csv", O(format="csv")), DataError, "a readable file")
    refused(lambda: Dataset.open(tmp_path / "notes.odt"), DataError, "a cache with index.json")
    refused(lambda: write(tmp_path / "log.xlsx", VECTORS, []), UsageError, "asks for a format.*one of cache")
    refused(lambda: write(tmp_path / "x", VECTORS, [], format="npz"), DataError, "at least one episode")
    refused(lambda: write(tmp_path / "folder", VECTORS, [], format="minari"), StorageError, "in use")


def test_bad_places_for_a_cache(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(GOOD)
    refused(lambda: load(log, log), StorageError, "something else there.*choose another path")
    refused(lambda: load(log, log / "inside"), StorageError, "file exists|not a directory")
    refused(lambda: load(log, "/proc/steersman/cache"), StorageError, "cache written in /proc")
    nothing_but(tmp_path, "log.csv")


def test_a_bad_description_beside_a_csv(tmp_path: Path) -> None:
    log, beside = tmp_path / "log.csv", tmp_path / "log.csv.schema.toml"
    write(log, VECTORS, make_log(VECTORS, [3]))
    good = beside.read_text()
    for change, words in (
        (("gap = 0.0", "gap = "), "a valid description"),
        (("gap = 0.0", "gapp = 0.0"), "a valid description.*unknown field `gapp`"),
        (("gap = 0.0", "gap = 0.5"), "a valid description.*more than 1 sampling period"),
        (('"episode" =', '"run" ='), "columns run of the schema"),
        (("role = \"time\"", "role = \"episode\""), "a valid description.*at most one episode"),
        (("[-1.0, 1.0]", "[1.0, -1.0]"), "a valid description.*low < high"),
        (("[-1.0, 1.0]", "[-0.01, 0.01]"), "'action.left' within"),
    ):
        assert change[0] in good
        beside.write_text(good.replace(*change))
        refused(lambda: read(log), SteersmanError, words)
    assert read(log, O(low=(-9.0,), high=(9.0,))).steps == 3


def test_options_that_a_format_cannot_use_are_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path / "cache", VECTORS, [4])
    refused(lambda: read(tmp_path / "cache", O(action=("x",))), UsageError, "options of none for a cache log.*action")


def test_a_missing_package_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(lambda: read(tmp_path / "log.h5", limits=None), UsageError, r"the package h5py.*steersman\[hdf5\]")


def test_bad_windows_and_episodes(tmp_path: Path) -> None:
    dataset, _ = make_dataset(tmp_path / "cache", VECTORS, [4, 5])
    one = torch.tensor([0])
    refused(lambda: dataset.windows(one + 2, one, 3), DataError, "windows inside one episode.*Dataset.draw")
    refused(lambda: dataset.windows(one, one + 2, 3), DataError, "steps 2 to 5")
    refused(lambda: dataset.windows(one[:0], one[:0], 3), DataError, "at least one window")
    refused(lambda: dataset.windows(one, one, 0), DataError, "at least one window")
    refused(lambda: dataset.draw(3, 6, torch.Generator()), DataError, "at least 6 steps.*longest has 5")


@pytest.mark.parametrize("signature", [MIXED, CHOICES])
def test_episodes_that_do_not_fit_their_signature(tmp_path: Path, signature) -> None:  # type: ignore[no-untyped-def]
    refused(
        lambda: write(tmp_path / "log.parquet", signature, make_log(VECTORS, [3])), SteersmanError, "episode 0"
    )
    nothing_but(tmp_path)
