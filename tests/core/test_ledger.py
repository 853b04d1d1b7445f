"""The ledger: what was counted under one declaration is not taken for what another declares."""

from __future__ import annotations

import json
import math

from steersman.core import Level
from steersman.core.ledger import Ledger, level_form, level_of, read_entries

SLOW, FAST = (Level("corrector", "parameters", "objectives", "experience", period) for period in (4000.0, 40.0))


def test_a_level_that_is_declared_again_goes_on_and_one_declared_otherwise_begins_anew() -> None:
    ledger = Ledger()
    ledger.declare(FAST)
    ledger.count("corrector", points=80, writes=2)
    before = dict(ledger.entries)
    ledger.declare(FAST)
    assert ledger.entries["corrector"].period == 40
    assert ledger.since(before) == {"corrector": (0, 0)}
    ledger.declare(SLOW)
    ledger.count("corrector", points=10, writes=0)
    assert ledger.since(before) == {"corrector": (10, 0)}
    assert ledger.entries["corrector"].period == math.inf


def test_a_ledger_comes_back_from_a_file_with_what_never_happens() -> None:
    ledger = Ledger()
    never = Level("frozen", "parameters", "none", "nothing", math.inf)
    for level in (FAST, never):
        ledger.declare(level)
    ledger.count("frozen", points=7, writes=0)
    assert read_entries(json.loads(json.dumps(ledger.state(), allow_nan=False))) == ledger.entries
    assert level_of(level_form(never)) == never
