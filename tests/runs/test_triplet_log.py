"""Triplets on disk: what was appended is read, whatever is cut, flipped, refused or killed; it is told in one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from faults import refusing

from steersman.core.errors import DataError, LockedError, MismatchError, RunError, StorageError, UsageError
from steersman.runs.frames import frames, segments
from steersman.runs.triplets import FIRST, INDEX, MARK, TERMINAL, TripletReader, TripletWriter, read_index

NAMES = ("effort", "pain")


def at(value: float, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return np.full((count, 3), value, np.float32), np.full((count, 2), -value, np.float32)


def lived(folder: Path, rows: int, **limits) -> TripletWriter:
    writer = TripletWriter(folder, 3, NAMES, run="r", weights="w", **limits)
    for value in range(rows):
        writer.append(*at(value), first=np.array([value == 0]))
    return writer


def values(folder: Path) -> dict[int, float]:
    rows = TripletReader(folder).read(skip_damaged=True)
    return dict(zip(rows.number.tolist(), rows.states[:, 0].tolist(), strict=True))


def test_episodes_side_by_side_are_told_apart_and_go_on_in_another_process_s_writer(tmp_path):
    writer = TripletWriter(tmp_path / "x", 3, NAMES)
    writer.append(*at(0, 2), first=np.ones(2, bool))
    writer.append(*at(1, 2), terminal=np.array([True, False]), steps=4, updates=7)
    writer.append(*at(2, 2), first=np.array([True, False]))
    writer.append(*at(3), stream=np.array([1]))
    writer.close()
    writer = TripletWriter(tmp_path / "x", 3, NAMES)
    assert list(writer.append(*at(4, 2))) == [7, 8]
    rows = TripletReader(tmp_path / "x").read()
    assert rows.episode.tolist() == [0, 1, 0, 1, 4, 1, 1, 7, 8]
    assert rows.row.tolist() == [0, 0, 1, 1, 0, 2, 3, 0, 0]
    assert rows.time.tolist() == [0, 0, 4, 4, 0, 5, 6, 0, 0]
    assert rows.marks.tolist() == [FIRST, FIRST, TERMINAL, 0, FIRST, 0, 0, 0, 0]
    assert rows.updates.tolist() == [0, 0, 7, 7, 0, 0, 0, 0, 0]
    assert rows.costs.tolist() == [[-v, -v] for v in rows.states[:, 0].tolist()]
    assert TripletReader(tmp_path / "x").read(3, 6).number.tolist() == [3, 4, 5]


REFUSED = {
    "NaN": (at(np.nan), {}, DataError, "NaN or infinity"),
    "another size": ((np.zeros((1, 4), np.float32), at(0)[1]), {}, DataError, r"\(1, 4\)"),
    "another number of costs": ((at(0)[0], np.zeros((1, 1), np.float32)), {}, DataError, r"\(1, 1\)"),
    "another type": ((np.zeros((1, 3)), at(0)[1]), {}, DataError, "float64"),
    "twice a stream": (at(0, 2), {"stream": np.array([1, 1])}, DataError, "2 different streams"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_and_nothing_is_written(tmp_path, name):
    writer = lived(tmp_path / "x", 2)
    given, more, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words):
        writer.append(*given, **more)
    assert writer.count == 2
    assert values(tmp_path / "x") == {0: 0, 1: 1}


def test_another_agent_s_memory_is_not_added_to(tmp_path):
    lived(tmp_path / "x", 2).close()
    for change in ({"size": 4}, {"costs": ("effort",)}, {"weights": "others"}):
        given = {"size": 3, "costs": NAMES, "weights": "w"} | change
        with pytest.raises(MismatchError, match="go on with the agent that they are of"):
            TripletWriter(tmp_path / "x", **given)
    writer = TripletWriter(tmp_path / "x", 3, NAMES, weights="w")
    with pytest.raises(LockedError, match="one writer for"):
        TripletWriter(tmp_path / "x", 3, NAMES, weights="w")
    writer.close()
    with pytest.raises(UsageError, match="open them again"):
        writer.append(*at(0))
    with pytest.raises(UsageError, match="intrinsic costs"):
        TripletWriter(tmp_path / "y", 3, ())


def test_a_file_cut_at_any_byte_loses_what_was_cut_says_so_and_is_written_on(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda fd: None)
    lived(tmp_path / "whole", 3).close()
    content = segments(tmp_path / "whole")[-1][1].read_bytes()
    ends = [end for end, _ in frames(segments(tmp_path / "whole")[-1][1], MARK)]
    for cut in range(0, len(content), 7):
        folder = tmp_path / f"{cut}"
        shutil.copytree(tmp_path / "whole", folder)
        segments(folder)[-1][1].write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends)
        with pytest.raises(RunError, match=f"none of {whole} to 2, which were cut off; restore the file"):
            TripletReader(folder).read()
        assert list(values(folder)) == list(range(whole))
        writer = TripletWriter(folder, 3, NAMES, weights="w")
        assert list(writer.append(*at(7))) == [3]  # no number is given twice
        writer.close()
        assert values(folder) == {**{n: n for n in range(whole)}, 3: 7}
        assert f"none of {whole} to 2" in TripletReader(folder).damage()


def test_a_flipped_byte_costs_one_append_is_told_and_is_never_written_over(tmp_path):
    lived(tmp_path / "whole", 5).close()
    content = segments(tmp_path / "whole")[-1][1].read_bytes()
    ends = [end for end, _ in frames(segments(tmp_path / "whole")[-1][1], MARK)]
    for place in range(0, len(content), 5):
        folder = tmp_path / f"{place}"
        shutil.copytree(tmp_path / "whole", folder)
        file = segments(folder)[-1][1]
        altered = content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :]
        file.write_bytes(altered)
        hit = sum(end <= place for end in ends)
        assert values(folder) == {n: n for n in range(5) if n != hit}
        with pytest.raises(RunError, match="restore the file from a copy") as caught:
            TripletReader(folder).read()
        assert "\n" not in str(caught.value)
        writer = TripletWriter(folder, 3, NAMES, weights="w")
        number = writer.append(*at(9))[0]
        assert number >= 5
        writer.close()
        assert file.read_bytes()[: len(altered)] == altered  # a copy of one byte would bring everything back
        file.write_bytes(content + file.read_bytes()[len(altered):])
        assert values(folder) == {**{n: n for n in range(5)}, number: 9}


@pytest.mark.parametrize("mode", ["once", "full"])
def test_a_full_disk_is_told_in_one_line_and_loses_nothing(tmp_path, mode, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda fd: None)
    refused = 0
    for n in range(1, 40):
        folder = tmp_path / f"{mode}-{n}"
        writer = lived(folder, 30, retain=1500)
        before = values(folder)
        with refusing(folder, n, mode) as disk:
            try:
                numbers, told = writer.append(*at(1000)), None
            except StorageError as error:
                numbers, told = None, str(error)
        if not disk.hit:
            break
        refused += 1
        assert told is None or ("no space left" in told and "\n" not in told)
        after = writer.append(*at(1001))[0]
        now = values(folder)
        assert {k: now.get(k) for k in before if k >= min(now)} == {k: v for k, v in before.items() if k >= min(now)}
        assert (now[after], numbers is None or now[numbers[0]] == 1000) == (1001, True)
        writer.close()
    assert refused >= 1


def test_the_oldest_make_room_and_a_killed_writer_leaves_no_lock(tmp_path):
    lived(tmp_path / "x", 100, retain=3000).close()
    reader, there = TripletReader(tmp_path / "x"), values(tmp_path / "x")
    assert 0 < read_index(tmp_path / "x").first == min(there) < 99
    assert there == {n: n for n in range(min(there), 100)}
    assert reader.damage() == ""
    assert sum(path.stat().st_size for _, path in segments(tmp_path / "x")) <= 3000 + 3000 // 8
    code = f"import sys; sys.path[:0] = {sys.path!r}\nimport os; from pathlib import Path; import numpy as np\n" \
           f"from steersman.runs.triplets import *; w = TripletWriter(Path({str(tmp_path / 'x')!r}), 3, {NAMES!r}, " \
           "weights='w')\nw.append(np.ones((1, 3), np.float32), np.ones((1, 2), np.float32)); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert TripletWriter(tmp_path / "x", 3, NAMES, weights="w").count == 101
    later = tmp_path / "x" / INDEX
    later.write_text(later.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(RunError, match="update steersman"):
        TripletReader(tmp_path / "x")
    with pytest.raises(RunError, match="remember some first"):
        TripletReader(tmp_path / "nowhere")


def test_what_makes_room_while_it_is_read_is_not_missing(tmp_path):
    writer = lived(tmp_path / "x", 20, retain=3000)
    reader = TripletReader(tmp_path / "x")
    for value in range(20, 60):
        writer.append(*at(value))
    found = reader.read()
    assert found.number.tolist() == list(range(read_index(tmp_path / "x").first, 60))


def test_a_memory_is_read_without_torch():
    code = "import sys; import steersman.runs.triplets; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"],
                          capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
