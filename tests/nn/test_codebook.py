"""Tokens that were met: each kind once, rounding to the nearest, and nothing where they are too many."""

import torch

from steersman.nn.codebook import Codebook

KINDS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])


def test_each_kind_is_kept_once_however_often_it_is_met():
    book, g = Codebook(8, 2), torch.Generator().manual_seed(0)
    for _ in range(3):
        book.meet(KINDS[torch.randint(3, (4, 5), generator=g)] + 1e-3 * torch.randn(4, 5, 2, generator=g))
    assert int(book.count) == 3
    assert float(torch.cdist(book.tokens[:3], KINDS).amin(1).max()) < 0.01


def test_what_is_rounded_is_a_token_that_was_met_as_a_loop_finds_it():
    book, x = Codebook(8, 2), torch.randn(6, 7, 2, generator=torch.Generator().manual_seed(1))
    book.meet(KINDS)
    for row, found in zip(x.flatten(0, 1), book.rounded(x).flatten(0, 1), strict=True):
        assert torch.equal(found, min(KINDS, key=lambda kind, row=row: float((kind - row).norm())))
    near = book.rounded(x, within=0.5)
    far = torch.cdist(x.flatten(0, 1), KINDS).amin(1).view(6, 7) > 0.5
    assert torch.equal(near[far], x[far])
    assert not torch.equal(near, x)


def test_before_anything_is_met_and_beyond_the_limit_nothing_is_rounded():
    book, x = Codebook(2, 2), torch.randn(5, 2)
    assert book.rounded(x) is x
    book.meet(KINDS)
    assert bool(book.full)
    assert book.rounded(x) is x


def test_what_was_met_is_stored_with_the_weights():
    book, other = Codebook(4, 2), Codebook(4, 2)
    book.meet(KINDS)
    other.load_state_dict(book.state_dict())
    assert torch.equal(other.rounded(KINDS + 0.1), book.rounded(KINDS + 0.1))
