"""How a command ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Done:
    """How a command ended.

    facts  what `--json` prints
    code   exit code: 0 done, 1 failed
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    code: int = 0
