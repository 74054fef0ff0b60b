/* SPDX-License-Identifier: MIT */
/* limn info: what a model file is (asked of the engine), or what recipe a picture carries. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

/* By its first bytes: PNG, JPEG, WebP. */
static limn_status is_picture(bool *out, const char *path, limn_err *err) {
    unsigned char head[12] = {0};
    *out = false;
    FILE *f = fopen(path, "rb");
    if (!f && errno == ENOENT) return LIMN_OK; /* the name of a model: the engine looks it up */
    if (!f)
        return cli_fail(err, errno == ENOTDIR ? LIMN_E_NOT_FOUND : LIMN_E_IO,
                        "%s: cannot be opened: %s", path, strerror(errno));
    size_t n = fread(head, 1, sizeof head, f); /* a folder reads as nothing: a diffusers model */
    fclose(f);
    *out = n == sizeof head &&
           (memcmp(head, "\x89PNG\r\n\x1a\n", 8) == 0 || memcmp(head, "\xff\xd8\xff", 3) == 0 ||
            (memcmp(head, "RIFF", 4) == 0 && memcmp(head + 8, "WEBP", 4) == 0));
    return LIMN_OK;
}

static void print_picture_json(const limn_image *im, const char *text, const char *values,
                               const char *unknown) {
    printf("{\"kind\": \"picture\", \"width\": %d, \"height\": %d, \"channels\": %d",
           limn_image_width(im), limn_image_height(im), limn_image_channels(im));
    if (text) {
        printf(", \"text\": ");
        cli_print_json_text(text);
        printf(", \"parameters\": %s, \"unknown\": ", values ? values : "null");
        cli_print_json_text(unknown ? unknown : "");
    }
    printf("}\n");
}

static limn_status picture_info(const cli *c, const char *path, limn_err *err) {
    limn_image *im = NULL;
    limn_params *gen = NULL;
    char *text = NULL, *values = NULL, *unknown = NULL;
    bool json = limn_params_int(c->app, "json") != 0;
    limn_err why = {0};
    limn_status st = limn_image_load(&im, path, err);
    if (st == LIMN_OK) {
        st = limn_image_load_text(&text, path, err);
        if (st == LIMN_E_NOT_FOUND) st = LIMN_OK;
    }
    if (st == LIMN_OK) st = limn_params_new(&gen, LIMN_PARAMS_GEN, err);
    if (st == LIMN_OK) {
        bool readable = text && limn_params_parse_text(gen, text, strlen(text), LIMN_FROM_FILE,
                                                       &unknown, &why) == LIMN_OK;
        if (readable) st = limn_params_format_json(&values, gen, false, err);
        if (json) {
            print_picture_json(im, text, values, unknown);
        } else {
            printf("%s: a picture of %d x %d pixels, %d channels\n", path, limn_image_width(im),
                   limn_image_height(im), limn_image_channels(im));
            printf("%s\n", text ? text : "no recipe inside");
            if (text && !readable) printf("limn cannot use this recipe: %s\n", why.text);
            if (unknown) printf("limn does not know: %s\n", unknown);
        }
    }
    limn_image_free(&im);
    limn_params_free(&gen);
    limn_text_free(&text);
    limn_text_free(&values);
    limn_text_free(&unknown);
    return st;
}

limn_status cmd_info(cli *c, limn_err *err) {
    limn_engine *engine = NULL;
    char *text = NULL;
    bool picture;
    limn_status st = is_picture(&picture, c->args[0], err);
    if (st != LIMN_OK) return st;
    if (picture) return picture_info(c, c->args[0], err);
    st = limn_engine_new(&engine, c->app, err);
    if (st == LIMN_OK)
        st = limn_info(&text, engine, c->args[0], limn_params_int(c->app, "json") != 0, err);
    if (st == LIMN_OK) printf("%s%s", text, *text && text[strlen(text) - 1] == '\n' ? "" : "\n");
    limn_text_free(&text);
    limn_engine_free(&engine);
    return st;
}
