/* SPDX-License-Identifier: MIT */
/* Shared by the fuzz targets of weight files: open bytes as one format, then do with the set what
 * limn would: read tensor edges and metadata, detect, build canonical scopes. */
#ifndef LIMN_FUZZ_WEIGHTS_H
#define LIMN_FUZZ_WEIGHTS_H

#include <stdlib.h>
#include <string.h>

#include "formats/canon.h"
#include "formats/detect.h"
#include "formats/embedding.h"

typedef limn_status fuzz_loader(limn_weights **out, limn_fsmap *map, limn_err *err);

static inline void fuzz_touch(const limn_weights *w) {
    volatile unsigned sum = 0;
    for (size_t i = 0; i < limn_weights_count(w); i++) {
        const limn_tensor *t = limn_weights_at(w, i);
        size_t bytes;
        if (!limn_tensor_bytes(&bytes, t->dtype, &t->shape)) abort();
        if (limn_weights_find(w, limn_weights_name(w, i)) != t) abort();
        if (bytes) sum += ((const uint8_t *)t->data)[0] + ((const uint8_t *)t->data)[bytes - 1];
    }
    for (size_t i = 0; i < limn_weights_meta_count(w); i++) {
        const limn_meta *m = limn_weights_meta_at(w, i);
        for (size_t k = 0; k < m->count && k < 1000; k++) {
            limn_str_view v = limn_meta_str_at(m, k);
            if (v.n) sum += (unsigned char)v.p[v.n - 1];
            sum += (unsigned)limn_meta_int_at(m, k);
            sum += limn_meta_float_at(m, k) > 0;
        }
    }
}

static inline void fuzz_scopes(const limn_weights *w) {
    limn_model_info info;
    limn_weights *s = NULL;
    limn_unet_config unet;
    limn_vae_config vae;
    limn_taesd_config tiny;
    limn_clip_config clip;
    limn_upscaler_config up;
    limn_embedding e;
    if (limn_detect(&info, w, NULL) != LIMN_OK) return;
    for (size_t i = 0; i < info.n_parts; i++) {
        const limn_found *f = &info.part[i];
        const char *json = limn_found_config(f, w);
        if (limn_canon_unet(&s, &unet, w, f->prefix, json, NULL) == LIMN_OK) limn_weights_unref(&s);
        if (limn_canon_vae(&s, &vae, w, f->prefix, json, NULL) == LIMN_OK) limn_weights_unref(&s);
        if (limn_canon_taesd(&s, &tiny, w, f->prefix, json, NULL) == LIMN_OK)
            limn_weights_unref(&s);
        if (limn_canon_clip(&s, &clip, w, f->prefix, json, NULL) == LIMN_OK) limn_weights_unref(&s);
        if (limn_canon_upscaler(&s, &up, w, f->prefix, NULL) == LIMN_OK) limn_weights_unref(&s);
    }
    if (limn_canon_llm(&s, w, NULL) == LIMN_OK) limn_weights_unref(&s);
    if (limn_embedding_open(&e, w, NULL) == LIMN_OK) limn_embedding_free(&e);
}

static inline int fuzz_load(fuzz_loader *load, const uint8_t *data, size_t size) {
    limn_fsmap *map = NULL;
    limn_weights *w = NULL;
    limn_err err = {0};
    if (limn_fsmap_wrap(&map, "fuzz", data, size, &err) != LIMN_OK) return 0;
    limn_status st = load(&w, map, &err);
    if ((st == LIMN_OK) != (w != NULL) || (st != LIMN_OK && !err.text[0])) abort();
    limn_fsmap_unref(&map);
    if (w) {
        fuzz_touch(w);
        fuzz_scopes(w);
    }
    limn_weights_unref(&w);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
