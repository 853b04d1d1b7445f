"""Memory: what was experienced, kept in a form that can be searched: graphs of remembered states, fast weights."""

from steersman.core.latent_graph import GraphConfig
from steersman.core.way_graph import WayConfig
from steersman.memory.associative import FastWeights, LinearMemory
from steersman.memory.graphs import build_graph, build_ways, cut_by
from steersman.memory.slots import NearestKeys, SlotMemory, Slots, TripletMemory, Triplets, read_triplets

__all__ = [
    "FastWeights",
    "GraphConfig",
    "LinearMemory",
    "NearestKeys",
    "SlotMemory",
    "Slots",
    "TripletMemory",
    "Triplets",
    "WayConfig",
    "build_graph",
    "build_ways",
    "cut_by",
    "read_triplets",
]
