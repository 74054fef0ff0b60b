# SPDX-License-Identifier: MIT
"""Sigma schedules of the usual programs, float64."""

import sys

from common import save_st, versions

import numpy as np
import torch
from scipy import stats

import f64
import kdiff

STEPS = [1, 4, 7, 20, 30]
AYS = {
    "sd1": [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029],
    "sdxl": [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029],
    "svd": [700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002],
}


def sd_alphas(dtype=torch.float64):
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=dtype) ** 2
    return torch.cumprod(1 - betas, 0)


def sd_table(dtype=torch.float64):
    a = sd_alphas(dtype)
    return ((1 - a) / a) ** 0.5


def shift(t, s=3.0):
    return s * t / (1 + (s - 1) * t)


def flow_table():
    return shift(torch.arange(1, 1001, dtype=torch.float64) / 1000)


def zero_end(values):
    return torch.tensor([float(v) for v in values] + [0.0], dtype=torch.float64)


def simple(table, n):
    return zero_end(table[-(1 + int(i * len(table) / n))] for i in range(n))


def ddim_uniform(table, n):
    return zero_end(table[1 :: max(len(table) // n, 1)].flip(0))


def beta_index(table, n, a=0.6, b=0.6):
    """Inverse Beta(a, b) CDF on table indices, repeated indices dropped (ComfyUI)."""
    q = stats.beta.ppf(1 - np.linspace(0, 1, n, endpoint=False), a, b)
    idx = np.rint(q * (len(table) - 1)).astype(int)
    return zero_end(table[i] for k, i in enumerate(idx) if k == 0 or i != idx[k - 1])


def beta_range(lo, hi, n, a=0.6, b=0.6):
    """Inverse Beta(a, b) CDF on the sigma range itself (A1111, diffusers use_beta_sigmas)."""
    return zero_end(lo + stats.beta.ppf(1 - q, a, b) * (hi - lo) for q in np.linspace(0, 1, n))


def loglinear(points, n):
    x = np.linspace(0, 1, len(points))
    return np.exp(np.interp(np.linspace(0, 1, n), x, np.log(points)))


def linear_quadratic(n, sigma_max, threshold=0.025):
    """Linear up to the threshold in the first half, then a parabola to 1 (Mochi)."""
    if n == 1:
        return torch.tensor([sigma_max, 0.0], dtype=torch.float64)
    half = n // 2
    rest, slack = n - half, half - threshold * n
    quad = slack / (half * rest**2)
    lin = threshold / half - 2 * slack / rest**2
    up = [i * threshold / half for i in range(half)]
    up += [quad * i**2 + lin * i + quad * half**2 for i in range(half, n)]
    return torch.tensor([(1 - u) * sigma_max for u in up + [1.0]], dtype=torch.float64)


def kl_optimal(lo, hi, n, closed):
    """Linear in arctan(sigma). A1111: n + 1 points to sigma_min; ComfyUI: n points, then 0."""
    u = np.arange(n + 1) / n if closed else np.arange(n) / (n - 1)
    s = np.tan(u * np.arctan(lo) + (1 - u) * np.arctan(hi))
    return torch.tensor(s) if closed else zero_end(s)


def sd_schedules(t):
    k = kdiff.load()
    ext = kdiff.external()
    table = sd_table()
    lo, hi = float(table[0]), float(table[-1])
    disc = ext.DiscreteSchedule(table, quantize=False)
    for n in STEPS:
        t[f"sd/normal/{n}"] = disc.get_sigmas(n)
        ts = torch.linspace(999, 0, n + 1)[:-1]
        t[f"sd/sgm_uniform/{n}"] = zero_end(disc.t_to_sigma(ts))
        t[f"sd/karras/{n}"] = k.get_sigmas_karras(n, lo, hi)
        t[f"sd/exponential/{n}"] = k.get_sigmas_exponential(n, lo, hi)
        t[f"sd/polyexponential_rho1/{n}"] = k.get_sigmas_polyexponential(n, lo, hi)
        t[f"sd/polyexponential_rho2/{n}"] = k.get_sigmas_polyexponential(n, lo, hi, rho=2.0)
        t[f"sd/simple/{n}"] = simple(table, n)
        t[f"sd/ddim_uniform/{n}"] = ddim_uniform(table, n)
        t[f"sd/beta/{n}"] = beta_index(table, n)
        t[f"sd/beta_range/{n}"] = beta_range(lo, hi, n)
        t[f"sd/linear_quadratic/{n}"] = linear_quadratic(n, hi)
        t[f"sd/kl_optimal/{n}"] = kl_optimal(lo, hi, n, True)
        if n > 1:
            t[f"sd/kl_optimal_zero/{n}"] = kl_optimal(lo, hi, n, False)
            for name, points in AYS.items():
                t[f"sd/ays_{name}/{n}"] = zero_end(points if n == 11 else loglinear(points, n))
                full = loglinear(points, n + 1)
                t[f"sd/ays_{name}_n1/{n}"] = zero_end(full[:-1])
    for name, points in AYS.items():
        t[f"sd/ays_{name}/11"] = zero_end(points)


def diffusers_schedules(t):
    mod = f64.scheduler_module("euler_discrete")
    base = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    for spacing in ("leading", "trailing", "linspace"):
        for n in STEPS:
            s = mod.EulerDiscreteScheduler(timestep_spacing=spacing, **base)
            s.set_timesteps(n)
            t[f"sd/{spacing}/{n}"] = s.sigmas.double()
            t[f"sd/{spacing}/{n}/timesteps"] = s.timesteps.double()
    for kind in ("karras", "exponential", "beta"):
        s = mod.EulerDiscreteScheduler(
            timestep_spacing="leading", **{f"use_{kind}_sigmas": True}, **base
        )
        s.set_timesteps(7)
        t[f"sd/diffusers_{kind}_leading/7"] = s.sigmas.double()
        t[f"sd/diffusers_{kind}_leading/7/timesteps"] = s.timesteps.double()


def flow_schedules(t):
    k = kdiff.load()
    table = flow_table()
    lo, hi = float(table[0]), float(table[-1])
    t["flow3/table"] = table
    mod = f64.scheduler_module("flow_match_euler_discrete")
    for n in STEPS:
        t[f"flow3/simple/{n}"] = simple(table, n)
        t[f"flow3/ddim_uniform/{n}"] = ddim_uniform(table, n)
        t[f"flow3/beta/{n}"] = beta_index(table, n)
        t[f"flow3/linear_quadratic/{n}"] = linear_quadratic(n, hi)
        t[f"flow3/karras/{n}"] = k.get_sigmas_karras(n, lo, hi)
        t[f"flow3/exponential/{n}"] = k.get_sigmas_exponential(n, lo, hi)
        # ComfyUI: the ends are sigma * 1000 taken as timesteps, so the last point is shifted twice
        t[f"flow3/normal/{n}"] = zero_end(shift(torch.linspace(hi, lo, n)))
        t[f"flow3/sgm_uniform/{n}"] = zero_end(shift(torch.linspace(hi, lo, n + 1)[:-1]))
        # what the SD3 and Flux pipelines pass: 1 ... 1/n, shifted
        t[f"flow3/uniform/{n}"] = zero_end(shift(torch.linspace(1, 1 / n, n)))
        if n > 1:
            t[f"flow3/kl_optimal_zero/{n}"] = kl_optimal(lo, hi, n, False)
        s = mod.FlowMatchEulerDiscreteScheduler(shift=3.0)
        s.set_timesteps(n)
        t[f"flow3/diffusers/{n}"] = s.sigmas.double()
        s.set_timesteps(sigmas=np.linspace(1, 1 / n, n))
        assert torch.allclose(s.sigmas.double(), t[f"flow3/uniform/{n}"], atol=1e-12)


def conversions(t):
    """sigma -> timestep (log-linear, as k-diffusion) and the c_in / eps / v wrappers."""
    ext = kdiff.external()
    table = sd_table()
    disc = ext.DiscreteSchedule(table, quantize=False)
    s = torch.tensor(
        [14.614641, 20.0, 10.0, 3.3, 1.0, 0.5, 0.1, 0.0291675, 0.01], dtype=torch.float64
    )
    t["sigma_to_t/sigma"], t["sigma_to_t/t"] = s, disc.sigma_to_t(s).double()
    t["sigma_to_t/quantized"] = disc.sigma_to_t(s, quantize=True).double()
    back = torch.tensor([0.0, 0.5, 17.25, 500.0, 998.75, 999.0], dtype=torch.float64)
    t["t_to_sigma/t"], t["t_to_sigma/sigma"] = back, disc.t_to_sigma(back)


def main(out):
    torch.set_default_dtype(torch.float64)
    t = {"sd/table": sd_table(), "sd/alphas_cumprod": sd_alphas()}
    t["sd/table_f32"] = sd_table(torch.float32)
    # betas rescaled to zero terminal SNR (arXiv 2305.08891): the last entry is exactly 0
    ddim = f64.scheduler_module("ddim")
    t["sd/alphas_cumprod_ztsnr"] = torch.cumprod(
        1
        - ddim.rescale_zero_terminal_snr(
            (1 - sd_alphas() / torch.cat([torch.ones(1), sd_alphas()[:-1]]))
        ),
        0,
    )
    sd_schedules(t)
    diffusers_schedules(t)
    flow_schedules(t)
    conversions(t)
    for k, v in t.items():
        assert torch.isfinite(v).all(), k
    save_st(f"{out}/sched.safetensors", t, versions())
    rel = ((t["sd/table_f32"].double() - t["sd/table"]) / t["sd/table"]).abs().max()
    print("float32 table differs by", float(rel))
    torch.set_default_dtype(torch.float32)


if __name__ == "__main__":
    main(sys.argv[1])
