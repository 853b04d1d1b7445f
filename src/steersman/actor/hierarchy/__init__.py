"""Planning in levels of abstraction: far goals by a graph of ways, near ones by pushes that level 1 imagines."""

from steersman.actor.hierarchy.reach import Reach
from steersman.actor.hierarchy.saying import WHY, why_not

__all__ = ["WHY", "Reach", "why_not"]
