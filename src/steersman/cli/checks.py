"""What `doctor` looks at: versions, known clashes, threads, memory, disk, GPU, speed. Each finding with its fix.

Works when torch is missing or broken; measures for about a second; changes nothing.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from steersman.studio import quantities as q

PACKAGES = (
    "torch", "numpy", "gymnasium", "safetensors", "msgspec", "tyro", "rich", "pyarrow", "matplotlib", "pillow",
    "jinja2", "minari", "h5py", "av", "mujoco", "dm-control", "pygame", "pygame-ce", "pymunk", "gym", "gym-pusht",
    "minigrid", "lerobot", "safety-gymnasium",
)
OLDEST = {"torch": (2, 8), "numpy": (2, 0), "gymnasium": (1, 2), "msgspec": (0, 20), "tyro": (0, 9, 30)}
TORCH_NEEDED_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    state  "ok", "note" (works, could be better), "bad" (something will fail)
    fix    what to do about it; "" if ok
    """

    state: Literal["ok", "note", "bad"]
    what: str
    found: str
    fix: str = ""


def installed() -> dict[str, str]:
    """Package -> version, of those that matter here and are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def number(version: str) -> tuple[int, ...]:
    """Leading integers of a version, for comparison."""
    return tuple(int(x) for x in re.findall(r"\d+", version.split("+")[0])[:3])


def python(version: tuple[int, int]) -> Finding:
    text = ".".join(map(str, version))
    if (3, 11) <= version < (3, 14):
        return Finding("ok", "Python", text)
    return Finding("bad", "Python", text, "use Python 3.11, 3.12 or 3.13")


def old_packages(versions: Mapping[str, str]) -> list[Finding]:
    findings = []
    for name, oldest in OLDEST.items():
        wanted = ".".join(map(str, oldest))
        if name not in versions:
            findings.append(Finding("bad", name, "not installed", f"pip install '{name}>={wanted}'"))
        elif number(versions[name]) < oldest:
            findings.append(Finding("bad", name, versions[name], f"pip install -U '{name}>={wanted}'"))
        else:
            findings.append(Finding("ok", name, versions[name]))
    return findings


def clashes(versions: Mapping[str, str], python_version: tuple[int, int] = sys.version_info[:2]) -> list[Finding]:
    """Pairs of packages that are known not to work together (measured; see the documentation of worlds)."""
    at = {name: number(text) for name, text in versions.items()}
    has = at.__contains__
    known = [
        (has("dm-control") and at.get("mujoco", (0,)) >= (4,), "mujoco 4 with dm-control",
         "dm-control crashes with it: pip install 'mujoco<4'"),
        (has("pygame") and has("pygame-ce"), "pygame with pygame-ce",
         "they overwrite each other: pip uninstall -y pygame pygame-ce, then install the one that your world asks for"),
        (has("gym-pusht") and at.get("pymunk", (0,)) >= (7,), "pymunk 7 with gym-pusht", "pip install 'pymunk<7'"),
        (has("gym-pusht") and has("pygame-ce"), "pygame-ce with gym-pusht",
         "gym-pusht needs pygame, gymnasium's toys pygame-ce: use an environment for each"),
        (has("dm-control") and python_version >= (3, 13), "dm-control on Python 3.13",
         "labmaze has no wheel there: use Python 3.12"),
        (has("lerobot"), "lerobot with current torch",
         "it holds torch back: convert its datasets in another environment"),
        (has("safety-gymnasium"), "safety-gymnasium", "it does not install beside current gymnasium: remove it"),
        (has("gym"), "gym beside gymnasium", "gym is not maintained: port its worlds to gymnasium"),
    ]
    return [Finding("bad", "clash", what, fix) for wrong, what, fix in known if wrong]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(allowed: int, environment: Mapping[str, str]) -> Finding:
    """Whether the math libraries use the cores that there are."""
    asked = environment.get("OMP_NUM_THREADS") or environment.get("MKL_NUM_THREADS")
    if asked and asked.isdigit() and int(asked) > allowed:
        return Finding("note", "threads", f"{asked} asked for on {allowed} cores",
                       f"export OMP_NUM_THREADS={allowed}: more threads than cores slow each other down")
    if asked and asked.isdigit() and int(asked) < allowed:
        return Finding("note", "threads", f"{asked} of {allowed} cores", f"export OMP_NUM_THREADS={allowed} to use all")
    return Finding("ok", "threads", f"{allowed} cores, all used")


def load(allowed: int) -> Finding:
    """Whether others are using the machine: every timing and forecast is then too slow."""
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if busy > 0.5 * allowed:
        return Finding("note", "load", f"{busy:.1f} on {allowed} cores", "wait, or expect slower training and planning")
    return Finding("ok", "load", f"{busy:.1f} on {allowed} cores")


def memory() -> Finding:
    """Memory that is free now."""
    try:
        rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return Finding("ok", "memory", "not known on this system")
    if free < TORCH_NEEDED_BYTES:
        return Finding("note", "memory", f"{q.size(free)} free", "close something, or train with a smaller batch")
    return Finding("ok", "memory", f"{q.size(free)} free")


def disk(folder: Path) -> Finding:
    """Room and permission where runs will be written."""
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return Finding("bad", "disk", f"{folder} is read-only", "work in a folder that you may write to, or give --out")
    if free < 2 * 2**30:
        fix = "free 2 GiB: a run keeps data, checkpoints and a report"
        return Finding("note", "disk", f"{q.size(free)} free in {folder}", fix)
    return Finding("ok", "disk", f"{q.size(free)} free in {folder}")


def gemm(seconds: float = 0.3) -> tuple[list[Finding], dict[str, float]]:
    """Matrix multiplication as this machine does it, GFLOP/s by precision; what to train with.

    1024³ products, the best of those that fit into `seconds`; 2·n³ operations each.
    """
    import torch

    n, speeds = 1024, {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.ones(n, n, dtype=dtype)
        best, end = float("inf"), time.perf_counter() + seconds
        while time.perf_counter() < end:
            started = time.perf_counter()
            a @ a
            best = min(best, time.perf_counter() - started)
        speeds[name] = 2 * n**3 / best / 1e9
    text = ", ".join(f"{name} {speed:,.0f} GFLOP/s" for name, speed in speeds.items())
    faster = speeds["bf16"] > 1.2 * speeds["fp32"]
    return [
        Finding("ok", "matrix products", f"{text} on {torch.get_num_threads()} threads"),
        Finding("ok", "precision", f"{'bf16' if faster else 'fp32'} is faster here; training picks it by itself"),
    ], speeds


def accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        return Finding("ok", "GPU", f"{card.name}, {q.size(card.total_memory)}")
    if getattr(torch.backends, "mps", None) and torch.backends.mps.is_available():
        return Finding("ok", "GPU", "Apple")
    if shutil.which("nvidia-smi"):
        return Finding("note", "GPU", "there is one that torch cannot use",
                       "install a torch built for it: pytorch.org/get-started")
    return Finding("ok", "GPU", "none; nothing here needs one")


def torch_works() -> list[Finding]:
    """Findings that need torch, or the one that says why there are none."""
    try:
        return [accelerator(), *gemm()[0]]
    except Exception as error:  # a broken installation fails in many ways; each is a finding, not a traceback
        line = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return [Finding("bad", "torch", f"does not load ({line})", "pip install --force-reinstall torch")]
