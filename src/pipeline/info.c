/* SPDX-License-Identifier: MIT */
/* limn_info: what a model file is; the facts come from formats/detect.h. */
#include "formats/detect.h"
#include "pipeline/engine.h"

limn_status limn_info(char **out, limn_engine *engine, const char *path, bool json, limn_err *err) {
    *out = NULL;
    limn_status st = LIMN_OK;
    char *found = NULL;
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
    *out = limn_buf_take(&text);
    LIMN_CHECK(err, *out, LIMN_E_NOMEM, "no memory for the description of a model");
out:
    limn_inspection_free(&x);
    limn_mem_free(found);
    limn_buf_deinit(&text);
    return st;
}
