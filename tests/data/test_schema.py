"""Columns have roles: what a person says about a log, as text and back; gaps, slow columns, parts of a log in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import VECTORS, make_dataset

from steersman.core import ActionError, ConfigError, DataError, UsageError
from steersman.data import Column, ReadOptions, Schema, load, read, write
from steersman.data.timing import measured, rows_per_update

NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
RANGES = st.tuples(st.floats(-1e6, 0, exclude_max=True), st.floats(0, 1e6))
COLUMNS = st.builds(
    Column, role=st.sampled_from(["observation", "action", "exogenous", "ignored"]), unit=NAMES,
    label=st.none() | st.just("") | NAMES, range=st.none() | RANGES,
    update_period=st.none() | st.floats(1e-3, 1e3), observation=st.just("") | NAMES,
)


@settings(max_examples=60)
@given(st.dictionaries(NAMES, COLUMNS, max_size=4), st.none() | st.floats(1.1, 9), st.integers(0, 99))
def test_a_schema_survives_its_file(columns: dict[str, Column], gap: float | None, embargo: int) -> None:
    schema = Schema(columns=columns, gap=gap, embargo=embargo, sampling_period=0.1)
    assert Schema.parse(schema.toml(("a comment\nof two lines",))) == schema


def table(path: Path, **columns: object) -> Path:
    """A CSV file of one episode; None is an empty cell."""
    rows = zip(*(np.broadcast_to(np.array(v, object), 60) for v in columns.values()), strict=True)
    lines = [",".join("" if x is None else f"{x}" for x in row) for row in rows]
    path.write_text("\n".join([",".join(columns), *lines]) + "\n")
    return path


NOISE = np.random.default_rng(0).normal(size=(60, 3)).round(4)


def test_a_schema_says_everything_about_the_columns(tmp_path: Path) -> None:
    path = table(tmp_path / "log.csv", clock=np.arange(60) / 2, temp=NOISE[:, 0], valve=NOISE[:, 1], junk="text")
    schema = Schema.parse("""
        [columns]
        clock = { role = "time", unit = "s" }
        temp = { role = "observation", unit = "°C", label = "temperature", range = [-9.0, 9.0] }
        valve = { role = "action", range = [-5.0, 5.0] }
    """)
    source = read(path, ReadOptions(schema=schema))
    assert source.signature.observations["vector"].columns == ("temperature",)
    assert (source.signature.action.low, source.signature.action.high) == ((-5.0,), (5.0,))
    assert source.notes == ("not in the schema, so ignored: junk",)
    assert source.schema is not None
    assert (source.schema.sampling_period, source.schema.gap) == (0.5, 1.5)
    dataset = load(path, tmp_path / "cache", ReadOptions(schema=schema))
    assert dataset.schema is not None
    assert dataset.schema.units() == {"clock": "s", "temperature": "°C"}


BAD = {
    "an unknown field": ('[columns]\nx = { role = "observation", colour = "red" }', "unknown field `colour`"),
    "an unknown role": ('[columns]\nx = { role = "input" }', "Invalid enum value 'input'"),
    "two clocks": ('[columns]\nx = { role = "time" }\ny = { role = "time" }', "at most one time column"),
    "a range upside down": ('[columns]\nx = { role = "action", range = [1, -1] }', "low < high"),
    "an endless period": ('[columns]\nx = { role = "observation", update_period = inf }', "update_period above 0"),
    "choices of a measurement": ('[columns]\nx = { role = "observation", choices = 2 }', "choices of an action"),
    "a negative embargo": ("embargo = -1\n[columns]", "embargo of at least 0"),
    "no period at all": ("sampling_period = 0\n[columns]", "sampling_period above 0"),
    "no TOML": ("{}", "a valid description"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_schema_is_refused(case: str) -> None:
    text, words = BAD[case]
    with pytest.raises((DataError, ConfigError), match=words):
        Schema.parse(text)


def test_a_schema_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "log.csv", x=NOISE[:, 0], a=NOISE[:, 1])
    x, a = Column(role="observation"), Column(role="action")
    for columns, kind, words in (
        ({"y": x, "a": a}, DataError, "columns y of the schema"),
        ({"x": x}, DataError, "an action column"),
        ({"a": a}, DataError, "an observation column"),
        ({"x": x, "a": Column(role="action", range=(-0.1, 0.1))}, ActionError, "'a' within"),
        ({"x": Column(role="observation", range=(-0.1, 0.1)), "a": a}, DataError, "'x' within"),
    ):
        with pytest.raises(kind, match=words):
            read(path, ReadOptions(schema=Schema(columns=columns)))
    with pytest.raises(UsageError, match="a schema alone"):
        read(path, ReadOptions(schema=Schema(columns={"x": x, "a": a}), action=("a",)))


# Gaps ------------------------------------------------------------------------------------------------------------


def test_a_gap_in_time_ends_an_episode(tmp_path: Path) -> None:
    time = np.arange(60) * 0.1
    time[20:] += 0.2
    time[21:] += 0.2  # row 20 stands alone
    path = table(tmp_path / "log.csv", t=time.round(3), x=NOISE[:, 0], action=NOISE[:, 1])
    source = read(path)
    assert [len(e) for e in source.episodes()] == [19, 38]
    assert any("2 gaps" in note for note in source.notes)
    assert any("1 rows that stand alone" in note for note in source.notes)
    assert source.schema is not None
    together = Schema(columns=source.schema.columns, gap=0.0)
    assert [len(e) for e in read(path, ReadOptions(schema=together)).episodes()] == [59]
    wide = Schema(columns=source.schema.columns, gap=3.5)
    assert [len(e) for e in read(path, ReadOptions(schema=wide)).episodes()] == [59]


def test_an_irregular_clock_ends_nothing(tmp_path: Path) -> None:
    time = np.random.default_rng(1).exponential(size=60).cumsum().round(4)
    path = table(tmp_path / "log.csv", t=time, x=NOISE[:, 0], action=NOISE[:, 1])
    assert [len(e) for e in read(path).episodes()] == [59]


# Slow columns ----------------------------------------------------------------------------------------------------


def slow(tmp_path: Path, empty: bool) -> Path:
    lab: list[float | None] = [float(NOISE[i // 5 * 5, 2]) for i in range(60)]
    if empty:
        lab = [x if i % 5 == 0 else None for i, x in enumerate(lab)]
    return table(tmp_path / "log.csv", t=np.arange(60) * 2, x=NOISE[:, 0], lab=lab, action=NOISE[:, 1])


@pytest.mark.parametrize("empty", [False, True])
def test_a_value_repeated_on_faster_rows_is_no_new_measurement(tmp_path: Path, empty: bool) -> None:
    columns = {
        "t": Column(role="time"), "x": Column(role="observation"), "action": Column(role="action"),
        "lab": Column(role="observation", update_period=10.0),
    }
    source = read(slow(tmp_path, empty), ReadOptions(schema=Schema(columns=columns)))
    assert source.signature.slow == ("lab",)
    assert source.signature.observations["lab"].rows_per_update == 5
    (episode,) = source.episodes()
    assert episode.measured["lab"].nonzero().flatten().tolist() == list(range(0, 60, 5))
    assert torch.equal(episode.observations["lab"][3], episode.observations["lab"][0])
    write(tmp_path / "again.csv", source.signature, [episode])
    write(tmp_path / "again.parquet", source.signature, [episode])
    for name in ("again.csv", "again.parquet"):
        back = read(tmp_path / name)
        assert back.signature == source.signature
        (same,) = back.episodes()
        assert torch.equal(same.measured["lab"], episode.measured["lab"])
        assert torch.equal(same.observations["lab"], episode.observations["lab"])
    dataset = load(tmp_path / "again.csv", tmp_path / "cache")
    window = dataset.windows(torch.tensor([0, 0]), torch.tensor([0, 3]), 6)
    assert window.measured["lab"].tolist() == [[i % 5 == 0 for i in range(s, s + 7)] for s in (0, 3)]
    assert torch.equal(dataset.episode(0).measured["lab"], episode.measured["lab"])


def test_a_steady_rhythm_is_inferred_and_a_pause_is_not() -> None:
    rng, bounds = np.random.default_rng(0), ((0, 300), (300, 600))
    lab = np.repeat(rng.normal(size=150), 4)
    assert rows_per_update(lab, bounds) == 4
    lab[rng.random(600) < 0.02] = rng.normal()  # a rhythm with slips is one still
    assert rows_per_update(rng.normal(size=600), bounds) == 1
    still = rng.normal(size=600).cumsum()
    still[100:160] = still[100]
    assert rows_per_update(still, bounds) == 1
    ragged = np.repeat(rng.normal(size=200), rng.integers(1, 6, 200))[:600]
    assert rows_per_update(ragged, ((0, len(ragged)),)) == 1


def test_equal_measurements_in_a_row_count_each() -> None:
    values = np.array([1.0] * 3 + [2.0] * 6 + [3.0] * 4)
    assert measured(values, ((0, 13),), 3).nonzero()[0].tolist() == [0, 3, 6, 9]


def test_an_episode_begins_at_the_first_measurement(tmp_path: Path) -> None:
    lab = [None] * 7 + [float(x) if i % 4 == 3 else None for i, x in enumerate(NOISE[7:, 2], 7)]
    path = table(tmp_path / "log.csv", x=NOISE[:, 0], lab=lab, action=NOISE[:, 1])
    columns = {"x": Column(role="observation"), "lab": Column(role="observation", update_period=4.0)}
    columns["action"] = Column(role="action")
    (episode,) = read(path, ReadOptions(schema=Schema(columns=columns))).episodes()
    assert len(episode) == 52
    assert bool(episode.measured["lab"][0])


# Parts of a log --------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6), share=st.floats(0.05, 0.6),
       embargo=st.integers(0, 12), length=st.integers(1, 6))
def test_no_window_of_one_part_overlaps_the_next(
    lengths: list[int], share: float, embargo: int, length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    dataset, _ = make_dataset(tmp_path_factory.mktemp("split") / "cache", VECTORS, lengths)
    try:
        learned, held_out = dataset.split(share, embargo=embargo)
    except DataError:
        return
    first = dataset.lengths.cumsum(0) - dataset.lengths  # steps before each episode
    row = {}  # first row of the cache -> step number
    for start, steps, at in zip(dataset._first.tolist(), lengths, first.tolist(), strict=True):
        row |= {start + i: at + i for i in range(steps)}
    steps = [
        [row[f + i] for f, n in zip(part._first.tolist(), part.lengths.tolist(), strict=True) for i in range(n)]
        for part in (learned, held_out)
    ]
    assert max(steps[0]) + embargo < min(steps[1])
    rows = [
        {f + i for f, n in zip(part._first.tolist(), part.lengths.tolist(), strict=True) for i in range(n + 1)}
        for part in (learned, held_out)
    ]
    assert not rows[0] & rows[1]


def test_the_schema_says_the_embargo(tmp_path: Path) -> None:
    path = table(tmp_path / "log.csv", x=NOISE[:, 0], action=NOISE[:, 1])
    columns = {"x": Column(role="observation"), "action": Column(role="action")}
    dataset = load(path, tmp_path / "cache", ReadOptions(schema=Schema(columns=columns, embargo=7)))
    learned, held_out = dataset.split(0.2)
    assert (int(learned.lengths.sum()), int(held_out.lengths.sum())) == (39, 12)
