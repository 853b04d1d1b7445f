"""A log on its way into the run that will learn from it. Knows datasets by their path only."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steersman.runs.files import temporary


class StagedLog:
    """A dataset at `place`, beside that of its run: `create_run(log=place)` takes it in; removed if that never is.

    run    where the run is to be
    build  writes a dataset at the path that it is given, and opens it
    """

    def __init__(self, run: Path, build: Callable[[Path], Any]) -> None:
        self.place = temporary(run.with_name(f"{run.name}.log"))
        try:
            self.dataset = build(self.place)
        except BaseException:
            shutil.rmtree(self.place, ignore_errors=True)
            raise
        self.dataset.path = run.absolute() / "log"  # what the run's manifest names

    def __enter__(self) -> StagedLog:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
