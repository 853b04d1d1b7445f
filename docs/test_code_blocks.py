"""Runs the Python in README and docs: each file's blocks, one after the other, in an empty folder.

A block that cannot run here stands below `<!-- not run: reason -->`; everything else must run as printed.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(?P<skip><!-- not run:[^>]*-->\s*)?^```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(path: Path) -> list[str]:
    """The runnable blocks, each padded with empty lines so that tracebacks show the document's own line numbers."""
    text = path.read_text()
    return [
        "\n" * text.count("\n", 0, match.start("code")) + match["code"]
        for match in BLOCK.finditer(text)
        if not match["skip"]
    ]


FILES = [path for path in [*ROOT.glob("README*.md"), *sorted((ROOT / "docs").rglob("*.md"))] if blocks(path)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_blocks_run_as_printed(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for code in blocks(path):
        exec(compile(code, str(path), "exec"), namespace)
