/* SPDX-License-Identifier: MIT */
/* Media intake: whatever the bytes are, at most four small pictures come out, or an error text. */
#include "image/image.h"
#include "media/media.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const limn_media_options options = {.max_pixels = 1 << 18, .frames = 4, .last = 1, .dpi = 36};
    limn_err err = {0};
    limn_media *m;
    if (limn_media_open_memory(&m, "fuzz", data, size, &options, &err) != LIMN_OK) {
        if (m || !err.text[0]) __builtin_trap();
        return 0;
    }
    const limn_media_info *info = limn_media_info_of(m);
    limn_image *im = NULL;
    for (int i = 0; i <= info->count; i++) {
        if (limn_media_next(&im, m, &err) != LIMN_OK) break;
        if (!im) {
            if (i != info->count) __builtin_trap();
            break;
        }
        if (im->channels != 3 || (int64_t)im->width * im->height > options.max_pixels)
            __builtin_trap();
        limn_image_free(&im);
    }
    limn_media_close(&m);
    return 0;
}
