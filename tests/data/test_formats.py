"""Readers and writers: what is written comes back exactly; what a person's file means is inferred and said."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import CHOICES, MIXED, VECTORS, assert_equal, make_log

from steersman.core import ActionSpec, Episode, ObservationSpec, Signature, UsageError
from steersman.data import FORMATS, ReadOptions, read, write

LARGE = float(np.float32(1e38))
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.parquet"])
@pytest.mark.parametrize("signature", [VECTORS, CHOICES, MIXED])
def test_what_is_written_is_read_back(tmp_path: Path, name: str, signature: Signature) -> None:
    log = make_log(signature, [4, 1, 7])
    if signature is MIXED and "csv" in name:
        with pytest.raises(UsageError, match=r"write \.parquet"):
            write(tmp_path / name, signature, log)
        return
    if name.endswith(".gz"):
        import gzip

        write(tmp_path / "log.csv", signature, log)
        (tmp_path / name).write_bytes(gzip.compress((tmp_path / "log.csv").read_bytes()))
        (tmp_path / f"{name}.schema.toml").write_bytes((tmp_path / "log.csv.schema.toml").read_bytes())
    else:
        write(tmp_path / name, signature, log)
    source = read(tmp_path / name)
    assert source.signature == signature
    assert source.steps == 12
    assert source.notes == ()
    for _ in range(2):
        for back, original in zip(source.episodes(), log, strict=True):
            assert_equal(back, original)


@settings(max_examples=60)
@given(st.data())
def test_any_float_and_any_shape_survive_a_round_trip(data: st.DataObject) -> None:
    size, actions = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    signature = Signature(
        {"first": ObservationSpec("vector", (size,)), "second": ObservationSpec("vector", (1,), ("x.y",))},
        ActionSpec("continuous", low=(-LARGE,) * actions, high=(LARGE,) * actions), ("w", "v"),
    )
    log = []
    for steps in data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)):
        draw = lambda rows, columns, values=FLOATS: torch.from_numpy(np.array(  # noqa: E731
            data.draw(st.lists(values, min_size=rows * columns, max_size=rows * columns)), np.float32
        ).reshape(rows, columns))
        observations = {"first": draw(steps + 1, size), "second": draw(steps + 1, 1)}
        bounded = st.floats(-LARGE, LARGE, width=32)
        log.append(Episode(observations, draw(steps, actions, bounded), draw(steps, 2)))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("log.csv", "log.parquet"):
            write(Path(folder) / name, signature, log)
            source = read(Path(folder) / name)
            assert source.signature == signature
            for back, original in zip(source.episodes(), log, strict=True):
                assert_equal(back, original)


def csv(path: Path, text: str) -> Path:
    path.write_text(text.replace(" ", ""))
    return path


PLAIN = """episode,t,x,v,push,reward
           0,0,.5,1,-1,0
           0,1,.6,2,1,0
           0,2,.7,3,0,0
           1,0,.1,4,.5,0
           1,1,.2,5,,0
"""


def test_a_plain_table_is_read_with_one_option_and_says_what_it_inferred(tmp_path: Path) -> None:
    source = read(csv(tmp_path / "log.csv", PLAIN), ReadOptions(action=("push",)))
    assert source.signature.observations == {"vector": ObservationSpec("vector", (2,), ("x", "v"))}
    assert source.signature.action == ActionSpec("continuous", low=(-1.0,), high=(1.0,), names=("push",))
    first, second = source.episodes()
    assert first.actions.flatten().tolist() == [-1, 1]  # the action of the last row leads nowhere
    assert second.actions.flatten().tolist() == [0.5]
    assert torch.allclose(second.observations["vector"], torch.tensor([[0.1, 4], [0.2, 5]]))
    said = " ".join(source.notes)
    for part in ("ignored columns: reward", "taken as observations: x, v", "low bounds of actions taken from the log"):
        assert part in said


def test_roles_follow_usual_names(tmp_path: Path) -> None:
    text = PLAIN.replace("x,v,push,reward", "obs_x,obs_v,action,exogenous.w").replace("episode", "Episode_ID")
    source = read(csv(tmp_path / "log.csv", text), ReadOptions(low=(-2.0,), high=(2.0,)))
    assert source.signature == Signature(
        {"vector": ObservationSpec("vector", (2,), ("x", "v"))},
        ActionSpec("continuous", low=(-2.0,), high=(2.0,), names=("action",)), ("w",),
    )
    assert source.notes == ()


def test_dotted_names_make_named_observations(tmp_path: Path) -> None:
    text = PLAIN.replace("x,v,push,reward", "observation.arm.x,observation.base.v,action.push,done")
    source = read(csv(tmp_path / "log.csv", text))
    assert source.signature.observations == {
        "arm": ObservationSpec("vector", (1,), ("x",)), "base": ObservationSpec("vector", (1,), ("v",))
    }


def test_patterns_and_exogenous_columns_by_option(tmp_path: Path) -> None:
    source = read(
        csv(tmp_path / "log.csv", PLAIN), ReadOptions(action=("pu*",), observation=("[xv]",), exogenous=("reward",))
    )
    assert source.signature.exogenous == ("reward",)
    assert source.signature.observations["vector"].columns == ("x", "v")


@pytest.mark.parametrize(("separator", "start"), [(";", ""), ("\t", ""), (",", "\ufeff")])
def test_other_separators_and_a_byte_order_mark(tmp_path: Path, separator: str, start: str) -> None:
    (tmp_path / "log.csv").write_text(start + PLAIN.replace(" ", "").replace(",", separator), encoding="utf-8")
    source = read(tmp_path / "log.csv", ReadOptions(action=("push",)))
    assert source.steps == 3


def test_a_log_without_an_episode_column_is_one_episode(tmp_path: Path) -> None:
    source = read(csv(tmp_path / "log.csv", "x,action\n1,.1\n2,.2\n3,.3\n"))
    assert [len(e) for e in source.episodes()] == [2]
    assert "no episode column: the whole log is one episode" in source.notes


def test_whole_numbers_in_one_action_column_are_choices_unless_told_otherwise(tmp_path: Path) -> None:
    path = csv(tmp_path / "log.csv", "x,action\n1,0\n2,2\n3,1\n4,0\n")
    assert read(path).signature.action == ActionSpec("discrete", choices=3, names=("action",))
    assert any("3 choices" in note for note in read(path).notes)
    assert read(path, ReadOptions(discrete=True, high=(4.0,))).signature.action.choices == 5
    told = read(path, ReadOptions(discrete=False))
    assert told.signature.action.kind == "continuous"
    assert read(path).fingerprint != told.fingerprint
    episode = next(iter(read(path).episodes()))
    assert episode.actions.dtype == torch.int64


def test_interleaved_rows_are_sorted_when_asked(tmp_path: Path) -> None:
    path = csv(tmp_path / "log.csv", "episode,t,x,action\n0,0,1,.1\n1,0,5,.5\n0,1,2,.2\n1,1,6,.6\n")
    source = read(path, ReadOptions(sort=True))
    assert [e.observations["vector"].flatten().tolist() for e in source.episodes()] == [[1, 2], [5, 6]]


def test_lists_and_images_in_parquet(tmp_path: Path) -> None:
    image = np.arange(3 * 12, dtype=np.uint8).reshape(3, 12)
    field = pa.field("observation.front", pa.binary(12), metadata={"shape": "2,2,3"})
    table = pa.table(
        [
            pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), pa.array([row.tobytes() for row in image], pa.binary(12)),
            pa.array([[0.1, 0.2]] * 2 + [[0.3, 0.1]], pa.list_(pa.float32(), 2)), pa.array([7, 7, 7]),
            pa.array([0.0, 0.1, 0.2]),
        ],
        pa.schema([
            ("observation.state", pa.list_(pa.float64())), field, ("action", pa.list_(pa.float32(), 2)),
            ("episode_index", pa.int64()), ("timestamp", pa.float64()),
        ]),
    )
    pq.write_table(table, tmp_path / "log.parquet")
    source = read(tmp_path / "log.parquet", ReadOptions(low=(0.0,), high=(1.0,)))
    assert source.signature.observations == {
        "state": ObservationSpec("vector", (2,)), "front": ObservationSpec("image", (2, 2, 3))
    }
    episode = next(iter(source.episodes()))
    assert episode.observations["state"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert np.array_equal(episode.observations["front"].numpy(), image.reshape(3, 2, 2, 3))
    assert episode.actions.shape == (2, 2)


def test_a_parquet_file_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    write(tmp_path / "log.parquet", VECTORS, make_log(VECTORS, [3]))
    (tmp_path / "log.data").write_bytes((tmp_path / "log.parquet").read_bytes())
    assert read(tmp_path / "log.data").format == "parquet"


def test_every_format_answers_to_its_name_and_says_what_it_is() -> None:
    assert len({f.name for f in FORMATS}) == len(FORMATS)
    for f in FORMATS:
        assert type(f).__doc__
        assert not f.matches("/nowhere/at all")
