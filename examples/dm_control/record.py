"""A log of dm-control's cart-pole: random forces, each held for a while. No steersman here.

    uv run python examples/dm_control/record.py [FILE] [SEED]
"""

import csv
import sys

import numpy as np
from world import COLUMNS, make

path = sys.argv[1] if len(sys.argv) > 1 else "cartpole.csv"
rng = np.random.default_rng(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
env = make()
with open(path, "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["episode", *COLUMNS, "action"])
    for episode in range(80):
        observation, _ = env.reset(seed=int(rng.integers(1 << 30)))
        over, left = False, 0
        while not over:
            if left == 0:
                force, left = rng.uniform(-1, 1, 1).astype(np.float32), int(rng.integers(1, 13))
            table.writerow([episode, *observation, *force])
            observation, _, terminated, over, _ = env.step(force)
            left -= 1
        table.writerow([episode, *observation, ""])
print(f"80 episodes of 250 steps: {path}")
