"""What one client, and all of them together, may ask of the server. Plain numbers; who enforces which is said here."""

from __future__ import annotations

import msgspec

from steersman.core.errors import ConfigError


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes in bytes, times in seconds.

    Enforced where connections are accepted (`serving.server`):
    connections     open at a time; beyond them the one that has waited longest without a request is closed
    header_seconds  from the start of a connection, or of idling, to the end of a request's headers
    total_seconds   from there to the end of the response

    Enforced before anything is parsed (`serving.gate`):
    body_bytes      of one request
    held_bytes      of all bodies that are in memory at a time
    body_seconds    from the end of the headers to the end of the body

    Enforced around the one thread that computes (`serving.desk`):
    queue           requests that wait or are worked on
    work_seconds    waiting and computing

    Enforced on what is asked (`serving.desk`):
    horizon, calls, seconds   of one decision: steps, predictor calls per problem, planning time
    batch           problems in one request
    rollout         steps of all sequences of one `imagine`
    sessions        remembered at a time; the one used longest ago is forgotten
    session_seconds after which an unused one is forgotten
    """

    connections: int = 512
    header_seconds: float = 5.0
    total_seconds: float = 60.0
    body_bytes: int = 16 << 20
    held_bytes: int = 64 << 20
    body_seconds: float = 10.0
    queue: int = 16
    work_seconds: float = 30.0
    horizon: int = 64
    calls: int = 1_000_000
    seconds: float = 5.0
    batch: int = 64
    rollout: int = 65_536
    sessions: int = 64
    session_seconds: float = 600.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} above 0", f"{getattr(self, name)}", "raise it")
