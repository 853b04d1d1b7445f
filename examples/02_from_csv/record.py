"""A CSV file as any tool might write it: random pushes of a cart that carries a pole. No steersman here.

    uv run python examples/02_from_csv/record.py [FILE] [SEED]
"""

import csv
import sys

import gymnasium

path = sys.argv[1] if len(sys.argv) > 1 else "cartpole.csv"
seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
env = gymnasium.make("CartPole-v1")
env.action_space.seed(seed)
observation, _ = env.reset(seed=seed)
episode, steps, over = 0, 0, False
with open(path, "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["episode", "position", "speed", "angle", "turn", "action"])
    while steps < 20_000 or not over:
        action = int(env.action_space.sample())
        table.writerow([episode, *observation, action])
        observation, _, terminated, truncated, _ = env.step(action)
        steps, over = steps + 1, terminated or truncated
        if over:
            table.writerow([episode, *observation, ""])  # where the episode ended; no action was taken there
            observation, _ = env.reset()
            episode += 1
print(f"{steps:,} steps in {episode} episodes: {path}")
