#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How much the scales of 8-bit activations matter beside quantised weights: the error of products with random
numbers, in percent of the products' root mean square. Rows are kinds of activations, columns are ways to scale
them: one f32 for 32 numbers (q8_0 in limn), a power of two for 32 (its other quantised types), one f32 for 256
(llama.cpp beside K-quants). The table is in docs/PRECISION.md. Needs numpy.
"""
import numpy as np

K, N, M = 4096, 256, 256
random = np.random.default_rng(1)


def round_to(x, d):
    return np.round(x / d) * d


def in_blocks(x, block):
    return x.reshape(x.shape[0], -1, block)


def weights_signed(w, block, top):
    w = in_blocks(w, block)
    return round_to(w, np.abs(w).max(-1, keepdims=True) / top).reshape(N, K)


def weights_q4_0(w):
    w = in_blocks(w, 32)
    d = np.take_along_axis(w, np.abs(w).argmax(-1)[..., None], -1) / -8
    return (np.clip(np.round(w / d), -8, 7) * d).reshape(N, K)


def weights_minima(w, top):
    w = in_blocks(w, 32)
    low = np.minimum(w.min(-1, keepdims=True), 0)
    return (round_to(w - low, (w.max(-1, keepdims=True) - low) / top) + low).reshape(N, K)


def activations(x, block, powers):
    x = in_blocks(x, block)
    d = np.abs(x).max(-1, keepdims=True) / 127
    return round_to(x, 2 ** np.ceil(np.log2(d)) if powers else d).reshape(M, K)


def gated():
    a, b = random.standard_normal((2, M, K))
    return 2 * a / (1 + np.exp(-2 * a)) * b


WEIGHTS = {"q8_0": lambda w: weights_signed(w, 32, 127), "q6_K": lambda w: weights_signed(w, 16, 31),
           "q5_K": lambda w: weights_minima(w, 31), "q4_K": lambda w: weights_minima(w, 15), "q4_0": weights_q4_0}
SCALES = {"f32/32": (32, False), "power/32": (32, True), "f32/256": (256, False)}
KINDS = {
    "normal": random.standard_normal((M, K)),
    "Laplace": random.laplace(size=(M, K)),
    "outliers": random.standard_normal((M, K)) * np.where(random.random(K) < .005, 30, 1),
    "gated": gated(),
}

if __name__ == "__main__":
    w = random.standard_normal((N, K))
    print(f"{'':18}exact x " + " ".join(f"{s:>8}" for s in SCALES))
    for kind, x in KINDS.items():
        y = x @ w.T
        for name, quantise in WEIGHTS.items():
            q = quantise(w)
            xs = [x] + [activations(x, *s) for s in SCALES.values()]
            errors = [100 * np.sqrt(np.mean((v @ q.T - y) ** 2) / np.mean(y ** 2)) for v in xs]
            print(f"{kind:9} {name:6} " + " ".join(f"{e:8.2f}" for e in errors))
