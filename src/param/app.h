/* SPDX-License-Identifier: MIT */
/*
 * limn_app: how the program runs; never written into pictures. Rows are in app_table.c.
 */
#ifndef LIMN_PARAM_APP_H
#define LIMN_PARAM_APP_H

#include <assert.h>

#include "param/param.h"

typedef enum limn_preview {
    LIMN_PREVIEW_OFF,
    LIMN_PREVIEW_AUTO, /* the best that the terminal can show */
    LIMN_PREVIEW_KITTY,
    LIMN_PREVIEW_SIXEL,
    LIMN_PREVIEW_BLOCKS
} limn_preview;

typedef struct limn_app {
    limn_params head;
    int64_t threads; /* 0: one per core */
    char *cpu_mask;  /* instruction sets that may be used; "" = all */
    int64_t memory;  /* bytes; 0: no limit */
    char *models_dir, *cache_dir;
    char *output;
    bool overwrite, json, quiet, verbose;
    int preview; /* limn_preview */
    int64_t preview_every;
    bool sheet;
    char *draw;
    limn_texts labels; /* of a sheet, one per picture */
    char *quantize_type;
    bool dry_run;
} limn_app;

static inline const limn_app *limn_app_of(const limn_params *params) {
    assert(params->kind == LIMN_PARAMS_APP);
    return (const limn_app *)params;
}

#endif
