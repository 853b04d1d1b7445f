"""Which process this is, of those that torchrun started. Read from the environment, so that nobody loads torch."""

from __future__ import annotations

import os


def place_in_company() -> tuple[int, int]:
    """(rank, size); (0, 1) when alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    return (int(os.environ.get("RANK", "0")) if size > 1 else 0), size
