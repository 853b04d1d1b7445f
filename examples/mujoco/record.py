"""A log of MuJoCo's two-joint arm: random torques, each held for a while. No steersman here.

    uv run python examples/mujoco/record.py [FILE] [SEED]
"""

import csv
import sys

import gymnasium
import numpy as np

path = sys.argv[1] if len(sys.argv) > 1 else "reacher.csv"
rng = np.random.default_rng(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
columns = ["cos1", "cos2", "sin1", "sin2", "target_x", "target_y", "speed1", "speed2", "gap_x", "gap_y"]
env = gymnasium.make("Reacher-v5")
with open(path, "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["episode", *columns, "action_1", "action_2"])
    for episode in range(400):
        observation, _ = env.reset(seed=int(rng.integers(1 << 30)))
        over, left = False, 0
        while not over:
            if left == 0:
                torque, left = rng.uniform(-1, 1, 2).astype(np.float32), int(rng.integers(1, 9))
            table.writerow([episode, *observation, *torque])
            observation, _, _, over, _ = env.step(torque)
            left -= 1
        table.writerow([episode, *observation, "", ""])
print(f"400 episodes of 50 steps: {path}")
