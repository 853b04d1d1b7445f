"""Remembered triplets as tensors: pieces in order of time, costs weighed, ends told apart; search equal to a loop."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from steersman.core import ConfigError, MismatchError, RunError, UsageError
from steersman.core.recording import Array
from steersman.memory import NearestKeys, TripletMemory, read_triplets
from steersman.runs.frames import frames, segments
from steersman.runs.triplets import MARK


def remembered(folder: Path, **more) -> TripletMemory:
    """Two episodes side by side: the first ends at time 2 and another begins, the second goes on."""
    memory = TripletMemory(folder, 2, ("effort", "pain"), **more)
    for t in range(5):
        states = torch.tensor([[float(t), 0.0], [float(t), 1.0]])
        memory.append(states, torch.stack([states[:, 0], 10 * states[:, 1]], 1),
                      first=torch.tensor([t in (0, 3), t == 0]), terminal=torch.tensor([t == 2, False]))
    return memory


def test_triplets_come_episode_by_episode_with_their_ends_and_weighed_costs(tmp_path):
    found = remembered(tmp_path / "x").triplets(weights={"pain": 0.5})
    assert found.time.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 0, 1]
    assert found.episode.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 6, 6]
    assert found.states[:, 0].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 3, 4]
    assert found.costs.tolist() == [0, 1, 2, 5, 6, 7, 8, 9, 3, 4]
    assert found.last.nonzero().flatten().tolist() == [2, 7, 9]
    assert found.terminal.nonzero().flatten().tolist() == [2]
    assert found.began.nonzero().flatten().tolist() == [0, 3, 8]
    some = read_triplets(tmp_path / "x", 4, 8)
    assert some.number.tolist() == [4, 5, 7, 6]
    assert len(read_triplets(tmp_path / "x", 99)) == 0
    with pytest.raises(UsageError, match="got hunger"):
        read_triplets(tmp_path / "x", weights={"hunger": 1.0})


def test_an_altered_triplet_ends_a_piece_only_where_that_is_asked_for(tmp_path):
    remembered(tmp_path / "x").close()
    file = segments(tmp_path / "x")[-1][1]
    ends, content = [end for end, _ in frames(file, MARK)], bytearray(file.read_bytes())
    content[ends[0] + 30] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"none of 2 to 3 in .* which was altered"):
        read_triplets(tmp_path / "x")
    found = read_triplets(tmp_path / "x", skip_damaged=True)
    assert found.time.tolist() == [0, 2, 0, 2, 3, 4, 0, 1]
    assert found.last.tolist() == [True, True, True, False, False, True, False, True]
    assert len(set(found.episode.tolist())) == 5


def test_what_another_process_remembered_is_gone_on_with_and_searched(tmp_path):
    remembered(tmp_path / "x").close()
    memory = TripletMemory(tmp_path / "x", 2, ("effort", "pain"))
    assert memory.count == 10
    found = memory.nearest(torch.tensor([[2.1, 0.9], [0.0, -0.1]]), 2)
    assert found.number[:, 0].tolist() == [5, 0]
    assert found.values[:, 0].tolist() == [[2, 10], [0, 0]]
    memory.append(torch.tensor([[2.1, 0.9]]), torch.tensor([[7.0, 7.0]]))
    assert memory.nearest(torch.tensor([[2.1, 0.9]])).number.item() == 10
    memory.close()


def test_the_search_forgets_what_made_room(tmp_path):
    memory = TripletMemory(tmp_path / "x", 2, ("effort",), retain=2000)
    memory.append(torch.zeros(1, 2), torch.zeros(1, 1))
    assert memory.nearest(torch.zeros(1, 2)).number.item() == 0
    for t in range(100):
        memory.append(torch.full((1, 2), 1.0 + t), torch.zeros(1, 1))
    assert memory.nearest(torch.zeros(1, 2)).number.item() == read_triplets(tmp_path / "x").number.min() > 50


def looped(keys: Array, numbers: list[int], query: Array, k: int) -> list[tuple[float, int]]:
    return sorted((float(((key - query) ** 2).sum()), n) for key, n in zip(keys, numbers, strict=True))[:k]


def test_exact_search_equals_a_loop_also_of_few_and_forgotten_keys():
    g = torch.Generator().manual_seed(0)
    search, keys, numbers = NearestKeys(4, 1), torch.randn(3000, 4, generator=g), list(range(0, 9000, 3))
    assert search.nearest(keys[:2]).number.tolist() == [[-1], [-1]]
    for part in range(0, 3000, 700):
        these = slice(part, part + 700)
        search.add(torch.tensor(numbers[these]), keys[these], keys[these, :1])
    for gone in (0, 1000, 2998):
        search.forget(numbers[gone])
        query = torch.randn(5, 4, generator=g)
        found = search.nearest(query, 3)
        for row, q in enumerate(query):
            wanted = looped(keys[gone:], numbers[gone:], q, 3)
            assert found.number[row].tolist() == [n for _, n in wanted] + [-1] * (3 - len(wanted))
            for distance, value, (true, n) in zip(found.distance[row], found.values[row], wanted, strict=False):
                assert float(distance) == pytest.approx(true, rel=1e-4)
                assert value == keys[numbers.index(n), 0]
    assert len(search) == 2
    assert found.distance[0, 2] == math.inf


def test_what_cannot_be_searched_is_refused():
    search = NearestKeys(4, 1)
    search.add(torch.tensor([3]), torch.zeros(1, 4), torch.zeros(1, 1))
    for numbers in ([3], [2], [5, 5]):
        n = len(numbers)
        with pytest.raises(MismatchError, match="growing numbers above 3"):
            search.add(torch.tensor(numbers), torch.zeros(n, 4), torch.zeros(n, 1))
    with pytest.raises(MismatchError, match=r"queries \(m, 4\)"):
        search.nearest(torch.zeros(1, 3))
    with pytest.raises(ConfigError, match="at least 1"):
        NearestKeys(0, 1)


def test_above_the_limit_an_index_finds_nearly_what_is_nearest_grows_and_forgets():
    pytest.importorskip("faiss")
    g = torch.Generator().manual_seed(0)
    through = torch.randn(3, 8, generator=g)

    def keys(n: int) -> torch.Tensor:
        return torch.tanh(torch.randn(n, 3, generator=g) @ through)

    lists, exact = NearestKeys(8, 1, exact=500, probes=8), NearestKeys(8, 1)
    for part, n in enumerate((400, 400, 400, 3000)):
        new, numbers = keys(n), torch.arange(5000 * part, 5000 * part + n)
        for search in (lists, exact):
            search.add(numbers, new, new[:, :1])
        query = keys(200)
        ours, truly = lists.nearest(query), exact.nearest(query)
        assert float((ours.number == truly.number).float().mean()) > 0.9
        torch.testing.assert_close(ours.distance[:, 0], ((held(exact, ours.number[:, 0]) - query) ** 2).sum(1))
    lists.forget(15_000)
    assert int(lists.nearest(query).number.min()) >= 15_000
    assert lists.nearest(query, 5).values.shape == (200, 5, 1)


def held(exact: NearestKeys, numbers: torch.Tensor) -> torch.Tensor:
    return exact._keys[torch.searchsorted(exact._numbers[: exact._count], numbers)]


def test_without_the_index_it_is_said_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "faiss", None)
    search = NearestKeys(2, 1, exact=3)
    search.add(torch.arange(4), torch.zeros(4, 2), torch.zeros(4, 1))
    with pytest.raises(UsageError, match=r'pip install "steersman\[search\]"'):
        search.nearest(torch.zeros(1, 2))
