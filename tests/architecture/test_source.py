"""Rules of this code base that a script can see: file heads, sizes, what is loaded when, pins, README's commands."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "steersman"
FILES = sorted(SOURCE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_opens_by_saying_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} has no docstring"
    lines = path.read_text().count("\n")
    if lines > 450:
        warnings.warn(f"{path.relative_to(ROOT)} has {lines} lines; is it one thing?", stacklevel=1)


def test_nothing_unpickles_evaluates_or_seeds_globally() -> None:
    banned = re.compile(
        r"\b(pickle\.loads?|torch\.load|np\.load\([^)]*allow_pickle=True|breakpoint|np\.random\.seed)\b"
        r"|(?<![.\w])(eval|exec)\("
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if banned.search(line.split("#")[0])
    ]
    assert not found, "\n".join(found)


def test_what_is_written_goes_through_one_protocol() -> None:
    """Folders, renames and bare writes are the business of `runs.files` and `runs.folders`; who writes inside a folder
    in the making, or somewhere temporary, is named here. See tests/runs/test_every_write.py."""
    inside = {
        "data/cache.py", "data/formats/folder.py", "data/formats/kinds.py", "data/formats/lerobot.py",
        "data/formats/lerobot_writer.py", "data/formats/minari.py", "data/formats/minari_storage.py",
        "data/formats/text.py", "data/formats/wav.py",
        "data/repairing.py", "data/sandbox/host.py", "evidence/formats.py", "evidence/memory_kills.py",
        "evidence/explore.py", "evidence/pendulum.py", "runs/files.py",
        "runs/folders.py", "runs/run.py",
    }
    calls = re.compile(r"\.mkdir\(|os\.(replace|rename|link)\(|\.write_(text|bytes)\(|shutil\.(move|copytree)\(")
    found = {path.relative_to(SOURCE).as_posix() for path in FILES if calls.search(path.read_text())}
    assert found - inside == set(), "write with runs.folders.writing or runs.files.atomic_write"
    assert inside - found == set(), "these write nothing themselves any more"


def test_torch_is_not_loaded_before_it_is_needed() -> None:
    light = "steersman steersman.core.errors steersman.core.signature steersman.runs steersman.studio steersman.cli"
    light += " steersman.core.spaces steersman.data.formats steersman.data.parser"
    code = f"""
import importlib, sys
for name in "{light}".split():
    importlib.import_module(name)
    assert "torch" not in sys.modules, name + " loads torch"
from steersman.core import DataError, Signature
assert "torch" not in sys.modules, "an error or a signature loads torch"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_direct_dependency_is_pinned_exactly() -> None:
    project = PROJECT["project"]
    groups = [*project["optional-dependencies"].values(), *PROJECT["dependency-groups"].values()]
    wanted = {re.match(r"[\w-]+", item)[0].lower() for item in sum(groups, project["dependencies"])}  # type: ignore[index]
    pins = PROJECT["tool"]["uv"]["constraint-dependencies"]
    assert all(re.match(r"[\w-]+==[^*]+$", pin.split(" ; ")[0]) for pin in pins)
    pinned = {pin.split("==")[0] for pin in pins}
    assert wanted <= pinned, f"run scripts/pin.py --keep: {sorted(wanted - pinned)} not pinned"


def test_ci_and_both_readmes_give_the_same_commands() -> None:
    tests = "pip install uv && uv run pytest"
    demo = "pip install uv && uv run steersman demo"
    for name in ("README.md", "README.zh-CN.md"):
        blocks = re.findall(r"```bash\n(.*?)\n```", (ROOT / name).read_text(), re.DOTALL)
        assert blocks[:2] == [demo, tests], name
    assert tests in (ROOT / ".ci" / "run").read_text().splitlines()
