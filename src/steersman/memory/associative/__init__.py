"""Associative memories: keys and values go in, a query brings the value of the keys that it is like."""

from steersman.memory.associative.linear import FastWeights, LinearMemory

__all__ = ["FastWeights", "LinearMemory"]
