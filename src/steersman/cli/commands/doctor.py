"""`steersman doctor`: every check, in the terminal."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from steersman.cli import checks
from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.terminal import Terminal

_SIGNS = {"ok": ("✓", "good"), "note": ("!", "warn"), "bad": ("✗", "bad")}


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Check this machine and the installed packages, and say what to change.

    Looks at versions, packages known to clash, threads, load, memory, disk and GPU, and measures matrix products
    for about a second. Fails (exit code 1) if something found will break training or acting.
    """

    EXAMPLE: ClassVar[str] = "steersman doctor"

    out: Annotated[Path, option("FOLDER")] = Path()
    """Where runs are to be written."""
    quick: Annotated[bool, option()] = False
    """Leave out what needs torch (the GPU, the measurement)."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman import __version__

        allowed = checks.cores()
        versions = checks.installed()
        sections = {
            "packages": [checks.python(sys.version_info[:2]), *checks.old_packages(versions),
                         *checks.clashes(versions)],
            "machine": [checks.threads(allowed, os.environ), checks.load(allowed), checks.memory(),
                        checks.disk(self.out.resolve()), *([] if self.quick else checks.torch_works())],
        }
        terminal.say(f"steersman {__version__} on Python {sys.version.split()[0]}, {sys.platform}")
        for title, findings in sections.items():
            terminal.heading(title)
            wide = max(len(finding.what) for finding in findings)
            for finding in findings:
                sign, style = _SIGNS[finding.state]
                terminal.say(f"  {terminal.style(sign, style)} {finding.what:<{wide}}  {finding.found}")
                if finding.fix:
                    terminal.say(f"    {'':<{wide}}  {terminal.style('→ ' + finding.fix, style)}")
        every = [finding for findings in sections.values() for finding in findings]
        bad, notes = (sum(f.state == state for f in every) for state in ("bad", "note"))
        terminal.say()
        terminal.say(f"{bad} to repair, {notes} to know" if bad or notes else "nothing to repair")
        facts = {"version": __version__, "packages": versions, "findings": [asdict(f) for f in every]}
        return Done(facts, code=1 if bad else 0)
