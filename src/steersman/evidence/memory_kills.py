"""Processes that add to a memory of triplets and are killed at any moment; files that are cut and flipped afterwards.

Never imports torch: the processes are forks of one that holds nothing else.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from steersman.core.errors import RunError
from steersman.runs.frames import segments
from steersman.runs.triplets import TripletReader, TripletWriter

SIZE, NAMES, ROWS = 64, ("effort", "pain"), 16
_SEGMENT, _LONGEST, _KEPT = 1 << 18, 0.01, "found.json"


class Killed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """kills: processes that were killed; committed: triplets whose `append` had returned before; lost: those of them
    that were not there afterwards as they were; torn: kills that left a part of a write behind."""

    kills: int
    committed: int
    lost: int
    torn: int


class Damaged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """files: copies with one place cut or flipped; silent: those that were read without a word; lost: triplets missing
    from appends that were not hit; written_over: files whose bytes were changed by a writer that went on."""

    files: int
    silent: int
    lost: int
    written_over: int


def killed(folder: Path, kills: int, seed: int) -> Killed:
    """`kill_many` in a process of its own, without torch."""
    code = f"from pathlib import Path; from steersman.evidence.memory_kills import kill_many; " \
           f"kill_many(Path({str(folder)!r}), {kills}, {seed})"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    return msgspec.json.decode((folder / _KEPT).read_bytes(), type=Killed)


def kill_many(folder: Path, kills: int, seed: int) -> None:
    """Kill (SIGKILL) one writer after the other, each within a hundredth of a second after its first word; leaves what
    was `Killed` in the folder."""
    draw, committed, torn = random.Random(seed), dict[int, float](), 0
    memory = folder / "triplets"
    for kill in range(kills):
        read, write = os.pipe()
        child = os.fork()
        if not child:
            _write_on(memory, write, 1000.0 * kill)
        os.close(write)
        content = os.read(read, 64)
        time.sleep(draw.random() * _LONGEST)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while piece := os.read(read, 1 << 16):
            content += piece
        os.close(read)
        for line in content.decode().split("\n")[:-1]:
            number, value = line.split()
            committed |= {int(number) + row: float(value) for row in range(ROWS)}
        torn += _torn(memory)
    rows = TripletReader(memory).read()
    there = {int(n): state for n, state in zip(rows.number, rows.states, strict=True)}
    lost = sum(n not in there or bool((there[n] != value).any()) for n, value in committed.items())
    (folder / _KEPT).write_bytes(msgspec.json.encode(Killed(kills, len(committed), lost, torn)))


def _write_on(memory: Path, told: int, value: float) -> None:
    """Append until killed; every number is told once its `append` has returned."""
    writer = TripletWriter(memory, SIZE, NAMES, segment=_SEGMENT)
    while True:
        states, costs = np.full((ROWS, SIZE), value, np.float32), np.full((ROWS, len(NAMES)), value, np.float32)
        numbers = writer.append(states, costs)
        os.write(told, b"%d %d\n" % (numbers.start, value))
        value += 1


def _torn(memory: Path) -> bool:
    """Whether the newest file ends with a part of a frame."""
    path = segments(memory)[-1][1]
    one = len(path.read_bytes()) % (12 + ROWS * TripletReader(memory).row_bytes)
    return one > 0


def damaged(folder: Path, files: int, seed: int, appends: int = 40) -> Damaged:
    """Write a memory, spoil one place of a copy of it, read it, write on: again and again."""
    draw, whole = random.Random(seed), folder / "whole"
    writer = TripletWriter(whole, SIZE, NAMES, segment=1 << 15)
    for value in range(appends):
        writer.append(np.full((ROWS, SIZE), value, np.float32), np.zeros((ROWS, len(NAMES)), np.float32))
    writer.close()
    silent = lost = over = 0
    for i in range(files):
        copy = folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        path = draw.choice(segments(copy))[1]
        content = path.read_bytes()
        place = draw.randrange(len(content))
        spoiled = content[:place] if i % 2 else content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]
        path.write_bytes(spoiled)
        try:
            TripletReader(copy).read()
            silent += 1
        except RunError as error:
            silent += "\n" in str(error)
        found = set(TripletReader(copy).read(skip_damaged=True).number.tolist())
        first, each = int(path.stem), 12 + ROWS * TripletReader(copy).row_bytes
        held = len(content) // each * ROWS
        hit = set(range(first + place // each * ROWS, first + (held if i % 2 else (place // each + 1) * ROWS)))
        lost += len(set(range(appends * ROWS)) - hit - found)
        again = TripletWriter(copy, SIZE, NAMES, segment=1 << 15)
        again.append(np.zeros((1, SIZE), np.float32), np.zeros((1, len(NAMES)), np.float32))
        again.close()
        over += path.read_bytes()[: len(spoiled)] != spoiled and not i % 2
    return Damaged(files, silent, lost, over)
