"""Graphs of states: what was remembered, so that it can be searched."""

from steersman.memory.graphs.building import build_graph
from steersman.memory.graphs.cutting import cut_by
from steersman.memory.graphs.ways import build_ways

__all__ = ["build_graph", "build_ways", "cut_by"]
