/* SPDX-License-Identifier: MIT */
/* limn sheet: pictures side by side, each with its prompt (or file name) or --label below. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

enum { MOST = 256, LABEL = 400 };

/* What was asked for with --label, else the prompt: the first line of a recipe. */
static void label_of(char label[LABEL], const cli *c, int index) {
    char *text = NULL;
    const char *path = c->args[index], *slash = strrchr(path, '/');
    if (index < limn_params_list_count(c->app, "labels")) {
        snprintf(label, LABEL, "%s", limn_params_list_item(c->app, "labels", index));
        return;
    }
    if (limn_image_load_text(&text, path, NULL) == LIMN_OK && text[0] && text[0] != '\n')
        snprintf(label, LABEL, "%.*s", (int)strcspn(text, "\n"), text);
    else
        snprintf(label, LABEL, "%s", slash ? slash + 1 : path);
    limn_text_free(&text);
}

/* Nearly as wide as high, a little wider. */
static int columns_for(int n) {
    int columns = 1;
    while (columns * columns < n) columns++;
    return columns;
}

limn_status cmd_sheet(cli *c, limn_err *err) {
    limn_image *images[MOST] = {0}, *sheet = NULL;
    char labels[MOST][LABEL];
    const char *label[MOST];
    const char *path = limn_params_text(c->app, "output");
    if (!*path) return cli_fail(err, LIMN_E_USAGE, "sheet needs -o FILE");
    if (limn_params_list_count(c->app, "labels") > c->n_args)
        return cli_fail(err, LIMN_E_USAGE, "sheet has %d pictures and %d labels", c->n_args,
                        limn_params_list_count(c->app, "labels"));
    cli_progress progress;
    limn_status st = cli_output_check(c, path, err);
    if (st == LIMN_OK) st = cli_progress_init(&progress, c, err);
    for (int i = 0; i < c->n_args && st == LIMN_OK; i++) {
        st = limn_image_load(&images[i], c->args[i], err);
        label_of(labels[i], c, i);
        label[i] = labels[i];
    }
    if (st == LIMN_OK)
        st = limn_image_sheet(&sheet, (const limn_image *const *)images, label, c->n_args,
                              columns_for(c->n_args), err);
    if (st == LIMN_OK) st = cli_output_save(c, sheet, path, NULL, err);
    if (st == LIMN_OK) {
        limn_event shown = {.preview = sheet, .left_seconds = -1};
        cli_progress_event(&progress, &shown);
        cli_progress_end(&progress);
    }
    if (st == LIMN_OK && !limn_params_int(c->app, "quiet") && strcmp(path, "-") != 0)
        printf("%s\n", path);
    for (int i = 0; i < c->n_args; i++) limn_image_free(&images[i]);
    limn_image_free(&sheet);
    return st;
}
