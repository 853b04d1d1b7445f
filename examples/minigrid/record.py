"""A log of MiniGrid: random turns and steps. No steersman here.

    uv run python examples/minigrid/record.py [FILE] [SEED]
"""

import csv
import sys

from world import COLUMNS, make

path = sys.argv[1] if len(sys.argv) > 1 else "minigrid.csv"
seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
env = make()
env.action_space.seed(seed)
observation, _ = env.reset(seed=seed)
episode = 0
with open(path, "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["episode", *COLUMNS, "action"])
    for _ in range(20_000):
        action = int(env.action_space.sample())
        table.writerow([episode, *observation, action])
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            table.writerow([episode, *observation, ""])  # where the episode ended; no action was taken there
            observation, _ = env.reset()
            episode += 1
print(f"20,000 steps in {episode} episodes: {path}")
