"""Deliberation on one axis: how much of a planner's budget a decision is worth, from none to all of it."""
