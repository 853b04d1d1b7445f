"""Every kind of write, refused or killed at every call of it: the old content or the new stands whole, and a second
attempt succeeds. A new kind of write is a line of `KINDS`; parts of agents are untrained."""

from __future__ import annotations

import importlib
import itertools
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults import Killed, Mode, refusing

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from logs import MIXED, VECTORS, make_log
from lone import signature as alone
from lone import still
from small_world import SIGNATURE, Drift, agent

from steersman import studio
from steersman.agent import Agent
from steersman.agent.believing import Boxes
from steersman.agent.building.origin import Origin
from steersman.agent.building.parts import build_parts
from steersman.agent.building.readouts import load_readout, save_readout
from steersman.agent.fitted.additions import Additions
from steersman.agent.fitted.in_run import drop_addition, load_additions, save_additions
from steersman.agent.remembered import graph_of
from steersman.agent.sharing import pretrained
from steersman.core import CheckpointError, DataError, Episode, ObservationSpec, RunError, StorageError
from steersman.core.latent_graph import GraphConfig
from steersman.cost import EffortCost, LearnedCost
from steersman.data import CacheWriter, Dataset, read, write
from steersman.perception import LinearReadout
from steersman.runs import Run, artefacts
from steersman.runs.decisions import DecisionReader, DecisionWriter, Session, sessions
from steersman.runs.experience import ExperienceReader
from steersman.runs.experiencing import ExperienceWriter, Moments
from steersman.runs.rehearsal import Case, add_case, read_cases
from steersman.runs.trust import NAME as TRUST
from steersman.runs.updates import Correction, Journal
from steersman.training import CheckpointStore

RUN = "0123456789abcdef"
DRIFT = Drift()
SOUND = alone("mic", ObservationSpec("waveform", (8, 1), rate=80.0))


@dataclass(frozen=True)
class Kind:
    """One kind of write below a folder.

    before  makes what is there already
    write   the write, again and again the same
    state   what whoever opens it finds; None: nothing
    least   calls that it must make, so that a test which hits none of them cannot pass
    """

    before: Callable[[Path], object]
    write: Callable[[Path], object]
    state: Callable[[Path], object]
    least: int


# Checkpoints ---------------------------------------------------------------------------------------------------------


def save(step: int, value: float) -> Callable[[Path], object]:
    def act(root: Path) -> None:
        store = CheckpointStore(root / "checkpoints", RUN)
        store.save(step, {"a": torch.full((9,), value)}, {"b": torch.full((5,), value)}, {"note": value}, step)

    return act


def saved(root: Path) -> object:
    store, found = CheckpointStore(root / "checkpoints", RUN), []
    for number in range(1, 9):
        try:
            one = store.load(str(number))
        except CheckpointError as error:
            if "choose one of these" in error.fix or "train the run first" in error.fix:
                continue
            raise
        assert {float(x) for x in one.model["a"]} == {float(x) for x in one.state["b"]} == {one.memory["note"]}
        found.append((one.step, one.memory["note"]))
    return found[-1:] or None  # how many earlier ones stand is not this write's content


def discard(root: Path) -> None:
    CheckpointStore(root / "checkpoints", RUN).discard_after(2)


def twice(root: Path) -> None:
    save(2, 1.0)(root)
    save(3, 1.0)(root)


# What a run keeps ----------------------------------------------------------------------------------------------------


def make_run(root: Path) -> None:
    Run.create(root / "run", recipe="r", config={}, seeds={}, data={"path": "log"}).close()


def create(root: Path) -> None:
    log = root.with_name(f"{root.name}.log")  # outside, as it is made by another write
    shutil.rmtree(log, ignore_errors=True)
    log.mkdir()
    (log / "rows.bin").write_bytes(b"rows")
    Run.create(root / "run", recipe="r", config={"a": 1}, seeds={}, data={}, log=log).close()


def created(root: Path) -> object:
    if not (root / "run").exists():
        return None
    run = Run.open(root / "run")
    with run.writer():
        run.metrics.append(1, loss=1.0)
        run.metrics.rewind(0)
    return run.manifest.config, sorted(p.name for p in run.path.iterdir()), (run.path / "log/rows.bin").read_bytes()


def opened(root: Path) -> Run:
    return Run.open(root / "run")


def then(*steps: Callable[[Path], object]) -> Callable[[Path], object]:
    def act(root: Path) -> None:
        for step in steps:
            step(root)

    return act


torch.manual_seed(0)
PARTS: Any = build_parts(agent(), SIGNATURE)
PERCEPTION, MODEL = PARTS["perception"].eval(), PARTS["world_model"].eval()


def readout(seed: int) -> LinearReadout:
    g = torch.Generator().manual_seed(seed)
    made = LinearReadout.Config().build(("x", "y"), (8,))
    made.fit(torch.randn(30, 8, generator=g), torch.randn(30, 2, generator=g), 0)
    return made.eval()


def keep_readout(name: str, seed: int) -> Callable[[Path], object]:
    return lambda root: save_readout(opened(root), name, readout(seed), LinearReadout.Config(), (8,), 3, 30)


def readouts(root: Path) -> object:
    found = {name: load_readout(opened(root), name) for name in ("own", "other")}
    probe = torch.ones(1, 8)
    return {name: one.read(probe).tolist() for name, one in found.items() if one is not None} or None


def learned(seed: int) -> LearnedCost:
    g = torch.Generator().manual_seed(seed)
    cost = LearnedCost((8,), LearnedCost.Config(hidden=(4,), rounds=1, steps=1))
    cost.fit(torch.randn(8, 8, generator=g), lambda: torch.randn(8, 8, generator=g))
    return cost


COSTS = {seed: learned(seed) for seed in (1, 2)}


def keep(seed: int, *more: Any) -> Callable[[Path], object]:
    costs = {cost.name: cost for cost in (COSTS[seed], *more)}
    return lambda root: save_additions(opened(root), Additions(costs=costs), SIGNATURE, PERCEPTION, MODEL, None)


def drop(root: Path) -> None:
    drop_addition(opened(root), "cost", "effort")


def kept(root: Path) -> object:
    found = load_additions(opened(root), SIGNATURE, PERCEPTION, MODEL, None)
    return (sorted(found.costs), found.fingerprints()) if found.costs else None


def graph(nodes: int) -> Callable[[Path], object]:
    def act(root: Path) -> object:
        return graph_of(opened(root), Boxes(PERCEPTION, MODEL, SIGNATURE), GraphConfig(nodes=nodes), 4)

    return act


def graph_log(root: Path) -> None:
    make_run(root)
    with CacheWriter(root / "run" / "log", SIGNATURE) as writer:
        for states, actions in zip(DRIFT.states[:2], DRIFT.actions, strict=False):
            writer.append([Episode({"vector": states}, actions)])
        writer.finish("drift")


def graphs(root: Path) -> object:
    """Which one is kept: whatever is asked for beside it would be made again."""
    before, folder = {}, root / "run" / "memory"
    with pytest.MonkeyPatch.context() as patch:
        def built(*rest: Any) -> Any:
            raise RunError("a graph", "none", "build it")

        patch.setattr("steersman.agent.remembered._encoded_log", built)
        for nodes in (5, 9):
            try:
                graph(nodes)(root)
            except RunError:
                continue
            before[nodes] = sorted(p.name for p in folder.iterdir())
    return before or None


SESSION = Session(started="now", run="r", checkpoint=3, model="m", planner=None, planner_name="P", threads=1,
                  versions={})


def session(root: Path) -> None:
    DecisionWriter(root, SESSION)


def recorded(root: Path) -> object:
    return [one.session.model for one in map(DecisionReader, sessions(root))] or None


def lived(moments: int, retain: int = 1 << 30) -> Callable[[Path], object]:
    """So many more moments: the first few begin the log, or make room for others."""

    def act(root: Path) -> None:
        writer = ExperienceWriter(root / "experience", VECTORS, retain=retain)
        try:
            moment = {name: np.zeros((1, *spec.shape), np.float32) for name, spec in VECTORS.observations.items()}
            for _ in range(moments):
                writer.append(Moments(moment, None), durable=True)
        finally:
            writer.close()

    return act


def last_lived(root: Path) -> object:
    """The newest moment; those that are there follow one another."""
    if not (root / "experience").exists():
        return None
    numbers = [moment.number for moment in ExperienceReader(root / "experience").moments()]
    assert numbers == list(range(numbers[0], numbers[-1] + 1) if numbers else [])
    return numbers[-1:] or None


def noted(*updates: int) -> Callable[[Path], object]:
    def act(root: Path) -> None:
        for number in updates:
            there = len(Journal(root / "experience").corrections(1))
            if there < number:
                Journal(root / "experience").append(Correction(
                    kind="accepted", number=number, checkpoint=1, before="a", after="b", threads=1, when=0.0))

    return act


def notes(root: Path) -> object:
    return [change.number for change in Journal(root / "experience").corrections(1)] or None


# Artefacts and single files -----------------------------------------------------------------------------------------


def picture(content: bytes) -> Callable[[Path], object]:
    shown = artefacts.Picture(name="a", title=f"of {content!r}", file="a.png", alt="a")
    return lambda root: artefacts.write(root, shown, {"a.png": content})


def pictures(root: Path) -> object:
    found, bad = artefacts.read_all(root, artefacts.Picture)
    assert not bad
    shown = [(one.title, artefacts.image_bytes(root, artefacts.Picture, one.file)) for one in found]
    assert all(title == f"of {content!r}" for title, content in shown)
    left = list((root / artefacts.Picture.FOLDER).glob("a-*.png")) if found else []
    assert len(left) <= 2  # that of the other attempt may stand until the next
    return shown or None


def case(seed: int) -> Callable[[Path], object]:
    one = Case(env="e", kind="world", seed=seed, pushes=(), decisions=1, step=1, guardrail="g", margin=0.1)
    return lambda root: add_case(opened(root), one)


def cases(root: Path) -> object:
    return [one.seed for one in read_cases(opened(root))]


def trust(horizon: int) -> Callable[[Path], object]:
    return lambda root: opened(root).write_json(TRUST, {"horizon": horizon})


def trusted(root: Path) -> object:
    return opened(root).read_json(TRUST)["horizon"] if (root / "run" / TRUST).exists() else None


def report(root: Path) -> object:
    return studio.build(root / "run")


def reported(root: Path) -> object:
    path = root / "run" / "report" / "report.html"
    return path.read_text().rstrip().endswith("</html>") if path.exists() else None


def measure(root: Path) -> None:
    with opened(root).writer() as run:
        run.metrics.rewind(0)
        run.metrics.append(1, loss=0.5)


def measured(root: Path) -> object:
    return opened(root).metrics.read() or None


# Folders of data and of models --------------------------------------------------------------------------------------


def cache(*lengths: int) -> Callable[[Path], object]:
    def act(root: Path) -> None:
        with CacheWriter(root / "cache", VECTORS) as writer:
            writer.append(make_log(VECTORS, list(lengths)))
            writer._note()
            writer.finish("of a test")

    return act


def cached(root: Path) -> object:
    try:
        dataset = Dataset.open(root / "cache")
    except DataError:
        if (root / "cache").exists():
            raise
        return None
    dataset.verify()
    return dataset.lengths.tolist()


def log(name: str, format: str, signature: Any = VECTORS, episodes: Any = None) -> Kind:
    def state(root: Path) -> object:
        if not (root / name).exists():
            return None
        return [len(one) for one in read(root / name, limits=None).recordings()]

    return Kind(lambda root: None, lambda root: write(root / name, signature, episodes or make_log(signature, [4, 5]),
                                                          format),
                state, 4)


def model(seed: int) -> Callable[[Path], object]:
    parts = pretrained.Pretrained(agent(), SIGNATURE, PERCEPTION, MODEL, readout(seed), Origin())
    planner = agent().planner.build()
    return lambda root: pretrained.save(parts, planner, root / "model")


def modelled(root: Path) -> object:
    try:
        found = pretrained.load(root / "model").readout
    except RunError as error:
        if error.got == "no such folder":
            return None
        raise
    assert found is not None
    assert sorted(p.name for p in (root / "model").iterdir()) == sorted(pretrained.FILES)
    return found.read(torch.ones(1, 8)).tolist()


def export(root: Path) -> None:
    """Without the graphs themselves, which take seconds: their files are written as any others."""
    onnx = importlib.import_module("steersman.export.onnx")
    made = Agent(agent(), SIGNATURE, PERCEPTION, MODEL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx, "require_onnx", lambda: None)
        patch.setattr(onnx, "_to_onnx", lambda graph: graph.name.encode())
        patch.setattr(onnx, "_verified", lambda graph, content, seed: 0.0)
        patch.setattr(onnx, "_outputs", lambda graph: ())
        onnx.export_onnx(made, root / "onnx")


def exported(root: Path) -> object:
    return sorted(p.name for p in (root / "onnx").iterdir()) if (root / "onnx").exists() else None


def nothing(root: Path) -> None:
    pass


KINDS = {
    "checkpoint, the first": Kind(nothing, save(1, 1.0), saved, 15),
    "checkpoint, one more": Kind(twice, save(4, 2.0), saved, 15),
    "checkpoint, the same step again": Kind(save(2, 1.0), save(2, 2.0), saved, 15),
    "checkpoints discarded": Kind(twice, discard, saved, 3),
    "run": Kind(nothing, create, created, 15),
    "read-out, the first": Kind(make_run, keep_readout("own", 1), readouts, 10),
    "read-out again, beside another": Kind(
        then(make_run, keep_readout("other", 3), keep_readout("own", 1)), keep_readout("own", 2), readouts, 12),
    "kept, the first": Kind(make_run, keep(1), kept, 10),
    "kept, again and one more": Kind(
        then(make_run, keep(1, EffortCost(SIGNATURE.action))), keep(2, EffortCost(SIGNATURE.action)), kept, 10),
    "kept no longer": Kind(then(make_run, keep(1, EffortCost(SIGNATURE.action))), drop, kept, 8),
    "graph, the first": Kind(graph_log, graph(5), graphs, 10),
    "graph of another size": Kind(then(graph_log, graph(5)), graph(9), graphs, 10),
    "session of decisions": Kind(nothing, session, recorded, 6),
    "experience, the first": Kind(nothing, lived(1), last_lived, 10),
    "experience, one more": Kind(lived(3), lived(1), last_lived, 5),
    "experience that makes room": Kind(lived(40, 4000), lived(1, 1000), last_lived, 10),
    "update, the first": Kind(lived(1), noted(1), notes, 4),
    "update, one more": Kind(then(lived(1), noted(1, 2)), noted(1, 2, 3), notes, 3),
    "picture, the first": Kind(nothing, picture(b"one"), pictures, 8),
    "picture, another under its name": Kind(picture(b"one"), picture(b"two"), pictures, 8),
    "cases of a rehearsal": Kind(then(make_run, case(1)), case(2), cases, 5),
    "trust record": Kind(then(make_run, trust(3)), trust(5), trusted, 5),
    "report": Kind(make_run, report, reported, 5),
    "metrics": Kind(make_run, measure, measured, 5),
    "cache, the first": Kind(nothing, cache(4, 5), cached, 12),
    "cache in the place of another": Kind(cache(3), cache(4, 5), cached, 12),
    "model's folder, the first": Kind(nothing, model(1), modelled, 12),
    "model's folder again": Kind(model(1), model(2), modelled, 12),
    "ONNX export": Kind(nothing, export, exported, 12),
} | (LOGS := {
    "csv": log("log.csv", "csv"),
    "npz": log("log.npz", "npz"),
    "parquet": log("log.parquet", "parquet"),
    "hdf5": log("log.h5", "hdf5"),
    "minari": log("log-v0", "minari"),
    "minari-arrow": log("log-v0", "minari-arrow"),
    "lerobot": log("log.lerobot", "lerobot"),
    "folder": log("folder", "folder", MIXED),
    "wav": log("sounds", "wav", SOUND, [still("mic", np.zeros((n, 8, 1), np.float32)) for n in (4, 5)]),
})
NEEDS = {"hdf5": "h5py", "minari": "h5py", "folder": "av"}


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that wrote are gone: this one, too, as far as what it left behind is concerned. Nothing waits for the
    disk: whether it was asked to write is seen, when it did is not."""
    for module in ("files", "lock"):
        monkeypatch.setattr(f"steersman.runs.{module}.exists", lambda pid: False)
    monkeypatch.setattr("os.fsync", lambda fd: None)
    monkeypatch.setattr("steersman.runs.manifest.git_state", lambda: None)


def hidden(root: Path) -> list[str]:
    return [p.name for p in root.rglob(".*")]


def places(before: Path) -> Iterator[Path]:
    for n in itertools.count(1):
        yield shutil.copytree(before, before.with_name(str(n)))


@pytest.mark.parametrize("mode", ["once", "full", "killed"])
@pytest.mark.parametrize("name", KINDS)
def test_old_or_new_is_whole_whatever_call_fails(name: str, mode: Mode, tmp_path: Path, gone: None) -> None:
    if mode == "once" and name in LOGS:
        pytest.skip("full and killed say it")  # the same protocol as above, and the slowest
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    kind = KINDS[name]
    (tmp_path / "before").mkdir()
    kind.before(tmp_path / "before")
    old = kind.state(tmp_path / "before")
    refused = 0
    for n, root in enumerate(places(tmp_path / "before"), 1):
        ended: BaseException | None = None
        with refusing(root, n, mode) as disk:
            try:
                kind.write(root)
            except (StorageError, Killed) as error:
                ended = error
        if isinstance(ended, StorageError):
            assert "no space left on device; free some space" in str(ended)
            assert "\n" not in str(ended)
        if not disk.hit:
            assert ended is None
            new = kind.state(root)
            assert new != old
            break
        refused += 1
        where = f"call {n}, {disk.hit}, after {disk.calls[max(0, n - 4):n - 1]}"
        found = kind.state(root)
        if mode == "killed":
            assert isinstance(ended, Killed), where
        if ended is None:  # what was refused was the removal of what is of no use any more
            assert found != old, where
        if found == old:
            kind.write(root)
        second = kind.state(root)
        assert second != old, where
        if n == 1:
            new = second
        assert found in (old, new), where
        assert second == new, where
        if mode != "once":
            continue
        assert ended is None or disk.hit in ("unlink", "rmdir", "look") or not hidden(root), where
    assert refused == len(disk.calls) >= kind.least
