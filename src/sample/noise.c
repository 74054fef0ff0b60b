/* SPDX-License-Identifier: MIT */
/* The noise of a batch: generators, variation, step noise, Brownian paths; see noise.h. */
#include "sample/noise.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sample/brownian.h"
#include "sample/latent_ops.h"

enum { IMAGES_MAX = 4096 };

struct limn_noise {
    limn_noise_config c;
    uint64_t *seeds;      /* [images] */
    uint64_t *variations; /* [images] or NULL */
    int streams;          /* generators: images, or 1 for a whole batch */
    int64_t each;         /* values per generator and draw */
    limn_rng *rng;        /* [streams] */
    limn_brownian **path; /* [streams], NULL until the range is known */
};

static limn_status config_check(const limn_noise_config *c, int64_t *per_image, limn_err *err) {
    int64_t total;
    if (c->images < 1 || c->images > IMAGES_MAX)
        return limn_fail(err, LIMN_E_VALUE, "a batch has 1 to %d images, not %d", IMAGES_MAX,
                         c->images);
    if (c->channels < 1 || c->height < 1 || c->width < 1 ||
        !limn_mul_i64(per_image, c->channels, c->height) ||
        !limn_mul_i64(per_image, *per_image, c->width) ||
        !limn_mul_i64(&total, *per_image, c->images) || total > INT64_MAX / 4)
        return limn_fail(err, LIMN_E_VALUE, "latents of %lld x %lld x %lld cannot exist",
                         (long long)c->channels, (long long)c->height, (long long)c->width);
    if (!c->seeds) return limn_fail(err, LIMN_E_VALUE, "noise needs a seed for every image");
    if (!(c->variation_strength >= 0 && c->variation_strength <= 1))
        return limn_fail(err, LIMN_E_VALUE, "variation strength is 0 to 1, not %g",
                         c->variation_strength);
    if (c->variation_strength > 0 && !c->variation_seeds)
        return limn_fail(err, LIMN_E_VALUE, "a variation needs a variation seed");
    if ((unsigned)c->rng >= LIMN_RNG_KIND_COUNT || (unsigned)c->step_rng >= LIMN_RNG_KIND_COUNT)
        return limn_fail(err, LIMN_E_VALUE, "unknown noise generator");
    if (c->philox_capacity < 0)
        return limn_fail(err, LIMN_E_VALUE, "the capacity of a GPU is not negative");
    return LIMN_OK;
}

static uint64_t *seeds_copy(const uint64_t *seeds, int n) {
    uint64_t *out = limn_mem_alloc((size_t)n * sizeof *out);
    if (out) memcpy(out, seeds, (size_t)n * sizeof *out);
    return out;
}

static void rng_start(const limn_noise *s, limn_rng *rng, limn_rng_kind kind, uint64_t seed) {
    limn_rng_init(rng, kind, seed);
    rng->capacity = s->c.philox_capacity;
}

limn_status limn_noise_new(limn_noise **out, const limn_noise_config *config, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_noise *s = NULL;
    int64_t per_image = 0;
    *out = NULL;
    LIMN_TRY(config_check(config, &per_image, err));
    s = limn_mem_calloc(1, sizeof *s);
    LIMN_CHECK(err, s, LIMN_E_NOMEM, "no memory for noise");
    s->c = *config;
    s->streams = config->whole_batch ? 1 : config->images;
    s->each = config->whole_batch ? per_image * config->images : per_image;
    s->seeds = seeds_copy(config->seeds, config->images);
    if (config->variation_strength > 0)
        s->variations = seeds_copy(config->variation_seeds, config->images);
    s->rng = limn_mem_calloc((size_t)s->streams, sizeof *s->rng);
    s->path = limn_mem_calloc((size_t)s->streams, sizeof(limn_brownian *));
    LIMN_CHECK(
        err, s->seeds && s->rng && s->path && (s->variations || !(config->variation_strength > 0)),
        LIMN_E_NOMEM, "no memory for noise");
    for (int i = 0; i < s->streams; i++) rng_start(s, &s->rng[i], config->rng, s->seeds[i]);
    *out = s;
    s = NULL;
out:
    limn_noise_free(&s);
    return st;
}

static void paths_free(limn_noise *s) {
    for (int i = 0; s->path && i < s->streams; i++) limn_brownian_free(&s->path[i]);
}

void limn_noise_free(limn_noise **noise) {
    if (!noise || !*noise) return;
    limn_noise *s = *noise;
    paths_free(s);
    limn_mem_free(s->path);
    limn_mem_free(s->rng);
    limn_mem_free(s->seeds);
    limn_mem_free(s->variations);
    limn_mem_free(s);
    *noise = NULL;
}

void limn_noise_before(limn_noise *s, float *out) {
    for (int i = 0; i < s->streams; i++) limn_rng_normal(&s->rng[i], out + i * s->each, s->each);
}

limn_status limn_noise_first(limn_noise *s, float *out, limn_err *err) {
    float *other = NULL;
    if (s->variations) {
        other = limn_mem_alloc((size_t)s->each * sizeof(float));
        if (!other) return limn_fail(err, LIMN_E_NOMEM, "no memory for a variation");
    }
    for (int i = 0; i < s->streams; i++) {
        float *x = out + i * s->each;
        limn_rng_normal(&s->rng[i], x, s->each);
        if (other) {
            limn_rng rng;
            rng_start(s, &rng, s->c.rng, s->variations[i]);
            limn_rng_normal(&rng, other, s->each);
            limn_latent_slerp(x, x, other, s->each / (s->c.height * s->c.width), s->c.height,
                              s->c.width, s->c.variation_strength);
        }
        if (s->c.step_reseed)
            rng_start(s, &s->rng[i], s->c.step_rng, s->seeds[i] + (uint64_t)s->c.step_seed_delta);
    }
    limn_mem_free(other);
    return LIMN_OK;
}

limn_status limn_noise_set_range(limn_noise *s, double low, double high, limn_err *err) {
    if (!(low > 0 && low < high && isfinite(high)))
        return limn_fail(err, LIMN_E_VALUE, "a Brownian path needs two noise levels, not %g and %g",
                         low, high);
    paths_free(s);
    limn_rng_kind kind = s->c.step_reseed ? s->c.step_rng : s->c.rng;
    for (int i = 0; i < s->streams; i++) {
        limn_status st = limn_brownian_new(&s->path[i], kind, s->seeds[i], s->each, (float)low,
                                           (float)high, err);
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

/* k-diffusion's BrownianTreeNoiseSampler, whose sigmas are f32: the path is asked from the lower to
 * the higher level and the sign turned when sigma falls. */
static limn_status draw_path(limn_noise *s, float *out, const limn_noise_at *at, limn_err *err) {
    float a = (float)at->sigma, b = (float)at->sigma_next;
    float low = fminf(a, b), high = fmaxf(a, b);
    float scale = sqrtf(high - low);
    if (!(scale > 0))
        return limn_fail(err, LIMN_E_VALUE, "no Brownian step between sigma %g and %g", at->sigma,
                         at->sigma_next);
    for (int i = 0; i < s->streams; i++) {
        if (!s->path[i])
            return limn_fail(err, LIMN_E_INTERNAL, "the range of the Brownian path was not set");
        float *x = out + i * s->each;
        limn_status st = limn_brownian_get(s->path[i], x, low, high, err);
        if (st != LIMN_OK) return st;
        for (int64_t k = 0; k < s->each; k++) x[k] = (a < b ? x[k] : -x[k]) / scale;
    }
    return LIMN_OK;
}

limn_status limn_noise_draw(void *user, float *out, int64_t n, const limn_noise_at *at,
                            limn_err *err) {
    limn_noise *s = user;
    if (n != s->each * s->streams)
        return limn_fail(err, LIMN_E_INTERNAL,
                         "noise for %lld values was asked of a source of %lld", (long long)n,
                         (long long)(s->each * s->streams));
    if (at->brownian) return draw_path(s, out, at, err);
    for (int i = 0; i < s->streams; i++) limn_rng_normal(&s->rng[i], out + i * s->each, s->each);
    return LIMN_OK;
}
