/* SPDX-License-Identifier: MIT */
/* Events and linear previews; see draw_progress.h. */
#include "pipeline/draw_progress.h"

#include <string.h>

#include "base/clock.h"
#include "image/image.h"

void limn_progress_init(limn_progress *p, const limn_watch *watch, int images, double total_work) {
    *p = (limn_progress){.watch = watch, .images = images, .total_work = total_work};
    p->begin = p->last = limn_clock_now();
}

static void emit(limn_progress *p, limn_event *e) {
    if (!p->watch || !p->watch->event) return;
    e->stage = p->stage ? p->stage : "";
    e->image = p->image;
    e->images = p->images;
    p->watch->event(p->watch->user, e);
}

void limn_progress_stage(limn_progress *p, const char *stage, int steps) {
    p->stage = stage;
    p->stage_begin = p->last = limn_clock_now();
    limn_event e = {.steps = steps, .left_seconds = -1};
    emit(p, &e);
}

void limn_progress_step(limn_progress *p, int step, int steps, double work,
                        const limn_image *preview) {
    double now = limn_clock_now();
    if (work > 0 && p->first_step == 0) p->first_step = p->last;
    if (work > 0) p->work_seconds += now - p->last;
    p->done_work += work;
    limn_event e = {.step = step, .steps = steps, .preview = preview, .left_seconds = -1};
    e.step_seconds = now - p->last;
    if (p->done_work > 0 && p->total_work >= p->done_work)
        e.left_seconds = (now - p->begin) / p->done_work * (p->total_work - p->done_work);
    p->last = now;
    emit(p, &e);
}

void limn_progress_note(limn_progress *p, const char *note) {
    limn_event e = {.note = note, .left_seconds = -1};
    emit(p, &e);
}

bool limn_progress_wants_preview(const limn_progress *p, int step, int steps) {
    int every = p->watch && p->watch->event ? p->watch->preview_every : 0;
    return every > 0 && step < steps && step % every == 0;
}

/* Least-squares fits of the decoders' output at one pixel per latent; the numbers are facts that
 * every front end shares (ComfyUI latent_formats.py). Rows: latent channels. */
static const float rgb_sd1[4][3] = {{0.3512f, 0.2297f, 0.3227f},
                                    {0.3250f, 0.4974f, 0.2350f},
                                    {-0.2829f, 0.1762f, 0.2721f},
                                    {-0.2120f, -0.2616f, -0.7177f}};
static const float rgb_sdxl[4][3] = {{0.3651f, 0.4232f, 0.4341f},
                                     {-0.2533f, -0.0042f, 0.1068f},
                                     {0.1076f, 0.1111f, -0.0362f},
                                     {-0.3165f, -0.2492f, -0.2188f}};

limn_status limn_preview_linear(limn_image **out, const limn_checkpoint *ckpt, const float *latent,
                                int64_t h, int64_t w, limn_err *err) {
    *out = NULL;
    if (ckpt->unet_cfg.out_channels != 4 || ckpt->latent_scale != 8)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "no linear preview for these latents");
    bool xl = strncmp(ckpt->family, "sdxl", 4) == 0;
    const float(*rgb)[3] = xl ? rgb_sdxl : rgb_sd1;
    float *p = limn_mem_alloc((size_t)(3 * h * w) * sizeof *p);
    if (!p) return limn_fail(err, LIMN_E_NOMEM, "no memory for a preview");
    for (int64_t i = 0; i < h * w; i++)
        for (int c = 0; c < 3; c++) {
            float v = 0;
            for (int k = 0; k < 4; k++) v += latent[k * h * w + i] * rgb[k][c];
            p[c * h * w + i] = v;
        }
    limn_status st = limn_image_from_f32(out, p, (int)w, (int)h, err);
    limn_mem_free(p);
    return st;
}
