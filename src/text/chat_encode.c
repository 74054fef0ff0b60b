/* SPDX-License-Identifier: MIT */
/*
 * Segments -> ids. Text between two control tokens is tokenised as one run, also when a video's
 * timestamps are part of it (transformers processing_qwen3_vl.py: "<%.1f seconds>" before each
 * temporal slice).
 */
#include <stdio.h>
#include <string.h>

#include "text/chat.h"

typedef struct chat_encoder {
    limn_ids *ids;
    const limn_tokenizer *t;
    const limn_chat_media *media;
    limn_buf run; /* text that is not tokenised yet */
    limn_chat_slot *slot;
    size_t n, cap;
    limn_err *err;
} chat_encoder;

static limn_status flush(chat_encoder *e) {
    limn_status st = LIMN_OK;
    if (e->run.failed) return limn_fail(e->err, LIMN_E_NOMEM, "no memory for a chat");
    if (e->run.len) st = limn_tokenizer_encode(e->t, e->ids, e->run.data, e->run.len, 0, e->err);
    limn_buf_clear(&e->run);
    return st;
}

static limn_status find_control(chat_encoder *e, const char *name, int32_t *id) {
    *id = limn_tokenizer_find(e->t, name);
    if (*id < 0 || !limn_tokenizer_is_added(e->t, *id))
        return limn_fail(e->err, LIMN_E_MISSING, "the tokenizer has no %s token", name);
    return LIMN_OK;
}

static limn_status put_control(chat_encoder *e, const char *name) {
    int32_t id;
    limn_status st = find_control(e, name, &id);
    if (st == LIMN_OK) st = flush(e);
    if (st == LIMN_OK) limn_ids_add(e->ids, id);
    return st;
}

/* `count` placeholders; remembers where they are. */
static limn_status put_pads(chat_encoder *e, const limn_chat_segment *s, uint32_t slice,
                            uint32_t count) {
    bool image = s->kind == LIMN_SEGMENT_IMAGE;
    int32_t id;
    limn_status st;
    LIMN_TRY(find_control(e, image ? "<|image_pad|>" : "<|video_pad|>", &id));
    LIMN_TRY(flush(e));
    if (e->n == e->cap) {
        size_t cap = e->cap ? e->cap * 2 : 16;
        void *p = limn_mem_realloc(e->slot, cap * sizeof *e->slot);
        LIMN_CHECK(e->err, p, LIMN_E_NOMEM, "no memory for a chat");
        e->slot = p;
        e->cap = cap;
    }
    e->slot[e->n++] = (limn_chat_slot){s->kind, s->media, slice, e->ids->len, count};
    for (uint32_t i = 0; i < count && !e->ids->failed; i++) limn_ids_add(e->ids, id);
out:
    return st;
}

static limn_status put_video(chat_encoder *e, const limn_chat_segment *s) {
    const limn_chat_media *m = e->media;
    limn_status st = LIMN_OK;
    LIMN_CHECK(e->err, m && s->media < m->n_videos, LIMN_E_VALUE, "video %u was not given",
               s->media + 1);
    for (uint32_t k = 0; k < m->video_slices[s->media]; k++) {
        limn_buf_addf(&e->run, "<%.1f seconds>", m->video_times[s->media][k]);
        LIMN_TRY(put_control(e, "<|vision_start|>"));
        LIMN_TRY(put_pads(e, s, k, m->video_tokens[s->media]));
        LIMN_TRY(put_control(e, "<|vision_end|>"));
    }
out:
    return st;
}

static limn_status put_segment(chat_encoder *e, const limn_chat_segment *s) {
    const limn_chat_media *m = e->media;
    switch (s->kind) {
    case LIMN_SEGMENT_TEXT: limn_buf_add(&e->run, s->text, s->len); return LIMN_OK;
    case LIMN_SEGMENT_CONTROL: return put_control(e, s->text);
    case LIMN_SEGMENT_VIDEO: return put_video(e, s);
    case LIMN_SEGMENT_IMAGE:
        if (!m || s->media >= m->n_images)
            return limn_fail(e->err, LIMN_E_VALUE, "image %u was not given", s->media + 1);
        return put_pads(e, s, 0, m->image_tokens[s->media]);
    }
    return limn_fail(e->err, LIMN_E_VALUE, "a chat segment has no known kind");
}

static limn_status check_counts(const limn_chat_segment *s, size_t n, const limn_chat_media *m,
                                limn_err *err) {
    size_t images = 0, videos = 0;
    for (size_t i = 0; i < n; i++) {
        images += s[i].kind == LIMN_SEGMENT_IMAGE;
        videos += s[i].kind == LIMN_SEGMENT_VIDEO;
    }
    if ((m ? m->n_images : 0) != images || (m ? m->n_videos : 0) != videos)
        return limn_fail(err, LIMN_E_VALUE,
                         "the chat names %zu images and %zu videos, %zu and %zu were given", images,
                         videos, m ? m->n_images : 0, m ? m->n_videos : 0);
    return LIMN_OK;
}

limn_status limn_chat_encode(limn_ids *ids, limn_chat_slot **slots, size_t *n_slots,
                             const limn_tokenizer *t, const limn_chat_segment *segments,
                             size_t count, const limn_chat_media *media, limn_err *err) {
    limn_status st;
    chat_encoder e = {.ids = ids, .t = t, .media = media, .err = err};
    limn_buf_init(&e.run, (size_t)512 << 20);
    LIMN_TRY(check_counts(segments, count, media, err));
    for (size_t i = 0; i < count; i++) LIMN_TRY(put_segment(&e, &segments[i]));
    LIMN_TRY(flush(&e));
    LIMN_CHECK(err, !ids->failed, LIMN_E_LIMIT, "the chat has more than %zu tokens", ids->limit);
    *slots = e.slot;
    *n_slots = e.n;
    e.slot = NULL;
out:
    limn_mem_free(e.slot);
    limn_buf_deinit(&e.run);
    return st;
}
