/* SPDX-License-Identifier: MIT */
/*
 * What a decoding process answers after a stranger's file has taken it over: any bytes. Pictures,
 * texts, clips and documents that come of them keep to their bounds, or there is an error text.
 * With the statics of the units that read answers; the line is a socket that holds the input.
 */
#include "media/decode_visit.c"

static limn_status begin_with_input(limn_decode_visit **out, limn_decoders *d, limn_decode_ask ask,
                                    const void *data, size_t size, const atomic_bool *cancel,
                                    limn_err *err);
#define limn_decode_visit_begin begin_with_input
#include "media/decode_away.c"
#undef limn_decode_visit_begin

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *answer;
static size_t answer_size;

static void demand(bool ok) {
    if (!ok) __builtin_trap();
}

static limn_status begin_with_input(limn_decode_visit **out, limn_decoders *d, limn_decode_ask ask,
                                    const void *data, size_t size, const atomic_bool *cancel,
                                    limn_err *err) {
    int pair[2];
    (void)ask, (void)data, (void)size, (void)err;
    demand(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    demand(send(pair[1], answer, answer_size, MSG_DONTWAIT) == (ssize_t)answer_size);
    shutdown(pair[1], SHUT_WR); /* open to read: steps can be sent */
    *out = limn_mem_calloc(1, sizeof **out);
    demand(*out != NULL);
    **out = (limn_decode_visit){.decoders = d, .line = pair[0], .process = -1, .cancel = cancel};
    (*out)->last = limn_clock_now() + 1;
    d->busy++;
    close(pair[1]);
    return LIMN_OK;
}

static void open_media(limn_decoders *d) {
    limn_media_reader r = {0};
    limn_media_input in = {.data = (const uint8_t *)"", .max_pixels = 1 << 16, .dpi = 72};
    limn_err err = {0};
    if (limn_media_open_away(&r, d, &in, &err) != LIMN_OK) {
        demand(err.text[0]);
        return;
    }
    demand(r.total >= 1 && r.format[0] && r.fps >= 0 && r.fps <= 1e6);
    for (int i = 0; i < 4; i++) {
        limn_image *image = NULL;
        int w = 0, h = 0;
        if (i & 1 ? r.measure(&w, &h, r.self, 0, &err) != LIMN_OK
                  : r.read(&image, r.self, 0, &err) != LIMN_OK)
            break;
        if (image) w = image->width, h = image->height;
        demand(w >= 1 && h >= 1 && (int64_t)w * h <= in.max_pixels);
        limn_image_free(&image);
    }
    r.close(r.self);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static limn_decoders d = {.seconds = 1, .most = 4, .control = -1, .report = -1};
    static bool begun;
    limn_image *image = NULL;
    char *text = NULL;
    limn_err err = {0};
    if (size < 1 || size > 65536) return 0;
    if (!begun) pthread_mutex_init(&d.lock, NULL), pthread_cond_init(&d.freed, NULL);
    begun = true;
    answer = data + 1;
    answer_size = size - 1;
    if (data[0] % 3 == 0) {
        if (decode(&image, &d, "", 0, &err) == LIMN_OK)
            demand(image->width >= 1 && image->height >= 1);
        else
            demand(!image && err.text[0]);
    } else if (data[0] % 3 == 1) {
        demand(decode_text(&text, &d, "", 0, &err) == LIMN_OK ? text != NULL : err.text[0] != 0);
    } else {
        open_media(&d);
    }
    limn_image_free(&image);
    limn_mem_free(text);
    demand(d.busy == 0);
    return 0;
}
