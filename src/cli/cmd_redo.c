/* SPDX-License-Identifier: MIT */
/*
 * limn redo: the recipe inside a picture is drawn again; options on the command line replace its
 * values. Without such options the result is compared with the picture.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

/* True when an option changes the recipe, so that the result may differ. */
static bool is_changed(const cli *c) {
    limn_param_info row;
    for (int i = 0; limn_params_info(&row, LIMN_PARAMS_GEN, i); i++)
        if (strcmp(row.group, "file") != 0 && limn_params_is_set(c->gen, row.name)) return true;
    return false;
}

limn_status cmd_redo(cli *c, limn_err *err) {
    limn_image *original = NULL;
    char *text = NULL, *unknown = NULL;
    bool changed = is_changed(c);
    limn_status st = limn_image_load_text(&text, c->args[0], err);
    if (st == LIMN_OK)
        st = limn_params_parse_text(c->gen, text, strlen(text), LIMN_FROM_FILE, &unknown, err);
    if (st == LIMN_OK && !limn_params_is_set(c->gen, "seed"))
        st = cli_fail(err, LIMN_E_FORMAT, "%s: its recipe has no seed (--seed sets one)",
                      c->args[0]);
    if (st == LIMN_OK && unknown && !limn_params_int(c->app, "quiet"))
        fprintf(stderr, "note: limn does not know, and leaves out: %s\n", unknown);
    if (st == LIMN_OK && !changed) st = limn_image_load(&original, c->args[0], err);
    if (st == LIMN_OK) st = cli_draw(c, original, err);
    limn_image_free(&original);
    limn_text_free(&text);
    limn_text_free(&unknown);
    return st;
}
