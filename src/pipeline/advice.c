/* SPDX-License-Identifier: MIT */
/* Recommendations of a model; see advice.h. */
#include "pipeline/advice.h"

#include <stdio.h>
#include <string.h>

static const char *const may_advise[] = {"steps",       "cfg_scale", "sampler", "schedule",
                                         "cfg_rescale", "clip_skip", "eta"};
enum { N_ADVISED = sizeof may_advise / sizeof may_advise[0] };

static bool is_advised(const char *name) {
    for (int i = 0; i < N_ADVISED; i++)
        if (strcmp(may_advise[i], name) == 0) return true;
    return false;
}

/* The type of a row of the gen table; TEXT when there is none. */
static limn_param_type type_of(const char *name) {
    limn_param_info info;
    for (int i = 0; limn_params_info(&info, LIMN_PARAMS_GEN, i); i++)
        if (strcmp(info.name, name) == 0) return info.type;
    return LIMN_TYPE_TEXT;
}

static limn_status take(limn_params *gen, const limn_params *from, const char *name,
                        limn_err *err) {
    char number[40];
    const char *value = number;
    if (limn_params_is_set(gen, name) || !limn_params_is_set(from, name)) return LIMN_OK;
    switch (type_of(name)) {
    case LIMN_TYPE_INT:
        snprintf(number, sizeof number, "%lld", (long long)limn_params_int(from, name));
        break;
    case LIMN_TYPE_REAL:
        snprintf(number, sizeof number, "%.17g", limn_params_real(from, name));
        break;
    default: value = limn_params_text(from, name);
    }
    return limn_params_set(gen, name, value, LIMN_FROM_MODEL, err);
}

static limn_status apply_file(limn_params *gen, const char *json, limn_err *err) {
    limn_params *said = NULL;
    limn_param_info info;
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_params_new(&said, LIMN_PARAMS_GEN, err));
    LIMN_TRY(limn_params_parse_json(said, json, strlen(json), LIMN_FROM_MODEL, err));
    for (int i = 0; limn_params_info(&info, LIMN_PARAMS_GEN, i); i++)
        LIMN_CHECK(err, is_advised(info.name) || !limn_params_is_set(said, info.name),
                   LIMN_E_FORMAT, "a model may not recommend \"%s\"", info.name);
    /* A sampler that the user chose brings its own schedule. */
    if (limn_params_is_set(gen, "sampler")) LIMN_TRY(limn_params_unset(said, "schedule", err));
    for (int i = 0; i < N_ADVISED; i++) LIMN_TRY(take(gen, said, may_advise[i], err));
out:
    limn_params_free(&said);
    return st;
}

limn_status limn_advice_apply(limn_params *gen, const limn_checkpoint *ckpt, limn_err *err) {
    limn_status st = LIMN_OK;
    if (ckpt->advice && (st = apply_file(gen, ckpt->advice, err)) != LIMN_OK) {
        limn_err_prefix(err, "%s/limn.json", ckpt->path);
        return st;
    }
    if (limn_params_is_set(gen, "sampler") || !ckpt->sampler || !ckpt->sampler[0]) return LIMN_OK;
    LIMN_TRY(limn_params_set(gen, "sampler", ckpt->sampler, LIMN_FROM_MODEL, err));
    if (!limn_params_is_set(gen, "schedule") && ckpt->sampler_schedule[0])
        LIMN_TRY(limn_params_set(gen, "schedule", ckpt->sampler_schedule, LIMN_FROM_MODEL, err));
out:
    return st;
}
