"""A read-out is fitted to a small log with the run's pictures and columns beside them, and tested on moments apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filmed_dot import LABELLED, SEEN, episode, log_of, run_of
from torch import Tensor

from steersman.agent import Agent
from steersman.agent.labelling import fit_to_labels
from steersman.core import DataError, Episode, MismatchError, ObservationSpec, Pace, Signature
from steersman.data import CacheWriter, Dataset
from steersman.perception import KernelReadout, LinearReadout
from steersman.runs import Run


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained for a step on pictures alone, two of them in a moment."""
    folder = tmp_path_factory.mktemp("seen")
    return run_of(folder / "run", log_of(folder / "log"), dots=True)


def written(path: Path, signature: Signature, episodes: list[Episode]) -> Dataset:
    with CacheWriter(path, signature, origin=path.name) as writer:
        writer.append(episodes)
        writer.finish()
    return Dataset.open(path)


def labelled(path: Path, count: int, steps: int, change: Callable[[Tensor], Tensor] = lambda x: x) -> Dataset:
    generator = torch.Generator().manual_seed(5)
    episodes = [episode(steps, generator, True) for _ in range(count)]
    return written(path, LABELLED, [
        replace(e, observations={**e.observations, "vector": change(e.observations["vector"])}) for e in episodes])


def test_it_reads_moments_that_it_was_not_fitted_to_and_is_kept_fitted_to_all(seen: Run, tmp_path: Path) -> None:
    log = labelled(tmp_path / "labels", 10, 30)
    found = fit_to_labels(seen, log, KernelReadout.Config())
    assert (found.count, found.tested, found.whole, found.constant) == (300, 60, True, ())  # of 31 rows 30 have a past
    assert found.apart is not None
    assert len(found.apart) == 2
    assert set(found.r2) == {"x", "y"}
    kept = Agent.load(seen).readout
    assert isinstance(kept, KernelReadout)
    assert kept.columns == ("x", "y")
    assert kept.r2 == found.r2
    assert torch.equal(kept.weight, found.readout.weight)
    assert not torch.equal(found.measured.mean, found.readout.mean)


def test_labels_that_say_nothing_of_the_picture_are_measured_as_such(seen: Run, tmp_path: Path) -> None:
    sound = fit_to_labels(seen, labelled(tmp_path / "sound", 12, 30))
    noise = fit_to_labels(seen, labelled(tmp_path / "noise", 12, 30, lambda x: torch.randn_like(x)))
    assert min(sound.r2.values()) > 0.99
    assert max(noise.r2.values()) < 0.2


def test_a_moment_has_the_picture_before_it(seen: Run, tmp_path: Path) -> None:
    """Speeds cannot be read off one picture; of episodes of a single one nothing else is there, and that is said."""
    moves = labelled(tmp_path / "moves", 30, 12, lambda x: torch.cat([torch.zeros(1, 2), x.diff(dim=0)]))
    found = fit_to_labels(seen, moves)
    alone = [Episode({n: x[t : t + 1] for n, x in e.observations.items()}, torch.zeros(0, 0))
             for e in moves.episodes() for t in range(2, 13)]
    unmoved = Signature(LABELLED.observations, type(LABELLED.action)("none"))
    single = fit_to_labels(seen, written(tmp_path / "single", unmoved, alone))
    assert found.whole
    assert not single.whole
    assert single.count == 330
    assert min(found.r2.values()) > 0.95
    assert max(single.r2.values()) < 0.3


def test_a_column_that_never_changes_is_left_out(seen: Run, tmp_path: Path) -> None:
    log = labelled(tmp_path / "labels", 6, 10, lambda x: torch.stack([x[:, 0], torch.full_like(x[:, 1], 3.0)], -1))
    found = fit_to_labels(seen, log)
    assert (found.readout.columns, found.constant) == (("x",), ("y",))


def test_few_episodes_are_tested_on_their_end(seen: Run, tmp_path: Path) -> None:
    found = fit_to_labels(seen, labelled(tmp_path / "labels", 2, 25))
    assert (found.count, found.tested, found.apart) == (50, 10, None)


def test_no_more_rows_are_read_than_asked(seen: Run, tmp_path: Path) -> None:
    assert fit_to_labels(seen, labelled(tmp_path / "labels", 10, 30), rows=100).count == 100


def test_a_state_of_more_numbers_than_labels_gets_its_ridge_chosen(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", log_of(tmp_path / "log"), tokens=True, size=16)
    few, more = (fit_to_labels(run, labelled(tmp_path / f"{n}", n, 12)).readout for n in (4, 8))
    assert isinstance(few, LinearReadout)
    assert isinstance(more, LinearReadout)
    assert few.weight.shape[1] == 64  # beside 48 and 96 labels
    assert (few.ridge, more.ridge) == (None, 1e-6)


def test_labels_of_another_camera_are_refused(seen: Run, tmp_path: Path) -> None:
    fitted = Agent.load(seen).readout
    spec = LABELLED.observations

    def refused(name: str, observations: dict[str, ObservationSpec], kind: type[Exception], said: str) -> None:
        signature = Signature(observations, SEEN.action)
        one = [Episode({n: torch.zeros(5, *s.shape, dtype=getattr(torch, s.dtype)) for n, s in observations.items()},
                       torch.zeros(4, 2))]
        with pytest.raises(kind, match=said):
            fit_to_labels(seen, written(tmp_path / name, signature, one))

    refused("name", {"eye": spec["image"], "vector": spec["vector"]}, MismatchError,
            r"a picture image of 24×24×3 among the labels, as in the run's log; got eye, vector; call it image there")
    refused("size", {"image": ObservationSpec("image", (12, 12, 3)), "vector": spec["vector"]}, MismatchError,
            r"got image of 12×12×3; give --resize HEIGHT WIDTH")
    refused("columns", {"image": spec["image"]}, DataError, "columns of numbers beside the pictures")
    refused("few", dict(spec), DataError, "at least 20 labelled moments; got 4; label more")
    log = labelled(tmp_path / "same", 6, 10, torch.zeros_like)
    with pytest.raises(DataError, match="x, y, each always the same"):
        fit_to_labels(seen, log)
    now = Agent.load(seen).readout
    assert type(fitted) is type(now)


def test_vectors_that_the_model_sees_have_to_be_there(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", log_of(tmp_path / "log", labelled=True), Pace())
    without = log_of(tmp_path / "labels", 4, 10)
    with pytest.raises(MismatchError, match="a vector vector of 2 among the labels"):
        fit_to_labels(run, without)
