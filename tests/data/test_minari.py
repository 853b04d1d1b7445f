"""Minari logs, HDF5 and Arrow, of every kind of space that is understood; nothing named in a file is imported."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from logs import CHOICES, MIXED, VECTORS, make_log

from steersman.core import ActionSpec, DataError, ObservationSpec, Signature, UsageError
from steersman.data import ReadOptions, load, read, write

minari = pytest.importorskip("minari")

BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float64)
LENGTHS = (4, 1, 6)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def sample(space: spaces.Space[Any], count: int, rng: np.random.Generator) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: sample(inner, count, rng) for key, inner in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(sample(inner, count, rng) for inner in space.spaces)
    if isinstance(space, spaces.Discrete):
        return rng.integers(space.start, space.start + space.n, count)
    if space.dtype == np.uint8:
        return rng.integers(0, 256, (count, *space.shape), dtype=np.uint8)
    return rng.uniform(-1, 1, (count, *space.shape)).astype(space.dtype)


def record(
    name: str, observation: spaces.Space[Any], action: spaces.Space[Any], layout: str, spec: EnvSpec | None = None
) -> list[tuple[Any, Any]]:
    """Make a local dataset of random values; -> (observations, actions) of each episode."""
    from minari.data_collector import EpisodeBuffer

    rng = np.random.default_rng(0)
    raw = [(sample(observation, steps + 1, rng), sample(action, steps, rng)) for steps in LENGTHS]
    buffers = [
        EpisodeBuffer(
            observations=o, actions=a, rewards=[0.0] * n, terminations=[False] * n,
            truncations=[False] * (n - 1) + [True],
        )
        for (o, a), n in zip(raw, LENGTHS, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            name, buffers, env=spec, observation_space=observation, action_space=action, data_format=layout,
        )
    return raw


@pytest.mark.parametrize("layout", ["hdf5", "arrow"])
def test_vectors_and_bounded_actions(layout: str, tmp_path: Path, home: Path) -> None:
    raw = record("test/vectors-v0", VECTOR, BOX, layout)
    for path in ("test/vectors-v0", str(home / "test" / "vectors-v0"), str(home / "test" / "vectors-v0" / "data")):
        source = read(path)
        assert source.format == "minari"
        assert source.steps == sum(LENGTHS)
    assert source.signature.observations == {"vector": ObservationSpec("vector", (3,))}
    assert source.signature.action == ActionSpec("continuous", low=(-1.0, -1.0), high=(1.0, 1.0))
    for episode, (observations, actions) in zip(source.episodes(), raw, strict=True):
        assert np.array_equal(episode.observations["vector"].numpy(), observations.astype(np.float32))
        assert np.array_equal(episode.actions.numpy(), actions)
    assert load("test/vectors-v0", tmp_path / "cache").lengths.tolist() == list(LENGTHS)


@pytest.mark.parametrize("layout", ["hdf5", "arrow"])
def test_nested_spaces_become_named_observations(layout: str) -> None:
    nested = spaces.Dict({
        "arm": spaces.Dict({"angle": spaces.Box(-9, 9, (2,), np.float32)}),
        "both": spaces.Tuple([spaces.Box(0, 1, (1,), np.float32), spaces.Discrete(4)]),
        "camera": spaces.Box(0, 255, (8, 6, 3), np.uint8),
    })
    raw = record("test/nested-v0", nested, spaces.Discrete(3, start=5), layout)
    source = read("test/nested-v0")
    assert source.signature.observations == {
        "arm.angle": ObservationSpec("vector", (2,)), "both.0": ObservationSpec("vector", (1,)),
        "both.1": ObservationSpec("vector", (4,)), "camera": ObservationSpec("image", (8, 6, 3)),
    }
    assert source.signature.action == ActionSpec("discrete", choices=3)
    for episode, (observations, actions) in zip(source.episodes(), raw, strict=True):
        assert np.array_equal(episode.observations["arm.angle"].numpy(), observations["arm"]["angle"])
        assert np.array_equal(episode.observations["both.1"].argmax(-1).numpy(), observations["both"][1])
        assert np.array_equal(episode.observations["camera"].numpy(), observations["camera"])
        assert np.array_equal(episode.actions[:, 0].numpy() + 5, actions)


@pytest.mark.parametrize(("shape", "seen"), [((6, 7, 3), (6, 7, 3)), ((3, 6, 7), (6, 7, 3)), ((6, 7), (6, 7, 1))])
def test_images_end_up_with_channels_last(shape: tuple[int, ...], seen: tuple[int, ...]) -> None:
    raw = record("test/images-v0", spaces.Box(0, 255, shape, np.uint8), BOX, "hdf5")
    source = read("test/images-v0")
    assert source.signature.observations == {"image": ObservationSpec("image", seen)}
    expected = raw[0][0] if len(shape) == 3 else raw[0][0][..., None]
    if shape[0] == 3:
        expected = np.moveaxis(expected, 1, -1)
    assert np.array_equal(next(iter(source.episodes())).observations["image"].numpy(), expected)


def test_entries_of_well_known_worlds_have_names(home: Path) -> None:
    spec = EnvSpec("Pendulum-v1", entry_point="gymnasium.envs.classic_control.pendulum:PendulumEnv")
    record("test/pendulum-v0", VECTOR, BOX, "hdf5", spec)
    assert read("test/pendulum-v0").signature.observations["vector"].columns == ("cos", "sin", "speed")
    named = read("test/pendulum-v0", ReadOptions(names={"vector": ("a", "b", "c")}))
    assert named.signature.observations["vector"].columns == ("a", "b", "c")


def test_missing_bounds_come_from_the_log_or_from_the_options() -> None:
    raw = record("test/unbounded-v0", VECTOR, spaces.Box(-np.inf, np.inf, (2,), np.float32), "hdf5")
    actions = np.concatenate([a for _, a in raw])
    source = read("test/unbounded-v0")
    assert source.signature.action.low == tuple(actions.min(0).tolist())
    assert "bounds of actions taken from the log" in source.notes[0]
    assert read("test/unbounded-v0", ReadOptions(low=(-5.0,), high=(5.0,))).signature.action.high == (5.0, 5.0)


def test_a_dataset_without_spaces_is_refused_instead_of_importing_what_it_names(home: Path, tmp_path: Path) -> None:
    record("test/plain-v0", VECTOR, BOX, "hdf5")
    file = home / "test" / "plain-v0" / "data" / "metadata.json"
    metadata = json.loads(file.read_text())
    (tmp_path / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    del metadata["observation_space"]
    metadata["env_spec"] = EnvSpec("Trap-v0", entry_point="trap:Trap").to_json()
    file.write_text(json.dumps(metadata))
    with pytest.raises(DataError, match="observation_space"):
        read("test/plain-v0")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("layout", ["hdf5", "arrow"])
def test_damaged_datasets_are_refused(home: Path, layout: str) -> None:
    record("test/damaged-v0", VECTOR, BOX, layout)
    data = home / "test" / "damaged-v0" / "data"
    files = [p for p in data.rglob("*") if p.is_file() and p.name != "metadata.json"]
    for keep in (0, 100, -1000):
        content = [p.read_bytes() for p in files]
        for p, c in zip(files, content, strict=True):
            p.write_bytes(c[:keep] if keep >= 0 else c[: len(c) // 2])
        with pytest.raises(DataError):
            list(read("test/damaged-v0").episodes())
        for p, c in zip(files, content, strict=True):
            p.write_bytes(c)
    (data / "metadata.json").write_text("{")
    with pytest.raises(DataError, match=r"metadata\.json"):
        read("test/damaged-v0")


def test_spaces_and_options_that_are_not_understood_say_what_would_be() -> None:
    record("test/multi-v0", VECTOR, spaces.MultiBinary(2), "hdf5")
    with pytest.raises(DataError, match=r"Box of shape \(A,\) or Discrete.*MultiBinary"):
        read("test/multi-v0")
    record("test/good-v0", VECTOR, BOX, "hdf5")
    with pytest.raises(UsageError, match=r"options among high, low, names for a minari log.*action"):
        read("test/good-v0", ReadOptions(action=("a",)))


def test_a_recording_with_nan_is_refused_where_it_is(home: Path) -> None:
    import h5py

    record("test/nan-v0", VECTOR, BOX, "hdf5")
    with h5py.File(home / "test" / "nan-v0" / "data" / "main_data.hdf5", "a") as file:
        file["episode_2"]["observations"][3, 1] = np.nan
    with pytest.raises(DataError, match=r"finite observation 'vector' in episode 2 of test/nan-v0.*row 3"):
        list(read("test/nan-v0").episodes())
    assert torch.isfinite(next(iter(read("test/nan-v0").episodes())).observations["vector"]).all()


@pytest.mark.parametrize("layout", ["hdf5", "arrow"])
@pytest.mark.parametrize("signature", [VECTORS, CHOICES, MIXED])
def test_minari_itself_reads_what_is_written_here(home: Path, layout: str, signature: Signature) -> None:
    log = make_log(signature, list(LENGTHS))
    write(home / "ours-v0", signature, log, format="minari" if layout == "hdf5" else "minari-arrow")
    dataset = minari.load_dataset("ours-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (3, sum(LENGTHS))
    for raw, original in zip(dataset.iterate_episodes(), log, strict=True):
        actions = original.actions[:, 0] if signature is CHOICES else original.actions
        assert np.array_equal(raw.actions, actions.numpy())
        observed = {"vector": raw.observations} if signature is not MIXED else raw.observations
        for name, value in original.observations.items():
            assert np.array_equal(observed[name], value.numpy())
        assert raw.truncations.tolist() == [False] * (len(original) - 1) + [True]
