# SPDX-License-Identifier: MIT
"""Solver traces on the toy denoiser (toy.py), float64, noise given."""

import json
import sys

from common import gen_for, save_st, versions

import torch

import f64
import kdiff
import toy
from make_sched import flow_table, sd_alphas, sd_table, shift, zero_end

SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


class Noise:
    """Hands out stored normals one by one and remembers how many were used."""

    def __init__(self, name, count=64):
        g = gen_for("sampler noise", name)
        self.rows = torch.randn(count, 1, toy.DIM, generator=g, dtype=torch.float64)
        self.used = 0

    def __call__(self, *_args, **_kw):
        row = self.rows[self.used]
        self.used += 1
        return row.clone()


class Book:
    """Collects traces: tensors and a JSON description of each."""

    def __init__(self):
        self.tensors, self.info = {}, {}

    def add(self, name, xs, noise, reference, space="ve", **more):
        xs = torch.cat([x.reshape(1, -1) for x in xs])
        assert torch.isfinite(xs).all(), (name, xs)
        assert name not in self.info
        self.tensors[name + "/x"] = xs
        if noise.used:
            self.tensors[name + "/noise"] = noise.rows[: noise.used, 0].clone()
        options = {}
        for k, v in more.items():
            if isinstance(v, torch.Tensor):
                self.tensors[f"{name}/{k}"] = v.double()
            else:
                options[k] = v
        self.info[name] = dict(space=space, reference=reference, **options)


def start(name):
    return torch.randn(1, toy.DIM, generator=gen_for("sampler start", name), dtype=torch.float64)


def sd_sigmas(kind, n):
    k = kdiff.load()
    table = sd_table()
    if kind == "karras":
        return k.get_sigmas_karras(n, float(table[0]), float(table[-1]))
    return kdiff.external().DiscreteSchedule(table, quantize=False).get_sigmas(n)


def flow_sigmas(n, first=1.0):
    s = zero_end(shift(torch.linspace(1, 1 / n, n)))
    s[0] = first
    return s


KDIFF = {
    "euler": ("sample_euler", {}),
    "euler_churn": ("sample_euler", dict(s_churn=4.0, s_tmin=0.1, s_tmax=10.0, s_noise=1.003)),
    "euler_ancestral": ("sample_euler_ancestral", {}),
    "euler_ancestral_eta0.6": ("sample_euler_ancestral", dict(eta=0.6, s_noise=0.95)),
    "heun": ("sample_heun", {}),
    "heun_churn": ("sample_heun", dict(s_churn=4.0, s_tmin=0.1, s_tmax=10.0, s_noise=1.003)),
    "dpm2": ("sample_dpm_2", {}),
    "dpm2_ancestral": ("sample_dpm_2_ancestral", {}),
    "lms": ("sample_lms", {}),
    "dpmpp_2s_ancestral": ("sample_dpmpp_2s_ancestral", {}),
    "dpmpp_2s_ancestral_eta0.6": ("sample_dpmpp_2s_ancestral", dict(eta=0.6)),
    "dpmpp_sde": ("sample_dpmpp_sde", {}),
    "dpmpp_sde_eta0.6": ("sample_dpmpp_sde", dict(eta=0.6, s_noise=0.95)),
    "dpmpp_2m": ("sample_dpmpp_2m", {}),
    "dpmpp_2m_sde": ("sample_dpmpp_2m_sde", dict(solver_type="midpoint")),
    "dpmpp_2m_sde_heun": ("sample_dpmpp_2m_sde", dict(solver_type="heun")),
    "dpmpp_2m_sde_eta0.6": ("sample_dpmpp_2m_sde", dict(eta=0.6)),
    "dpmpp_3m_sde": ("sample_dpmpp_3m_sde", {}),
    "dpmpp_3m_sde_eta0.6": ("sample_dpmpp_3m_sde", dict(eta=0.6)),
}
# Solvers that need only dx/dsigma run on flow sigmas unchanged; those with lambda run in the
# sigma / (1 - sigma) space and are mapped back.
FLOW_DIRECT = ["euler", "heun", "dpm2", "lms"]
FLOW_LAMBDA = [
    "dpmpp_2m",
    "dpmpp_sde",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_heun",
    "dpmpp_3m_sde",
    "dpmpp_2s_ancestral",
]
STOCHASTIC = ("ancestral", "_sde")


def run_kdiff(solver, model, x, sigmas, noise):
    k = kdiff.load()
    fn, opts = KDIFF[solver]
    opts, xs = dict(opts), []
    if any(s in solver for s in STOCHASTIC):
        opts["noise_sampler"] = noise
    k.torch = f64._Proxy(torch, torch.float32)
    k.torch.randn_like = noise
    end = getattr(k, fn)(
        model, x, sigmas, callback=lambda d: xs.append(d["x"].clone()), disable=True, **opts
    )
    return xs + [end]


def kdiff_traces(book):
    for solver, (fn, opts) in KDIFF.items():
        for kind, n in (("karras", 8), ("normal", 5), ("karras", 20)):
            if n == 20 and ("eta" in solver or "churn" in solver):
                continue
            name = f"{solver}.{kind}{n}"
            s, noise = sd_sigmas(kind, n), Noise(name)
            xs = run_kdiff(solver, toy.ve_model, start(name) * s[0], s, noise)
            book.add(name, xs, noise, "k-diffusion " + fn, sigmas=s, **opts)


def to_k(sigmas):
    return sigmas / (1 - sigmas)


def kdiff_flow_traces(book):
    n = 8
    for solver in FLOW_DIRECT:
        name = f"{solver}.flow{n}"
        s, noise = flow_sigmas(n), Noise(name)
        xs = run_kdiff(solver, toy.flow_model, start(name) * s[0], s, noise)
        book.add(name, xs, noise, "k-diffusion " + KDIFF[solver][0], "flow", sigmas=s)
    for solver in FLOW_LAMBDA:
        name = f"{solver}.flow{n}"
        s, noise = flow_sigmas(n, 0.9995), Noise(name)
        x = start(name) * s[0] / (1 - s[0])
        xs = run_kdiff(solver, toy.ve_model, x, to_k(s), noise)
        xs = [v * (1 - s[i]) for i, v in enumerate(xs)]
        book.add(
            name,
            xs,
            noise,
            f"k-diffusion {KDIFF[solver][0]} on x/(1-sigma), sigma/(1-sigma)",
            "flow",
            sigmas=s,
            **KDIFF[solver][1],
        )


def own_traces(book):
    src = "own float64, see tools/reference/toy.py"
    table = [
        ("lcm", toy.lcm),
        ("ipndm", toy.ipndm),
        ("res_multistep", toy.res_multistep),
        ("er_sde", toy.er_sde),
        ("ddpm", toy.ddpm),
    ]
    for solver, fn in table:
        for kind, n in (("karras", 8), ("normal", 5)):
            name = f"{solver}.{kind}{n}"
            s, noise = sd_sigmas(kind, n), Noise(name)
            book.add(
                name, list(fn(toy.ve_model, start(name) * s[0], s, noise)), noise, src, sigmas=s
            )
    flow = [
        ("lcm", toy.lcm_flow, "", 1.0),
        ("ipndm", toy.ipndm, "", 1.0),
        ("res_multistep", toy.res_multistep, "_neglog", 1.0),
        ("euler_ancestral", toy.euler_a_rf, "_rf", 1.0),
        ("dpmpp_2s_ancestral", toy.dpmpp_2s_a_rf, "_rf", 1.0),
    ]
    for solver, fn, suffix, first in flow:
        name = f"{solver}.flow{suffix}8"
        s, noise = flow_sigmas(8, first), Noise(name)
        book.add(
            name,
            list(fn(toy.flow_model, start(name) * s[0], s, noise)),
            noise,
            src,
            "flow",
            sigmas=s,
        )
    for solver, fn in (("res_multistep", toy.res_multistep), ("er_sde", toy.er_sde)):
        name = f"{solver}.flow8"
        s, noise = flow_sigmas(8, 0.9995), Noise(name)
        xs = list(fn(toy.ve_model, start(name) * s[0] / (1 - s[0]), to_k(s), noise))
        xs = [v * (1 - s[i]) for i, v in enumerate(xs)]
        book.add(name, xs, noise, src + " on x/(1-sigma), sigma/(1-sigma)", "flow", sigmas=s)
    karras = kdiff.load().get_sigmas_karras
    for n in (8, 20, 36):
        name = f"restart.karras{n}"
        s, noise = sd_sigmas("karras", n), Noise(name)
        plan = toy.restart_plan(karras, s)
        pairs = torch.stack([torch.stack(p) for p in plan])
        book.add(
            name,
            list(toy.restart(toy.ve_model, start(name) * s[0], plan, noise)),
            noise,
            src,
            sigmas=s,
            plan=pairs,
        )


def output_for(pred, x, d0, alpha, sigma):
    """What a network of this prediction type would say, given its denoised estimate."""
    eps = (x - alpha * d0) / sigma
    return {
        "epsilon": eps,
        "v_prediction": alpha * eps - sigma * d0,
        "sample": d0,
        "flow_prediction": eps - d0,
    }[pred]


def run_vp(
    module, cls, name, n, state, pred="epsilon", init=None, step_args=None, set_args=None, **cfg
):
    """Drive one diffusers scheduler. state(s, i, t) -> (alpha, sigma) of call i."""
    mod = f64.scheduler_module(module)
    noise = Noise(name)
    if hasattr(mod, "randn_tensor"):
        mod.randn_tensor = noise
    s = getattr(mod, cls)(prediction_type=pred, **cfg) if pred else getattr(mod, cls)(**cfg)
    s.set_timesteps(n, **(set_args or {}))
    if hasattr(s, "alphas_cumprod"):
        assert s.alphas_cumprod.dtype == torch.float64
    x = start(name)
    if init is not None:
        x = x * init
    xs, levels = [x], []
    for i, t in enumerate(s.timesteps):
        alpha, sigma = state(s, i, t)
        levels.append((alpha, sigma))
        out = output_for(pred or "flow_prediction", x, toy.denoise(x, alpha, sigma), alpha, sigma)
        d0 = toy.denoise(x, alpha, sigma)
        x = s.step(out, t, x, **(step_args or {}), return_dict=False)[0]
        if i == n - 1 and name.startswith("unipc_bh1") and torch.isnan(x).all():
            x = d0  # diffusers says inf * 0 at sigma 0; this is the limit of the step
        assert x.dtype == torch.float64, name
        xs.append(x)
    return s, xs, levels, noise


def at_timestep(s, _i, t):
    a = s.alphas_cumprod[int(t)]
    return a**0.5, (1 - a) ** 0.5


def at_sigma(s, i, _t):
    sig = s.sigmas[i].double()
    a = 1 / (sig**2 + 1) ** 0.5
    return a, sig * a


def at_flow(s, i, _t):
    sig = s.sigmas[i].double()
    return 1 - sig, sig


def add_vp(book, name, module, cls, n, state, final, preds=("epsilon", "v_prediction"), **kw):
    """Trace in sigma space: x / alpha; both prediction types must give the same."""
    results = [run_vp(module, cls, name, n, state, pred=p, **kw) for p in preds]
    s, xs, levels, noise = results[0]
    for other in results[1:]:
        assert torch.allclose(torch.cat(xs), torch.cat(other[1]), atol=1e-8), name
    alphas = [float(a) for a, _ in levels]
    sigmas = torch.tensor([float(sg / a) for a, sg in levels])
    ends = alphas[1:] + [1 / (1 + final**2) ** 0.5]
    xs = [xs[0] / alphas[0]] + [x / e for x, e in zip(xs[1:], ends)]
    cfg = {k: v for k, v in kw.items() if k not in ("step_args", "set_args", "init")}
    book.add(
        name,
        xs,
        noise,
        "diffusers " + cls,
        sigmas=torch.cat([sigmas, torch.tensor([final])]),
        timesteps=s.timesteps.double(),
        prediction=list(preds),
        **cfg,
        **(kw.get("step_args") or {}),
    )


def diffusers_traces(book):
    lin = dict(SD, timestep_spacing="linspace")
    lead = dict(SD, timestep_spacing="leading", steps_offset=1)
    trail = dict(SD, timestep_spacing="trailing")
    clip = dict(clip_sample=False)
    first = float(sd_table()[0])
    for eta in (0.0, 1.0):
        for tag, cfg, final in (
            ("trailing", dict(trail, set_alpha_to_one=True), 0.0),
            ("leading", dict(lead, set_alpha_to_one=False), first),
        ):
            add_vp(
                book,
                f"ddim_eta{eta:g}.{tag}8",
                "ddim",
                "DDIMScheduler",
                8,
                at_timestep,
                final,
                step_args=dict(eta=eta),
                **clip,
                **cfg,
            )
    add_vp(book, "ddpm.leading8", "ddpm", "DDPMScheduler", 8, at_timestep, 0.0, **clip, **lead)
    add_vp(book, "ddpm.trailing8", "ddpm", "DDPMScheduler", 8, at_timestep, 0.0, **clip, **trail)
    add_vp(
        book,
        "pndm.leading8",
        "pndm",
        "PNDMScheduler",
        8,
        at_timestep,
        first,
        preds=("epsilon",),
        skip_prk_steps=True,
        set_alpha_to_one=False,
        **lead,
    )
    for bh in ("bh1", "bh2"):
        for order in (2, 3):
            for karras in (False, True):
                tag = "karras" if karras else "linspace"
                add_vp(
                    book,
                    f"unipc_{bh}_order{order}.{tag}8",
                    "unipc_multistep",
                    "UniPCMultistepScheduler",
                    8,
                    at_sigma,
                    0.0,
                    solver_type=bh,
                    solver_order=order,
                    use_karras_sigmas=karras,
                    final_sigmas_type="zero",
                    **lin,
                )
    for order in (1, 2, 3):
        add_vp(
            book,
            f"deis_order{order}.linspace8",
            "deis_multistep",
            "DEISMultistepScheduler",
            8,
            at_sigma,
            first,
            solver_order=order,
            **lin,
        )
    for order in (1, 2, 3):
        add_vp(
            book,
            f"dpmsolverpp_order{order}.linspace8",
            "dpmsolver_multistep",
            "DPMSolverMultistepScheduler",
            8,
            at_sigma,
            0.0,
            solver_order=order,
            algorithm_type="dpmsolver++",
            **lin,
        )
    add_vp(book, "lcm_diffusers.4", "lcm", "LCMScheduler", 4, at_timestep, 0.0, **clip, **SD)
    for gamma in (0.0, 0.3):
        add_vp(
            book,
            f"tcd_eta{gamma:g}.4",
            "tcd",
            "TCDScheduler",
            4,
            at_timestep,
            first,
            step_args=dict(eta=gamma),
            set_alpha_to_one=False,
            **clip,
            **SD,
        )


def add_flow(book, name, module, cls, n, state=at_flow, pred="flow_prediction", **kw):
    s, xs, levels, noise = run_vp(module, cls, name, n, state, pred=pred, **kw)
    sig = torch.tensor([float(v) for _, v in levels] + [0.0])
    cfg = {k: v for k, v in kw.items() if k not in ("set_args", "init")}
    book.add(
        name,
        xs,
        noise,
        "diffusers " + cls,
        "flow",
        sigmas=sig,
        timesteps=s.timesteps.double(),
        **cfg,
    )


def diffusers_flow_traces(book):
    flow = dict(use_flow_sigmas=True, flow_shift=3.0)
    add_flow(
        book,
        "euler.flow_diffusers8",
        "flow_match_euler_discrete",
        "FlowMatchEulerDiscreteScheduler",
        8,
        pred=None,
        shift=3.0,
    )
    for order in (2, 3):
        for bh in ("bh1", "bh2"):
            add_flow(
                book,
                f"unipc_{bh}_order{order}.flow8",
                "unipc_multistep",
                "UniPCMultistepScheduler",
                8,
                solver_type=bh,
                solver_order=order,
                final_sigmas_type="zero",
                **flow,
            )
        add_flow(
            book,
            f"dpmsolverpp_order{order}.flow8",
            "dpmsolver_multistep",
            "DPMSolverMultistepScheduler",
            8,
            solver_order=order,
            algorithm_type="dpmsolver++",
            final_sigmas_type="zero",
            **flow,
        )
    add_flow(
        book,
        "lcm.flow_diffusers4",
        "flow_match_lcm",
        "FlowMatchLCMScheduler",
        4,
        pred=None,
        shift=3.0,
    )


def wrapper_vectors(t):
    """k-diffusion's eps and v wrappers: input scale, timestep, the estimate from a raw output."""
    ext = kdiff.external()
    ac = sd_alphas()
    seen = {}

    class Inner(torch.nn.Module):
        alphas_cumprod = ac

        def forward(self, x, ts, **_kw):
            seen.update(x=x, t=ts)
            return torch.tanh(x @ toy.W.T) + 0.1 * ts[:, None] / 1000

        apply_model = get_v = get_eps = forward

    class Eps(ext.DiscreteEpsDDPMDenoiser):
        def get_eps(self, *a, **k):
            return self.inner_model(*a, **k)

    class V(ext.DiscreteVDDPMDenoiser):
        def get_v(self, x, ts, **k):
            return self.inner_model(x, ts, **k)

    sigma = torch.tensor([14.6, 5.0, 1.0, 0.3, 0.03])
    x = start("wrappers") * sigma[:, None] + 0.5
    t["wrapper/sigma"], t["wrapper/x"] = sigma, x
    for name, cls in (("eps", Eps), ("v", V)):
        model = cls(Inner(), ac, False)
        t[f"wrapper/{name}/denoised"] = model(x, sigma)
        t[f"wrapper/{name}/input"], t[f"wrapper/{name}/timestep"] = seen["x"], seen["t"].double()


def cross_checks(book):
    """Own solvers against library ones where both exist."""
    t = book.tensors

    # the stochastic DDPM step of sigma space is the one of diffusers
    s = t["ddpm.trailing8/sigmas"]
    noise = Noise("ddpm.trailing8")
    own = torch.cat(list(toy.ddpm(toy.ve_model, t["ddpm.trailing8/x"][:1], s, noise)))
    assert torch.allclose(own, t["ddpm.trailing8/x"], atol=1e-7)
    # DDIM (eta 0) is Euler, eta 1 is ancestral Euler with the VP split
    xs = run_kdiff(
        "euler",
        toy.ve_model,
        t["ddim_eta0.trailing8/x"][:1],
        t["ddim_eta0.trailing8/sigmas"],
        noise,
    )
    assert torch.allclose(torch.cat(xs), t["ddim_eta0.trailing8/x"], atol=1e-7)
    # DPM-Solver++ 2 of diffusers against DPM++ 2M of k-diffusion before the last (lower-order) step
    xs = run_kdiff(
        "dpmpp_2m",
        toy.ve_model,
        t["dpmsolverpp_order2.linspace8/x"][:1],
        t["dpmsolverpp_order2.linspace8/sigmas"],
        noise,
    )
    assert torch.allclose(torch.cat(xs)[:-1], t["dpmsolverpp_order2.linspace8/x"][:-1], atol=1e-7)
    # the ancestral flow step against the scheduler of diffusers that has it
    mod = f64.scheduler_module("ltx_euler_ancestral_rf")
    s, noise = flow_sigmas(8), Noise("rf check")
    mod.randn_tensor = noise
    ref = mod.LTXEulerAncestralRFScheduler()
    ref.set_timesteps(sigmas=s, device="cpu")
    x = start("rf check")
    xs = [x]
    for i, step in enumerate(ref.timesteps[:8]):
        v = (x - toy.denoise(x, 1 - s[i], s[i])) / s[i]
        x = ref.step(v, step, x, return_dict=False)[0]
        xs.append(x)
    own = list(toy.euler_a_rf(toy.flow_model, xs[0], s, Noise("rf check")))
    assert torch.allclose(torch.cat(own), torch.cat(xs), atol=1e-6), (own, xs)


def main(out):
    torch.set_default_dtype(torch.float64)
    book = Book()
    kdiff_traces(book)
    kdiff_flow_traces(book)
    own_traces(book)
    diffusers_traces(book)
    diffusers_flow_traces(book)
    cross_checks(book)
    wrapper_vectors(book.tensors)
    book.tensors["toy/W"] = toy.W
    meta = dict(versions(), traces=json.dumps(book.info, sort_keys=True))
    save_st(f"{out}/sampler_traces.safetensors", book.tensors, meta)
    with open(f"{out}/sampler_traces.json", "w") as f:
        json.dump(book.info, f, indent=1, sort_keys=True)
        f.write("\n")
    print(len(book.info), "traces")
    torch.set_default_dtype(torch.float32)


if __name__ == "__main__":
    main(sys.argv[1])
