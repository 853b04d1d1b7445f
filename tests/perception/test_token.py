"""The encoder of tokens: shapes, order, gradients, refusals."""

from __future__ import annotations

import pytest
import torch
from seen_kinds import observe, only

from steersman.core import ConfigError, MismatchError
from steersman.perception import TokenEncoder

TEXT = only("text")


@pytest.mark.parametrize("hidden", [(), (7,)])
@pytest.mark.parametrize("pool", ["flatten", "mean", "tokens"])
def test_tokens_give_the_declared_shapes_and_gradients_reach_every_weight(pool, hidden):
    encoder = TokenEncoder.Config(width=6, hidden=hidden, pool=pool, size=5).build(TEXT)
    state = encoder.encode(observe(TEXT)).state
    assert state.shape == (3, 4, *encoder.latent_shape)
    torch.testing.assert_close(encoder.encode({"text": observe(TEXT)["text"][:, 1].long()}).state, state[:, 1])
    (state * torch.randn_like(state)).sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in encoder.parameters())


@pytest.mark.parametrize("pool", ["flatten", "mean"])
def test_the_order_of_tokens_matters(pool):
    encoder = TokenEncoder.Config(width=6, pool=pool, size=5).build(TEXT)
    text = observe(TEXT)["text"]
    assert not torch.allclose(encoder.encode({"text": text}).state, encoder.encode({"text": text.flip(2)}).state)


def test_a_token_sees_no_other():
    encoder = TokenEncoder.Config(width=6, pool="tokens", size=5).build(TEXT)
    text = observe(TEXT)["text"]
    changed = text.clone()
    changed[..., 3] = (changed[..., 3] + 1) % 50
    before, after = (encoder.encode({"text": x}).state for x in (text, changed))
    assert ((before != after).any(-1) == (text != changed)).all()


def test_what_does_not_fit_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="exactly one observation of kind tokens; got sound"):
        TokenEncoder.Config().build(only("sound"))
    with pytest.raises(ConfigError, match="even width"):
        TokenEncoder.Config(width=7)
    encoder = TokenEncoder.Config(width=6).build(TEXT)
    with pytest.raises(MismatchError, match=r"'text' of int32 and shape \(…, 10\)"):
        encoder.encode({"text": torch.zeros(2, 3, 10)})
    for wrong in (50, -1):
        with pytest.raises(MismatchError, match=r"tokens in 0\.\.49; got") as error:
            encoder.encode({"text": torch.full((1, 1, 10), wrong, dtype=torch.int32)})
        assert "\n" not in str(error.value)
