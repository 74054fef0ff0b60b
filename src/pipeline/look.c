/* SPDX-License-Identifier: MIT */
/* One question from the conversation to the last token; see see.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "pipeline/call_schema.h"
#include "pipeline/see.h"

/* ---- preparing ---- */

/* What the caller left open: the advice of the model's makers. */
static limn_status see_settle(limn_look *l, const limn_params *see, limn_err *err) {
    limn_status st = LIMN_OK;
    const limn_params *advice = l->seer->model->advice;
    const limn_param_table *t = limn_param_table_get(LIMN_PARAMS_SEE);
    limn_buf text;
    limn_buf_init(&text, 4096);
    LIMN_TRY(limn_params_copy(&l->see, see, err));
    for (int i = 0; i < t->count; i++) {
        const limn_param *p = &t->rows[i];
        if (advice->source[i] != LIMN_FROM_MODEL || !limn_param_may_set(l->see, p, LIMN_FROM_MODEL))
            continue;
        limn_buf_clear(&text);
        limn_param_format(&text, advice, p, false, 0);
        LIMN_TRY(limn_params_set(l->see, p->name, limn_buf_text(&text), LIMN_FROM_MODEL, err));
    }
out:
    limn_buf_deinit(&text);
    return st;
}

static limn_status bias_read(limn_look *l, const limn_seeing *o, limn_err *err) {
    limn_status st = LIMN_OK;
    l->bias = limn_mem_calloc((size_t)o->logit_bias.count + 1, sizeof *l->bias);
    LIMN_CHECK(err, l->bias, LIMN_E_NOMEM, "no memory for a question");
    for (int i = 0; i < o->logit_bias.count; i++) {
        const char *text = o->logit_bias.item[i], *colon = strchr(text, ':');
        char id[24];
        int64_t token;
        double add;
        snprintf(id, sizeof id, "%.*s", colon ? (int)(colon - text) : 0, text);
        LIMN_CHECK(err,
                   colon && limn_int_parse(&token, id) && limn_real_parse(&add, colon + 1) &&
                       token >= 0 && token < l->seer->model->cfg.text.vocab && add >= -100 &&
                       add <= 100,
                   LIMN_E_VALUE,
                   "logit_bias \"%.40s\": must be TOKEN-ID:BIAS, a token below %d and a bias from "
                   "-100 to 100",
                   text, l->seer->model->cfg.text.vocab);
        l->bias[i] = (limn_logit_bias){(int32_t)token, add <= -100 ? -INFINITY : (float)add};
    }
out:
    return st;
}

static limn_status pick_settle(limn_look *l, const limn_seeing *o, limn_err *err) {
    uint32_t random;
    limn_status st = bias_read(l, o, err);
    if (st != LIMN_OK) return st;
    l->seed = o->seed;
    if (!limn_seeing_has(o, "seed")) {
        if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
            return limn_fail(err, LIMN_E_IO, "the system has no random numbers");
        l->seed = random;
    }
    l->pick = (limn_pick_options){.temperature = (float)o->temperature,
                                  .top_k = (int)o->top_k,
                                  .top_p = (float)o->top_p,
                                  .min_p = (float)o->min_p,
                                  .repetition = (float)o->repetition_penalty,
                                  .presence = (float)o->presence_penalty,
                                  .frequency = (float)o->frequency_penalty,
                                  .seed = (uint64_t)l->seed,
                                  .bias = l->bias,
                                  .n_bias = (size_t)o->logit_bias.count,
                                  .top_logprobs = (int)o->logprobs};
    return LIMN_OK;
}

/* The grammar of the answer, if one was asked for; it begins after the thinking. */
static limn_status constraint_make(limn_look *l, const limn_seeing *o, const limn_talk *talk,
                                   bool thinking, limn_err *err) {
    char *call = NULL;
    limn_status st = LIMN_OK;
    limn_seer *s = l->seer;
    const limn_vl_model *m = s->model;
    l->wait_for = -1;
    if (!o->schema[0] && !o->grammar[0] && !talk->must_call) return LIMN_OK;
    LIMN_CHECK(err, (o->schema[0] != 0) + (o->grammar[0] != 0) + talk->must_call == 1, LIMN_E_VALUE,
               "schema, grammar and a call that must be made exclude each other");
    limn_schema_options space = {.space = LIMN_JSON_ONE};
    if (talk->must_call) LIMN_TRY(limn_call_schema(&call, talk->tools, talk->n_tools, err));
    const char *schema = call ? call : o->schema;
    if (schema[0])
        LIMN_TRY(limn_grammar_parse_schema(&l->grammar, schema, strlen(schema), &space, err));
    else
        LIMN_TRY(limn_grammar_parse(&l->grammar, o->grammar, strlen(o->grammar), err));
    if (!s->trie) LIMN_TRY(limn_token_trie_new(&s->trie, m->tokenizer, err));
    LIMN_TRY(
        limn_constraint_new(&l->constraint, l->grammar, s->trie, m->stops.data, m->stops.len, err));
    l->mask = limn_mem_calloc((size_t)m->cfg.text.vocab / 32 + 3, sizeof *l->mask);
    LIMN_CHECK(err, l->mask, LIMN_E_NOMEM, "no memory for a grammar");
    if (thinking) l->wait_for = limn_tokenizer_find(m->tokenizer, "</think>");
out:
    limn_mem_free(call);
    return st;
}

/* The bits of allowed tokens, in the form that the picker takes. */
static limn_status allow(void *user, const uint32_t **ids, limn_err *err) {
    limn_look *l = user;
    const uint64_t *mask;
    *ids = NULL;
    if (l->wait_for >= 0) return LIMN_OK;
    limn_status st = limn_constraint_mask(l->constraint, &mask, err);
    if (st != LIMN_OK) return st;
    size_t words = (size_t)l->seer->model->cfg.text.vocab / 32 + 1,
           have = (limn_tokenizer_count(l->seer->model->tokenizer) + 63) / 64 * 2;
    for (size_t i = 0; i < words; i++)
        l->mask[i] = i < have ? (uint32_t)(mask[i / 2] >> (i % 2 * 32)) : 0;
    *ids = l->mask;
    return LIMN_OK;
}

static limn_status picked(void *user, int32_t id, limn_err *err) {
    limn_look *l = user;
    const limn_ids *stops = &l->seer->model->stops;
    if (l->wait_for >= 0) {
        if (id == l->wait_for) l->wait_for = -1;
        return LIMN_OK;
    }
    for (size_t i = 0; i < stops->len; i++)
        if (stops->data[i] == id) return LIMN_OK; /* the end is no part of the text */
    return limn_constraint_accept(l->constraint, id, err);
}

/* ---- answers that are given ---- */

limn_status limn_look_score(limn_look *l, const char *lead, const char *const *texts, size_t n,
                            bool whole, limn_err *err) {
    limn_status st = LIMN_OK;
    const limn_vl_model *m = l->seer->model;
    limn_ids *ids = &l->branch_ids;
    int32_t end = limn_tokenizer_find(m->tokenizer, "<|im_end|>");
    if (end < 0 && m->stops.len > 0) end = m->stops.data[0];
    LIMN_CHECK(err, l->stage == LIMN_LOOK_ENCODE && !l->branches && n > 0, LIMN_E_INTERNAL,
               "answers are given before the first step");
    l->branches = limn_mem_calloc(n, sizeof *l->branches);
    LIMN_CHECK(err, l->branches, LIMN_E_NOMEM, "no memory for a question");
    limn_ids_init(ids, 1 << 24);
    LIMN_TRY(limn_tokenizer_encode(m->tokenizer, &l->prompt.ids, lead, strlen(lead), 0, err));
    for (size_t i = 0; i < n; i++) {
        size_t before = ids->len;
        LIMN_TRY(limn_tokenizer_encode(m->tokenizer, ids, texts[i], strlen(texts[i]), 0, err));
        if (whole && end >= 0) limn_ids_add(ids, end);
        LIMN_CHECK(err, !ids->failed && ids->len > before, LIMN_E_VALUE,
                   "an empty answer has no probability");
        l->branches[i].n = (int64_t)(ids->len - before);
    }
    LIMN_CHECK(err, !l->prompt.ids.failed, LIMN_E_NOMEM, "no memory for a question");
    const int32_t *at = ids->data; /* the list has stopped to move */
    for (size_t i = 0; i < n; at += l->branches[i++].n) l->branches[i].ids = at;
    l->n_branches = n;
out:
    return st;
}

/* ---- what is said ---- */

static limn_logprob logprob_of(const limn_look *l, int32_t id, float value) {
    limn_text_view v = limn_tokenizer_bytes(l->seer->model->tokenizer, id);
    return (limn_logprob){id, value, v.data ? v.data : "", v.len};
}

static const limn_token_logprobs *logprobs_add(limn_look *l, const limn_pick *pick) {
    if (l->n_tokens == l->cap_tokens) {
        size_t cap = l->cap_tokens ? l->cap_tokens * 2 : 64;
        void *grown = limn_mem_realloc(l->tokens, cap * sizeof *l->tokens);
        if (!grown) return NULL;
        l->tokens = grown;
        l->cap_tokens = cap;
    }
    limn_token_logprobs *t = &l->tokens[l->n_tokens++];
    t->token = logprob_of(l, pick->id, pick->logprob);
    t->n_top = pick->n_top;
    for (int i = 0; i < pick->n_top; i++)
        t->top[i] = logprob_of(l, pick->top[i].id, pick->top[i].logprob);
    return t;
}

static bool speak(limn_look *l, limn_said_kind kind, const char *text, size_t len) {
    limn_said said = {.kind = kind, .text = text, .len = len};
    if (!l->watch.said) return true;
    if (!l->watch.said(l->watch.user, &said)) l->stopped = true;
    return !l->stopped;
}

/* A limn_on_token_fn. Probabilities come with an empty text, as soon as the token is picked: the
 * text that it belongs to may be held back. */
static bool on_token(void *user, const limn_generated *g) {
    limn_look *l = user;
    if (g->pick && limn_seeing_has(limn_seeing_of(l->see), "logprobs")) {
        limn_said said = {.kind = l->sink.kind, .text = "", .logprobs = logprobs_add(l, g->pick)};
        if (!said.logprobs) return false;
        if (l->watch.said && !l->watch.said(l->watch.user, &said)) l->stopped = true;
    }
    return !l->stopped && limn_look_sink_add(l, speak, g->text, g->len, false);
}

static void report(const limn_look *l, const char *stage, int64_t done, int64_t all, double count,
                   const char *unit) {
    double seconds = limn_clock_now() - l->stage_began;
    if (!l->watch.event) return;
    limn_event e = {.stage = stage,
                    .images = (int)l->prompt.n_pictures,
                    .step = (int)done,
                    .steps = (int)all,
                    .step_seconds = done > 0 ? seconds / (double)done : 0,
                    .left_seconds = done > 0 ? seconds / (double)done * (double)(all - done) : -1,
                    .rate = seconds > 0 && done > 0 ? count / seconds : 0,
                    .unit = done > 0 ? unit : NULL};
    l->watch.event(l->watch.user, &e);
}

/* ---- a new look ---- */

/* Pictures that are not in the slot's cache; what is encoded already is taken at once. */
static limn_status pictures_prepare(limn_look *l, limn_err *err) {
    limn_status st = LIMN_OK;
    const limn_talk_prompt *p = &l->prompt;
    const limn_vision_config *v = &l->seer->model->cfg.vision;
    size_t need = 0, pixels = 0,
           token = (size_t)(v->patch * v->merge) * (size_t)(v->patch * v->merge);
    size_t row = (size_t)(1 + v->n_deepstack) * (size_t)v->out_width * sizeof(float);
    l->rows = limn_mem_calloc(p->n_pictures + 1, sizeof *l->rows);
    LIMN_CHECK(err, l->rows, LIMN_E_NOMEM, "no memory for a question");
    for (size_t i = 0; i < p->n_pictures; i++) {
        const limn_talk_picture *pic = &p->pictures[i];
        bool in_slot = pic->place.at < l->cached;
        size_t area = (size_t)pic->pixels.height * (size_t)pic->pixels.width;
        pixels += 2 * 3 * area + area / token * row;
        if (!in_slot) l->rows[i] = limn_picture_encoder_find(l->seer->encoder, &pic->key);
        if (in_slot || l->rows[i]) {
            l->cached_images++;
            continue;
        }
        size_t bytes;
        LIMN_TRY(limn_picture_encoder_need(&bytes, l->seer->encoder, pic->pixels.height,
                                           pic->pixels.width, err));
        if (bytes > need) need = bytes;
    }
    if (l->seer->encoder) need += limn_picture_encoder_bytes(l->seer->encoder);
    l->memory = l->seer->need + need + pixels;
    size_t limit = (size_t)l->seer->engine->memory;
    LIMN_CHECK(err, limit == 0 || l->memory <= limit, LIMN_E_LIMIT,
               "weights, cache and the largest picture take up to %.0f MB together, more than %.0f "
               "MB of memory: make the picture smaller (image_max_tokens) or the context (context)",
               (double)l->memory / 1e6, (double)limit / 1e6);
out:
    return st;
}

static limn_status request_make(limn_look *l, const limn_seeing *o, limn_err *err) {
    const limn_vl_model *m = l->seer->model;
    if (o->stop.count > LIMN_STOP_STRINGS_MAX)
        return limn_fail(err, LIMN_E_VALUE, "%d stop texts: at most %d", o->stop.count,
                         LIMN_STOP_STRINGS_MAX);
    l->text.ids = l->prompt.ids.data;
    l->text.n = (int64_t)l->prompt.ids.len;
    l->draft_tokens = o->draft_tokens;
    l->request = (limn_generate_request){
        .prompt = &l->text,
        .max_tokens = o->max_tokens,
        .loop_limit = o->loop_limit,
        .pick = &l->pick,
        .tokenizer = m->tokenizer,
        .stop_ids = m->stops.data,
        .n_stop_ids = m->stops.len,
        .stop = (const char *const *)o->stop.item,
        .n_stop = (size_t)o->stop.count,
        .allow = l->constraint ? allow : NULL,
        .picked = l->constraint ? picked : NULL,
        .on_token = on_token,
        .user = l,
    };
    return limn_writer_new(&l->writer, &l->result, &m->cfg.text, &l->request, err);
}

static void append(limn_seer *s, limn_look *l) {
    if (s->last)
        s->last->next = l;
    else
        s->first = l;
    s->last = l;
}

static void remove_look(limn_seer *s, limn_look *l) {
    limn_look *before = NULL;
    for (limn_look *k = s->first; k; before = k, k = k->next) {
        if (k != l) continue;
        if (before)
            before->next = l->next;
        else
            s->first = l->next;
        if (s->last == l) s->last = before;
        return;
    }
}

/* "3", "2-5", "4-" */
static limn_status pages_read(limn_media_options *m, const char *text, limn_err *err) {
    char *end;
    long first = strtol(text, &end, 10), last = first;
    bool ok = end != text && first >= 1 && first <= 1000000;
    if (ok && *end == '-') {
        const char *from = end + 1;
        last = *from ? strtol(from, &end, 10) : 0; /* 0: to the end */
        ok = *from ? end != from && last >= first && last <= 1000000 : true;
        if (!*from) end++;
    }
    if (!ok || *end)
        return limn_fail(err, LIMN_E_VALUE, "pages \"%.40s\": must be like 3, 2-5 or 4-", text);
    m->first = (int)first;
    m->last = (int)last;
    return LIMN_OK;
}

limn_status limn_media_settle(limn_media_options *m, const limn_seeing *o, limn_err *err) {
    *m = (limn_media_options){.fps = o->fps,
                              .frames = (int)o->frames,
                              .max_frames = (int)o->max_frames,
                              .start = o->start,
                              .end = o->end,
                              .dpi = o->dpi};
    if (m->max_frames < LIMN_MEDIA_MIN_FRAMES) m->min_frames = m->max_frames;
    return o->pages[0] ? pages_read(m, o->pages, err) : LIMN_OK;
}

limn_status limn_look_new(limn_look **out, limn_seer *s, const limn_talk *talk,
                          const limn_params *see, const limn_look_watch *watch, limn_err *err) {
    limn_status st = LIMN_OK;
    const limn_vl_model *m = s->model;
    limn_look *l = limn_mem_calloc(1, sizeof *l);
    *out = NULL;
    LIMN_CHECK(err, l, LIMN_E_NOMEM, "no memory for a question");
    l->seer = s;
    l->began = limn_clock_now();
    limn_generate_result_init(&l->result);
    if (watch) l->watch = *watch;
    LIMN_TRY(see_settle(l, see, err));
    const limn_seeing *o = limn_seeing_of(l->see);
    bool thinking = m->chat_template == LIMN_CHAT_QWEN3VL_THINKING && !talk->must_call;
    limn_said_kind first = talk->must_call ? LIMN_SAID_CALL
                           : thinking      ? LIMN_SAID_REASONING
                                           : LIMN_SAID_TEXT;
    LIMN_TRY(limn_look_sink_init(&l->sink, first, talk->n_tools > 0));
    LIMN_CHECK(err, limn_seer_has_room(s), LIMN_E_LIMIT,
               "all %d conversations are in use (sequences)", s->n_slots);
    LIMN_TRY(pick_settle(l, o, err));
    LIMN_TRY(constraint_make(l, o, talk, thinking, err));
    limn_talk_options t = {.min_tokens = o->image_min_tokens,
                           .max_tokens = o->image_max_tokens,
                           .number_pictures = o->number_pictures,
                           .no_thinking = m->can_choose_thinking && !o->thinking,
                           .system = o->system,
                           .context = s->context};
    LIMN_TRY(limn_media_settle(&t.media, o, err));
    t.media.cancel = l->watch.cancel;
    LIMN_TRY(limn_talk_prompt_make(&l->prompt, m, talk, &t, err));
    LIMN_TRY(request_make(l, o, err));
    limn_seer_slot *slot = limn_seer_slot_take(s, &l->prompt, &l->cached);
    LIMN_CHECK(err, slot, LIMN_E_INTERNAL, "a free conversation was lost");
    LIMN_TRY(limn_seer_slot_set(slot, &l->prompt, l->cached, err));
    LIMN_TRY(pictures_prepare(l, err));
    slot->look = l;
    l->slot = slot;
    append(s, l);
    l->stage_began = limn_clock_now();
    *out = l;
    l = NULL;
out:
    limn_look_free(&l);
    return st;
}

/* ---- pieces of work ---- */

bool limn_look_is_cancelled(const limn_look *l) {
    const atomic_bool *flag = limn_cancel_flag(l->watch.cancel);
    return flag && atomic_load_explicit(flag, memory_order_relaxed);
}

/* Encodes the next picture that nobody has encoded yet. */
static limn_status encode_next(limn_look *l) {
    const limn_talk_prompt *p = &l->prompt;
    limn_picture_encoder *e = l->seer->encoder;
    const limn_vision_config *v = &l->seer->model->cfg.vision;
    for (; l->encoded < p->n_pictures; l->encoded++) {
        const limn_talk_picture *pic = &p->pictures[l->encoded];
        if (pic->place.at < l->cached || l->rows[l->encoded]) continue;
        /* the same picture may have come earlier in this very conversation */
        l->rows[l->encoded] = limn_picture_encoder_find(e, &pic->key);
        if (l->rows[l->encoded]) {
            l->cached_images++;
            continue;
        }
        report(l, "image", (int64_t)l->encoded, (int64_t)p->n_pictures, (double)l->patches,
               "patches");
        limn_status st = limn_picture_encoder_run(&l->rows[l->encoded], e, &pic->key, &pic->pixels,
                                                  limn_cancel_flag(l->watch.cancel), &l->err);
        if (st != LIMN_OK) return st;
        l->patches += (int64_t)(pic->pixels.height / v->patch) * (pic->pixels.width / v->patch);
        l->encoded++;
        report(l, "image", (int64_t)l->encoded, (int64_t)p->n_pictures, (double)l->patches,
               "patches");
        return LIMN_OK;
    }
    return LIMN_OK;
}

/* All pictures are there: the rest of the prompt, as the reader takes it. */
static limn_status read_begin(limn_look *l) {
    limn_status st = LIMN_OK;
    const limn_talk_prompt *p = &l->prompt;
    size_t n = 0;
    l->places = limn_mem_calloc(p->n_pictures + 1, sizeof *l->places);
    l->pictures = limn_mem_calloc(p->n_pictures + 1, sizeof *l->pictures);
    LIMN_CHECK(&l->err, l->places && l->pictures, LIMN_E_NOMEM, "no memory for a question");
    for (size_t i = 0; i < p->n_pictures; i++) {
        if (p->pictures[i].place.at < l->cached) continue;
        l->places[n] = p->pictures[i].place;
        l->places[n].at -= l->cached;
        l->pictures[n++] = l->rows[i]->rows;
    }
    l->text = (limn_reader_text){.ids = p->ids.data + l->cached,
                                 .n = (int64_t)p->ids.len - l->cached,
                                 .places = l->places,
                                 .pictures = l->pictures,
                                 .n_places = n};
    LIMN_TRY(limn_reader_feed_new(&l->feed, l->seer->reader, limn_seer_slot_index(l->seer, l->slot),
                                  &l->text, &l->err));
    l->stage = LIMN_LOOK_READ;
out:
    return st;
}

static limn_status read_next(limn_look *l) {
    const float *logits;
    report(l, "read", limn_reader_feed_done(l->feed), l->text.n,
           (double)limn_reader_feed_done(l->feed), "tokens");
    limn_status st =
        limn_reader_feed_step(l->feed, &logits, limn_cancel_flag(l->watch.cancel), &l->err);
    if (st != LIMN_OK || !logits) return st;
    report(l, "read", l->text.n, l->text.n, (double)l->text.n, "tokens");
    l->read_seconds += limn_clock_now() - l->stage_began;
    limn_reader_feed_free(&l->feed);
    st = limn_seer_slot_set(l->slot, &l->prompt, (int64_t)l->prompt.ids.len, &l->err);
    if (st == LIMN_OK) limn_look_take_logits(l, logits);
    return st;
}

void limn_look_advance(limn_look *l) {
    limn_status st = LIMN_OK;
    if (l->stage == LIMN_LOOK_ENCODE) {
        size_t before = l->encoded;
        double began = limn_clock_now();
        st = encode_next(l);
        if (st == LIMN_OK) l->image_seconds += limn_clock_now() - began;
        if (st == LIMN_OK && l->encoded == l->prompt.n_pictures) {
            l->stage_began = limn_clock_now();
            st = read_begin(l);
        }
        if (st == LIMN_OK && before < l->encoded) return;
    }
    if (st == LIMN_OK && l->stage == LIMN_LOOK_READ) st = read_next(l);
    if (st != LIMN_OK) limn_look_end(l, st);
}

/* Instead of writing: what the model thinks of the answers that were given. */
static void score(limn_look *l, const float *logits) {
    limn_seer *s = l->seer;
    int32_t usable = (int32_t)limn_tokenizer_count(s->model->tokenizer);
    l->first = limn_clock_now();
    limn_look_end(l, limn_reader_score(s->reader, limn_seer_slot_index(s, l->slot), logits, usable,
                                       l->branches, l->n_branches,
                                       limn_cancel_flag(l->watch.cancel), &l->err));
}

void limn_look_take_logits(limn_look *l, const float *logits) {
    bool done;
    if (l->n_branches > 0) {
        score(l, logits);
        return;
    }
    int64_t room = limn_reader_room(l->seer->reader, limn_seer_slot_index(l->seer, l->slot));
    limn_status st = limn_writer_take(l->writer, logits, room, &done, &l->err);
    if (l->stage != LIMN_LOOK_WRITE) l->first = limn_clock_now();
    l->stage = LIMN_LOOK_WRITE;
    if (st != LIMN_OK) {
        limn_look_end(l, st);
    } else if (done) {
        st = limn_writer_finish(l->writer, &l->err);
        if (st == LIMN_OK && !l->stopped) limn_look_sink_add(l, speak, "", 0, true);
        if (l->stopped) l->result.finish = LIMN_FINISH_CALLER;
        limn_look_end(l, st);
    }
}

/* ---- the end ---- */

void limn_look_end(limn_look *l, limn_status st) {
    if (l->stage == LIMN_LOOK_DONE) return;
    l->written = limn_clock_now();
    if (l->slot) {
        int64_t i = limn_seer_slot_index(l->seer, l->slot);
        /* What an interrupted prompt left in the cache may be continued by the next question. */
        if (l->stage <= LIMN_LOOK_READ) {
            int64_t n = limn_reader_length(l->seer->reader, i);
            if (limn_seer_slot_set(l->slot, &l->prompt, n, NULL) != LIMN_OK) {
                limn_ids_clear(&l->slot->ids);
                limn_reader_set_mark(l->seer->reader, i, (limn_reader_mark){0, 0});
            }
        }
        l->slot->look = NULL;
        l->slot->used = ++l->seer->clock;
        l->slot = NULL;
    }
    l->st = st;
    l->stage = LIMN_LOOK_DONE;
}

bool limn_look_is_done(const limn_look *look) {
    return look->stage == LIMN_LOOK_DONE;
}

limn_status limn_look_take(limn_answer **out, limn_look **look, limn_err *err) {
    limn_look *l = *look;
    *out = NULL;
    limn_status st = l->st;
    if (l->stage != LIMN_LOOK_DONE)
        st = limn_fail(err, LIMN_E_INTERNAL, "the answer is not finished yet");
    else if (st == LIMN_OK)
        st = limn_answer_make(out, l, err);
    else if (err)
        *err = l->err;
    limn_look_free(look);
    return st;
}

void limn_look_free(limn_look **look) {
    limn_look *l = look ? *look : NULL;
    if (!l) return;
    limn_look_end(l, LIMN_E_CANCELLED);
    remove_look(l->seer, l);
    limn_reader_feed_free(&l->feed);
    limn_writer_free(&l->writer);
    limn_draft_deinit(&l->draft);
    for (size_t i = 0; l->rows && i < l->prompt.n_pictures; i++)
        limn_picture_rows_unref(&l->rows[i]);
    limn_mem_free(l->rows);
    limn_mem_free(l->places);
    limn_mem_free(l->pictures);
    limn_talk_prompt_deinit(&l->prompt);
    limn_generate_result_deinit(&l->result);
    limn_constraint_free(&l->constraint);
    limn_grammar_free(&l->grammar);
    limn_mem_free(l->mask);
    limn_mem_free(l->branches);
    limn_ids_deinit(&l->branch_ids);
    limn_mem_free(l->bias);
    limn_mem_free(l->tokens);
    limn_look_sink_deinit(&l->sink);
    limn_params_free(&l->see);
    limn_mem_free(l);
    *look = NULL;
}
