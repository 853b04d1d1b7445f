"""Files of JSON that end with their own hash: `"sha256"` is that of the same bytes with it empty.

Knows bytes only. A seal finds damage and carelessness; whoever rewrites a file can rewrite its seal.
"""

from __future__ import annotations

import re

from steersman.runs.files import sha256

_SEAL = re.compile(rb'"sha256": "([0-9a-f]{64}|)"\s*}\s*\Z')


def seal(content: bytes) -> bytes:
    """Canonical JSON (`files.pretty`) whose last entry is `"sha256": ""` -> the same with its hash."""
    found = _SEAL.search(content)
    assert found is not None, content[-80:]
    bare = content[: found.start(1)] + content[found.end(1) :]
    return content[: found.start(1)] + sha256(bare).encode() + content[found.end(1) :]


def seal_holds(content: bytes) -> bool:
    """Whether a file is as it was sealed.

    The bytes are judged as they are: a later version, which knows more fields, still knows what was sealed.
    """
    found = _SEAL.search(content)
    if found is None or not found[1]:
        return False
    bare = content[: found.start(1)] + content[found.end(1) :]
    return sha256(bare) == found[1].decode()
