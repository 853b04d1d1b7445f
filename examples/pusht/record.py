"""A state log of gym-pusht: the pusher is sent to random places near the T and back. No steersman here.

    uv run python examples/pusht/record.py [FILE] [SEED]
"""

import csv
import sys

import numpy as np
from world import COLUMNS, make

path = sys.argv[1] if len(sys.argv) > 1 else "pusht.csv"
rng = np.random.default_rng(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
env = make()
with open(path, "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["episode", *COLUMNS, "action_x", "action_y"])
    for episode in range(150):
        observation, _ = env.reset(seed=int(rng.integers(1 << 30)))
        for step in range(100):
            if step % 5 == 0:  # a new place to go to, every half second
                place = observation[2:4] + rng.normal(0, 90, 2)
            action = np.clip(place + rng.normal(0, 20, 2), 0, 512)
            table.writerow([episode, *observation, *action])
            observation, _, terminated, truncated, _ = env.step(action.astype(np.float32))
            if terminated or truncated:
                break
        table.writerow([episode, *observation, "", ""])
print(f"150 episodes: {path}")
