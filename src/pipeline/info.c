/* SPDX-License-Identifier: MIT */
/* limn_info: what a model file is, from formats/detect.h; what a language model takes to be asked,
 * from the seer that would answer. */
#include <jansson.h>
#include <stdlib.h>

#include "formats/detect.h"
#include "pipeline/see.h"

enum { PICTURE_TOKENS = 1024, SIDE = 32 /* of PICTURE_TOKENS */ };

static bool is_language_model(const limn_inspection *x) {
    for (size_t i = 0; i < x->info.n_parts; i++)
        if (x->info.part[i].part == LIMN_PART_LLM && x->info.part[i].supported) return true;
    return false;
}

typedef struct asking {
    limn_seer_info info;
    size_t with_picture; /* 0: takes none */
} asking;

static limn_status asking_find(asking *out, limn_seer **seer, const char *path, limn_err *err) {
    limn_params *app = NULL, *see = NULL;
    limn_status st;
    *out = (asking){0};
    LIMN_TRY(limn_params_new(&app, LIMN_PARAMS_APP, err));
    LIMN_TRY(limn_params_new(&see, LIMN_PARAMS_SEE, err));
    LIMN_TRY(limn_params_set(app, "cache_dir", "none", LIMN_FROM_API, err));
    LIMN_TRY(limn_params_set(see, "model", path, LIMN_FROM_API, err));
    LIMN_TRY(limn_seer_new(seer, app, see, err));
    limn_seer_get_info(&out->info, *seer);
    if (out->info.sees) {
        const limn_vision_config *v = &(*seer)->model->cfg.vision;
        int side = SIDE * v->patch * v->merge;
        LIMN_TRY(limn_seer_need_picture(&out->with_picture, *seer, side, side, err));
    }
out:
    limn_params_free(&app);
    limn_params_free(&see);
    return st;
}

static void asking_text(limn_buf *b, const asking *a) {
    limn_buf_addf(b,
                  "  %-12sat most %.0f MB: weights %.0f MB, a conversation of %lld tokens %.0f MB "
                  "in %s (--context, --cache-type), work\n",
                  "to ask it", (double)a->info.need_bytes / 1e6, (double)a->info.weight_bytes / 1e6,
                  (long long)a->info.context, (double)a->info.cache_bytes / 1e6,
                  a->info.cache_type);
    if (a->with_picture)
        limn_buf_addf(b, "  %-12sat most %.0f MB with a picture of %d tokens\n", "",
                      (double)a->with_picture / 1e6, PICTURE_TOKENS);
    else
        limn_buf_addf(b, "  %-12sit takes no pictures\n", "");
}

/* Adds "asking" to the object in `b`. */
static limn_status asking_json(limn_buf *b, const asking *a, limn_err *err) {
    json_t *tree = json_loads(limn_buf_text(b), 0, NULL);
    json_t *o =
        json_pack("{s:I, s:I, s:I, s:s, s:I, s:b}", "weight_bytes",
                  (json_int_t)a->info.weight_bytes, "context", (json_int_t)a->info.context,
                  "cache_bytes", (json_int_t)a->info.cache_bytes, "cache_type", a->info.cache_type,
                  "most_bytes", (json_int_t)a->info.need_bytes, "sees", (int)a->info.sees);
    if (o && a->with_picture)
        json_object_set_new(o, "most_bytes_with_picture",
                            json_integer((json_int_t)a->with_picture));
    json_object_set_new(tree, "asking", o);
    char *text = tree && o ? json_dumps(tree, JSON_INDENT(2) | JSON_ENSURE_ASCII) : NULL;
    json_decref(tree);
    if (!text) return limn_fail(err, LIMN_E_NOMEM, "no memory for the report");
    limn_buf_clear(b);
    limn_buf_addf(b, "%s\n", text);
    free(text);
    return LIMN_OK;
}

limn_status limn_info(char **out, limn_engine *engine, const char *path, bool json, limn_err *err) {
    *out = NULL;
    limn_status st = LIMN_OK;
    char *found = NULL;
    limn_seer *seer = NULL;
    limn_inspection x = {0};
    limn_buf text;
    limn_buf_init(&text, 16 << 20);
    LIMN_TRY(limn_engine_find(&found, engine, path,
                              "|checkpoints|Stable-diffusion|Lora|loras|vae|VAE|embeddings|"
                              "upscale_models|ESRGAN",
                              err));
    LIMN_TRY(limn_inspect(&x, found, err));
    if (json)
        LIMN_TRY(limn_inspect_json(&text, &x, err));
    else
        limn_inspect_text(&text, &x);
    if (is_language_model(&x)) {
        limn_err why = {0};
        asking a;
        if (asking_find(&a, &seer, found, &why) != LIMN_OK) {
            if (!json) limn_buf_addf(&text, "  %-12s%s\n", "cannot ask", why.text);
        } else if (json) {
            LIMN_TRY(asking_json(&text, &a, err));
        } else {
            asking_text(&text, &a);
        }
    }
    *out = limn_buf_take(&text);
    LIMN_CHECK(err, *out, LIMN_E_NOMEM, "no memory for the description of a model");
out:
    limn_seer_free(&seer);
    limn_inspection_free(&x);
    limn_mem_free(found);
    limn_buf_deinit(&text);
    return st;
}
