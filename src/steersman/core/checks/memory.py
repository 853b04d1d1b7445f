"""Does a memory of your own keep what every memory promises? Knows `core.Memory` only.

Shapes: B problems, K candidates, D size of keys, V size of values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steersman.core.boxes import Memory
from steersman.core.checks.promises import Ledger, same, same_tensors, tensors_of, worst
from steersman.core.records import TensorRecord, rows, tensors

_SIZES = ((1, 1), (3, 1), (2, 5))


def check_memory(memory: Memory, keys: int, values: int, *, writes: int = 6, seed: int = 0) -> tuple[str, ...]:
    """Write to and read from `memory` with made-up pairs; the promises that it kept, in words.

    its state is a record of tensors with one row for each problem; a read gives (B, K, V), finite, also of an empty
    memory; one state is read by any number of candidates; a write makes a new state and leaves the old one, its inputs,
    the global random generator and its own tensors as they were; what was written into an empty memory is brought back;
    a problem is served alone as in a batch, a candidate alone as among others; settled, a state has the form of the
    first and reads the same; it works in inference mode.

    keys, values  numbers of a key and of a value; writes  how many pairs are written

    Raises:
        PromiseError: the first promise that is broken, and in which case.

    >>> from steersman.memory import SlotMemory                                             # doctest: +SKIP
    >>> check_memory(SlotMemory(8, 3), 8, 3)                                                # doctest: +SKIP
    """
    ledger = Ledger(f"memory {type(memory).__name__}")
    g = torch.Generator().manual_seed(seed)

    def pairs(b: int, k: int) -> list[tuple[Tensor, Tensor]]:
        return [(F.normalize(torch.randn(b, k, keys, generator=g), dim=-1), torch.randn(b, k, values, generator=g))
                for _ in range(writes)]

    for b, k in _SIZES:
        _answers(ledger, memory, pairs(b, k), values)
    _recalls(ledger, memory, pairs(3, 1)[:1])
    _leaves(ledger, memory, pairs(2, 5))
    _independent(ledger, memory, pairs(3, 5))
    _settles(ledger, memory, pairs(3, 1))
    return ledger.kept


def _written(memory: Memory, pairs: list[tuple[Tensor, Tensor]]) -> Any:
    state: Any = memory.initial(len(pairs[0][0]))
    for key, value in pairs:
        state = memory.write(state, key, value)
    return state


def _answers(ledger: Ledger, memory: Memory, pairs: list[tuple[Tensor, Tensor]], values: int) -> None:
    b, k = pairs[0][0].shape[:2]
    case, query = f"{b} problems, {k} candidates", pairs[-1][0]
    empty = ledger.ask(case, lambda: memory.initial(b))
    held = tensors(empty)
    ledger.keep("holds a record of tensors with one row for each problem",
                isinstance(empty, TensorRecord) and bool(held) and all(len(x) == b for x in held.values()), case,
                f"{type(empty).__name__} with {', '.join(f'{n} {tuple(x.shape)}' for n, x in held.items())}",
                "make a frozen dataclass of tensors (B, …) that inherits TensorRecord")
    for words, state in (("empty", empty), ("written to", ledger.ask(case, lambda: _written(memory, pairs)))):
        found = ledger.ask(f"{words}, {case}", lambda s=state: memory.read(s, query))  # type: ignore[misc]
        ledger.keep("reads one value for each candidate, (B, K, V)", tuple(found.shape) == (b, k, values),
                    f"{words}, {case}", f"{tuple(found.shape)}", "return (problems, candidates, numbers of a value)")
        ledger.keep("reads finite numbers", bool(torch.isfinite(found).all()), f"{words}, {case}", "NaN or infinity",
                    "guard what is divided by nothing written yet")
    with torch.inference_mode():
        again = ledger.ask("in inference mode", lambda: memory.read(_written(memory, pairs), query))
    ledger.keep("gives the same answer again", same(again, found), "written and read twice", worst(again, found),
                "keep what is remembered in the state alone, and draw nothing at random")


def _recalls(ledger: Ledger, memory: Memory, pairs: list[tuple[Tensor, Tensor]]) -> None:
    (key, value), = pairs
    found = memory.read(_written(memory, pairs), key)
    ledger.keep("brings back what was written", bool(((found - value).norm(dim=-1) < value.norm(dim=-1)).all()),
                "one pair in an empty memory, keys of length 1", worst(found, value),
                "a read of a key must come nearer to its value than nothing does")


def _leaves(ledger: Ledger, memory: Memory, pairs: list[tuple[Tensor, Tensor]]) -> None:
    state, (key, value), own = _written(memory, pairs[:-1]), pairs[-1], tensors_of(memory)
    held = {name: x.clone() for name, x in tensors(state).items()}
    copies, random = (key.clone(), value.clone()), torch.random.get_rng_state()
    memory.read(memory.write(state, key, value), key)
    fix, case = "make new tensors, write to none", "written once more"
    ledger.keep("leaves the state before a write as it was", same_tensors(held, tensors(state)), case,
                "tensors that were written to", fix)
    ledger.keep("leaves keys and values as they were", torch.equal(key, copies[0]) and torch.equal(value, copies[1]),
                case, "tensors that were written to", fix)
    ledger.keep("leaves the global random generator alone", torch.equal(random, torch.random.get_rng_state()), case,
                "another state of it", "draw nothing at random")
    ledger.keep("leaves its own tensors as they were", same_tensors(own, tensors_of(memory)), case, "other values",
                "what it remembers belongs into the state")


def _independent(ledger: Ledger, memory: Memory, pairs: list[tuple[Tensor, Tensor]]) -> None:
    query, everything = pairs[0][0], slice(None)
    whole = memory.read(_written(memory, pairs), query)
    for some, candidates, case, promise in (
        (slice(1, 2), everything, "problem 1 of 3 alone", "serves a problem alone as in a batch"),
        (everything, slice(3, 4), "candidate 3 of 5 alone", "serves a candidate alone as among others"),
    ):
        cut = [(key[some, candidates], value[some, candidates]) for key, value in pairs]
        alone = ledger.ask(case, lambda c=cut: memory.read(_written(memory, c), c[0][0]))  # type: ignore[misc]
        ledger.keep(promise, same(alone, whole[some, candidates]), case, worst(alone, whole[some, candidates]),
                    "use no statistics over problems or candidates")


def _settles(ledger: Ledger, memory: Memory, pairs: list[tuple[Tensor, Tensor]]) -> None:
    state, query, case = _written(memory, pairs), pairs[0][0], f"{len(pairs)} writes of one candidate"
    settled = ledger.ask(case, lambda: memory.settle(state))
    first = tensors(memory.initial(len(query)))
    form = {name: (tuple(x.shape), x.dtype) for name, x in first.items()}
    got = {name: (tuple(x.shape), x.dtype) for name, x in tensors(settled).items()}
    ledger.keep("settles into the form of its first state", form == got, case, f"{got}",
                "override `settle`: fold what was written into what the first state has")
    found, wanted = memory.read(settled, query), memory.read(state, query)
    ledger.keep("reads the same once settled", same(found, wanted), case, worst(found, wanted),
                "settling must change the form alone")
    alone = memory.read(rows(settled, slice(1, 2)), query[1:2])
    ledger.keep("can be cut to some rows", same(alone, found[1:2]), "row 1 of 3 of a settled state",
                worst(alone, found[1:2]), "keep rows of different problems apart")
    many = memory.read(settled, query.expand(-1, 4, -1))
    ledger.keep("is read by any number of candidates", same(many, found.expand(-1, 4, -1)),
                "4 candidates read a settled state", worst(many, found.expand(-1, 4, -1)),
                "let what the candidates share broadcast")
