# SPDX-License-Identifier: MIT
"""Random numbers: torch's CPU generator, Philox, numpy's SeedSequence, torchsde's Brownian tree."""

import hashlib
import os
import subprocess
import sys

from common import save_st, versions

import numpy as np
import torch

import kdiff

SEEDS = [
    0,
    1,
    2,
    42,
    1234,
    31337,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**32 + 5,
    2**53 + 1,
    2**63 - 1,
    2**64 - 1,
    -1,
    -42,
]
FULL = [1, 2, 7, 15, 16, 17, 31, 33, 64, 100]
LARGE = [1000, 4 * 64 * 64 + 3]
SEQUENCE = [3, 5, 16, 7, 20, 1, 1, 17, 15, 32, 2, 33, 1]


def draw(seed, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


def digest(t):
    return torch.frombuffer(
        bytearray(hashlib.sha256(t.numpy().tobytes()).digest()), dtype=torch.uint8
    )


def torch_vectors(out, name):
    """[16] seeds as raw 64-bit words; one row per seed."""
    t = {"seeds": torch.tensor([s % 2**64 - (2**64 if s % 2**64 >= 2**63 else 0) for s in SEEDS])}
    for n in FULL:
        t[f"randn.{n}"] = torch.stack([draw(s, n) for s in SEEDS])
    for n in LARGE:
        rows = [draw(s, n) for s in SEEDS]
        t[f"randn.{n}.first16"] = torch.stack([r[:16] for r in rows])
        t[f"randn.{n}.last32"] = torch.stack([r[-32:] for r in rows])
        t[f"randn.{n}.sha256"] = torch.stack([digest(r) for r in rows])
    t["randn.1000.seed42"] = draw(42, 1000)
    t["sequence.sizes"] = torch.tensor(SEQUENCE, dtype=torch.int32)
    for s in (0, 42):
        g = torch.Generator().manual_seed(s)
        t[f"sequence.seed{s}"] = torch.cat([torch.randn(n, generator=g) for n in SEQUENCE])
    g = torch.Generator().manual_seed(7)
    t["latents.seed7"] = torch.randn(2, 4, 3, 5, generator=g)
    g = torch.Generator().manual_seed(7)
    t["rand.seed7"] = torch.rand(40, generator=g)
    g = torch.Generator().manual_seed(7)
    t["randn64.seed7"] = torch.randn(20, generator=g, dtype=torch.float64)
    save_st(
        f"{out}/{name}.safetensors",
        t,
        dict(versions(), cpu_capability=torch.backends.cpu.get_cpu_capability()),
    )


def philox_words(counter, key):
    """Philox4x32-10 (Salmon et al. 2011): counter [4, n], key [2, n] of 32-bit words in uint64."""
    c, k = [x.astype(np.uint64) for x in counter], [x.astype(np.uint64) for x in key]
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> shift) ^ c[1] ^ k[0], p1 & low, (p0 >> shift) ^ c[3] ^ k[1], p0 & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return np.stack(c)


def philox_randn(seed, n, offset):
    """Call number `offset` of a CUDA-style generator while one element per thread suffices."""
    index = np.arange(n)
    fill = lambda v: np.full(n, v, dtype=np.uint64)
    words = philox_words(
        [fill(offset), fill(0), index, fill(0)],
        [fill(seed & 0xFFFFFFFF), fill(seed >> 32 & 0xFFFFFFFF)],
    ).astype(np.float64)
    u = (words[0] + 0.5) * 2.0**-32
    v = (words[1] + 0.5) * 2.0**-32 * 2 * np.pi
    return (np.sqrt(-2 * np.log(u)) * np.sin(v)).astype(np.float32), words.astype(np.int64)


def philox_vectors(out):
    known = philox_words([np.zeros(1)] * 4, [np.zeros(1)] * 2)[:, 0]
    assert [int(w) for w in known] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    t, seeds = {}, [0, 1, 42, 2**32 + 5, 2**63 - 1, 2**64 - 1]
    t["seeds"] = torch.tensor([s - (2**64 if s >= 2**63 else 0) for s in seeds])
    for offset in (0, 1, 5):
        rows = [philox_randn(s, 35, offset) for s in seeds]
        t[f"randn.offset{offset}"] = torch.from_numpy(np.stack([r[0] for r in rows]))
        t[f"words.offset{offset}"] = torch.from_numpy(np.stack([r[1].T for r in rows]))
    first = t["randn.offset0"][0, :4].tolist()
    assert np.allclose(first, [-0.92466259, -0.42534415, -2.6438457, 0.14518388], atol=1e-6), first
    save_st(f"{out}/rng_philox.safetensors", t, {"method": "numpy, float64, rounded to float32"})


def seed_sequence_vectors(t):
    """SeedSequence state words. torchsde's tree asks for spawn_key (node, depth), pool 24."""
    for name, entropy in (("0", 0), ("42", 42), ("big", 2**40 + 12345), ("2^64-1", 2**64 - 1)):
        for pool in (4, 8, 24):
            root = np.random.SeedSequence(entropy, pool_size=pool)
            t[f"seedseq.{name}.pool{pool}"] = torch.from_numpy(
                root.generate_state(8).astype(np.int64)
            )
        for key in ((0, 1), (1, 1), (5, 3), (2**33 + 1, 40)):
            child = np.random.SeedSequence(entropy, spawn_key=key, pool_size=24)
            t[f"seedseq.{name}.key{key[0]}_{key[1]}"] = torch.from_numpy(
                child.generate_state(4).astype(np.int64)
            )


def brownian_vectors(out):
    """k-diffusion's BrownianTreeNoiseSampler queried as DPM++ 2M SDE and DPM++ SDE do."""
    k = kdiff.load()
    t = {}
    seed_sequence_vectors(t)
    sigmas = k.get_sigmas_karras(8, 0.0291675, 14.614642)
    for seed in (0, 42, 2**32 + 5):
        x = torch.zeros(1, 4, 3, 2)
        s = k.BrownianTreeNoiseSampler(x, sigmas[-2], sigmas[0], seed=seed)
        t[f"steps.seed{seed}"] = torch.stack(
            [s(sigmas[i], sigmas[i + 1]) for i in range(len(sigmas) - 2)]
        )
        s = k.BrownianTreeNoiseSampler(x, sigmas[-2], sigmas[0], seed=seed)
        rows, mids = [], []
        for i in range(len(sigmas) - 2):
            mid = (sigmas[i].log() + sigmas[i + 1].log()).mul(0.5).exp()
            mids.append(mid)
            rows += [s(sigmas[i], mid), s(sigmas[i], sigmas[i + 1])]
        t[f"halves.seed{seed}"] = torch.stack(rows)
    # one seed per batch row, as a web UI passes a list
    x = torch.zeros(2, 4, 3, 2)
    s = k.BrownianTreeNoiseSampler(x, sigmas[-2], sigmas[0], seed=[5, 6])
    t["steps.seeds5_6"] = torch.stack([s(sigmas[i], sigmas[i + 1]) for i in range(len(sigmas) - 2)])
    t["sigmas"], t["mids"] = sigmas, torch.stack(mids)
    import torchsde

    save_st(f"{out}/rng_brownian.safetensors", t, dict(versions(), torchsde=torchsde.__version__))


def main(out):
    if os.environ.get("ATEN_CPU_CAPABILITY") == "default":
        torch_vectors(out, "rng_torch_scalar")
        return
    torch_vectors(out, "rng_torch")
    env = dict(os.environ, ATEN_CPU_CAPABILITY="default")
    subprocess.run([sys.executable, __file__, out], check=True, env=env)
    philox_vectors(out)
    brownian_vectors(out)


if __name__ == "__main__":
    main(sys.argv[1])
