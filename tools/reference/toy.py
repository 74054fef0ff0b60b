# SPDX-License-Identifier: MIT
"""The closed-form denoiser of the sampler traces, and solvers that no installable reference has.

State x = alpha * x0 + sigma * noise. alpha = 1: the sigma space of k-diffusion;
alpha = 1 - sigma: flow.
    r = sqrt(alpha^2 + sigma^2),  u = x / r,  W[i][j] = 0.7 sin(1 + 3 i + 5 j)
    D_i(x, alpha, sigma) = (alpha / r) u_i + 0.3 tanh(sum_j W[i][j] u_j)
"""

import math

import torch

DIM = 6
W = torch.tensor(
    [[0.7 * math.sin(1 + 3 * i + 5 * j) for j in range(DIM)] for i in range(DIM)],
    dtype=torch.float64,
)


def denoise(x, alpha, sigma):
    r = (alpha * alpha + sigma * sigma) ** 0.5
    u = x / r
    return (alpha / r) * u + 0.3 * torch.tanh(u @ W.T)


def ve_model(x, sigma, **_):
    """Signature of k-diffusion: sigma is [batch]."""
    return denoise(x, 1.0, sigma[:, None])


def flow_model(x, sigma, **_):
    return denoise(x, 1 - sigma[:, None], sigma[:, None])


def lcm(model, x, sigmas, noise):
    """Consistency sampling in sigma space: jump to the estimate, noise it again."""
    for i in range(len(sigmas) - 1):
        yield x
        x = model(x, sigmas[i : i + 1])
        if sigmas[i + 1] > 0:
            x = x + sigmas[i + 1] * noise()
    yield x


def lcm_flow(model, x, sigmas, noise):
    for i in range(len(sigmas) - 1):
        yield x
        x = model(x, sigmas[i : i + 1])
        if sigmas[i + 1] > 0:
            x = (1 - sigmas[i + 1]) * x + sigmas[i + 1] * noise()
    yield x


AB = [[1.0], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]]


def ipndm(model, x, sigmas, _noise):
    """Adams-Bashforth on dx/dsigma with the constant-step coefficients (Zhang & Chen 2022)."""
    past = []
    for i in range(len(sigmas) - 1):
        yield x
        d0 = model(x, sigmas[i : i + 1])
        past = [(x - d0) / sigmas[i]] + past[:3]
        if sigmas[i + 1] == 0:
            x = d0
        else:
            d = sum(c * p for c, p in zip(AB[len(past) - 1], past))
            x = x + (sigmas[i + 1] - sigmas[i]) * d
    yield x


def res_multistep(model, x, sigmas, _noise):
    """Exponential Adams-Bashforth of order 2 in t = -log sigma (arXiv 2308.02157).

    D is taken linear through the last two points: the weights are exact integrals of
    exp(-(h - s)) over the step. First step and the step to 0 are Euler.
    """
    old, t_old = None, None
    for i in range(len(sigmas) - 1):
        yield x
        d0 = model(x, sigmas[i : i + 1])
        t = -math.log(sigmas[i])
        if sigmas[i + 1] == 0 or old is None:
            x = d0 + (x - d0) * (sigmas[i + 1] / sigmas[i])
        else:
            h = -math.log(sigmas[i + 1]) - t
            # integral of exp(-(h-s)) ds and of s exp(-(h-s)) ds over [0, h]
            i0 = -math.expm1(-h)
            i1 = h - i0
            slope = (d0 - old) / (t - t_old)
            x = math.exp(-h) * x + i0 * d0 + i1 * slope
        old, t_old = d0, t
    yield x


def er_sde(model, x, sigmas, noise):
    """ER-SDE-Solver-3 in sigma space (arXiv 2309.06169), noise scale v (exp(v^0.3) + 10).

    The two integrals of 1 / scale are left Riemann sums of 200 points, as in the paper's code.
    """

    def scale(v):
        return v * (torch.exp(v**0.3) + 10)

    old, old_slope = None, None
    for i in range(len(sigmas) - 1):
        yield x
        s, t = sigmas[i], sigmas[i + 1]
        d0 = model(x, sigmas[i : i + 1])
        if t == 0:
            x = d0
            continue
        ratio = scale(t) / scale(s)
        x = ratio * x + (1 - ratio) * d0
        if old is not None:
            dt = t - s
            v = t + torch.arange(200, dtype=torch.float64) * (-dt / 200)
            width = -dt / 200
            slope = (d0 - old) / (s - sigmas[i - 1])
            x = x + (dt + (width / scale(v)).sum() * scale(t)) * slope
            if old_slope is not None:
                curve = (slope - old_slope) / ((s - sigmas[i - 2]) / 2)
                x = x + (dt**2 / 2 + ((v - s) * width / scale(v)).sum() * scale(t)) * curve
            old_slope = slope
        old = d0
        var = t**2 - s**2 * ratio**2
        x = x + noise() * var.clamp_min(0) ** 0.5
    yield x


def ddpm(model, x, sigmas, noise):
    """Ancestral DDPM step with the posterior variance, written in sigma space."""
    for i in range(len(sigmas) - 1):
        yield x
        s, t = sigmas[i], sigmas[i + 1]
        d0 = model(x, sigmas[i : i + 1])
        # posterior of x_t given x_s and x0 for a variance-exploding chain
        mean = d0 + (x - d0) * (t / s) ** 2
        x = mean
        if t > 0:
            a_s, a_t = 1 / (1 + s * s), 1 / (1 + t * t)
            var_vp = (1 - a_s / a_t) * (1 - a_t) / (1 - a_s)
            x = x + noise() * (var_vp / a_t) ** 0.5
    yield x


def _heun(model, x, s, t):
    d0 = model(x, s[None])
    d = (x - d0) / s
    if t == 0:
        return x + d * (t - s)
    x2 = x + d * (t - s)
    d2 = (x2 - model(x2, t[None])) / t
    return x + (d + d2) / 2 * (t - s)


def restart(model, x, steps, noise):
    """Restart sampling (Xu et al. 2023) over a list of (from, to): Heun, noise when it climbs."""
    last = None
    for s, t in steps:
        yield x
        if last is not None and s > last:
            x = x + noise() * (s**2 - last**2) ** 0.5
        x = _heun(model, x, s, t)
        last = t
    yield x


def restart_plan(karras, sigmas):
    """Step list of the usual programs: from 20 steps on, once from 0.1 to 2 (36: twice)."""
    n = len(sigmas) - 1
    if n < 20:
        return list(zip(sigmas[:-1], sigmas[1:]))
    count, times = (n // 4, 2) if n >= 36 else (9, 1)
    sigmas = karras(n - count * times, float(sigmas[-2]), float(sigmas[0]))
    low = int((sigmas - 0.1).abs().argmin())
    high = int((sigmas - 2).abs().argmin())
    again = karras(count + 1, float(sigmas[low]), float(sigmas[high]))[:-1]
    steps = []
    for i in range(len(sigmas) - 1):
        steps.append((sigmas[i], sigmas[i + 1]))
        if i + 1 == low and high < low:
            steps += list(zip(again[:-1], again[1:])) * times
    return steps


def _rf_down(s, t, eta):
    down = t * (1 + (t / s - 1) * eta)
    renoise = (t**2 - down**2 * (1 - t) ** 2 / (1 - down) ** 2).clamp_min(0) ** 0.5
    return down, (1 - t) / (1 - down), renoise


def euler_a_rf(model, x, sigmas, noise, eta=1.0):
    """Ancestral Euler for flow: step below the target, scale and add noise back up to it."""
    for i in range(len(sigmas) - 1):
        yield x
        s, t = sigmas[i], sigmas[i + 1]
        d0 = model(x, s[None])
        if t == 0:
            x = d0
            continue
        down, up, renoise = _rf_down(s, t, eta)
        x = (down / s) * x + (1 - down / s) * d0
        x = up * x + noise() * renoise
    yield x


def dpmpp_2s_a_rf(model, x, sigmas, noise, eta=1.0):
    """The same around a DPM++ 2S step with the midpoint in log((1 - sigma) / sigma)."""
    for i in range(len(sigmas) - 1):
        yield x
        s, t = sigmas[i], sigmas[i + 1]
        d0 = model(x, s[None])
        if t == 0:
            x = d0
            continue
        down, up, renoise = _rf_down(s, t, eta)
        lam = (torch.logit(1 - s) + torch.logit(1 - down)) / 2
        mid = torch.sigmoid(-lam) if s < 1 else torch.tensor(0.9999, dtype=torch.float64)
        u = (mid / s) * x + (1 - mid / s) * d0
        d1 = model(u, mid[None])
        x = (down / s) * x + (1 - down / s) * d1
        x = up * x + noise() * renoise
    yield x
