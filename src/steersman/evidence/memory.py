"""Short-term memory that outlives its process: what kills and damage cost it, how fast it is read, how it grows.

kills    writers of triplets killed with SIGKILL while they write: no triplet whose `append` had returned is lost
damage   one place of a file cut or flipped: told in one line, and nothing is lost that was not hit
search   a million remembered states, searched by state: milliseconds a read, and how often the nearest is found
growth   memory of the process while triplets make room for others
"""

from __future__ import annotations

import math
import time

import msgspec
import torch
from torch import Tensor

from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.memory_kills import damaged, killed
from steersman.memory import NearestKeys, TripletMemory
from steersman.runs.artefacts import Column, Figure, Row, Table

SEEDS, QUERIES, MIB = 3, 500, 1 << 20
_INNER, _STEP = 8, 10_000


class Kills(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """kills: writers that are killed; files: copies that are spoiled."""

    kills: int = 100
    files: int = 200


class Search(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """keys: that are held; size: D; independent: Gaussian numbers instead of states that few numbers decide."""

    keys: int = 1_000_000
    size: int = 32
    independent: bool = False
    exact: int = 100_000


class Growth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """appends: of 16 triplets; retain: bytes that stay; exact: triplets that are searched one by one."""

    appends: int = 40_000
    retain: int = 20 << 20
    exact: int = 20_000


def cells(
    seed: int, kills: Kills = Kills(), search: Search = Search(), growth: Growth = Growth(),  # noqa: B008 (frozen)
) -> tuple[Cell, ...]:
    """Kills and damage; the search with three seeds, and once each with 64 numbers and with keys that share nothing."""
    wide, apart = (msgspec.structs.replace(search, **change) for change in ({"size": 64}, {"independent": True}))
    return (
        Cell("kills", perform_kills, 60, seed, kills),
        *(Cell("search/32", perform_search, 90, seed + i, search) for i in range(SEEDS)),
        Cell("search/64", perform_search, 120, seed, wide),
        Cell("search/independent", perform_search, 90, seed, apart),
        Cell("growth", perform_growth, 60, seed, growth),
    )


def perform_kills(context: Context) -> Found:
    """Kill writers, then spoil files."""
    sizes: Kills = context.settings
    dead = killed(context.folder, sizes.kills, context.seed)
    spoiled = damaged(context.folder, sizes.files, context.seed)
    context.say(f"{dead.kills} kills, {dead.committed:,} committed, {dead.lost} lost; {spoiled}")
    return Found({"kills": {
        "kills": dead.kills, "committed": dead.committed, "lost": dead.lost, "torn": dead.torn,
        "damaged": spoiled.files, "damage_silent": spoiled.silent, "damage_lost": spoiled.lost,
        "written_over": spoiled.written_over,
    }})


def perform_search(context: Context) -> Found:
    """Hold the nearest that is found against the nearest of all."""
    sizes: Search = context.settings
    g = torch.Generator().manual_seed(context.seed)
    states = Latents(sizes.size, sizes.independent, g)
    query = states.draw(QUERIES)
    search = NearestKeys(sizes.size, 1, exact=sizes.exact)
    nearest, best = torch.full((QUERIES,), -1), torch.full((QUERIES,), math.inf)
    for first in range(0, sizes.keys, _STEP):
        keys = states.draw(min(_STEP, sizes.keys - first))
        numbers = torch.arange(first, first + len(keys))
        near = torch.cdist(query, keys, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        nearest = torch.where(near.values < best, numbers[near.indices], nearest)
        best = torch.minimum(best, near.values)
        search.add(numbers, keys, keys[:, :1])
    began = time.process_time()
    search.nearest(query[:1])
    built = time.process_time() - began
    began, found = time.process_time(), []
    for one in query.split(1):
        found.append(search.nearest(one).number[0, 0])
    spent = time.process_time() - began
    recall = float((torch.stack(found) == nearest).float().mean())
    row = "search/independent" if sizes.independent else f"search/{sizes.size}"
    return Found({row: {"read_ms": 1000 * spent / QUERIES, "recall_at_1": recall, "build_seconds": built}})


class Latents:
    """Made-up states of a trained world model: D numbers, decided by 8, through a network that nobody trained; or
    independent Gaussian numbers, of which nothing is near anything."""

    def __init__(self, size: int, independent: bool, generator: torch.Generator) -> None:
        self.size, self.independent, self.generator = size, independent, generator
        self._in = torch.randn(_INNER, 64, generator=generator) / _INNER**0.5
        self._out = torch.randn(64, size, generator=generator) / 8

    def draw(self, n: int) -> Tensor:
        if self.independent:
            return torch.randn(n, self.size, generator=self.generator)
        return torch.tanh(torch.randn(n, _INNER, generator=self.generator) @ self._in) @ self._out


def perform_growth(context: Context) -> Found:
    """Append far more than stays, searching all the while."""
    sizes: Growth = context.settings
    g = torch.Generator().manual_seed(context.seed)
    states, memory = Latents(32, False, g), TripletMemory(
        context.folder / "triplets", 32, ("effort",), retain=sizes.retain, exact=sizes.exact)
    warm = 0.0
    for i in range(sizes.appends):
        new = states.draw(16)
        memory.append(new, new[:, :1])
        if i % 50 == 0:
            memory.nearest(new)
        if i == sizes.appends // 2:
            warm = resident()
    grown = resident() - warm
    held = len(memory.triplets())
    memory.close()
    return Found({"growth": {"rss_growth": grown, "rss": warm, "appended": 16 * sizes.appends, "held": held}})


def resident() -> float:
    """MiB of this process that lie in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / MIB


def summary(results: Results) -> Outcome:
    """{kills, lost, read_ms_1e6, recall_at_1, rss_growth, …}: the worst of the seeds; `search/…` told apart."""
    figures: dict[str, dict[str, object]] = {}
    for one in results:
        for row, keys in one.kept.figures.items():
            figures.setdefault(row, {}).update(keys)
    found = [next(iter(one.kept.figures.values())) for one in results.of("search/32")]
    together: dict[str, object] = {}
    if found:
        figures["search/32"] = {"read_ms": max(x["read_ms"] for x in found),
                                "recall_at_1": min(x["recall_at_1"] for x in found),
                                "build_seconds": max(x["build_seconds"] for x in found),
                                "recall_at_1_by_seed": [x["recall_at_1"] for x in found],
                                "read_ms_by_seed": [x["read_ms"] for x in found]}
        together |= {"read_ms_1e6": figures["search/32"]["read_ms"],
                     "recall_at_1": figures["search/32"]["recall_at_1"]}
    together |= {key: figures[row][key] for row, key in (("kills", "kills"), ("kills", "lost"),
                                                         ("growth", "rss_growth")) if row in figures}
    return Outcome({"memory": together, **figures}, (_search(figures), _kept(figures)))


def _search(figures: dict[str, dict[str, object]]) -> Table:
    columns = (Column(key="read_ms", title="a read", unit="ms", better="lower", target=1.0),
               Column(key="recall_at_1", title="nearest found", better="higher", target=0.95),
               Column(key="build_seconds", title="made in", unit="s", better="lower"))
    rows = tuple(Row(label=row.removeprefix("search/"), kind="agent", figures={
        c.key: Figure(value=keys[c.key]) for c in columns})  # type: ignore[arg-type]
        for row, keys in figures.items() if row.startswith("search/"))
    return Table(name="search", title="A million states, searched by state", columns=columns, rows=rows, notes=(
        "Rows: numbers of a state; states that 8 numbers decide, and independent numbers, where nothing is near.",
        "Processor time of single reads, one at a time. Worst of the seeds."))


def _kept(figures: dict[str, dict[str, object]]) -> Table:
    columns = (Column(key="value", title="found", form="count"),)
    names = {("kills", "kills"): "writers killed while they wrote", ("kills", "committed"): "triplets committed before",
             ("kills", "lost"): "of these lost", ("kills", "torn"): "kills that left a torn write",
             ("kills", "damaged"): "files cut or flipped", ("kills", "damage_silent"): "of these unnoticed",
             ("kills", "damage_lost"): "triplets lost that were not hit",
             ("growth", "appended"): "triplets appended to a bounded memory", ("growth", "held"): "held at the end",
             ("growth", "rss_growth"): "MiB that the process grew by in the second half"}
    rows = tuple(Row(label=label, figures={"value": Figure(value=figures[row][key])})  # type: ignore[arg-type]
                 for (row, key), label in names.items() if key in figures.get(row, {}))
    return Table(name="kept", title="Triplets that outlive their process", columns=columns, rows=rows)
