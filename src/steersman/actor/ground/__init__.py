"""What every planner stands on: judging candidates, ranking them, rounds within a budget, bounds of actions."""
