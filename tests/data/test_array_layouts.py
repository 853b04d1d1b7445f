"""Arrays as other programs lay them out in HDF5 and npz; what could run code or reach elsewhere is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steersman.core import ActionSpec, DataError, ObservationSpec
from steersman.data import ReadOptions, read

h5py = pytest.importorskip("h5py")
RANDOM = np.random.default_rng(0)


def fill(file: Any, arrays: dict[str, Any]) -> None:
    for path, value in arrays.items():
        file[path] = value


def numbers(*shape: int) -> Any:
    return RANDOM.uniform(-1, 1, shape).astype(np.float32)


def test_robomimic_groups_in_their_natural_order(tmp_path: Path) -> None:
    lengths = {"demo_0": 4, "demo_2": 3, "demo_10": 5}
    with h5py.File(tmp_path / "low_dim.hdf5", "w") as file:
        for name, n in lengths.items():
            fill(file, {
                f"data/{name}/obs/eef_pos": numbers(n, 3), f"data/{name}/obs/agentview_image": np.full((n, 8, 9, 3), 7,
                np.uint8), f"data/{name}/actions": numbers(n, 2), f"data/{name}/rewards": numbers(n),
                f"data/{name}/dones": np.zeros(n), f"data/{name}/states": numbers(n, 20),
            })
        file["data"].attrs["env_args"] = "{}"
        file["mask/train"] = np.array([b"demo_0", b"demo_2"])
    source = read(tmp_path / "low_dim.hdf5", ReadOptions(low=(-1.0,), high=(1.0,)))
    assert source.signature.observations == {
        "agentview_image": ObservationSpec("image", (8, 9, 3)), "eef_pos": ObservationSpec("vector", (3,))
    }
    assert [len(e) for e in source.recordings()] == [3, 2, 4]  # as many observations as actions: the last ends it


def test_next_observations_complete_an_episode(tmp_path: Path) -> None:
    o, n = numbers(4, 2), numbers(4, 2)
    with h5py.File(tmp_path / "log.h5", "w") as file:
        fill(file, {"data/demo_0/obs/x": o, "data/demo_0/next_obs/x": n, "data/demo_0/actions": numbers(4, 1)})
    (episode,) = read(tmp_path / "log.h5").recordings()
    assert np.array_equal(episode.observations["x"], np.concatenate([o, n[-1:]]))


@pytest.mark.parametrize("kind", ["h5", "npz"])
@pytest.mark.parametrize("ends", [
    {"terminals": [0, 0, 1, 0, 0, 0, 0], "timeouts": [0, 0, 0, 0, 0, 0, 1]}, {"episode_ends": [3, 7]},
    {"ep_len": [3, 4], "ep_offset": [0, 3]}, {"episode_index": [5, 5, 5, 2, 2, 2, 2]},
])
def test_flat_arrays_end_where_they_say(tmp_path: Path, kind: str, ends: dict[str, list[int]]) -> None:
    arrays = {"observations": numbers(7, 3), "actions": numbers(7, 2), "rewards": numbers(7)}
    arrays |= {name: np.array(value) for name, value in ends.items()}
    path = tmp_path / f"log.{kind}"
    if kind == "npz":
        np.savez_compressed(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            fill(file, arrays)
    source = read(path)
    assert source.signature.observations == {"vector": ObservationSpec("vector", (3,))}
    first, second = source.recordings()
    assert np.array_equal(first.observations["vector"], arrays["observations"][:3])
    assert np.array_equal(second.actions, arrays["actions"][3:6])


def test_named_columns_of_no_known_name_and_discrete_actions(tmp_path: Path) -> None:
    np.savez(tmp_path / "log.npz", pixels=np.zeros((6, 3, 8, 9), np.uint8), proprio=numbers(6, 2),
             action=np.array([0, 1, 2, 1, 0, 2]), reward=numbers(6))
    source = read(tmp_path / "log.npz")
    assert source.signature.action == ActionSpec("discrete", choices=3)
    assert source.signature.observations == {
        "pixels": ObservationSpec("image", (8, 9, 3)), "proprio": ObservationSpec("vector", (2,))
    }
    said = " ".join(source.notes)
    assert "taken as observations: pixels, proprio" in said
    assert "the whole log is one episode" in said
    chosen = read(tmp_path / "log.npz", ReadOptions(observation=("proprio",), action=("action",), discrete=False))
    assert set(chosen.signature.observations) == {"proprio"}
    assert chosen.signature.action.kind == "continuous"


def refused(path: Path, words: str) -> None:
    with pytest.raises(DataError, match=words):
        list(read(path).recordings())


def test_objects_and_links_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "log.npz", observations=np.array([{"a": 1}], object), actions=numbers(1, 1))
    refused(tmp_path / "log.npz", "objects are pickles")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        fill(file, {"observations": numbers(4, 2), "actions": numbers(4, 1)})
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file["actions"] = numbers(4, 1)
        file["observations"] = h5py.ExternalLink("other.h5", "/observations")
    refused(tmp_path / "external.h5", "a link at observations")
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file["actions"] = numbers(4, 1)
        layout = h5py.VirtualLayout((4, 2), np.float32)
        layout[:] = h5py.VirtualSource("other.h5", "observations", (4, 2))
        file.create_virtual_dataset("observations", layout)
    refused(tmp_path / "virtual.h5", "observations in other files")
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["actions"] = numbers(4, 1)
        file.create_dataset("observations", (4, 2), np.float32, external=[(str(tmp_path / "other.h5"), 0, 32)])
    refused(tmp_path / "raw.h5", "observations in other files")
    with h5py.File(tmp_path / "objects.h5", "w") as file:
        file["actions"] = numbers(4, 1)
        file.create_dataset("observations", (4,), h5py.vlen_dtype(np.float32))
    refused(tmp_path / "objects.h5", "an array of observations")


@pytest.mark.parametrize(("arrays", "words"), [
    ({"observations": numbers(4, 2)}, "an array of actions.*arrays observations.*--action"),
    ({"actions": numbers(4, 2)}, "an array of observations.*--observation"),
    ({"actions": numbers(4, 2), "observations": numbers(6, 2)}, "4 rows of observations.*got 6"),
    ({"actions": numbers(4, 2), "observations": numbers(4, 2, 2)}, "vectors .* or uint8 images"),
    ({"actions": numbers(4, 2), "observations": numbers(4, 2), "episode_ends": np.array([2, 9])}, "grow to 4"),
    ({"actions": numbers(1, 2), "observations": numbers(1, 2)}, "at least 2 rows"),
])
def test_arrays_that_are_no_episodes_are_refused(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    np.savez(tmp_path / "log.npz", **arrays)
    refused(tmp_path / "log.npz", words)


def test_an_array_larger_than_its_member_is_refused_before_it_is_allocated(tmp_path: Path) -> None:
    np.savez(tmp_path / "log.npz", observations=numbers(4, 2), actions=numbers(4, 1))
    content = (tmp_path / "log.npz").read_bytes()
    (tmp_path / "log.npz").write_bytes(content.replace(b"(4, 2)", b"(9, 9)"))
    refused(tmp_path / "log.npz", "bytes of observations|npz file")
