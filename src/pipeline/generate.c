/* SPDX-License-Identifier: MIT */
/* The generation loop; see generate.h. */
#include "pipeline/generate.h"

#include <string.h>

enum { IDS_MAX = 1 << 24, TEXT_MAX = 1 << 28, LOOP_PERIOD = 128, LOOP_TIMES = 8 };

void limn_generate_result_init(limn_generate_result *out) {
    *out = (limn_generate_result){.stop_id = -1};
    limn_ids_init(&out->ids, IDS_MAX);
    limn_buf_init(&out->text, TEXT_MAX);
}

void limn_generate_result_deinit(limn_generate_result *out) {
    limn_ids_deinit(&out->ids);
    limn_buf_deinit(&out->text);
}

struct limn_writer {
    const limn_generate_request *req;
    limn_generate_result *out;
    const limn_decoder_config *cfg;
    limn_token_picker *picker;
    limn_detok detok;
    size_t sent, searched, longest; /* bytes of out->text; longest stop string */
    int64_t made;
    int32_t same[LOOP_PERIOD]; /* [p - 1]: picks in a row that equal the one p before */
};

static limn_status stops_check(limn_writer *w, limn_err *err) {
    const limn_generate_request *q = w->req;
    if (q->n_stop > LIMN_STOP_STRINGS_MAX || (q->n_stop > 0 && !q->tokenizer))
        return limn_fail(err, LIMN_E_VALUE, "%zu stop strings: at most %d, and a tokenizer",
                         q->n_stop, LIMN_STOP_STRINGS_MAX);
    for (size_t i = 0; i < q->n_stop; i++) {
        size_t n = strlen(q->stop[i]);
        if (n < 1 || n > LIMN_STOP_STRING_BYTES)
            return limn_fail(err, LIMN_E_VALUE, "stop string %zu has %zu bytes: 1 to %d", i, n,
                             LIMN_STOP_STRING_BYTES);
        if (n > w->longest) w->longest = n;
    }
    return LIMN_OK;
}

static bool is_stop_id(const limn_writer *w, int32_t id) {
    const limn_decoder_config *c = w->cfg;
    if (w->req->ignore_stop_ids) return false;
    for (int i = 0; i < c->n_stop; i++)
        if (c->stop[i] == id) return true;
    for (size_t i = 0; i < w->req->n_stop_ids; i++)
        if (w->req->stop_ids[i] == id) return true;
    return false;
}

/* The earliest stop string in the text; SIZE_MAX when there is none. Bytes that were searched
 * before are looked at again only as far as a string may reach back into them. */
static size_t stop_find(limn_writer *w) {
    const limn_buf *t = &w->out->text;
    size_t found = SIZE_MAX, back = w->longest > 0 ? w->longest - 1 : 0;
    size_t from = w->searched > back ? w->searched - back : 0;
    for (size_t at = from; at < t->len && found == SIZE_MAX; at++)
        for (size_t i = 0; i < w->req->n_stop; i++) {
            size_t n = strlen(w->req->stop[i]);
            if (n > t->len - at || memcmp(t->data + at, w->req->stop[i], n) != 0) continue;
            found = at;
            w->out->stop = w->req->stop[i];
            break;
        }
    w->searched = t->len;
    return found;
}

/* Bytes at the end that may be the beginning of a stop string. */
static size_t held_back(const limn_writer *w) {
    const limn_buf *t = &w->out->text;
    size_t most = 0;
    for (size_t i = 0; i < w->req->n_stop; i++)
        for (size_t n = strlen(w->req->stop[i]) - 1; n > most; n--)
            if (n <= t->len && memcmp(t->data + t->len - n, w->req->stop[i], n) == 0) most = n;
    return most;
}

static bool deliver(limn_writer *w, const limn_pick *pick, size_t upto) {
    const limn_buf *t = &w->out->text;
    if (upto < w->sent) upto = w->sent;
    limn_generated g = {pick, t->data ? t->data + w->sent : "", upto - w->sent};
    w->sent = upto;
    if (!w->req->on_token || (!pick && g.len == 0)) return true;
    return w->req->on_token(w->req->user, &g);
}

/* The last `limit` picks are one piece of at most LOOP_PERIOD over and over, eight times at least.
 */
static bool is_loop(limn_writer *w) {
    const limn_ids *ids = &w->out->ids;
    int64_t limit = w->req->loop_limit;
    bool loop = false;
    for (size_t p = 1; p <= LOOP_PERIOD && p < ids->len; p++) {
        bool equal = ids->data[ids->len - 1] == ids->data[ids->len - 1 - p];
        int32_t *same = &w->same[p - 1];
        *same = equal && *same < INT32_MAX ? *same + 1 : 0;
        int64_t length = *same + (int64_t)p;
        loop = loop || (length >= limit && length >= LOOP_TIMES * (int64_t)p);
    }
    return loop && limit > 0;
}

/* Takes in one picked token; *done when the text ends with it. */
static limn_status token_add(limn_writer *w, const limn_pick *pick, bool *done, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_generate_result *out = w->out;
    limn_ids_add(&out->ids, pick->id);
    LIMN_CHECK(err, !out->ids.failed, LIMN_E_NOMEM, "no memory for the answer");
    *done = true;
    if (is_stop_id(w, pick->id)) {
        out->finish = LIMN_FINISH_STOP_ID;
        out->stop_id = pick->id;
        return LIMN_OK;
    }
    if (w->req->tokenizer) LIMN_TRY(limn_detok_add(&w->detok, &out->text, pick->id, err));
    size_t cut = stop_find(w);
    if (cut != SIZE_MAX) {
        out->finish = LIMN_FINISH_STOP_STRING;
        out->text.len = cut;
        out->text.data[cut] = 0;
        deliver(w, pick, cut);
        return LIMN_OK;
    }
    *done = !deliver(w, pick, out->text.len - held_back(w));
    if (*done) out->finish = LIMN_FINISH_CALLER;
out:
    return st;
}

limn_status limn_writer_new(limn_writer **out, limn_generate_result *result,
                            const limn_decoder_config *cfg, const limn_generate_request *req,
                            limn_err *err) {
    limn_status st = LIMN_OK;
    int32_t usable = 0;
    limn_writer *w = limn_mem_calloc(1, sizeof *w);
    *out = NULL;
    LIMN_CHECK(err, w, LIMN_E_NOMEM, "no memory for a writer");
    w->req = req;
    w->out = result;
    w->cfg = cfg;
    w->sent = w->searched = result->text.len;
    result->stop_id = -1;
    if (req->tokenizer) {
        size_t n = limn_tokenizer_count(req->tokenizer);
        if (n < (size_t)cfg->vocab) usable = (int32_t)n; /* rows beyond it mean nothing */
        limn_detok_init(&w->detok, req->tokenizer, LIMN_DECODE_SKIP_SPECIAL);
    }
    LIMN_TRY(stops_check(w, err));
    LIMN_TRY(limn_token_picker_new(&w->picker, cfg->vocab, usable,
                                   req->pick ? req->pick : &limn_pick_greedy, err));
    limn_token_picker_prompt(w->picker, req->seen, req->n_seen);
    limn_token_picker_prompt(w->picker, req->prompt->ids, (size_t)req->prompt->n);
    *out = w;
    w = NULL;
out:
    limn_writer_free(&w);
    return st;
}

void limn_writer_free(limn_writer **writer) {
    if (!writer || !*writer) return;
    limn_token_picker_free(&(*writer)->picker);
    limn_mem_free(*writer);
    *writer = NULL;
}

limn_status limn_writer_take(limn_writer *w, const float *logits, int64_t room, bool *done,
                             limn_err *err) {
    const limn_generate_request *q = w->req;
    limn_status st = LIMN_OK;
    limn_pick pick;
    const uint32_t *allowed = NULL;
    if (q->allow) LIMN_TRY(q->allow(q->user, &allowed, err));
    LIMN_TRY(limn_token_picker_take(w->picker, &pick, logits, allowed, err));
    if (q->picked) LIMN_TRY(q->picked(q->user, pick.id, err));
    w->made++;
    LIMN_TRY(token_add(w, &pick, done, err));
    if (*done) return LIMN_OK;
    *done = true;
    w->out->finish = LIMN_FINISH_LOOP;
    if (is_loop(w)) return LIMN_OK;
    w->out->finish = LIMN_FINISH_LENGTH;
    if (q->max_tokens > 0 && w->made == q->max_tokens) return LIMN_OK;
    w->out->finish = LIMN_FINISH_CONTEXT;
    *done = room == 0;
out:
    return st;
}

limn_status limn_writer_finish(limn_writer *w, limn_err *err) {
    limn_generate_result *out = w->out;
    if (w->req->tokenizer && out->finish != LIMN_FINISH_STOP_STRING) {
        limn_status st = limn_detok_finish(&w->detok, &out->text, err);
        if (st != LIMN_OK) return st;
    }
    deliver(w, NULL, out->text.len);
    return LIMN_OK;
}

limn_status limn_generate(limn_generate_result *out, limn_reader *r,
                          const limn_generate_request *req, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_writer *w = NULL;
    const float *logits;
    LIMN_TRY(limn_writer_new(&w, out, limn_reader_config(r), req, err));
    LIMN_TRY(limn_reader_read(r, req->sequence, req->prompt, &logits, req->cancel, err));
    out->prompt_tokens = req->prompt->n;
    for (;;) {
        bool done;
        LIMN_TRY(limn_writer_take(w, logits, limn_reader_room(r, req->sequence), &done, err));
        if (done) break;
        limn_reader_text next = {.ids = out->ids.data + out->ids.len - 1, .n = 1};
        LIMN_TRY(limn_reader_read(r, req->sequence, &next, &logits, req->cancel, err));
    }
    LIMN_TRY(limn_writer_finish(w, err));
out:
    limn_writer_free(&w);
    return st;
}
