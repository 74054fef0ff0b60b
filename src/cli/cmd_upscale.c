/* SPDX-License-Identifier: MIT */
/* limn upscale: enlarges a picture and keeps the recipe that is inside it. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

limn_status cmd_upscale(cli *c, limn_err *err) {
    limn_image *in = NULL, *out = NULL;
    limn_engine *engine = NULL;
    cli_progress progress;
    char *text = NULL;
    const char *path = limn_params_text(c->app, "output");
    if (!*path) return cli_fail(err, LIMN_E_USAGE, "upscale needs -o FILE");
    if (!limn_params_is_set(c->gen, "upscale")) {
        limn_status set = limn_params_set(c->gen, "upscale", "2", LIMN_FROM_PROFILE, err);
        if (set != LIMN_OK) return set;
    }
    limn_status st = cli_progress_init(&progress, c, err);
    if (st == LIMN_OK) st = cli_output_check(c, path, err);
    if (st == LIMN_OK) st = limn_image_load(&in, c->args[0], err);
    if (st == LIMN_OK) st = limn_engine_new(&engine, c->app, err);
    if (st == LIMN_OK) {
        limn_watch watch = {.event = cli_progress_event, .user = &progress, .cancel = c->cancel};
        st = limn_upscale(&out, engine, in, c->gen, &watch, err);
        cli_progress_end(&progress);
    }
    if (st == LIMN_OK) {
        st = limn_image_load_text(&text, c->args[0], err);
        if (st == LIMN_E_NOT_FOUND) st = LIMN_OK; /* a picture without a recipe is fine */
    }
    if (st == LIMN_OK) st = cli_output_save(c, out, path, text, err);
    if (st == LIMN_OK && !limn_params_int(c->app, "quiet") && strcmp(path, "-") != 0)
        printf("%s\n", path);
    limn_text_free(&text);
    limn_image_free(&in);
    limn_image_free(&out);
    limn_engine_free(&engine);
    return st;
}
