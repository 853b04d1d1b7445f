"""What processes say to each other beside tensors: one prepares, the others wait; of several failures one is told."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from steersman.core import RunError, UsageError
from steersman.training import together as module
from steersman.training.together import Together, together


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`process(1)`: from here on this is process 1 of two that share a store."""
    store = dist.HashStore()
    monkeypatch.setenv("WORLD_SIZE", "2")
    return lambda rank: monkeypatch.setattr(module, "rendezvous", lambda url: iter([(store, rank, 2)]))


def test_alone_there_is_nobody_to_talk_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with together() as here, here.joined("cpu"):
        here.tell({"run": "x"})
        assert here.leads
        assert not dist.is_initialized()


def test_the_others_wait_for_the_first() -> None:
    store = dist.HashStore()
    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(Together(1, 2, store).hear)
        assert not heard.done()
        Together(0, 2, store).tell({"run": "x"})
        assert heard.result(10) == {"run": "x"}


def test_one_that_fails_before_it_told_sends_the_others_home(process: Callable[[int], None]) -> None:
    process(0)
    with pytest.raises(UsageError), together():
        raise UsageError("a", "b", "c")
    process(1)
    with together() as here:
        assert here.hear() is None


def test_of_two_failures_the_first_is_told(process: Callable[[int], None]) -> None:
    process(1)
    with pytest.raises(UsageError, match="got in process 1 of 2: b;"), together():
        raise UsageError("a", "b", "c")
    process(0)
    with pytest.raises(SystemExit) as silent, together():
        raise RuntimeError("gloo: connection closed by peer")
    assert silent.value.code == 1


def test_a_process_that_is_gone_without_a_word_is_missed(process: Callable[[int], None]) -> None:
    process(0)
    with pytest.raises(RunError, match="2 processes to the end; got one that ended without a word"), together():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")


def test_a_defect_stays_a_defect(process: Callable[[int], None]) -> None:
    process(0)
    with pytest.raises(RuntimeError, match="shapes"), together():
        raise RuntimeError("shapes do not fit")
