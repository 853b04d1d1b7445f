"""Graphs of states: what was remembered, so that it can be searched."""

from steersman.memory.graphs.building import build_graph

__all__ = ["build_graph"]
