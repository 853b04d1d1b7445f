"""Planners that draw candidates and learn from their ranking, and what they draw from."""
