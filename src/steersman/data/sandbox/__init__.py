"""Parsing foreign files in a process of its own, within limits of memory and time."""
