"""What a module can reach by its imports, nothing imported: against Python, and by statement."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from steersman.evidence.sources import reached, source_hash

LOADED = """
import sys
from steersman.evidence.sources import reached
found = set(reached(sys.argv[1]))
assert "torch" not in sys.modules and sys.argv[1] not in sys.modules
before = set(sys.modules)
__import__(sys.argv[1])
loaded = {name for name in set(sys.modules) - before if name.partition(".")[0] == "steersman"}
assert loaded, "nothing was loaded"
print(sorted(loaded - found))
"""


def test_whatever_python_loads_is_reached_and_nothing_is_imported_to_find_out() -> None:
    words = [sys.executable, "-c", LOADED, "steersman.evidence.guardrails"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_one_experiment_does_not_reach_another_nor_what_performs_it() -> None:
    found = set(reached("steersman.evidence.demonstrations"))
    assert "steersman.evidence.cell" in found
    assert not found & {"steersman.evidence.pendulum", "steersman.evidence.performing", "steersman.evidence.catalogue",
                        "steersman.training", "steersman.data.formats.csv"}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A package with a lazy catalogue; a name of its own for each test."""
    place = tmp_path / f"pack{abs(hash(request.node.name))}"
    files = {
        "__init__.py": "from steersman.core.lazy import catalogue\n__getattr__ = catalogue(__name__, __file__)[0]\n",
        "__init__.pyi": "from .near import near as near\nfrom .far import far as far\n",
        "near.py": "def near(): return 1\n", "far.py": "def far(): return 2\n", "alone.py": "def alone(): return 3\n",
    }
    place.mkdir()
    for name, text in files.items():
        (place / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return place


def ours(package: Path, text: str) -> set[str]:
    """Modules of the package, other than itself and the asking one, that a module with this text reaches."""
    (package / "asks.py").write_text(text.replace("PACK", package.name))
    names = {name.partition(".")[2] for name in reached(f"{package.name}.asks") if name.startswith(package.name)}
    return names - {"", "asks"}


@pytest.mark.parametrize(("text", "expected"), [
    ("from PACK import near", {"near"}),
    ("def f():\n    from PACK import far as x\n    return x", {"far"}),
    ("import PACK as p\nprint(p.near())", {"near"}),
    ("import PACK as p\nprint(p.near(), p)", {"near", "far"}),
    ("from . import alone", {"alone"}),
    ("from .alone import alone", {"alone"}),
    ("import PACK.alone", {"alone", "near", "far"}),
    ("from PACK import *", {"near", "far"}),
    ("import importlib\nT = {'a': '.alone'}\nimportlib.import_module(T['a'], __package__)", {"alone"}),
    ("T = {'a': '.alone'}", set()),
])
def test_each_way_to_import_is_followed(package: Path, text: str, expected: set[str]) -> None:
    assert ours(package, text) == expected


def test_a_program_in_a_string_is_followed(package: Path) -> None:
    (package / "asks.py").write_text('RUN = "from steersman.agent.replay import replays\\nprint(1)"\n')
    assert "steersman.agent.replay" in reached(f"{package.name}.asks")


def test_the_hash_changes_with_code_and_not_with_words(package: Path) -> None:
    (package / "asks.py").write_text(f"from {package.name} import near\n")
    before = source_hash(f"{package.name}.asks")
    (package / "near.py").write_text('"""What it is for."""\n\n\ndef near():\n    return 1  # a comment\n')
    assert source_hash(f"{package.name}.asks") == before
    (package / "far.py").write_text("def far(): return 4\n")
    assert source_hash(f"{package.name}.asks") == before
    (package / "near.py").write_text("def near(): return 5\n")
    assert source_hash(f"{package.name}.asks") != before


def test_a_module_without_source_is_said() -> None:
    with pytest.raises(ModuleNotFoundError, match="no source of 'math'"):
        source_hash("math")
