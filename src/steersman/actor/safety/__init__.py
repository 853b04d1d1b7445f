"""Planners that stand around another one and keep it inside its limits."""
