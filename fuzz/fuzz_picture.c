/* SPDX-License-Identifier: MIT */
/* The containers of strangers' pictures: PNG chunks, JPEG segments, RIFF, EXIF. */
#include <string.h>

#include "image/picture_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = NULL, *again = NULL;
    limn_buf file;
    if (limn_picture_text_get(&text, data, size, NULL) == LIMN_OK && !text) __builtin_trap();
    limn_buf_init(&file, 64 << 20);
    if (limn_picture_text_add(&file, data, size, "a cat \xe2\x9c\xa8", NULL) == LIMN_OK)
        limn_picture_text_get(&again, (const uint8_t *)limn_buf_text(&file), file.len, NULL);
    limn_buf_deinit(&file);
    limn_text_free(&text);
    limn_text_free(&again);
    if (limn_exif_get_comment(&text, data, size, NULL) == LIMN_OK && !text) __builtin_trap();
    limn_text_free(&text);
    return 0;
}
