# SPDX-License-Identifier: MIT
"""Whole tiny pipelines: StableDiffusionPipeline and StableDiffusionXLPipeline, all-in-one files."""

import json
import os
import sys

from common import as_f8, gen_for, save_json, save_st, state_f16, versions

import numpy as np
import torch
from PIL import Image

import make_clip
import make_tokenizer
import make_unet
import make_vae
from keymap import unet_map, vae_map, vae_tensor

BETAS = dict(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
)
# scheduler_config.json of SD 1.5 and of SDXL base
SD1_SCHED = dict(
    BETAS,
    _class_name="PNDMScheduler",
    skip_prk_steps=True,
    set_alpha_to_one=False,
    steps_offset=1,
    clip_sample=False,
    trained_betas=None,
    timestep_spacing="leading",
    prediction_type="epsilon",
)
XL_SCHED = dict(
    BETAS,
    _class_name="EulerDiscreteScheduler",
    steps_offset=1,
    timestep_spacing="leading",
    clip_sample=False,
    interpolation_type="linear",
    prediction_type="epsilon",
    sample_max_value=1.0,
    set_alpha_to_one=False,
    skip_prk_steps=True,
    trained_betas=None,
    use_karras_sigmas=False,
)

PROMPT = "a lighthouse at dusk, oil painting"
NEGATIVE = "blurry, low quality"


def vae(scale):
    cfg = dict(make_vae.KL["kl_sd"], scaling_factor=scale)
    return make_vae.randomise(make_vae.AutoencoderKL(**cfg), "vae/kl_sd")


def link(target, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.remove(path)
    os.symlink(os.path.relpath(target, os.path.dirname(path)), path)


def write_folder(out, xl):
    """diffusers folder; its weights are links to the per-network fixtures."""
    root = out + "/pipe/" + ("sdxl" if xl else "sd1")
    dirs = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", (XL_SCHED if xl else SD1_SCHED)["_class_name"]],
    }
    index = {
        "_class_name": "StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        **dirs,
    }
    unet = "sdxl" if xl else "sd1"
    if xl:
        index.update(
            text_encoder_2=["transformers", "CLIPTextModelWithProjection"],
            tokenizer_2=["transformers", "CLIPTokenizer"],
            force_zeros_for_empty_prompt=True,
        )
    else:
        index.update(
            safety_checker=[None, None],
            feature_extractor=[None, None],
            requires_safety_checker=False,
        )
    save_json(root + "/model_index.json", index)
    save_json(root + "/scheduler/scheduler_config.json", XL_SCHED if xl else SD1_SCHED)
    link(f"{out}/unet/{unet}.safetensors", root + "/unet/diffusion_pytorch_model.safetensors")
    link(f"{out}/unet/{unet}.json", root + "/unet/config.json")
    link(f"{out}/vae/kl_sd.safetensors", root + "/vae/diffusion_pytorch_model.safetensors")
    save_json(
        root + "/vae/config.json",
        make_vae.json_of(vae(0.13025 if xl else 0.18215), "AutoencoderKL"),
    )
    link(f"{out}/clip/clip_l.safetensors", root + "/text_encoder/model.safetensors")
    link(f"{out}/clip/clip_l.json", root + "/text_encoder/config.json")
    if xl:
        link(f"{out}/clip/clip_g.safetensors", root + "/text_encoder_2/model.safetensors")
        link(f"{out}/clip/clip_g.json", root + "/text_encoder_2/config.json")
    return root


def write_v_folder(out):
    """The SD 1 folder with the scheduler of a v model, and the model's own recommendations."""
    root = out + "/pipe/sd1_v"
    for part in ("unet", "vae", "text_encoder", "tokenizer", "model_index.json"):
        link(f"{out}/pipe/sd1/{part}", f"{root}/{part}")
    sched = dict(
        SD1_SCHED,
        _class_name="DDIMScheduler",
        timestep_spacing="trailing",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
    )
    save_json(root + "/scheduler/scheduler_config.json", sched)
    save_json(root + "/limn.json", {"steps": 5, "cfg_scale": 5})


def all_in_one(out, xl):
    unet, kl = make_unet.build("sdxl" if xl else "sd1"), vae(0.18215)
    usd, vsd = state_f16(unet), state_f16(kl)
    names = unet_map(usd, dict(unet.config))
    sd = {names[k]: v for k, v in usd.items()}
    names = vae_map(vsd, kl.config)
    sd.update({names[k]: vae_tensor(k, v) for k, v in vsd.items()})
    te = make_clip.state("clip_l", make_clip.build("clip_l"))
    prefix = "conditioner.embedders.0.transformer." if xl else "cond_stage_model.transformer."
    sd.update({prefix + k: v for k, v in te.items()})
    if xl:
        te2 = make_clip.state("clip_g", make_clip.build("clip_g"))
        sd.update(
            make_clip.to_open_clip(
                te2, "conditioner.embedders.1.model.", make_clip.ENCODERS["clip_g"][2]
            )
        )
        sd = as_f8(sd)
        sd["conditioner.embedders.1.model.logit_scale"] = torch.tensor(4.6052)
    else:
        # what else real SD 1.x files carry: position ids and the training schedule
        sd[prefix + "text_model.embeddings.position_ids"] = torch.arange(77).unsqueeze(0)
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        sd["betas"] = betas.float()
        sd["alphas_cumprod"] = torch.cumprod(1 - betas, 0).float()
        sd["model_ema.num_updates"] = torch.tensor(470000, dtype=torch.int32)
    save_st(f"{out}/pipe/{'sdxl' if xl else 'sd1'}.safetensors", sd)


def load(root, cls, **kw):
    import diffusers

    # the folder must load by itself ...
    pipe = getattr(diffusers, cls).from_pretrained(
        root, torch_dtype=torch.float32, local_files_only=True, **kw
    )
    pipe.set_progress_bar_config(disable=True)
    if not hasattr(
        pipe.text_encoder, "text_model"
    ):  # transformers 5; the clip_skip path of diffusers wants it
        pipe.text_encoder.__dict__["text_model"] = pipe.text_encoder
    return pipe


def scheduler(name, base):
    import diffusers

    cls, extra = {
        "pndm": ("PNDMScheduler", {}),
        "ddim": ("DDIMScheduler", {}),
        "euler": ("EulerDiscreteScheduler", {}),
        "euler_a": ("EulerAncestralDiscreteScheduler", {}),
        "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", dict(use_karras_sigmas=True)),
        "unipc": ("UniPCMultistepScheduler", {}),
        "ddim_trailing_v": (
            "DDIMScheduler",
            dict(
                timestep_spacing="trailing",
                prediction_type="v_prediction",
                rescale_betas_zero_snr=True,
            ),
        ),
    }[name]
    return getattr(diffusers, cls).from_config(dict(base), **extra)


class Recorder:
    """Keeps the latents before the first and after every step."""

    def __init__(self):
        self.steps = []

    def __call__(self, _pipe, _i, _t, kw):
        self.steps.append(kw["latents"].clone())
        return {}


def run(io, info, name, pipe, sched, base, seeds=(42,), **kw):
    pipe.scheduler = scheduler(sched, base)
    rec = Recorder()
    gens = [torch.Generator().manual_seed(s) for s in seeds]
    kw.setdefault("num_inference_steps", 5)
    kw.setdefault("guidance_scale", 5.0)
    kw.setdefault("prompt", PROMPT)
    drawn = []
    import diffusers.utils.torch_utils as tu

    inner = tu.randn_tensor

    def spy(shape, *a, **k):
        drawn.append(inner(shape, *a, **k))
        return drawn[-1]

    patched = [m for m in list(sys.modules.values()) if getattr(m, "randn_tensor", None) is inner]
    for m in patched:
        m.randn_tensor = spy
    prompts = kw.pop("prompt")
    try:
        with torch.no_grad():
            image = pipe(
                prompt=[prompts] * len(seeds) if len(seeds) > 1 else prompts,
                negative_prompt=(
                    [kw.pop("negative_prompt")] * len(seeds)
                    if len(seeds) > 1
                    else kw.pop("negative_prompt")
                ),
                generator=gens if len(seeds) > 1 else gens[0],
                output_type="np",
                callback_on_step_end=rec,
                **kw,
            ).images
    finally:
        for m in patched:
            m.randn_tensor = inner
    io[f"{name}/image"] = torch.from_numpy(np.rint(np.stack(image) * 255).astype(np.uint8))
    for i, d in enumerate(drawn):
        io[f"{name}/noise{i}"] = d
    for i, s in enumerate(rec.steps):
        io[f"{name}/latents{i + 1}"] = s
    plain = {
        k: v for k, v in kw.items() if isinstance(v, (int, float, str, tuple, list, type(None)))
    }
    info[name] = dict(
        plain,
        scheduler=sched,
        seeds=list(seeds),
        prompt=prompts,
        timesteps=[float(t) for t in pipe.scheduler.timesteps],
    )
    sat = float(((io[f"{name}/image"] == 0) | (io[f"{name}/image"] == 255)).float().mean())
    print(
        "pipe",
        name,
        list(io[f"{name}/image"].shape),
        "std",
        round(float(io[f"{name}/image"].float().std()), 1),
        "saturated",
        round(sat, 2),
    )


def picture(h, w):
    """A smooth colourful test image, and a mask with soft edges (white = repaint)."""
    y, x = np.mgrid[0:h, 0:w]
    rgb = np.stack(
        [x * 255 / (w - 1), y * 255 / (h - 1), 127.5 + 127.5 * np.sin(x / 5 + y / 7)], -1
    )
    mask = ((x - w * 0.6) ** 2 + (y - h * 0.4) ** 2 < (h * 0.3) ** 2) * 255
    return np.rint(rgb).astype(np.uint8), mask.astype(np.uint8)


def sd1_cases(root, out, io, info):
    pipe = load(root, "StableDiffusionPipeline")
    base = pipe.scheduler.config
    size = dict(height=64, width=64, negative_prompt=NEGATIVE)
    for sched in (
        "pndm",
        "ddim",
        "euler",
        "euler_a",
        "dpmpp_2m_karras",
        "unipc",
        "ddim_trailing_v",
    ):
        run(io, info, "sd1_" + sched, pipe, sched, base, **size)
    run(io, info, "sd1_odd", pipe, "euler", base, height=72, width=88, negative_prompt=NEGATIVE)
    run(io, info, "sd1_batch", pipe, "euler_a", base, seeds=(1, 2), **size)
    run(io, info, "sd1_rescale", pipe, "ddim", base, guidance_rescale=0.7, **size)
    run(io, info, "sd1_clip_skip1", pipe, "ddim", base, clip_skip=1, **size)
    run(
        io,
        info,
        "sd1_nocfg",
        pipe,
        "ddim",
        base,
        height=64,
        width=64,
        guidance_scale=1.0,
        negative_prompt=None,
    )
    with torch.no_grad():
        pos, neg = pipe.encode_prompt(PROMPT, "cpu", 1, True, NEGATIVE)
        skip, _ = pipe.encode_prompt(PROMPT, "cpu", 1, True, NEGATIVE, clip_skip=1)
    io.update(
        {"sd1/prompt_embeds": pos, "sd1/negative_embeds": neg, "sd1/prompt_embeds_clip_skip1": skip}
    )
    rgb, mask = picture(64, 64)
    io["sd1/init_image"], io["sd1/mask"] = torch.from_numpy(rgb), torch.from_numpy(mask)
    import diffusers

    parts = {k: v for k, v in pipe.components.items() if k != "image_encoder"}
    i2i = diffusers.StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    i2i.set_progress_bar_config(disable=True)
    for sched in ("ddim", "euler_a"):
        run(
            io,
            info,
            "sd1_img2img_" + sched,
            i2i,
            sched,
            base,
            image=Image.fromarray(rgb),
            strength=0.6,
            negative_prompt=NEGATIVE,
        )
    inp = diffusers.StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    inp.set_progress_bar_config(disable=True)
    paint = dict(
        image=Image.fromarray(rgb),
        mask_image=Image.fromarray(mask),
        height=64,
        width=64,
        negative_prompt=NEGATIVE,
    )
    run(io, info, "sd1_inpaint4", inp, "ddim", base, strength=0.8, **paint)
    inp.unet = make_unet.build("sd1_inpaint")
    inp.register_to_config(unet=["diffusers", "UNet2DConditionModel"])
    run(io, info, "sd1_inpaint9", inp, "ddim", base, strength=1.0, **paint)


def sdxl_cases(root, io, info):
    pipe = load(root, "StableDiffusionXLPipeline", add_watermarker=False)
    base = pipe.scheduler.config
    for sched in ("euler", "dpmpp_2m_karras", "euler_a"):
        run(
            io,
            info,
            "sdxl_" + sched,
            pipe,
            sched,
            base,
            height=64,
            width=64,
            negative_prompt=NEGATIVE,
        )
    run(
        io,
        info,
        "sdxl_zero_negative",
        pipe,
        "euler",
        base,
        height=64,
        width=64,
        negative_prompt=None,
    )
    run(
        io,
        info,
        "sdxl_sizes",
        pipe,
        "euler",
        base,
        height=64,
        width=96,
        negative_prompt=NEGATIVE,
        original_size=(512, 384),
        crops_coords_top_left=(16, 8),
        target_size=(1024, 1024),
        clip_skip=1,
    )
    with torch.no_grad():
        e = pipe.encode_prompt(PROMPT, device="cpu", negative_prompt=NEGATIVE)
    io.update(
        dict(
            zip(
                (
                    "sdxl/prompt_embeds",
                    "sdxl/negative_embeds",
                    "sdxl/pooled",
                    "sdxl/negative_pooled",
                ),
                e,
            )
        )
    )


def main(out):
    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    make_tokenizer.main(out)
    io, info = {}, {}
    sd1_cases(write_folder(out, False), out, io, info)
    write_v_folder(out)
    sdxl_cases(write_folder(out, True), io, info)
    for xl in (False, True):
        all_in_one(out, xl)
    io = {k: v.detach() for k, v in io.items()}
    save_st(f"{out}/pipe/pipe.io.safetensors", io, versions())
    save_json(f"{out}/pipe/pipe.io.json", info)
    for name in ("sd1_ddim", "sdxl_euler"):
        Image.fromarray(io[name + "/image"][0].numpy()).save(f"{out}/pipe/{name}.png")


if __name__ == "__main__":
    main(sys.argv[1])
