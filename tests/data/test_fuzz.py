"""Files changed at random: whatever comes in, only a SteersmanError comes out, or a sound log."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from logs import MIXED, VECTORS, make_dataset, make_log

from steersman.core import SteersmanError
from steersman.data import Dataset, read, write
from steersman.evidence.formats import mutate

MUTANTS = int(os.environ.get("STEERSMAN_MUTANTS", "150"))


@pytest.mark.parametrize("kind", ["csv", "plain csv", "roles", "parquet", "images"])
def test_mutated_logs(tmp_path: Path, kind: str) -> None:
    rng = random.Random(kind)
    signature = MIXED if kind == "images" else VECTORS
    name = "log.parquet" if kind in ("parquet", "images") else "log.csv"
    write(tmp_path / name, signature, make_log(signature, [4, 3]))
    if kind == "plain csv":
        (tmp_path / f"{name}.schema.toml").unlink()
    target = tmp_path / (f"{name}.schema.toml" if kind == "roles" else name)
    content, sound = target.read_bytes(), 0
    for number in range(MUTANTS):
        mutant = mutate(content, rng)
        target.write_bytes(mutant)
        try:
            source = read(tmp_path / name)
            for episode in source.episodes():
                episode.validate(source.signature)
            sound += 1
        except SteersmanError:
            continue
        except Exception:
            (Path(os.environ.get("STEERSMAN_KEEP", tmp_path)) / f"mutant-{kind}-{number}").write_bytes(mutant)
            raise
    assert sound < MUTANTS


def test_mutated_cache_indices(tmp_path: Path) -> None:
    rng = random.Random("cache")
    make_dataset(tmp_path / "cache", MIXED, [4, 3])
    index = tmp_path / "cache" / "index.json"
    content, sound = index.read_bytes(), 0
    for _ in range(MUTANTS):
        index.write_bytes(mutate(content, rng))
        try:
            dataset = Dataset.open(tmp_path / "cache")
            dataset.statistics()
            list(dataset.episodes())
            sound += 1
        except SteersmanError:
            continue
    assert sound < MUTANTS


def test_exchanged_values_in_a_cache_index(tmp_path: Path) -> None:
    rng = random.Random("values")
    make_dataset(tmp_path / "cache", MIXED, [4, 3])
    index = tmp_path / "cache" / "index.json"
    good = json.loads(index.read_text())

    def paths(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [path, *(p for key, inner in items for p in paths(inner, (*path, key)))]

    for path in paths(good)[1:]:
        for value in rng.sample([None, -1, 0, 10**30, 1.5, "", "x", [], {}, [1], True, "../x", 2**40], 6):
            changed = json.loads(json.dumps(good))
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = value
            index.write_text(json.dumps(changed))
            try:
                dataset = Dataset.open(tmp_path / "cache")
                dataset.statistics()
            except SteersmanError:
                continue
