/* SPDX-License-Identifier: MIT */
/* The tiny model folders as tests of seeing have them: options from a text, a seer, a painted
 * picture. Include after cmocka.h. */
#ifndef LIMN_TESTS_SEE_TEST_H
#define LIMN_TESTS_SEE_TEST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "pipeline/see.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        limn_status st_ = (call);                                                                  \
        if (st_ != LIMN_OK) fail_msg("%s: %s: %s", #call, limn_status_text(st_), err.text);        \
    } while (0)

static inline const char *golden_path(char *out, size_t size, const char *name) {
    const char *dir = getenv("LIMN_GOLDEN_DIR");
    snprintf(out, size, "%s/%s", dir ? dir : "tests/golden", name);
    return out;
}

/* "name=value;name=value" into a record of this kind; parted by spaces when there is no ';'. */
static inline limn_params *params(limn_params_kind kind, const char *text) {
    limn_err err = {0};
    limn_params *p = NULL;
    char name[64], value[512];
    int n;
    const char *row = strchr(text, ';') ? " %63[^= ]=%511[^;]%n" : " %63[^= ]=%511[^ ]%n";
    OK(limn_params_new(&p, kind, &err));
    while (sscanf(text, row, name, value, &n) == 2) {
        OK(limn_params_set(p, name, value, LIMN_FROM_API, &err));
        text += n + (text[n] == ';');
    }
    return p;
}

/* A seer on a folder of tests/golden or an absolute path: f32 throughout, one thread. */
static inline limn_seer *seer_on(const char *name, const char *options) {
    limn_err err = {0};
    char path[512];
    limn_seer *s = NULL;
    limn_params *app = params(LIMN_PARAMS_APP, "cache_dir=none;threads=1"),
                *see = params(LIMN_PARAMS_SEE, options);
    if (name[0] != '/') name = golden_path(path, sizeof path, name);
    OK(limn_params_set(see, "model", name, LIMN_FROM_API, &err));
    OK(limn_params_set(see, "precision", "exact", LIMN_FROM_API, &err));
    OK(limn_seer_new(&s, app, see, &err));
    limn_params_free(&app);
    limn_params_free(&see);
    return s;
}

/* A picture that nobody has: a pattern of `seed` (tools/reference/make_talks.py paints it too). */
static inline limn_image *picture(int width, int height, int seed) {
    limn_err err = {0};
    limn_image *im;
    OK(limn_image_new(&im, width, height, 3, &err));
    for (int i = 0; i < width * height * 3; i++)
        im->data[i] = (uint8_t)((i * (2 * seed + 3) + i / (width * 3) * 7 * seed) >> 2);
    return im;
}

#endif
