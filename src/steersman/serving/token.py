"""The server's token: from the environment, from a file, or a new one. Never in an argument, where others can read it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from steersman.core.errors import UsageError

VARIABLE = "STEERSMAN_TOKEN"
SHORTEST = 16


def read_token(file: Path | None = None) -> tuple[str, bool]:
    """The token, and whether it is new (and has to be shown once): of `file`, else of STEERSMAN_TOKEN, else random.

    Raises:
        UsageError: an unreadable file, one that others may read, or a token of fewer than 16 characters.
    """
    if file is not None:
        try:
            if os.name != "nt" and file.stat().st_mode & 0o077:
                raise UsageError(f"a token in {file} that only you can read", "others may", f"chmod 600 {file}")
            return _checked(file.read_text().strip(), str(file)), False
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"a token in {file}", f"{error}", "write one there, with chmod 600") from error
    if os.environ.get(VARIABLE):
        return _checked(os.environ[VARIABLE].strip(), VARIABLE), False
    return secrets.token_urlsafe(32), True


def _checked(token: str, where: str) -> str:
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"a token of at least {SHORTEST} printable characters without spaces in {where}", f"{len(token)}",
            "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one",
        )
    return token
