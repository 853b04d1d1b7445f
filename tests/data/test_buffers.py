"""Memory of large batches is used again, and never while somebody still looks at it."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import torch

from steersman.core import ActionSpec, Episode, ObservationSpec, Signature
from steersman.data import CacheWriter, Dataset
from steersman.data.buffers import LARGE, Buffers


def address(x: torch.Tensor) -> int:
    return x.untyped_storage().data_ptr()


def test_memory_comes_back_when_the_last_view_is_gone_and_not_before() -> None:
    buffers = Buffers()
    first = buffers.take((LARGE,), torch.uint8)
    place = address(first)
    part: object = first.view(4, -1)[2].numpy()  # an array over a view keeps it
    del first
    assert address(second := buffers.take((LARGE,), torch.uint8)) != place
    del part
    third = buffers.take((LARGE // 4,), torch.float32)
    assert address(third) == place
    assert address(second) != address(third)


def test_memory_of_another_size_is_not_kept_for_ever() -> None:
    buffers = Buffers()
    for i in range(20):
        buffers.take((LARGE * (i + 1),), torch.uint8)
    assert len(buffers._free) <= 4
    assert buffers.take((3, 5), torch.int64).shape == (3, 5)  # a small one is torch's own


def test_windows_that_are_held_are_not_written_over_by_later_ones(tmp_path: Path) -> None:
    signature = Signature({"image": ObservationSpec("image", (64, 64, 3))}, ActionSpec("none"))
    frames = np.random.default_rng(0).integers(0, 256, (300, 64, 64, 3), np.uint8)
    with CacheWriter(tmp_path / "cache", signature) as writer:
        writer.append(Episode({"image": torch.from_numpy(frames)}, torch.zeros(299, 0)))
        writer.finish("x")
    data = Dataset.open(tmp_path / "cache")
    wrong: list[int] = []

    def read(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        held = []
        for _ in range(8):
            episode, start = data.draw(40, 3, generator)
            held.append((start, data.split(0.2)[0].windows(episode, start.clamp(max=200), 3).observations["image"],
                         data.windows(episode, start, 3).observations["image"]))
            del held[:-3]
            for at, learned, window in held:
                rows = at[:, None] + torch.arange(4)
                same = np.array_equal(window.numpy(), frames[rows.numpy()])
                first = np.array_equal(learned.numpy(), frames[(at.clamp(max=200)[:, None] + torch.arange(4)).numpy()])
                wrong.extend([seed] * (not (same and first)))

    threads = [threading.Thread(target=read, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
