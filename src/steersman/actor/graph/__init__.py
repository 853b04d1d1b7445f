"""Planners that search a graph of states, remembered or imagined."""
