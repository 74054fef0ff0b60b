/* SPDX-License-Identifier: MIT */
/* Picture files out of pixels: which format, what it can hold, and the recipe put in. */
#include <string.h>

#include "image/image_encode.h"
#include "image/picture_text.h"

#define FILE_BYTES_MAX ((size_t)2 << 30)

typedef struct encoder_row {
    const char *name;    /* as in limn_file_options */
    const char *endings; /* '|'-separated */
    limn_status (*encode)(limn_buf *out, const limn_image *image, const limn_file_options *o,
                          limn_err *err);
    bool grey, alpha; /* takes 1 channel, 4 channels */
    int max_side;
} encoder_row;

static const encoder_row encoders[] = {
    {"png", ".png", limn_png_encode, true, true, LIMN_IMAGE_MAX_SIDE},
    {"jpeg", ".jpg|.jpeg", limn_jpeg_encode, true, false, 65500},
    {"webp", ".webp", limn_webp_encode, false, true, 16383},
};
enum { ENCODERS = sizeof encoders / sizeof encoders[0] };

static bool has_ending(const char *path, const char *endings) {
    size_t n = strlen(path);
    for (const char *e = endings; *e;) {
        size_t len = strcspn(e, "|");
        if (n > len && strncasecmp(path + n - len, e, len) == 0) return true;
        e += len + (e[len] == '|');
    }
    return false;
}

static const encoder_row *find_encoder(const char *format, const char *path) {
    bool by_name = !format || strcmp(format, "auto") == 0;
    for (int i = 0; i < ENCODERS; i++)
        if (by_name ? path && has_ending(path, encoders[i].endings)
                    : strcmp(encoders[i].name, format) == 0)
            return &encoders[i];
    return NULL;
}

limn_status limn_image_format_find(const char **out, const limn_file_options *options,
                                   const char *path, limn_err *err) {
    const encoder_row *row = find_encoder(options ? options->format : NULL, path);
    *out = row ? row->name : NULL;
    if (row) return LIMN_OK;
    return limn_fail(err, LIMN_E_USAGE,
                     "%s: the name must end in .png, .jpg, .jpeg or .webp, or --format must say "
                     "what to write",
                     path ? path : "output");
}

/* Without the channels that the format does not have. */
static limn_status encode_pixels(limn_buf *out, const limn_image *image, const encoder_row *row,
                                 const limn_file_options *options, limn_err *err) {
    limn_image *rgb = NULL;
    limn_status st = LIMN_OK;
    if ((!row->alpha && image->channels == 4) || (!row->grey && image->channels == 1)) {
        st = limn_image_convert(&rgb, image, 3, err);
        if (st != LIMN_OK) return st;
        image = rgb;
    }
    st = row->encode(out, image, options, err);
    limn_image_free(&rgb);
    return st;
}

limn_status limn_image_encode(void **out, size_t *size, const limn_image *image,
                              const limn_file_options *options, const char *text, limn_err *err) {
    static const limn_file_options defaults = LIMN_FILE_OPTIONS;
    const encoder_row *row = find_encoder(options ? options->format : NULL, NULL);
    limn_buf plain, whole, *file = &plain;
    *out = NULL;
    *size = 0;
    if (!options) options = &defaults;
    if (!row) return limn_fail(err, LIMN_E_USAGE, "the format must be png, jpeg or webp");
    if (image->width > row->max_side || image->height > row->max_side)
        return limn_fail(err, LIMN_E_LIMIT,
                         "%s holds at most %d pixels a side, the picture has %dx%d", row->name,
                         row->max_side, image->width, image->height);
    limn_buf_init(&plain, FILE_BYTES_MAX);
    limn_buf_init(&whole, FILE_BYTES_MAX);
    limn_status st = encode_pixels(&plain, image, row, options, err);
    if (st == LIMN_OK && !plain.failed && text && *text) {
        st = limn_picture_text_add(&whole, (const uint8_t *)limn_buf_text(&plain), plain.len, text,
                                   err);
        file = &whole;
    }
    *size = file->len;
    if (st == LIMN_OK) *out = limn_buf_take(file);
    if (st == LIMN_OK && !*out) st = limn_fail(err, LIMN_E_NOMEM, "no memory to write the picture");
    limn_buf_deinit(&plain);
    limn_buf_deinit(&whole);
    return st;
}

void limn_bytes_free(void **bytes) {
    if (!bytes) return;
    limn_mem_free(*bytes);
    *bytes = NULL;
}
