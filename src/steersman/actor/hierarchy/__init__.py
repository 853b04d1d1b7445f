"""Planning in levels of abstraction: far goals by a graph of ways, near ones by pushes that level 1 imagines."""

from steersman.actor.hierarchy.reach import Reach

__all__ = ["Reach"]
