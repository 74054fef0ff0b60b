/* SPDX-License-Identifier: MIT */
/* Photos, TIFF pages, and the frames of GIF and WebP, by the picture library (image_stack.h). */
#include "base/mem.h"
#include "image/image_stack.h"
#include "media/media_impl.h"

typedef struct stack_reader {
    limn_image_stack stack;
    int64_t max_pixels;
    limn_image *first; /* read ahead to know its size upright; NULL once handed out */
    int64_t first_index;
} stack_reader;

static void close_stack(void *self) {
    stack_reader *r = self;
    limn_image_free(&r->first);
    limn_image_stack_deinit(&r->stack);
    limn_mem_free(r);
}

static limn_status read_stack(limn_image **out, void *self, int64_t index, limn_err *err) {
    stack_reader *r = self;
    if (r->first && r->first_index == index) {
        *out = r->first;
        r->first = NULL;
        return LIMN_OK;
    }
    limn_status st = limn_image_stack_read(out, &r->stack, (int)index, r->max_pixels, err);
    if (st == LIMN_OK)
        st = limn_media_check_size("a picture", (*out)->width, (*out)->height, r->max_pixels, err);
    return st;
}

static limn_status measure_stack(int *width, int *height, void *self, int64_t index,
                                 limn_err *err) {
    stack_reader *r = self;
    limn_status st = read_stack(&r->first, self, index, err);
    if (st != LIMN_OK) return st;
    r->first_index = index;
    *width = r->first->width;
    *height = r->first->height;
    return LIMN_OK;
}

limn_status limn_media_open_stack(limn_media_reader *out, const limn_media_input *in,
                                  limn_err *err) {
    stack_reader *r = limn_mem_calloc(1, sizeof *r);
    if (!r) return limn_fail(err, LIMN_E_NOMEM, "no memory for a picture");
    r->max_pixels = in->max_pixels;
    limn_status st = limn_image_stack_init(&r->stack, in->data, in->size, err);
    if (st == LIMN_OK)
        st = limn_media_check_size("a picture", r->stack.width, r->stack.height, in->max_pixels,
                                   err);
    if (st != LIMN_OK) {
        close_stack(r);
        return st;
    }
    const limn_image_stack *s = &r->stack;
    *out = (limn_media_reader){.self = r,
                               .kind = s->animated    ? LIMN_MEDIA_VIDEO
                                       : s->count > 1 ? LIMN_MEDIA_PAGES
                                                      : LIMN_MEDIA_PICTURE,
                               .format = s->format,
                               .total = s->count,
                               .fps = s->animated ? s->count / s->seconds : 0,
                               .measure = measure_stack,
                               .read = read_stack,
                               .close = close_stack};
    return LIMN_OK;
}
