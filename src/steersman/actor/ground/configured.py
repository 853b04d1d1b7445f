"""What planners share that are their configuration and no more, and how such a configuration refuses its values."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from steersman.core import ConfigError, Plan, Planner, Problem

C = TypeVar("C")


class Configured(Planner, Generic[C]):
    """A planner made from its nested `Config`, by default from that without arguments."""

    Config: ClassVar[Any]
    config: C

    def __init__(self, config: C | None = None) -> None:
        self.config = type(self).Config() if config is None else config
        self.execute, self.horizon = getattr(self.config, "execute", 1), getattr(self.config, "horizon", None)

    @abstractmethod
    def plan(self, problem: Problem) -> Plan: ...


def require_ranges(config: object, ranges: Mapping[str, bool]) -> None:
    """Each range in words, and whether the configuration keeps it.

    Raises:
        ConfigError: names those that it does not keep.
    """
    broken = [words for words, kept in ranges.items() if not kept]
    if broken:
        raise ConfigError(", ".join(broken), f"{config}", "correct the planner's configuration")
