"""Crashes on purpose, run by test_crashes.py as one program: it imports torch once and forks a child for every death.

`python crash_lab.py FOLDER` prints one JSON object. Forking is safe because nothing here starts a thread before it.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from small_world import Drift, agent, config

from steersman.agent import AgentConfig
from steersman.objectives import Following, VICReg
from steersman.runs import Run
from steersman.runs.checkpoints import list_checkpoints
from steersman.training import CheckpointStore, TrainConfig, create_run, resume, train
from steersman.world_model import RecurrentModel

KILLS = 100
DATA = Drift()


def fork(action: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(70)
    return pid


def join(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def warm_up(folder: Path) -> None:
    """Import what torch imports only when it trains, so that no child has to: a scout says what that is."""
    reading, writing = os.pipe()

    def scout() -> None:
        before = set(sys.modules)
        train(config(steps=2), DATA, create_run(folder / "scout", config(steps=2), DATA, recipe="crash"))
        os.write(writing, " ".join(sorted(set(sys.modules) - before)).encode())

    pid = fork(scout)
    os.close(writing)
    with os.fdopen(reading) as names:
        for name in names.read().split():
            with suppress(ImportError):
                importlib.import_module(name)
    assert join(pid) == 0


# Killed at random moments ----------------------------------------------------------------------------------------


def whole_state() -> TrainConfig:
    """Everything that a checkpoint must carry: averaged weights, prioritised episodes, two stages, a thread."""
    return config(
        steps=20_000, batch_size=4, prioritise=True, average=0.9, checkpoint_steps=3, gauge_every=7, warmup=50
    )


def sitting(path: Path, until: int, told: int | None = None) -> None:
    """Start or go on with the run at `path` until step `until`; write every committed step to the pipe `told`."""
    run = Run.open(path)
    if told is not None:
        save = CheckpointStore.save

        def report(self: CheckpointStore, step: int, *rest: Any) -> Path:
            saved = save(self, step, *rest)
            os.write(told, step.to_bytes(4, "big"))
            return saved

        CheckpointStore.save = report  # type: ignore[method-assign]
    done = [0]
    train(
        whole_state(),
        DATA,
        run,
        progress=lambda p: done.__setitem__(0, p.step),
        stop=lambda: done[0] >= until,
        checkpoint="latest" if run.checkpoints() else None,
    )


def committed(path: Path) -> int:
    there = list_checkpoints(path / "checkpoints")
    return int(there[-1].name.removeprefix("step-")) if there else -1


def kills(folder: Path) -> dict[str, Any]:
    chance = random.Random(0)
    killed, plain = folder / "killed", folder / "plain"
    for path in (killed, plain):
        create_run(path, whole_state(), DATA, recipe="crash").close()
    lost, alive, progress, life = 0, 0, [], None
    for _ in range(KILLS):
        reading, writing = os.pipe()
        began = time.perf_counter()
        pid = fork(lambda writing=writing: sitting(killed, 10**9, writing))
        os.close(writing)
        if life is None:  # a sitting that commits a few times sets the scale, however busy the machine
            os.read(reading, 4 * 6)
            while committed(killed) < 12:
                time.sleep(0.001)
            life = 2 * (time.perf_counter() - began)
        else:
            time.sleep(chance.random() * life)
        os.kill(pid, signal.SIGKILL)
        alive += join(pid) == -signal.SIGKILL
        told = b""
        while select.select([reading], [], [], 0)[0] and (more := os.read(reading, 4096)):
            told += more
        os.close(reading)
        last = int.from_bytes(told[-4:], "big") if told else -1
        lost += committed(killed) < max(last, progress[-1] if progress else -1)
        progress.append(committed(killed))
    until = progress[-1] + 10
    codes = [join(fork(lambda path=path: sitting(path, until))) for path in (killed, plain)]
    rows = [Run.open(path).metrics.read() for path in (killed, plain)]
    timed = ("seconds", "speed/data_wait", "speed/windows_per_second")
    rows = [[{k: v for k, v in row.items() if k not in timed} for row in run] for run in rows]
    hashes = [
        {name: record.sha256 for name, record in Run.open(path).checkpoint().manifest.files.items()}
        for path in (killed, plain)
    ]
    return {
        "kills": alive,
        "lost": lost,
        "codes": codes,
        "steps": until,
        "sittings_that_committed": len(set(progress)),
        "rows": len(rows[0]),
        "contiguous": [row["step"] for row in rows[0]] == list(range(1, until + 1)),
        "same_rows": rows[0] == rows[1],
        "same_files": hashes[0] == hashes[1],
        "left": [p.name for p in killed.rglob(".tmp-*")],
    }


# Killed before every system call of a save -----------------------------------------------------------------------

CALLS = ("mkdir", "open", "write", "fsync", "replace", "rename", "close", "rmdir", "unlink")


def count_calls(act: Callable[[int, str], None]) -> None:
    """From here on, `act` is called before every call that changes the file system, with its number and name."""
    number = [0]
    for name in CALLS:
        real = getattr(os, name)

        def call(*args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
            number[0] += 1
            act(number[0], _name)
            return _real(*args, **kwargs)

        setattr(os, name, call)


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {"perception.a": torch.full((50, 3), float(step)), "world_model.b": torch.arange(7)}


def boundaries(folder: Path) -> dict[str, Any]:
    """Killed in a save of step 2 after step 1, and in a save of step 1 again; `value` is what the checkpoint holds."""
    path = folder / "run"
    create_run(path, config(), DATA, recipe="crash").close()
    run = Run.open(path)
    store = CheckpointStore(run.checkpoints_dir, run.manifest.id, keep=1)

    def save(step: int, value: int) -> None:
        store.save(step, tensors(value), {"random.cpu": torch.arange(5)}, {"note": value}, 0)

    deaths, bad, left = 0, [], []
    values: dict[str, list[int]] = {"next": [], "again": []}
    for kind, step in (("next", 2), ("again", 1)):
        save(1, 1)
        for number in range(1, 200):

            def die_there(number: int = number, step: int = step) -> None:
                count_calls(lambda n, name: os.kill(os.getpid(), signal.SIGKILL) if n == number else None)
                save(step, 2)

            code = join(fork(die_there))
            deaths += code == -signal.SIGKILL
            try:
                with run.writer():
                    found = store.load()
            except Exception as error:
                bad.append(f"{kind} {number}: {error}")
                break
            value = found.memory["note"]
            if not torch.equal(found.model["perception.a"], tensors(value)["perception.a"]):
                bad.append(f"{kind} {number}: other tensors")
            left += [p.name for p in run.checkpoints_dir.iterdir() if p.name.startswith(".")]
            values[kind].append(value)
            if code == 0:
                break
            if value == 2:  # start over
                save(1, 1)
                store.discard_after(1)
        store.discard_after(1)
    return {"deaths": deaths, "values": values, "bad": bad, "left": left, "last": code}


# Several processes -----------------------------------------------------------------------------------------------


def remembering() -> AgentConfig:
    return AgentConfig(perception=agent().perception, world_model=RecurrentModel.Config(width=16))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def processes(folder: Path) -> dict[str, Any]:
    """The same training in one process and in two, with everything that could tell them apart."""
    out: dict[str, Any] = {}
    for name, changes in {
        "plain": {"batch_size": 8},
        "whole": {"batch_size": 8, "prioritise": True, "average": 0.9, "agent": agent(history=2), "rollout": (),
                  "start_noise": 0.3},
        "streams": {"batch_size": 8, "feed": "streams", "window": 4, "rollout": (), "agent": remembering(),
                    "objectives": (Following.Config(), VICReg.Config()), "held_out": 0.2},
    }.items():
        runs = {n: create_run(folder / f"{name}-{n}", config(**changes), DATA, recipe="crash") for n in (1, 2)}
        for run in runs.values():
            run.close()

        def alone(changes: dict[str, Any] = changes, name: str = name) -> None:
            train(config(**changes), DATA, Run.open(folder / f"{name}-1"))

        def together(rank: int, port: int, changes: dict[str, Any] = changes, name: str = name) -> None:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            asked = iter(range(100))
            run = Run.open(folder / f"{name}-2") if rank == 0 else None
            train(config(**changes), DATA, run, stop=lambda: next(asked) >= 14)

        def rest(name: str = name) -> None:
            resume(folder / f"{name}-2", dataset=DATA)  # in one process, what two began

        port = free_port()
        pids = [fork(alone), *(fork(partial(together, rank, port)) for rank in (0, 1))]
        codes = [join(pid) for pid in pids]
        begun = Run.open(runs[2].path).checkpoint().step
        codes.append(join(fork(rest)))
        losses = {n: [row["loss"] for row in Run.open(run.path).metrics.read()] for n, run in runs.items()}
        models = {n: CheckpointStore(run.checkpoints_dir, run.manifest.id).load().model for n, run in runs.items()}
        out[name] = {
            "codes": codes,
            "begun": begun,
            "losses": len(losses[1]),
            "loss_gap": max(abs(a - b) / abs(a) for a, b in zip(losses[1], losses[2], strict=True)),
            "weight_gap": max(float((models[1][k] - models[2][k]).abs().max()) for k in models[1]),
            "moved": abs(losses[1][0] - losses[1][-1]),
        }
    return out


if __name__ == "__main__":
    started = time.perf_counter()
    folder = Path(sys.argv[1])
    warm_up(folder)
    result: dict[str, Any] = {}
    for part in (boundaries, processes, kills):
        (folder / part.__name__).mkdir()
        result[part.__name__] = part(folder / part.__name__)
        result[part.__name__]["seconds"] = round(time.perf_counter() - started, 1)
    print(json.dumps(result))  # noqa: T201
