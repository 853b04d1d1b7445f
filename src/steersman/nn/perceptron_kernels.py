"""A residual perceptron's steps, compiled, a row at a time: for few rows, where a call costs more than its arithmetic.

Imported only where numba is installed. Shapes: N rows, D state, F width of the first layer, W width, L layers, H steps.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import numpy as np

from steersman.core.compiled import kernel

LOOSE = {"contract", "reassoc"}  # sums in the order that vectors like; it is compiled in, the same for every row


@kernel(fastmath=LOOSE)
def add_product(w, x, out):
    """out += w x, four rows of w (M, N) at a time."""
    rows = len(w)
    whole = rows - rows % 4
    for j in range(0, whole, 4):
        a = b = c = d = np.float32(0)
        for i in range(len(x)):
            v = x[i]
            a += v * w[j, i]
            b += v * w[j + 1, i]
            c += v * w[j + 2, i]
            d += v * w[j + 3, i]
        out[j] += a
        out[j + 1] += b
        out[j + 2] += c
        out[j + 3] += d
    for j in range(whole, rows):
        a = np.float32(0)
        for i in range(len(x)):
            a += x[i] * w[j, i]
        out[j] += a


@kernel(fastmath=LOOSE)
def silu(x):
    """x / (1 + exp(-x)) in place. The exponential is Cephes' (2 ulp), written out so that it runs on vectors."""
    for i in range(len(x)):
        v = -x[i]
        v = v if v < np.float32(87) else np.float32(87)
        v = v if v > np.float32(-87) else np.float32(-87)
        n = np.rint(v * np.float32(1.44269504))
        r = v - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
        x[i] = x[i] / (np.float32(1) + (p * (r * r) + r + np.float32(1)) * power)


@kernel(fastmath=LOOSE)
def step(into, drive, layers, offsets, out, bias, state, choice, following, first, hidden):
    """The state (D,) after one step into `following`; first (F,) and hidden (W,) are room to work in."""
    width = len(hidden)
    for i in range(len(first)):
        first[i] = drive[choice, i]
    add_product(into, state, first)
    h = first[:width]
    silu(h)
    for number in range(len(layers)):
        for i in range(width):
            hidden[i] = offsets[number, i]
        add_product(layers[number], h, hidden)
        silu(hidden)
        for i in range(width):
            h[i] += hidden[i]
    for i in range(len(state)):
        following[i] = state[i] + bias[i]
        if len(first) > width:
            following[i] += first[width + i]
    add_product(out, h, following)


@kernel()
def roll(into, drive, layers, offsets, out, bias, states):
    """states (N, H + 1, D), the first of each row given: the others are filled in; drive (N · H, F): what is added to
    the first layer at each step of each row."""
    first, hidden = np.empty(len(into), np.float32), np.empty(out.shape[1], np.float32)
    steps = states.shape[1] - 1
    for row in range(len(states)):
        for t in range(steps):
            step(into, drive, layers, offsets, out, bias, states[row, t], row * steps + t, states[row, t + 1], first,
                 hidden)
