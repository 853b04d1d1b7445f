"""What the processes of one `torchrun` say to each other beside tensors: what the first prepared, who failed first.

Only the first process reads the log, makes the run and talks to people. The rest wait for its word, then train along.
Knows nothing of runs or datasets: the word is a small mapping.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from steersman.core.errors import RunError, SteersmanError
from steersman.training.precision import choose_device

_WORD, _FAILURES = "steersman/word", "steersman/failures"
_PAUSE = 0.05  # seconds between two looks whether the first process has spoken


class Together:
    """This process among those that torchrun started; alone, everything here does nothing.

    The first process `tell`s once, or fails; each other `hear`s. Tensors go through `joined`.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: dist.Store | None = None) -> None:
        self.rank, self.size, self._store = rank, size, store
        self._told = False
        self._speaks: bool | None = None

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def tell(self, word: Mapping[str, Any] | None) -> None:
        """Say what is prepared; None: nothing is, leave."""
        if self._store is not None and self.leads and not self._told:
            self._store.set(_WORD, msgspec.json.encode(word).decode())
        self._told = True

    def hear(self) -> dict[str, Any] | None:
        """Wait, as long as it takes, for what the first process tells."""
        assert self._store is not None
        while not self._store.check([_WORD]):
            time.sleep(_PAUSE)
        word: dict[str, Any] | None = msgspec.json.decode(self._store.get(_WORD))
        return word

    @contextmanager
    def joined(self, device: str) -> Iterator[None]:
        """Exchange tensors: gloo on processors, nccl on CUDA devices, one each."""
        if self._store is None:
            yield
            return
        backend = "nccl" if choose_device(device).type == "cuda" else "gloo"
        store = dist.PrefixStore("tensors", self._store)
        dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.size)
        try:
            yield
        except BaseException:
            self.speaks()  # before the others notice that this one is gone
            raise
        finally:
            dist.destroy_process_group()

    def speaks(self) -> bool:
        """Whether this process is the first that failed: the one whose words people should read."""
        if self._speaks is None:
            try:
                self._speaks = self._store is None or self._store.add(_FAILURES, 1) == 1
            except RuntimeError:  # torchrun itself is gone
                self._speaks = True
        return self._speaks


@contextmanager
def together() -> Iterator[Together]:
    """The processes that torchrun started, if it did. A failure in any of them ends all, and one of them speaks.

    Raises:
        SystemExit: another process failed before; it has said why.
        RunError: another process ended without a word.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Together()
        return
    store, rank, size = next(rendezvous("env://"))
    here = Together(rank, size, store)
    try:
        yield here
        here.tell(None)
    except BaseException as error:
        speaks = here.speaks()
        here.tell(None)
        if not speaks:
            raise SystemExit(getattr(error, "exit_code", 1)) from None
        if _is_connection(error):
            raise RunError(
                f"{size} processes to the end", "one that ended without a word",
                "look for what killed it (memory?); `steersman train --resume RUN` goes on",
            ) from error
        if isinstance(error, SteersmanError) and rank:
            error.got = f"in process {rank} of {size}: {error.got}"
        raise


def _is_connection(error: BaseException) -> bool:
    """Whether the exchange of tensors broke off; gloo raises no type of its own."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in f"{error}".lower())
