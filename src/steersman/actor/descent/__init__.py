"""Planners that follow gradients of the energy through the world model."""
