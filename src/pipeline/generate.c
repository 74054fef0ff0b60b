/* SPDX-License-Identifier: MIT */
/* The generation loop; see generate.h. */
#include "pipeline/generate.h"

#include <string.h>

enum { IDS_MAX = 1 << 24, TEXT_MAX = 1 << 28 };

void limn_generate_result_init(limn_generate_result *out) {
    *out = (limn_generate_result){.stop_id = -1};
    limn_ids_init(&out->ids, IDS_MAX);
    limn_buf_init(&out->text, TEXT_MAX);
}

void limn_generate_result_deinit(limn_generate_result *out) {
    limn_ids_deinit(&out->ids);
    limn_buf_deinit(&out->text);
}

typedef struct loop {
    const limn_generate_request *req;
    limn_generate_result *out;
    limn_reader *r;
    limn_token_picker *picker;
    limn_detok detok;
    size_t sent, searched, longest; /* bytes of out->text; longest stop string */
} loop;

static limn_status stops_check(loop *l, limn_err *err) {
    const limn_generate_request *q = l->req;
    if (q->n_stop > LIMN_STOP_STRINGS_MAX || (q->n_stop > 0 && !q->tokenizer))
        return limn_fail(err, LIMN_E_VALUE, "%zu stop strings: at most %d, and a tokenizer",
                         q->n_stop, LIMN_STOP_STRINGS_MAX);
    for (size_t i = 0; i < q->n_stop; i++) {
        size_t n = strlen(q->stop[i]);
        if (n < 1 || n > LIMN_STOP_STRING_BYTES)
            return limn_fail(err, LIMN_E_VALUE, "stop string %zu has %zu bytes: 1 to %d", i, n,
                             LIMN_STOP_STRING_BYTES);
        if (n > l->longest) l->longest = n;
    }
    return LIMN_OK;
}

static bool is_stop_id(const loop *l, int32_t id) {
    const limn_decoder_config *c = limn_reader_config(l->r);
    if (l->req->ignore_stop_ids) return false;
    for (int i = 0; i < c->n_stop; i++)
        if (c->stop[i] == id) return true;
    for (size_t i = 0; i < l->req->n_stop_ids; i++)
        if (l->req->stop_ids[i] == id) return true;
    return false;
}

/* The earliest stop string in the text; SIZE_MAX when there is none. Bytes that were searched
 * before are looked at again only as far as a string may reach back into them. */
static size_t stop_find(loop *l) {
    const limn_buf *t = &l->out->text;
    size_t found = SIZE_MAX, back = l->longest > 0 ? l->longest - 1 : 0;
    size_t from = l->searched > back ? l->searched - back : 0;
    for (size_t at = from; at < t->len && found == SIZE_MAX; at++)
        for (size_t i = 0; i < l->req->n_stop; i++) {
            size_t n = strlen(l->req->stop[i]);
            if (n <= t->len - at && memcmp(t->data + at, l->req->stop[i], n) == 0) found = at;
        }
    l->searched = t->len;
    return found;
}

/* Bytes at the end that may be the beginning of a stop string. */
static size_t held_back(const loop *l) {
    const limn_buf *t = &l->out->text;
    size_t most = 0;
    for (size_t i = 0; i < l->req->n_stop; i++)
        for (size_t n = strlen(l->req->stop[i]) - 1; n > most; n--)
            if (n <= t->len && memcmp(t->data + t->len - n, l->req->stop[i], n) == 0) most = n;
    return most;
}

static bool deliver(loop *l, const limn_pick *pick, size_t upto) {
    const limn_buf *t = &l->out->text;
    if (upto < l->sent) upto = l->sent;
    limn_generated g = {pick, t->data ? t->data + l->sent : "", upto - l->sent};
    l->sent = upto;
    if (!l->req->on_token || (!pick && g.len == 0)) return true;
    return l->req->on_token(l->req->user, &g);
}

/* Takes in one picked token; *done when the text ends with it. */
static limn_status token_add(loop *l, const limn_pick *pick, bool *done, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_generate_result *out = l->out;
    limn_ids_add(&out->ids, pick->id);
    LIMN_CHECK(err, !out->ids.failed, LIMN_E_NOMEM, "no memory for the answer");
    *done = true;
    if (is_stop_id(l, pick->id)) {
        out->finish = LIMN_FINISH_STOP_ID;
        out->stop_id = pick->id;
        return LIMN_OK;
    }
    if (l->req->tokenizer) LIMN_TRY(limn_detok_add(&l->detok, &out->text, pick->id, err));
    size_t cut = stop_find(l);
    if (cut != SIZE_MAX) {
        out->finish = LIMN_FINISH_STOP_STRING;
        out->text.len = cut;
        out->text.data[cut] = 0;
        deliver(l, pick, cut);
        return LIMN_OK;
    }
    *done = !deliver(l, pick, out->text.len - held_back(l));
    if (*done) out->finish = LIMN_FINISH_CALLER;
out:
    return st;
}

static limn_status run(loop *l, limn_err *err) {
    const limn_generate_request *q = l->req;
    limn_status st = LIMN_OK;
    const float *logits;
    LIMN_TRY(limn_reader_read(l->r, q->sequence, q->prompt, &logits, q->cancel, err));
    l->out->prompt_tokens = q->prompt->n;
    for (int64_t made = 1;; made++) {
        limn_pick pick;
        bool done;
        const uint32_t *allowed = q->allow ? q->allow(q->user) : NULL;
        LIMN_TRY(limn_token_picker_take(l->picker, &pick, logits, allowed, err));
        LIMN_TRY(token_add(l, &pick, &done, err));
        if (done) break;
        l->out->finish = LIMN_FINISH_LENGTH;
        if (q->max_tokens > 0 && made == q->max_tokens) break;
        l->out->finish = LIMN_FINISH_CONTEXT;
        if (limn_reader_room(l->r, q->sequence) == 0) break;
        limn_reader_text next = {.ids = &pick.id, .n = 1};
        LIMN_TRY(limn_reader_read(l->r, q->sequence, &next, &logits, q->cancel, err));
    }
out:
    return st;
}

limn_status limn_generate(limn_generate_result *out, limn_reader *r,
                          const limn_generate_request *req, limn_err *err) {
    limn_status st = LIMN_OK;
    loop l = {.req = req, .out = out, .r = r};
    int32_t vocab = limn_reader_config(r)->vocab, usable = 0;
    out->stop_id = -1;
    l.sent = l.searched = out->text.len;
    if (req->tokenizer) {
        size_t n = limn_tokenizer_count(req->tokenizer);
        if (n < (size_t)vocab) usable = (int32_t)n; /* rows beyond it mean nothing */
        limn_detok_init(&l.detok, req->tokenizer, LIMN_DECODE_SKIP_SPECIAL);
    }
    LIMN_TRY(stops_check(&l, err));
    LIMN_TRY(limn_token_picker_new(&l.picker, vocab, usable,
                                   req->pick ? req->pick : &limn_pick_greedy, err));
    limn_token_picker_prompt(l.picker, req->seen, req->n_seen);
    limn_token_picker_prompt(l.picker, req->prompt->ids, (size_t)req->prompt->n);
    LIMN_TRY(run(&l, err));
    if (req->tokenizer && out->finish != LIMN_FINISH_STOP_STRING)
        LIMN_TRY(limn_detok_finish(&l.detok, &out->text, err));
    deliver(&l, NULL, out->text.len);
out:
    limn_token_picker_free(&l.picker);
    return st;
}
