"""LeWM's predictor computes what its publishers' modules say, in both layouts, and keeps a world model's promises."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from steersman.core import (
    ActionSpec,
    CheckpointError,
    ConfigError,
    Latent,
    MismatchError,
    ObservationSpec,
    Signature,
    check_world_model,
)
from steersman.world_model import LeWMModel
from steersman.world_model.lewm_layouts import LeWMForm, find_predictor, predictor_in

D, V, FRAMES, A, HEADS = 8, 12, 3, 2, 2


def signature(action=None, exogenous=()):
    spec = action or ActionSpec("continuous", (-1.0,) * A, (1.0,) * A)
    return Signature({"image": ObservationSpec("image", (8, 8, 3))}, spec, exogenous)


def draw(g, *shape):
    return torch.randn(*shape, generator=g) * (0.3 if len(shape) == 1 else shape[-1] ** -0.5)


def stable(width=V, depth=2) -> dict[str, Tensor]:
    """As stable-worldmodel stores it, with heads of 6 numbers."""
    g = torch.Generator().manual_seed(0)
    w = {"predictor.pos_embedding": draw(g, 1, FRAMES, D)}

    def linear(name, out, into, bias=True):
        w[f"{name}.weight"] = draw(g, out, into)
        if bias:
            w[f"{name}.bias"] = draw(g, out)

    def norm(name, size):
        w[f"{name}.weight"], w[f"{name}.bias"] = 1 + draw(g, size), draw(g, size)

    if width != D:
        linear("predictor.transformer.input_proj", width, D)
        linear("predictor.transformer.cond_proj", width, D)
        linear("predictor.transformer.output_proj", D, width)
    for i in range(depth):
        stem = f"predictor.transformer.layers.{i}."
        norm(f"{stem}attn.norm", width)
        linear(f"{stem}attn.to_qkv", 3 * 12, width, bias=False)
        linear(f"{stem}attn.to_out.0", width, 12)
        norm(f"{stem}mlp.net.0", width)
        linear(f"{stem}mlp.net.1", 16, width)
        linear(f"{stem}mlp.net.4", width, 16)
        linear(f"{stem}adaLN_modulation.1", 6 * width, width)
    norm("predictor.transformer.norm", width)
    w["action_encoder.patch_embed.weight"], w["action_encoder.patch_embed.bias"] = draw(g, 3, A, 1), draw(g, 3)
    linear("action_encoder.embed.0", 4 * D, 3)
    linear("action_encoder.embed.2", D, 4 * D)
    linear("pred_proj.net.0", 10, D)
    norm("pred_proj.net.1", 10)
    w["pred_proj.net.1.running_mean"], w["pred_proj.net.1.running_var"] = draw(g, 10), 1 + draw(g, 10).abs()
    w["pred_proj.net.1.num_batches_tracked"] = torch.tensor(7)
    linear("pred_proj.net.3", D, 10)
    return w


def lightly(depth=2) -> dict[str, Tensor]:
    """As lightly stores it, with heads of 6 numbers."""
    g = torch.Generator().manual_seed(1)
    w = {"predictor.frame_pos_embed": draw(g, 1, FRAMES, V)}

    def linear(name, out, into, bias=True):
        w[f"{name}.weight"] = draw(g, out, into)
        if bias:
            w[f"{name}.bias"] = draw(g, out)

    linear("predictor.input_proj", V, D)
    linear("predictor.output_proj", D, V)
    linear("predictor.action_proj", V, D)
    for i in range(depth):
        stem = f"predictor.blocks.{i}."
        linear(f"{stem}qkv", 3 * V, V, bias=False)
        linear(f"{stem}proj", V, V)
        linear(f"{stem}mlp.0", 4 * V, V)
        linear(f"{stem}mlp.3", V, 4 * V)
        linear(f"{stem}adaln.1", 6 * V, V)
    w["predictor.norm.weight"], w["predictor.norm.bias"] = 1 + draw(g, V), draw(g, V)
    linear("action_encoder.mlp.0", 4 * D, A)
    linear("action_encoder.mlp.2", D, 4 * D)
    return w


def reference(w: dict[str, Tensor], states: Tensor, actions: Tensor) -> Tensor:
    """The next state after the last frame of one window: (T, D), (T, A) -> (D,)."""
    def layer(name, x):
        return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias")) if f"{name}.weight" in w else x

    def norm(name, x, epsilon=1e-5):
        return F.layer_norm(x, x.shape[-1:], w.get(f"{name}.weight"), w.get(f"{name}.bias"), epsilon)

    ours = "predictor.pos_embedding" in w
    steps, root = len(states), "predictor.transformer." if ours else "predictor."
    if ours:
        smooth = actions @ w["action_encoder.patch_embed.weight"][..., 0].T + w["action_encoder.patch_embed.bias"]
        c = layer("action_encoder.embed.2", F.silu(layer("action_encoder.embed.0", smooth)))
        c = layer(f"{root}cond_proj", c)
        x = layer(f"{root}input_proj", states + w["predictor.pos_embedding"][0, :steps])
        names = {"out": "attn.to_out.0", "qkv": "attn.to_qkv", "mod": "adaLN_modulation.1", "up": "mlp.net.1",
                 "down": "mlp.net.4"}
    else:
        c = layer("action_encoder.mlp.2", F.silu(layer("action_encoder.mlp.0", actions)))
        c = layer(f"{root}action_proj", c)
        x = layer(f"{root}input_proj", states) + w["predictor.frame_pos_embed"][0, :steps]
        names = {"out": "proj", "qkv": "qkv", "mod": "adaln.1", "up": "mlp.0", "down": "mlp.3"}
    for i in range(2):
        stem = f"{root}layers.{i}." if ours else f"{root}blocks.{i}."
        shift1, scale1, gate1, shift2, scale2, gate2 = layer(stem + names["mod"], F.silu(c)).chunk(6, -1)
        y = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale1) + shift1
        y = norm(f"{stem}attn.norm", y) if ours else y
        q, k, v = layer(stem + names["qkv"], y).chunk(3, -1)
        mixed = torch.zeros_like(q)
        for head in range(HEADS):
            part = slice(6 * head, 6 * head + 6)
            for t in range(steps):
                weights = torch.softmax(q[t, part] @ k[: t + 1, part].T / math.sqrt(6), -1)
                mixed[t, part] = weights @ v[: t + 1, part]
        x = x + gate1 * layer(stem + names["out"], mixed)
        y = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale2) + shift2
        y = norm(f"{stem}mlp.net.0", y) if ours else y
        x = x + gate2 * layer(stem + names["down"], F.gelu(layer(stem + names["up"], y)))
    x = layer(f"{root}output_proj", norm(f"{root}norm", x))[-1]
    if ours:
        h = layer("pred_proj.net.0", x)
        h = (h - w["pred_proj.net.1.running_mean"]) / (w["pred_proj.net.1.running_var"] + 1e-5).sqrt()
        x = layer("pred_proj.net.3", F.gelu(h * w["pred_proj.net.1.weight"] + w["pred_proj.net.1.bias"]))
    return x


def rolled(w, states, actions):
    """Predictions fed back, over windows of at most FRAMES frames: (T, D), (T - 1 + H, A) -> (H, D)."""
    frames, made = list(states), []
    for t in range(len(states), len(actions) + 1):
        first = max(0, t - FRAMES)
        made.append(reference(w, torch.stack(frames[first:t]), actions[first:t]))
        frames.append(made[-1])
    return torch.stack(made)


LAYOUTS = {"stable-worldmodel": stable, "stable-worldmodel of one width": lambda: stable(D), "lightly": lightly}


def read(weights, path: Path, sig=None, **changes) -> LeWMModel:
    file = path / "w.safetensors"
    save_file(weights, file)
    form = find_predictor(file).form(HEADS)
    config = LeWMModel.Config(form=form, weights=str(file), **changes)
    model = config.build(sig or signature(), (D,))
    model.initialise()
    return model.eval()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("history", [1, 2, 5])
def test_a_rollout_is_what_the_publishers_formula_gives(tmp_path, layout, history):
    weights = LAYOUTS[layout]()
    model = read({f"model.{name}": x for name, x in weights.items()} if history == 2 else weights, tmp_path)
    states, actions = torch.randn(2, history, D), torch.rand(2, 3, history + 3, A) * 2 - 1
    actions[:, :, : history - 1] = actions[:, :1, : history - 1]
    with torch.no_grad():
        belief = model.begin(Latent(states), actions[:, 0, : history - 1])
        imagined = model.imagine(belief, actions[:, :, history - 1 :]).states
        for b in range(2):
            for k in range(3):
                expected = rolled(weights, states[b], actions[b, k])
                torch.testing.assert_close(imagined[b, k, 1:], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_keeps_the_promises_of_a_world_model(tmp_path, layout):
    model = read(LAYOUTS[layout](), tmp_path)
    check_world_model(model, signature().action, (D,), history=5)


def test_rows_that_began_at_different_moments_stand_in_one_batch(tmp_path):
    model = read(lightly(), tmp_path)
    states, actions = torch.randn(1, 4, D), torch.rand(1, 3, A)
    old = model.begin(Latent(states), actions)
    new = model.begin(Latent(states[:, -1:]), actions[:, :0])
    ahead = torch.rand(2, 2, 5, A)
    with torch.no_grad():
        both = model.imagine(old.join(new), ahead).states
        alone = [model.imagine(belief, ahead[i : i + 1]).states for i, belief in enumerate((old, new))]
    torch.testing.assert_close(both, torch.cat(alone))


def test_actions_enter_in_the_units_of_the_published_training(tmp_path):
    weights, actions = lightly(), torch.rand(1, 1, 1, A)
    model = read(weights, tmp_path, action_mean=(0.5, -1.0), action_deviation=(2.0, 0.1))
    state = torch.randn(1, 1, D)
    with torch.no_grad():
        made = model.imagine(model.begin(Latent(state), actions[:, 0, :0]), actions).states[0, 0, 1]
    scaled = (actions[0, 0] - torch.tensor([0.5, -1.0])) / torch.tensor([2.0, 0.1])
    torch.testing.assert_close(made, reference(weights, state[0], scaled), rtol=1e-5, atol=1e-5)


def test_discrete_actions_enter_one_hot(tmp_path):
    weights = lightly()
    model = read(weights, tmp_path, signature(ActionSpec("discrete", choices=A)))
    state, actions = torch.randn(1, 1, D), torch.tensor([[[[1]]]])
    with torch.no_grad():
        made = model.imagine(model.begin(Latent(state), actions[:, 0, :0]), actions).states[0, 0, 1]
    torch.testing.assert_close(made, reference(weights, state[0], torch.tensor([[0.0, 1.0]])), rtol=1e-5, atol=1e-5)


def test_a_model_of_its_own_form_learns_and_a_frozen_one_does_not(tmp_path):
    form = LeWMForm(size=D, actions=A, width=V, depth=1, heads=2, head_width=4, hidden=16, condition=6, projected=True)
    learns = LeWMModel.Config(form=form, frozen=False).build(signature(), (D,))
    belief = learns.begin(Latent(torch.randn(2, 4, D)), torch.rand(2, 3, A))
    learns.imagine(belief, torch.rand(2, 3, 2, A)).states.sum().backward()
    assert all(p.grad is not None for p in learns.parameters())
    frozen = read(stable(), tmp_path)
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not frozen.train().training


def test_worlds_and_files_that_do_not_fit_are_refused(tmp_path):
    model = read(lightly(), tmp_path)
    for sig, shape, words in [
        (signature(), (D, 2), r"latents of shape \(8,\)"),
        (signature(ActionSpec("continuous", (-1.0,), (1.0,))), (D,), "an action of 2 numbers.*got 1.*a step of 2"),
        (signature(exogenous=("wind",)), (D,), "no exogenous inputs"),
    ]:
        with pytest.raises(ConfigError, match=words):
            model.config.build(sig, shape)
    with pytest.raises(ConfigError, match="2 numbers, deviations above 0"):
        msgspec.structs.replace(model.config, action_deviation=(0.0, 1.0))
    waiting = model.config.build(signature(), (D,))
    with pytest.raises(MismatchError, match="they were never read"):
        waiting.imagine(waiting.begin(Latent(torch.zeros(1, 1, D)), torch.zeros(1, 0, A)), torch.zeros(1, 1, 1, A))
    with pytest.raises(MismatchError, match="they were never read"):
        waiting.predict(torch.zeros(1, 1, D), torch.zeros(1, 1, A))
    bare = {name: x for name, x in lightly().items() if "adaln" not in name and "action" not in name}
    for weights, words in [
        (bare, "a predictor that reads actions"),
        (lightly() | {"predictor.blocks.0.gate.weight": torch.zeros(1)}, "got predictor.blocks.0.gate.weight"),
        ({name: x for name, x in stable().items() if name != "predictor.transformer.norm.bias"},
         "norm.bias of shape.*got nothing"),
        ({name: x for name, x in stable().items() if name != "pred_proj.net.3.weight"}, "projector"),
        (stable() | {"action_encoder.patch_embed.weight": torch.zeros(3, A, 2)},
         r"patch_embed.weight of shape \(3, 2\)"),
        (lightly() | {"predictor.blocks.0.qkv.weight": torch.zeros(3 * V)}, "qkv.weight of 2 sides"),
        ({"x": torch.zeros(1)}, "a predictor of LeWM in w.safetensors; got none"),
    ]:
        with pytest.raises(CheckpointError, match=words):
            read(weights, tmp_path)


def test_the_publishers_own_modules_give_the_same(tmp_path):
    modules = pytest.importorskip("lightly.models.modules", reason="needs the package lightly")
    if not hasattr(modules, "LatentDynamicsPredictor"):
        pytest.skip("needs lightly 1.6 or later")
    holder = torch.nn.Module()
    holder.action_encoder = modules.ActionEncoder(action_dim=A, output_dim=D)
    holder.predictor = modules.LatentDynamicsPredictor(
        num_frames=FRAMES, input_dim=D, hidden_dim=V, depth=2, num_heads=HEADS)
    with torch.no_grad():
        for x in holder.parameters():
            x.normal_(0, 0.3)
    model = read({name: x.contiguous() for name, x in holder.eval().state_dict().items()}, tmp_path)
    states, actions = torch.randn(2, 2, D), torch.rand(2, 5, A)
    with torch.no_grad():
        expected = holder.predictor.rollout(states, action_emb=holder.action_encoder(actions), steps=4)
        made = model.imagine(model.begin(Latent(states), actions[:, :1]), actions[:, None, 1:]).states[:, 0, 1:]
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


def test_stable_worldmodels_own_modules_give_the_same(tmp_path):
    module = pytest.importorskip("stable_worldmodel.wm.lewm.module", reason="needs the package stable-worldmodel")
    holder = torch.nn.Module()
    holder.action_encoder = module.Embedder(input_dim=A, emb_dim=D)
    holder.predictor = module.Predictor(
        num_frames=FRAMES, depth=2, heads=HEADS, mlp_dim=16, input_dim=D, hidden_dim=V, dim_head=6)
    holder.pred_proj = module.MLP(D, 10, D, norm_fn=torch.nn.BatchNorm1d)
    with torch.no_grad():
        for x in holder.parameters():
            x.normal_(0, 0.3)
    model = read({name: x.contiguous() for name, x in holder.eval().state_dict().items()}, tmp_path)
    states, actions = torch.randn(2, FRAMES, D), torch.rand(2, FRAMES, A)
    with torch.no_grad():
        expected = holder.pred_proj(holder.predictor(states, holder.action_encoder(actions))[:, -1])
        belief = model.begin(Latent(states), actions[:, :-1])
        made = model.imagine(belief, actions[:, None, -1:]).states[:, 0, 1]
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


def test_a_file_without_a_predictor_has_none(tmp_path):
    from steersman.nn.weights import open_weights

    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    assert predictor_in(open_weights(tmp_path / "w.safetensors")) is None
