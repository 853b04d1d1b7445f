"""V-JEPA 2's predictor foresees what its publishers' formula gives, in both layouts, and is not planned with."""

from __future__ import annotations

import math
import re

import msgspec
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from steersman.core import (
    ActionSpec,
    CheckpointError,
    ConfigError,
    Latent,
    ObservationSpec,
    PlanningError,
    Signature,
)
from steersman.nn.weights import open_weights
from steersman.world_model import VJEPA2Model
from steersman.world_model.vjepa2 import vjepa2_config

D, V, HEADS, ROWS, COLUMNS = 10, 24, 2, 2, 3
SIGNATURE = Signature({"image": ObservationSpec("image", (8, 8, 3))}, ActionSpec("continuous", (-1.0,), (1.0,)))


def weights():
    """As facebookresearch stores them."""
    g = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=g) * (0.3 if len(shape) == 1 else shape[-1] ** -0.5)

    w = {"predictor_embed.weight": draw(V, D), "predictor_embed.bias": draw(V), "predictor_proj.weight": draw(D, V),
         "predictor_proj.bias": draw(D), "predictor_norm.weight": 1 + draw(V), "predictor_norm.bias": draw(V)}
    w |= {f"mask_tokens.{i}": draw(1, 1, V) for i in range(3)}
    for i in range(2):
        layers = {"attn.qkv": (3 * V, V), "attn.proj": (V, V), "mlp.fc1": (30, V), "mlp.fc2": (V, 30)}
        for name, shape in layers.items():
            w[f"predictor_blocks.{i}.{name}.weight"], w[f"predictor_blocks.{i}.{name}.bias"] = (
                draw(*shape), draw(shape[0]))
        for name in ("norm1", "norm2"):
            w[f"predictor_blocks.{i}.{name}.weight"], w[f"predictor_blocks.{i}.{name}.bias"] = 1 + draw(V), draw(V)
    return w


def as_transformers(w):
    found = {"predictor.embeddings.mask_tokens": torch.stack([w[f"mask_tokens.{i}"][0] for i in range(3)])}
    for name, x in w.items():
        if match := re.fullmatch(r"predictor_blocks\.(\d+)\.attn\.qkv\.(\w+)", name):
            for piece, part in zip(("query", "key", "value"), x.chunk(3), strict=True):
                found[f"predictor.layer.{match[1]}.attention.{piece}.{match[2]}"] = part.clone()
        elif not name.startswith("mask"):
            for old, new in {"predictor_embed": "predictor.embeddings.predictor_embeddings", "attn": "attention",
                             "predictor_blocks": "predictor.layer", "predictor_norm": "predictor.layernorm",
                             "predictor_proj": "predictor.proj"}.items():
                name = re.sub(rf"\b{old}\b", new, name)
            found[name] = x
    return found


def turned(z, where):
    third, made = 2 * ((V // HEADS // 3) // 2), z.clone()
    for axis in range(3):
        for j in range(third):
            angle = where[axis] / 10000 ** ((j % (third // 2)) / (third / 2))
            here, other = axis * third + j, axis * third + (j ^ 1)
            made[here] = z[here] * math.cos(angle) + (-1 if j % 2 == 0 else 1) * z[other] * math.sin(angle)
    return made


def reference(w, states):
    """The tokens after T moments: (T, N, D) -> (N, D)."""
    moments, tokens = states.shape[:2]
    x = torch.cat([F.linear(states.flatten(0, 1), w["predictor_embed.weight"], w["predictor_embed.bias"]),
                   w["mask_tokens.1"][0].expand(tokens, -1)])
    where = [(n // tokens, n % tokens // COLUMNS, n % COLUMNS) for n in range((moments + 1) * tokens)]
    size = V // HEADS
    for i in range(2):
        b = {name.removeprefix(f"predictor_blocks.{i}."): y for name, y in w.items()}
        y = F.layer_norm(x, (V,), b["norm1.weight"], b["norm1.bias"], 1e-6)
        q, k, v = F.linear(y, b["attn.qkv.weight"], b["attn.qkv.bias"]).chunk(3, -1)
        mixed = torch.zeros_like(x)
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            query, key = (torch.stack([turned(z[part], at) for z, at in zip(y, where, strict=True)]) for y in (q, k))
            mixed[:, part] = torch.softmax(query @ key.T / math.sqrt(size), -1) @ v[:, part]
        x = x + F.linear(mixed, b["attn.proj.weight"], b["attn.proj.bias"])
        y = F.layer_norm(x, (V,), b["norm2.weight"], b["norm2.bias"], 1e-6)
        x = x + F.linear(F.gelu(F.linear(y, b["mlp.fc1.weight"], b["mlp.fc1.bias"])), b["mlp.fc2.weight"],
                         b["mlp.fc2.bias"])
    x = F.layer_norm(x, (V,), w["predictor_norm.weight"], w["predictor_norm.bias"], 1e-6)[-tokens:]
    return F.linear(x, w["predictor_proj.weight"], w["predictor_proj.bias"])


def made(stored, tmp_path, context=2, tokens=ROWS * COLUMNS):
    path = tmp_path / "w.safetensors"
    save_file(stored, path)
    config = msgspec.structs.replace(
        vjepa2_config(open_weights(path), HEADS), weights=str(path), context=context, columns=COLUMNS)
    model = config.build(SIGNATURE, (tokens, D))
    model.initialise()
    return model.eval()


@pytest.mark.parametrize("layout", ["facebookresearch", "transformers"])
@pytest.mark.parametrize(("context", "history"), [(1, 3), (2, 1), (3, 5)])
def test_what_is_foreseen_is_what_the_publishers_formula_gives(tmp_path, layout, context, history):
    w = weights()
    model = made({f"module.backbone.{k}": x for k, x in w.items()} if layout == "facebookresearch"
                 else as_transformers(w), tmp_path, context)
    states = torch.randn(2, history, ROWS * COLUMNS, D)
    with torch.no_grad():
        belief = model.begin(Latent(states), torch.zeros(2, history - 1, 1))
        imagined = model.imagine(belief, torch.zeros(2, 1, 3, 1)).states[:, 0, 1:]
        for b in range(2):
            frames = list(states[b])
            for t in range(3):
                frames.append(reference(w, torch.stack(frames[-context:])))
                torch.testing.assert_close(imagined[b, t], frames[-1], rtol=1e-5, atol=1e-5)


def test_moments_one_after_the_other_lead_to_the_same_belief(tmp_path):
    model = made(weights(), tmp_path, 3)
    states, actions = torch.randn(2, 5, ROWS * COLUMNS, D), torch.zeros(2, 4, 1)
    belief = None
    with torch.no_grad():
        for t in range(5):
            belief, surprise = model.observe(belief, actions[:, max(0, t - 1) : t], Latent(states[:, t]))
        whole = model.begin(Latent(states), actions)
    for mine, theirs in zip((belief.state, *belief.carry), (whole.state, *whole.carry), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert surprise.energy.isfinite().all()
    old, new = whole, model.begin(Latent(states[:, -1:]), actions[:, :0])
    with torch.no_grad():
        both = model.imagine(old.join(new), torch.zeros(4, 1, 2, 1)).states
        alone = [model.imagine(x, torch.zeros(2, 1, 2, 1)).states for x in (old, new)]
    torch.testing.assert_close(both, torch.cat(alone))


def test_it_is_not_planned_with_and_refuses_what_does_not_fit(tmp_path):
    model = made(weights(), tmp_path)
    belief = model.begin(Latent(torch.randn(1, 1, ROWS * COLUMNS, D)), torch.zeros(1, 0, 1))
    with pytest.raises(PlanningError, match="knows no actions; got 2 candidates"):
        model.imagine(belief, torch.zeros(1, 2, 1, 1))
    with pytest.raises(ConfigError, match=r"tokens of 10 numbers; got latents of shape \(10,\)"):
        model.config.build(SIGNATURE, (D,))
    with pytest.raises(ConfigError, match="a grid of 7 tokens"):
        model.config.build(SIGNATURE, (7, D))
    for change, words in [
        ({"predictor_norm.bias": None}, "norm.bias of shape.*nothing"),
        ({"mask_tokens.0": None, "mask_tokens.1": None, "mask_tokens.2": None}, "got no mask tokens"),
        ({"predictor_embed.weight": torch.zeros(V)}, "predictor_embed.weight of 2 sides"),
        ({"predictor_proj.weight": torch.zeros(D, V + 1)}, r"leave.weight of shape \(10, 24\)"),
    ]:
        changed = {k: x for k, x in (weights() | change).items() if x is not None}
        with pytest.raises(CheckpointError, match=words):
            made(changed, tmp_path)
    save_file(weights() | {"action_encoder.weight": torch.zeros(V, 7)}, tmp_path / "a.safetensors")
    assert vjepa2_config(open_weights(tmp_path / "a.safetensors")) is None  # V-JEPA 2-AC is another model
    assert VJEPA2Model.Config().heads == 12


def test_the_publishers_own_module_gives_the_same(tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs the package transformers")
    from steersman.agent import load_published

    config = transformers.VJEPA2Config(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, crop_size=32, frames_per_clip=6,
        pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=2)
    theirs = transformers.VJEPA2Model(config).eval()
    with torch.no_grad():
        for x in theirs.parameters():
            x.normal_(0, 0.1)
    theirs.save_pretrained(tmp_path)
    sig = Signature({"image": ObservationSpec("image", (32, 32, 3))}, SIGNATURE.action)
    found = load_published(tmp_path)
    assert found.said.endswith("a predictor of 2 blocks that knows no actions")
    _, model = found.build(sig)
    states = torch.randn(2, 2, 4, 24)
    seen, next_ = (torch.arange(a, b)[None].expand(2, -1) for a, b in ((0, 8), (8, 12)))
    with torch.no_grad():
        expected = theirs.predictor(torch.cat([states.flatten(1, 2), torch.zeros(2, 4, 24)], 1), [seen], [next_])
        torch.testing.assert_close(model.predict(states), expected.last_hidden_state, rtol=1e-5, atol=1e-5)
