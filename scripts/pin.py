"""Pins exact versions of everything resolved in `[tool.uv] constraint-dependencies`.

Resolves all extras and groups for every supported Python and platform, and rewrites the block between the two
markers in pyproject.toml. The lock file itself is not committed, because it holds registry addresses.

    uv run --no-project python scripts/pin.py            newest versions that pyproject.toml allows
    uv run --no-project python scripts/pin.py --keep     keep the pins that still fit, add what is missing
    uv run --no-project python scripts/pin.py --check    fail if the pins do not cover what resolves today
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START, END = "# pins: written by scripts/pin.py", "# end of pins"
BLOCK = re.compile(rf"{re.escape(START)}\n.*?{re.escape(END)}\n", re.DOTALL)


def resolve(text: str) -> list[str]:
    """Requirements with exact versions, one per package and fork of the resolution, sorted."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        (project / "pyproject.toml").write_text(text)
        for name in ("README.md", "LICENSE"):
            shutil.copy(ROOT / name, project)
        subprocess.run(["uv", "lock", "--quiet", "--no-progress"], cwd=project, check=True)
        lock = tomllib.loads((project / "uv.lock").read_text())
    pins = []
    for package in lock["package"]:
        if "registry" not in package["source"]:
            continue
        markers = package.get("resolution-markers", [])
        marker = f" ; {' or '.join(markers if len(markers) < 2 else [f'({m})' for m in markers])}" if markers else ""
        pins.append(f"{package['name']}=={package['version']}{marker}")
    return sorted(pins)


def resolve_build(text: str) -> list[str]:
    """The same for what builds the package itself."""
    requires = "\n".join(tomllib.loads(text)["build-system"]["requires"])
    command = "uv pip compile - --universal --python-version 3.11 --no-header --no-annotate --quiet"
    done = subprocess.run(command.split(), input=requires, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def block(pins: list[str], build: list[str]) -> str:
    def table(key: str, values: list[str]) -> list[str]:
        return [f"{key} = [", *(f'  "{value}",' for value in values if value), "]"]

    return "\n".join(
        [START, *table("constraint-dependencies", pins), *table("build-constraint-dependencies", build), END, ""]
    )


def main(arguments: list[str]) -> int:
    path = ROOT / "pyproject.toml"
    text = path.read_text()
    if not BLOCK.search(text):
        print(f"expected the lines {START!r} and {END!r} in pyproject.toml; put them below [tool.uv]")
        return 2
    keep = {"--keep", "--check"} & set(arguments)
    pins = resolve(text if keep else BLOCK.sub("", text))
    new = BLOCK.sub(lambda _: block(pins, resolve_build(text)), text)
    if "--check" in arguments:
        missing = sorted(set(new.splitlines()) - set(text.splitlines()))
        print("\n".join(["pins that are missing; run scripts/pin.py --keep:", *missing]) if missing else "pins hold")
        return 1 if missing else 0
    path.write_text(new)
    print(f"{len(pins)} versions pinned")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
