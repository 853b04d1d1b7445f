"""A log of another tool: 20,000 random steps of Gymnasium's Pendulum-v1, by Minari's own recorder. No steersman here.

    MINARI_DATASETS_PATH=logs uv run python examples/01_your_own_logs/record.py [SEED]
"""

import os
import sys

if "MINARI_DATASETS_PATH" in os.environ:  # Minari 0.5.4 loses a relative path on the way
    os.environ["MINARI_DATASETS_PATH"] = os.path.abspath(os.environ["MINARI_DATASETS_PATH"])

import gymnasium
import minari

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
env = minari.DataCollector(gymnasium.make("Pendulum-v1"))
env.action_space.seed(seed)
env.reset(seed=seed)
for _ in range(20_000):
    *_, terminated, truncated, _ = env.step(env.action_space.sample())
    if terminated or truncated:
        env.reset()
dataset = env.create_dataset("pendulum/random-v0", algorithm_name="uniform random actions")
env.close()
print(f"{dataset.total_steps:,} steps in {dataset.total_episodes} episodes")
