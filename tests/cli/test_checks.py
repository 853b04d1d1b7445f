"""The doctor: each known fault is found with its fix, and a sound machine has none."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from steersman.cli import checks
from steersman.cli.commands import doctor

FAULTS = [
    ({"dm-control": "1.0.50", "mujoco": "4.0.0"}, "mujoco<4"),
    ({"pygame": "2.6", "pygame-ce": "2.5"}, "pip uninstall"),
    ({"gym-pusht": "0.1", "pymunk": "7.1.0"}, "pymunk<7"),
    ({"gym-pusht": "0.1", "pygame-ce": "2.5"}, "an environment for each"),
    ({"lerobot": "0.4"}, "another environment"),
    ({"safety-gymnasium": "1.0"}, "remove it"),
    ({"gym": "0.26"}, "gymnasium"),
]


@pytest.mark.parametrize(("versions", "fix"), FAULTS, ids=[" ".join(v) for v, _ in FAULTS])
def test_packages_that_clash_are_found_with_the_way_out(versions: dict[str, str], fix: str) -> None:
    found = checks.clashes(versions, (3, 12))
    assert len(found) == 1
    assert found[0].state == "bad"
    assert fix in found[0].fix


def test_packages_that_go_together_are_left_alone() -> None:
    fine = {"dm-control": "1.0.50", "mujoco": "3.9.1", "pygame": "2.6", "gym-pusht": "0.1", "pymunk": "6.9",
            "gymnasium": "1.4"}
    assert checks.clashes(fine, (3, 12)) == []
    assert checks.clashes({"dm-control": "1.0"}, (3, 13))[0].state == "bad"


def test_versions_are_compared_as_numbers() -> None:
    found = checks.old_packages({"torch": "2.10.0+cpu", "numpy": "1.26.4", "tyro": "0.9.30"})
    states = {f.what: f.state for f in found}
    assert states["torch"] == "ok"
    assert states["numpy"] == "bad"
    assert states["tyro"] == "ok"
    assert states["msgspec"] == "bad"


@pytest.mark.parametrize(("version", "state"), [((3, 10), "bad"), ((3, 11), "ok"), ((3, 13), "ok"), ((3, 14), "bad")])
def test_python(version: tuple[int, int], state: str) -> None:
    assert checks.python(version).state == state


@pytest.mark.parametrize(("asked", "state"), [(None, "ok"), ("4", "ok"), ("64", "note"), ("1", "note"), ("x", "ok")])
def test_threads(asked: str | None, state: str) -> None:
    assert checks.threads(4, {} if asked is None else {"OMP_NUM_THREADS": asked}).state == state


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert checks.disk(tmp_path).state == "bad"


def test_a_torch_that_does_not_load_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ImportError("libtorch_cpu.so: cannot open shared object file")

    monkeypatch.setattr(checks, "accelerator", broken)
    found = checks.torch_works()
    assert [f.state for f in found] == ["bad"]
    assert "reinstall" in found[0].fix


def test_the_speed_of_products_is_measured() -> None:
    findings, speeds = checks.gemm(0.02)
    assert set(speeds) == {"fp32", "bf16"}
    assert min(speeds.values()) > 0.1
    assert all(f.state == "ok" for f in findings)


def test_the_command_fails_when_something_will_break(steersman: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    clashing = {"pygame", "gym-pusht"}  # they may well be installed beside pygame-ce where this runs
    versions = {name: version for name, version in checks.installed().items() if name not in clashing}
    monkeypatch.setattr(doctor.checks, "installed", lambda: versions)
    sound = steersman("doctor", "--quick", "--json")
    assert sound.code == 0, sound.err
    assert sound.json["packages"]["tyro"]
    monkeypatch.setattr(doctor.checks, "installed", lambda: versions | {"gym": "0.26"})
    ended = steersman("doctor", "--quick")
    assert ended.code == 1
    assert "gym beside gymnasium" in ended.out
    assert "→" in ended.out
    assert "torch" not in ended.out or "torch" in sys.modules
