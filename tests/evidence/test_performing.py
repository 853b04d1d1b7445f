"""Experiments cell by cell: what is kept is not performed again, what fails loses only itself, stale says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
from faults import Killed, refusing

from steersman import evidence
from steersman.core.errors import LockedError, RunError, UsageError
from steersman.evidence import Cell, Context, Experiment, Found, Order, Outcome, Results, perform, performing, survey
from steersman.evidence import kept as keep
from steersman.evidence.performing import choose, place
from steersman.runs import Run
from steersman.runs.artefacts import Column, Figure, Picture, Row, Table, read_all

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)
PERFORMED: list[str] = []


class Settings(msgspec.Struct, frozen=True):
    score: float = 0.5
    fails: bool = False


class Note(msgspec.Struct, frozen=True):
    numbers: list[float]


def model(context: Context) -> Found:
    PERFORMED.append(f"model@{context.seed}")
    (context.folder / "weights.txt").write_text("1 2 3")
    return Found()


def measure(context: Context) -> Found:
    PERFORMED.append(f"walk@{context.seed}")
    context.say("working")
    if context.settings.fails:
        raise ValueError("odd\nthing")
    assert (context.needs[0].folder / "weights.txt").read_text() == "1 2 3"
    picture = Picture(name="walk", title="Walk", file="walk.png", alt="a point")
    figures = {"score": np.float32(context.settings.score), "more": np.arange(2), "none": float("nan")}
    return Found({"walk/far": figures}, Note([1.5]), ((picture, {"walk.png": PIXEL}),))


def sum_up(results: Results) -> Outcome:
    table = Table(name="result", title="Result", columns=(Column(key="x", title="x"),),
                  rows=(Row(label="random", kind="baseline", figures={"x": Figure(value=0.1)}),))
    walks = results.of("walk/far")
    assert all(one.record(Note).numbers == [1.5] for one in walks)
    pictures = tuple(pair for one in walks[:1] for pair in one.artefacts())
    return Outcome({row: keys for one in results for row, keys in one.kept.figures.items()}, (table,), pictures)


def toy(score: float = 0.5, fails: int = -1) -> Experiment:
    def cells(seed: int) -> tuple[Cell, ...]:
        shared = Cell("model", model, 5, seed)
        return tuple(Cell("walk/far", measure, 9, seed + i, Settings(score, i == fails), (shared,), usual=i < 2)
                     for i in range(3))

    return Experiment("toy", cells, sum_up)


def performed() -> list[str]:
    found = list(PERFORMED)
    PERFORMED.clear()
    return found


@pytest.fixture(autouse=True)
def forgotten(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was performed; and no report is drawn, but where a test asks for one."""
    PERFORMED.clear()
    if "report" not in request.node.name:
        monkeypatch.setattr(performing, "build", lambda path: None)


def states(experiment: Experiment, folder: Path) -> dict[str, str]:
    return {entry.cell.name: entry.state for entry in survey(experiment.table(0), folder)}


def test_an_experiment_leaves_cells_figures_tables_pictures_and_a_report(tmp_path: Path) -> None:
    said: list[str] = []
    result, outcome = perform(toy(), tmp_path / "run", say=said.append)
    run = Run.open(tmp_path / "run")
    assert performed() == ["model@0", "walk@0", "walk@1"]
    assert result.figures == {"walk/far": {"score": 0.5, "more": [0, 1], "none": None}}
    assert run.read_json("evidence.json") == msgspec.to_builtins(result)
    assert set(msgspec.to_builtins(result)) == {"name", "seed", "figures", "seconds", "run"}
    assert [table.name for table in read_all(run.path, Table)[0]] == ["result", "cells"]
    assert outcome.tables[1].notes == ("1 of 4 cells are not performed: --full performs them, or --cell ROW.",)
    assert len(read_all(run.path, Picture)[0]) == 1
    assert "Result" in (run.report_dir / "report.html").read_text()
    assert "cell 2 of 3: walk/far@0, about 9 s" in said
    assert "working" in said


def test_a_cell_is_kept_with_what_it_rests_on(tmp_path: Path) -> None:
    perform(toy(), tmp_path / "run")
    found = keep.read(tmp_path / "run" / "cells" / "walk+far@1")
    assert found is not None
    assert (found.row, found.seed, found.settings) == ("walk/far", 1, {"score": 0.5, "fails": False})
    assert {"torch", "numpy", "python"} <= set(found.versions)
    assert {"cores", "name"} <= set(found.machine)
    assert found.date.startswith("20")
    assert found.seconds >= 0
    assert any(name.startswith("pictures/walk") for name in found.files)


def test_figures_of_a_table_of_one_row_are_its_keys(tmp_path: Path) -> None:
    def one(results: Results) -> Outcome:
        return Outcome({"": {"score": 1.0}})

    assert perform(Experiment("toy", toy().cells, one), tmp_path / "run")[0].figures == {"score": 1.0}


def test_what_is_kept_is_not_performed_again_and_full_adds_the_others(tmp_path: Path) -> None:
    perform(toy(), tmp_path / "run")
    performed()
    first = (tmp_path / "run" / "cells" / "walk+far@0" / "cell.json").read_bytes()
    result, _ = perform(toy(), tmp_path / "run", Order(full=True))
    assert performed() == ["walk@2"]
    assert (tmp_path / "run" / "cells" / "walk+far@0" / "cell.json").read_bytes() == first
    assert result.figures["walk/far"]["score"] == 0.5
    perform(toy(), tmp_path / "run")
    assert performed() == []


def test_one_row_brings_what_it_needs_once(tmp_path: Path) -> None:
    perform(toy(), tmp_path / "run", Order(cell="walk/far@2"))
    assert performed() == ["model@0", "walk@2"]
    perform(toy(), tmp_path / "run", Order(cell="walk"))
    assert performed() == ["walk@0", "walk@1"]


def test_an_unknown_row_is_refused_with_the_nearest() -> None:
    cells = toy().table(0)
    with pytest.raises(UsageError, match="did you mean 'walk/far'"):
        choose(cells, Order(cell="walk/fra"))
    with pytest.raises(UsageError, match="--list shows them"):
        choose(cells, Order(cell="zzz"))


def test_a_cell_that_raises_loses_only_itself(tmp_path: Path) -> None:
    result, outcome = perform(toy(fails=0), tmp_path / "run")
    assert performed() == ["model@0", "walk@0", "walk@1"]
    assert result.failed == {"walk/far@0": "ValueError: odd thing"}
    assert Run.open(tmp_path / "run").read_json("evidence.json")["failed"] == result.failed
    assert "walk/far@0 failed: ValueError: odd thing." in outcome.tables[-1].notes
    assert "walk/far@0 (failed)" in [row.label for row in outcome.tables[-1].rows]
    assert result.figures["walk/far"]["score"] == 0.5
    assert "in measure" in (tmp_path / "run" / "failures" / "walk+far@0.txt").read_text()
    assert not (tmp_path / "run" / "cells" / "walk+far@0").exists()
    result, _ = perform(toy(), tmp_path / "run")
    assert performed() == ["walk@0"]
    assert result.failed == {}
    assert not (tmp_path / "run" / "failures" / "walk+far@0.txt").exists()


@pytest.mark.parametrize(("found", "says"), [
    (Found({"score": 1.0}), "figures of model@0 as {row: {key: number}}; got {'score': 1.0}"),  # type: ignore[dict-item]
    (Found({"": {"score": object()}}), "got object; leave it as a file"),
])
def test_what_cannot_be_kept_fails_with_words(
    found: Found, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(context: Context) -> Found:
        return found

    odd.__qualname__ = "odd"
    one = Experiment("toy", lambda seed: (Cell("model", odd, 1, seed),), sum_up)
    assert says in perform(one, tmp_path / "run")[0].failed["model@0"]


def test_what_needs_a_cell_that_failed_is_not_performed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "write", lambda *_, **__: 1 / 0)
    result, outcome = perform(toy(), tmp_path / "run")
    assert performed() == ["model@0"]
    assert result.failed["walk/far@0"] == "not performed: it needs model@0"
    assert result.figures == {}
    assert len(outcome.tables) == 1


def test_a_summary_that_misses_failed_cells_is_named_too(tmp_path: Path) -> None:
    def wants_all(results: Results) -> Outcome:
        return Outcome({"": {"score": len(results.of("walk/far")) / 0}})

    result, _ = perform(Experiment("toy", toy(fails=0).cells, wants_all), tmp_path / "run")
    assert result.failed["summary"] == "ZeroDivisionError: division by zero"
    with pytest.raises(ZeroDivisionError):
        perform(Experiment("toy", toy().cells, wants_all), tmp_path / "other")


def test_other_settings_make_a_cell_stale_and_it_is_performed_again_or_marked(tmp_path: Path) -> None:
    perform(toy(), tmp_path / "run")
    performed()
    changed = toy(0.75)
    assert states(changed, tmp_path / "run") == {
        "model@0": "kept", "walk/far@0": "stale", "walk/far@1": "stale", "walk/far@2": "missing"}
    result, outcome = perform(changed, tmp_path / "run", Order(keep_stale=True))
    assert performed() == []
    assert result.stale == ["walk/far@0", "walk/far@1"]
    assert result.figures["walk/far"]["score"] == 0.5
    assert Run.open(tmp_path / "run").read_json("evidence.json")["stale"] == result.stale
    assert "walk/far@0 (stale)" in [row.label for row in outcome.tables[-1].rows]
    result, _ = perform(changed, tmp_path / "run")
    assert performed() == ["walk@0", "walk@1"]
    assert (result.stale, result.figures["walk/far"]["score"]) == ([], 0.75)


MODULE = """
from steersman.evidence import Cell, Context, Experiment, Found, Outcome

def base(context):
    (context.folder / "n.txt").write_text("1")
    return Found()

def rest(context):
    return Found({"": {"n": int((context.needs[0].folder / "n.txt").read_text())}})
"""
REST = "\n\ndef later(context):\n    return Found()\n"


def test_a_change_of_source_makes_cells_stale_and_those_that_need_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base_of.py").write_text(MODULE)
    (tmp_path / "rest_of.py").write_text("from base_of import rest\n\ndef rest2(context):\n    return rest(context)\n")
    monkeypatch.syspath_prepend(tmp_path)
    import base_of
    import rest_of

    def cells(seed: int) -> tuple[Cell, ...]:
        need = Cell("base", base_of.base, 1, seed)
        return (need, Cell("rest", rest_of.rest2, 1, seed, needs=(need,)))

    changing = Experiment("changing", cells, lambda results: Outcome({"": {"n": 1}}))
    perform(changing, tmp_path / "run")
    (tmp_path / "base_of.py").write_text(f'"""Words."""\n{MODULE}# more of them\n')
    assert set(states(changing, tmp_path / "run").values()) == {"kept"}
    (tmp_path / "rest_of.py").write_text((tmp_path / "rest_of.py").read_text() + REST)
    assert states(changing, tmp_path / "run") == {"base@0": "kept", "rest@0": "stale"}
    perform(changing, tmp_path / "run")
    (tmp_path / "base_of.py").write_text(MODULE.replace('"1"', '"2"'))
    assert states(changing, tmp_path / "run") == {"base@0": "stale", "rest@0": "stale"}


def test_what_rests_on_a_stale_cell_is_stale_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    perform(toy(), tmp_path / "run", Order(cell="model"))
    monkeypatch.setattr(keep, "_versions", lambda: {"torch": "99"})
    result, _ = perform(toy(), tmp_path / "run", Order(keep_stale=True))
    assert performed() == ["model@0", "walk@0", "walk@1"]
    assert result.stale == ["model@0", "walk/far@0", "walk/far@1"]
    assert states(toy(), tmp_path / "run")["walk/far@0"] == "stale"
    assert perform(toy(), tmp_path / "run")[0].stale == []


@pytest.mark.parametrize("spoil", [
    lambda folder: (folder / "cell.json").write_text((folder / "cell.json").read_text().replace("0.5", "0.9")),
    lambda folder: (folder / "cell.json").write_bytes(b"{"),
    lambda folder: (folder / "cell.json").unlink(),
    lambda folder: next(folder.glob("pictures/*.png")).write_bytes(b"x" * len(PIXEL)),
    lambda folder: next(folder.glob("pictures/*.png")).unlink(),
])
def test_a_damaged_cell_is_performed_again_and_said(spoil: Callable[[Path], object], tmp_path: Path) -> None:
    perform(toy(), tmp_path / "run")
    performed()
    spoil(tmp_path / "run" / "cells" / "walk+far@1")
    assert states(toy(), tmp_path / "run")["walk/far@1"] == "damaged"
    said: list[str] = []
    result, _ = perform(toy(), tmp_path / "run", Order(keep_stale=True), say=said.append)
    assert performed() == ["walk@1"]
    assert any("which was damaged" in line for line in said)
    assert (result.failed, result.stale) == ({}, [])


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    perform(toy(), tmp_path / "run")
    for experiment, order in [(Experiment("other", toy().cells, sum_up), Order()), (toy(), Order(seed=1))]:
        with pytest.raises(RunError, match="evidence/toy with seed 0; choose another name"):
            perform(experiment, tmp_path / "run", order)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    with pytest.raises(RunError, match="choose another name"):
        perform(toy(), tmp_path / "there")


def test_two_cells_of_one_name_are_refused() -> None:
    def cells(seed: int) -> tuple[Cell, ...]:
        return Cell("a", model, 1, seed), Cell("a", measure, 1, seed)

    with pytest.raises(UsageError, match="one cell a@0 of toy"):
        Experiment("toy", cells, sum_up).table(0)


@pytest.mark.parametrize(("fields", "says"), [
    ({"row": "a b"}, "a row of letters"), ({"row": "../up"}, "a row of letters"), ({"seconds": 361}, "at most 360"),
    ({"perform": lambda context: Found()}, "a function of a module"),
])
def test_a_cell_that_cannot_be_kept_is_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Cell(**{"row": "a", "perform": model, "seconds": 1, **fields})  # type: ignore[arg-type]


# Crashes ---------------------------------------------------------------------------------------------------------


def store(folder: Path, score: float) -> None:
    with keep.keeping(folder) as work:
        (work / "weights.bin").write_bytes(bytes(10))
        keep.write(work, Cell("walk", model, 1), Found({"walk": {"score": score}}), 1.0, "m")


@pytest.mark.parametrize("mode", ["once", "full", "killed"])
def test_wherever_the_disk_refuses_the_cell_before_or_the_new_one_stands(mode: str, tmp_path: Path) -> None:
    scores = set()
    for at in range(1, 200):
        folder = tmp_path / f"{at}" / "walk@0"
        store(folder, 1.0)
        with refusing(folder.parent, at, mode) as disk, suppress(Exception, Killed):  # type: ignore[arg-type]
            store(folder, 2.0)
        found = keep.read(folder)
        assert found is not None
        scores.add(found.figures["walk"]["score"])
        if not disk.hit:
            break
    assert scores == {1.0, 2.0}
    assert at > 8


def test_a_disk_that_is_full_at_the_commit_of_a_cell_loses_that_cell_only(tmp_path: Path) -> None:
    """Found by its name; the kept ones before it stand, and the same call performs what is missing."""
    perform(toy(), tmp_path / "run", Order(cell="walk/far@0"))
    performed()
    with refusing(tmp_path / "run" / "cells", 1, "full"):
        result, _ = perform(toy(), tmp_path / "run")
    assert "no space left on device" in result.failed["walk/far@1"]
    assert states(toy(), tmp_path / "run")["walk/far@0"] == "kept"
    performed()
    assert perform(toy(), tmp_path / "run")[0].failed == {}
    assert performed() == ["walk@1"]


SLOW = """
import signal, time
from pathlib import Path
from steersman.evidence import Cell, Experiment, Found, Outcome, perform

HERE = Path(__file__).parent

def quick(context):
    with (HERE / "performed").open("a") as file:
        file.write(f"{context.seed}\\n")
    if context.seed == 1 and not (HERE / "go").exists():
        (context.folder / "half").write_text("of it")
        (HERE / "inside").touch()
        time.sleep(60)
    return Found({"": {"score": context.seed}})

def cells(seed):
    return tuple(Cell("slow", quick, 1, seed + i) for i in range(3))

def summary(results):
    return Outcome({"": {"cells": len(results.finished)}})

if __name__ == "__main__":
    import slow
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    print(perform(Experiment("slow", slow.cells, slow.summary), HERE / "run")[0].figures)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_in_the_middle_of_a_cell_the_same_call_goes_on(how: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    words = [sys.executable, str(tmp_path / "slow.py")]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        for _ in range(1200):
            if (tmp_path / "inside").exists():
                break
            time.sleep(0.05)
        os.kill(process.pid, how)
        process.wait(60)
    assert (tmp_path / "inside").exists()
    assert sorted(p.name for p in (tmp_path / "run" / "cells").glob("slow*")) == ["slow@0"]
    (tmp_path / "go").touch()
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "{'cells': 3}\n"
    assert (tmp_path / "performed").read_text().split() == ["0", "1", "1", "2"]
    assert sorted(p.name for p in (tmp_path / "run" / "cells").iterdir()) == ["slow@0", "slow@1", "slow@2"]
    assert json.loads((tmp_path / "run" / "evidence.json").read_text())["figures"] == {"cells": 3}


def test_two_at_a_time_do_not_write_into_one_folder(tmp_path: Path) -> None:
    perform(toy(), tmp_path / "run")
    code = "import sys; from steersman.runs import Run; w = Run.open(sys.argv[1]).writer(); w.__enter__(); " \
           "print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(LockedError, match=f"process {other.pid}"):
            perform(toy(), tmp_path / "run")
        other.kill()
    assert evidence.perform(toy(), tmp_path / "run")[0].failed == {}
    assert place(tmp_path / "run", toy().table(0)[0]).name == "model@0"
