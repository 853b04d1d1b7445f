"""Search in imagination, in three parts: growing a graph, valuing its nodes, acting on it."""

from steersman.actor.graph.search.graph import Graph
from steersman.actor.graph.search.planner import Search

__all__ = ["Graph", "Search"]
