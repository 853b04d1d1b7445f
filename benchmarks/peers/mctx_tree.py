"""mctx: its PUCT and Gumbel searches, compiled, with our model's weights as its recurrent function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from steersman.world_model import ResidualModel


def planner(
    model: ResidualModel, start: Tensor, goal: Tensor, choices: int, simulations: int, depth: int, gumbel: bool
) -> Callable[[], object]:
    """start (B, D), goal (1, D) -> a call that searches for all B problems. Compiled before it returns."""
    import jax
    import jax.numpy as jnp
    import mctx

    def array(x: Tensor) -> Any:
        return jnp.asarray(x.detach().float().cpu().numpy())

    into, drive, out = (array(layer.weight[0].T) for layer in (model.from_state, model.from_drive, model.to_change))
    offset, ending = array(model.from_drive.bias[0]), array(model.to_change.bias[0])
    layers = [(array(layer.weight[0].T), array(layer.bias[0])) for layer in model.layers]
    target, count = array(goal), len(start)

    def step(params: Any, key: Any, action: Any, embedding: Any) -> Any:
        state, left = embedding
        h = jax.nn.silu(state @ into + drive[action] + offset)
        for weight, bias in layers:
            h = jax.nn.silu(h @ weight + bias) + h
        state = state + h @ out + ending
        energy = jnp.square(state - target).mean(-1)
        output = mctx.RecurrentFnOutput(
            reward=-energy, discount=jnp.ones(count), prior_logits=jnp.zeros((count, choices)),
            value=-energy * (left - 1),
        )
        return output, (state, left - 1)

    root = mctx.RootFnOutput(
        prior_logits=jnp.zeros((count, choices)), value=jnp.zeros(count),
        embedding=(array(start), jnp.full(count, float(depth))),
    )
    policy, settings = (mctx.gumbel_muzero_policy, {"max_num_considered_actions": 16}) if gumbel else (
        mctx.muzero_policy, {"dirichlet_fraction": 0.0, "pb_c_init": 1.25, "pb_c_base": 19652.0})

    @jax.jit
    def search(key: Any) -> Any:
        return policy(None, key, root, step, num_simulations=simulations, max_depth=depth, **settings).action

    key = jax.random.PRNGKey(0)
    search(key).block_until_ready()
    return lambda: search(key).block_until_ready()
