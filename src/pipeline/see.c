/* SPDX-License-Identifier: MIT */
/* Seers: opening a model for questions, slots of its cache, one step at a time; see see.h. */
#include "pipeline/see.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "models/kv_cache.h"
#include "param/app.h"

enum { CONTEXT_AUTO = 32768, CONTEXT_LEAST = 2048 };

/* ---- opening ---- */

static limn_status model_open(limn_seer *s, const limn_seeing *o, limn_err *err) {
    static const char *const kinds = "|text|vision|LLM|llm|VLM|vlm";
    limn_status st = LIMN_OK;
    char *path = NULL, *mmproj = NULL;
    if (o->model[0]) {
        LIMN_TRY(limn_engine_find(&path, s->engine, o->model, kinds, err));
    } else {
        path = limn_engine_bundled("mini-see");
        LIMN_CHECK(err, path, LIMN_E_NOT_FOUND,
                   "no model was named and the bundled one is not installed: give --model FILE or "
                   "FOLDER (Qwen3-VL)");
        snprintf(s->note, sizeof s->note,
                 "using the bundled mini-see model, which knows a small world of simple pictures; "
                 "for photographs and documents give --model FOLDER (any Qwen3-VL)");
    }
    if (o->vision_model[0])
        LIMN_TRY(limn_engine_find(&mmproj, s->engine, o->vision_model, kinds, err));
    LIMN_TRY(
        limn_vl_model_open(&s->model, path, mmproj, (limn_seeing_template)o->chat_template, err));
out:
    limn_mem_free(path);
    limn_mem_free(mmproj);
    return st;
}

static limn_dtype cache_type(const limn_seeing *o) {
    static const limn_dtype types[] = {[LIMN_SEEING_CACHE_F32] = LIMN_F32,
                                       [LIMN_SEEING_CACHE_F16] = LIMN_F16,
                                       [LIMN_SEEING_CACHE_BF16] = LIMN_BF16,
                                       [LIMN_SEEING_CACHE_Q8_0] = LIMN_Q8_0};
    if (o->cache_type != LIMN_SEEING_CACHE_AUTO) return types[o->cache_type];
    return o->precision == LIMN_GEN_PRECISION_EXACT ? LIMN_F32 : LIMN_F16;
}

/* Bytes that may be used: the limit that was given, else the machine's. */
static double memory_of(const limn_engine *e) {
    if (e->memory > 0) return (double)e->memory;
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (double)pages * (double)size : 8e9;
}

static int by_size(const void *a, const void *b) {
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return x < y ? -1 : x > y;
}

/* Bytes beyond those of all tensors while they are packed, large ones first (backend/cpu): the one
 * that is being packed is there twice, the smaller ones are not there yet. SIZE_MAX: no memory. */
static size_t packing_extra(const limn_weights *w) {
    size_t n = w ? limn_weights_count(w) : 0, extra = 0, smaller = 0;
    size_t *sizes = limn_mem_calloc(n + 1, sizeof *sizes);
    if (!sizes) return SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        const limn_tensor *t = limn_weights_at(w, i);
        if (!limn_tensor_bytes(&sizes[i], t->dtype, &t->shape)) sizes[i] = 0;
    }
    qsort(sizes, n, sizeof *sizes, by_size);
    for (size_t i = 0; i < n; smaller += sizes[i++])
        if (sizes[i] > smaller && sizes[i] - smaller > extra) extra = sizes[i] - smaller;
    limn_mem_free(sizes);
    return extra;
}

/* Bytes of the weights that are multiplied with: of a token embedding of its own rows are looked
 * up, where they lie (reader.h counts that). */
static size_t product_bytes(const limn_vl_model *m) {
    const limn_tensor *t = limn_weights_find(m->text_set, "embed_tokens.weight");
    size_t bytes = 0;
    bool own = !m->cfg.text.tied && limn_weights_find(m->text_set, "lm_head.weight");
    if (!own || !t || !limn_tensor_bytes(&bytes, t->dtype, &t->shape)) return m->bytes;
    return m->bytes - bytes;
}

/* What must be left beside weights and cache, roughly, before the programs are planned: work, and
 * of the whole machine the system and other programs. */
static double beside_of(const limn_seer *s) {
    double memory = memory_of(s->engine), usual = 1 << 30;
    if (s->engine->memory == 0) return memory / 8;
    return memory / 16 < usual ? memory / 16 : usual;
}

static limn_status context_choose(limn_seer *s, const limn_seeing *o, limn_err *err) {
    const limn_decoder_config *c = &s->model->cfg.text;
    limn_dtype type = cache_type(o);
    if (o->context > c->context)
        return limn_fail(err, LIMN_E_VALUE, "a context of %lld tokens: the model was made for %d",
                         (long long)o->context, c->context);
    s->context = o->context > 0 ? o->context : c->context;
    if (o->context == 0 && s->context > CONTEXT_AUTO) s->context = CONTEXT_AUTO;
    /* Unasked, the cache takes at most a quarter of the memory, and what the others leave. */
    double memory = memory_of(s->engine);
    double rest = memory - (double)product_bytes(s->model) - beside_of(s);
    double most = rest < memory / 4 ? rest : memory / 4;
    while (o->context == 0 && s->context > CONTEXT_LEAST &&
           (double)limn_kv_cache_bytes(c, type, o->sequences, s->context) > most)
        s->context /= 2;
    s->cache_bytes = limn_kv_cache_bytes(c, type, o->sequences, s->context);
    double need = (double)product_bytes(s->model) + (double)s->cache_bytes;
    if (s->engine->memory > 0 && need > (double)s->engine->memory)
        return limn_fail(err, LIMN_E_LIMIT,
                         "weights of %.0f MB and a cache of %.0f MB (%lld x %lld "
                         "tokens) do not fit %.0f MB of memory",
                         (double)product_bytes(s->model) / 1e6, (double)s->cache_bytes / 1e6,
                         (long long)o->sequences, (long long)s->context,
                         (double)s->engine->memory / 1e6);
    return LIMN_OK;
}

/* ---- memory ---- */

enum { BASE_BYTES = 64 << 20, THREAD_BYTES = 16 << 20, CHUNK_ROWS = 256 };

/* Weights as stored (packed forms are not larger; those of f8 are f16), what packing takes more,
 * cache and programs, what kernels keep of a chunk, the program itself. */
static limn_status need_sum(limn_seer *s, limn_err *err) {
    const limn_decoder_config *c = &s->model->cfg.text;
    size_t a = packing_extra(s->model->text_set), b = packing_extra(s->model->vision_set);
    size_t width = (size_t)(c->ff > c->width ? c->ff : c->width);
    size_t heads = (size_t)c->heads * (size_t)c->head_dim;
    size_t experts = 4 * (size_t)c->experts_used * (size_t)(c->expert_ff + c->width);
    long threads = s->engine->threads > 0 ? s->engine->threads : sysconf(_SC_NPROCESSORS_ONLN);
    if (heads > width) width = heads;
    limn_status st = LIMN_OK;
    LIMN_CHECK(err, a != SIZE_MAX && b != SIZE_MAX, LIMN_E_NOMEM,
               "no memory for a list of tensors");
    LIMN_TRY(limn_reader_need(&s->need, s->reader, err));
    s->need += product_bytes(s->model) + (a > b ? a : b) + BASE_BYTES +
               (size_t)threads * THREAD_BYTES + CHUNK_ROWS * (2 * width + experts) * sizeof(float);
out:
    return st;
}

limn_status limn_seer_need_picture(size_t *bytes, const limn_seer *s, int height, int width,
                                   limn_err *err) {
    const limn_vision_config *v = &s->model->cfg.vision;
    size_t area = (size_t)height * (size_t)width, side = (size_t)(v->patch * v->merge), work;
    size_t row = (size_t)(1 + v->n_deepstack) * (size_t)v->out_width * sizeof(float);
    if (!s->encoder)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "%s: takes no pictures", s->model->path);
    limn_status st = limn_picture_encoder_need(&work, s->encoder, height, width, err);
    *bytes = s->need + work + 2 * 3 * area + area / (side * side) * row;
    return st;
}

limn_status limn_seer_new(limn_seer **out, const limn_params *app, const limn_params *see,
                          limn_err *err) {
    limn_status st = LIMN_OK;
    const limn_seeing *o = limn_seeing_of(see);
    limn_seer *s = limn_mem_calloc(1, sizeof *s);
    *out = NULL;
    LIMN_CHECK(err, s, LIMN_E_NOMEM, "no memory for a seer");
    LIMN_TRY(limn_engine_new(&s->engine, app, err));
    LIMN_TRY(model_open(s, o, err));
    LIMN_TRY(context_choose(s, o, err));
    LIMN_TRY(limn_engine_backend(&s->backend, s->engine, (limn_gen_precision)o->precision, err));
    limn_reader_options r = {
        .context = s->context, .sequences = o->sequences, .cache = cache_type(o)};
    s->cache_type = limn_dtype_get(r.cache)->name;
    LIMN_TRY(limn_reader_new(&s->reader, s->backend, s->model->text, &s->model->cfg.text, &r, err));
    if (s->model->vision)
        LIMN_TRY(limn_picture_encoder_new(&s->encoder, s->backend, s->model,
                                          (size_t)o->picture_cache, err));
    LIMN_TRY(need_sum(s, err));
    s->guesses =
        (o->precision == LIMN_GEN_PRECISION_AUTO || o->precision == LIMN_GEN_PRECISION_EXACT) &&
        limn_reader_is_exact(s->reader, o->precision == LIMN_GEN_PRECISION_EXACT);
    s->slots = limn_mem_calloc((size_t)o->sequences, sizeof *s->slots);
    LIMN_CHECK(err, s->slots, LIMN_E_NOMEM, "no memory for a seer");
    s->n_slots = (int)o->sequences;
    for (int i = 0; i < s->n_slots; i++) limn_ids_init(&s->slots[i].ids, (size_t)s->context + 1);
    *out = s;
    s = NULL;
out:
    limn_seer_free(&s);
    return st;
}

void limn_seer_free(limn_seer **seer) {
    limn_seer *s = seer ? *seer : NULL;
    if (!s) return;
    for (int i = 0; i < s->n_slots; i++) {
        limn_ids_deinit(&s->slots[i].ids);
        limn_mem_free(s->slots[i].pictures);
    }
    limn_mem_free(s->slots);
    limn_token_trie_free(&s->trie);
    limn_picture_encoder_free(&s->encoder);
    limn_reader_free(&s->reader);
    /* Packed weights are written while the model that they belong to is still there. */
    if (s->backend && limn_backend_save_packs(s->backend, NULL) != LIMN_OK) s->backend = NULL;
    if (s->engine && s->engine->backend) limn_backend_forget(s->engine->backend, NULL);
    limn_vl_model_free(&s->model);
    limn_engine_free(&s->engine);
    limn_mem_free(s);
    *seer = NULL;
}

void limn_seer_share(limn_seer *s, limn_turns *turns) {
    s->engine->turns = turns;
    limn_backend_share(s->backend, turns);
}

void limn_seer_get_info(limn_seer_info *out, const limn_seer *s) {
    const char *slash = strrchr(s->model->path, '/');
    *out = (limn_seer_info){
        .path = s->model->path,
        .name = slash && slash[1] ? slash + 1 : s->model->path,
        .sees = s->model->vision != NULL,
        .thinks = s->model->chat_template == LIMN_CHAT_QWEN3VL_THINKING ||
                  s->model->chat_template == LIMN_CHAT_QWEN3,
        .context = s->context,
        .sequences = s->n_slots,
        .weight_bytes = (int64_t)product_bytes(s->model),
        .cache_bytes = (int64_t)s->cache_bytes,
        .cache_type = s->cache_type,
        .need_bytes = (int64_t)s->need,
        .note = s->note[0] ? s->note : NULL,
    };
}

/* ---- slots ---- */

/* How many tokens from the beginning are the same, whole pictures only. */
static int64_t common(const limn_seer_slot *slot, const limn_talk_prompt *p) {
    size_t most = slot->ids.len < p->ids.len ? slot->ids.len : p->ids.len, n = 0;
    while (n < most && slot->ids.data[n] == p->ids.data[n]) n++;
    for (size_t i = 0; i < p->n_pictures && (size_t)p->pictures[i].place.at < n; i++) {
        const limn_talk_picture *a = &p->pictures[i], *b = &slot->pictures[i];
        size_t end = (size_t)a->place.at + (size_t)a->place.rows * (size_t)a->place.cols;
        bool same = i < slot->n_pictures && a->place.at == b->place.at &&
                    a->place.rows == b->place.rows && a->place.cols == b->place.cols &&
                    memcmp(&a->key, &b->key, sizeof a->key) == 0;
        if (!same || end > n) return a->place.at;
    }
    return (int64_t)n;
}

/* Where a prompt stands after its first n tokens, which cut no picture. */
static limn_reader_mark mark_at(const limn_talk_prompt *p, int64_t n) {
    int64_t position = n;
    for (size_t i = 0; i < p->n_pictures; i++) {
        const limn_vision_place *v = &p->pictures[i].place;
        if (v->at >= n) break;
        position -= (int64_t)v->rows * v->cols - (v->rows > v->cols ? v->rows : v->cols);
    }
    return (limn_reader_mark){n, (int32_t)position};
}

static limn_seer_slot *oldest_free(limn_seer *s, const limn_seer_slot *but) {
    limn_seer_slot *best = NULL;
    for (int i = 0; i < s->n_slots; i++) {
        limn_seer_slot *slot = &s->slots[i];
        if (!slot->look && slot != but && (!best || slot->used < best->used)) best = slot;
    }
    return best;
}

limn_seer_slot *limn_seer_slot_take(limn_seer *s, const limn_talk_prompt *p, int64_t *cached) {
    limn_seer_slot *best = NULL, *slot;
    int64_t n = 0, most = (int64_t)p->ids.len - 1; /* the last token is read: it gives the logits */
    for (int i = 0; i < s->n_slots; i++) {
        int64_t same = common(&s->slots[i], p);
        if (best && same <= n) continue;
        best = &s->slots[i];
        n = same;
    }
    if (n > most) n = most;
    for (size_t i = 0; i < p->n_pictures; i++) { /* not into a picture */
        const limn_vision_place *v = &p->pictures[i].place;
        if (v->at < n && n < v->at + (int64_t)v->rows * v->cols) n = v->at;
    }
    /* Of a long conversation only a short beginning is shared: it is copied, not cut off, as long
     * as there is another slot. */
    bool keep = best->look || n < (int64_t)best->ids.len / 2;
    slot = keep ? oldest_free(s, best) : best;
    if (!slot && !best->look) slot = best;
    if (!slot) return NULL;
    int64_t to = limn_seer_slot_index(s, slot), from = limn_seer_slot_index(s, best);
    if (slot != best)
        limn_reader_fork(s->reader, to, from, mark_at(p, n));
    else
        limn_reader_set_mark(s->reader, to, mark_at(p, n));
    slot->used = ++s->clock;
    *cached = n;
    return slot;
}

limn_status limn_seer_slot_set(limn_seer_slot *slot, const limn_talk_prompt *p, int64_t n,
                               limn_err *err) {
    size_t pictures = 0;
    while (pictures < p->n_pictures && p->pictures[pictures].place.at < n) pictures++;
    if (pictures > slot->cap_pictures) {
        void *grown = limn_mem_realloc(slot->pictures, pictures * sizeof *slot->pictures);
        if (!grown) return limn_fail(err, LIMN_E_NOMEM, "no memory for a conversation");
        slot->pictures = grown;
        slot->cap_pictures = pictures;
    }
    if (pictures > 0) memcpy(slot->pictures, p->pictures, pictures * sizeof *p->pictures);
    slot->n_pictures = pictures;
    limn_ids_clear(&slot->ids);
    limn_ids_add_all(&slot->ids, p->ids.data, (size_t)n);
    return slot->ids.failed ? limn_fail(err, LIMN_E_NOMEM, "no memory for a conversation")
                            : LIMN_OK;
}

bool limn_seer_has_room(const limn_seer *s) {
    for (int i = 0; i < s->n_slots; i++)
        if (!s->slots[i].look) return true;
    return false;
}

/* ---- steps ---- */

static void end_cancelled(limn_seer *s) {
    for (limn_look *l = s->first; l; l = l->next)
        if (l->stage != LIMN_LOOK_DONE && limn_look_is_cancelled(l)) {
            limn_fail(&l->err, LIMN_E_CANCELLED, "cancelled");
            limn_look_end(l, LIMN_E_CANCELLED);
        }
}

/* The look's last token and what may follow it: ids [n] of at most `room`. */
static size_t guess(limn_seer *s, limn_look *l, int32_t *ids, int64_t room, limn_err *err) {
    size_t most = (size_t)l->draft_tokens;
    ids[0] = l->result.ids.data[l->result.ids.len - 1];
    if ((int64_t)most > room - 1) most = room > 1 ? (size_t)room - 1 : 0;
    if (!s->guesses || most == 0) return 1;
    if (!l->draft.before &&
        limn_draft_init(&l->draft, &l->prompt.ids, &l->result.ids, err) != LIMN_OK) {
        l->draft_tokens = 0; /* it goes without */
        return 1;
    }
    return 1 + limn_draft_guess(&l->draft, ids + 1, most, &s->cost, s->guess_always);
}

/* Reads the last token of the only look that writes together with guesses, and takes picks as long
 * as they are what was guessed. */
static void write_guessed(limn_seer *s, limn_look *l, const int32_t *ids, size_t n) {
    const float *logits[LIMN_READER_GUESSES];
    limn_seer_slot *slot = l->slot;
    int64_t sequence = limn_seer_slot_index(s, slot);
    double began = limn_clock_now();
    size_t taken = 0;
    limn_status st = limn_reader_try(s->reader, sequence, ids, (int64_t)n, logits,
                                     limn_cancel_flag(l->watch.cancel), &l->err);
    if (st == LIMN_E_CANCELLED) end_cancelled(s);
    if (st != LIMN_OK) {
        limn_look_end(l, st);
        return;
    }
    limn_draft_time_add(&s->cost.several, limn_clock_now() - began);
    do {
        limn_reader_accept(s->reader, sequence);
        limn_ids_add(&slot->ids, ids[taken]);
        limn_look_take_logits(l, logits[taken]);
        taken++;
    } while (taken < n && l->stage == LIMN_LOOK_WRITE &&
             l->result.ids.data[l->result.ids.len - 1] == ids[taken]);
    limn_draft_learn(&l->draft, n - 1, taken - 1);
}

/* One token, or more where guesses are right, for each look that writes. */
static limn_status write_step(limn_seer *s, limn_err *err) {
    limn_look *looks[LIMN_SEQUENCES_MAX];
    int64_t sequences[LIMN_SEQUENCES_MAX];
    int32_t ids[LIMN_SEQUENCES_MAX];
    const float *logits[LIMN_SEQUENCES_MAX];
    int32_t guessed[LIMN_READER_GUESSES];
    size_t n = 0;
    for (limn_look *l = s->first; l; l = l->next) {
        if (l->stage != LIMN_LOOK_WRITE) continue;
        looks[n] = l;
        sequences[n] = limn_seer_slot_index(s, l->slot);
        ids[n++] = l->result.ids.data[l->result.ids.len - 1];
    }
    if (n == 1) {
        size_t some = guess(s, looks[0], guessed, limn_reader_room(s->reader, sequences[0]), err);
        if (some > 1) {
            write_guessed(s, looks[0], guessed, some);
            return LIMN_OK;
        }
    }
    double began = limn_clock_now();
    const atomic_bool *cancel = n == 1 ? limn_cancel_flag(looks[0]->watch.cancel) : NULL;
    limn_status st = limn_reader_step(s->reader, n, sequences, ids, logits, cancel, err);
    if (st == LIMN_E_CANCELLED) {
        end_cancelled(s);
        return LIMN_OK;
    }
    if (n == 1) limn_draft_time_add(&s->cost.one, limn_clock_now() - began);
    for (size_t i = 0; i < n; i++) {
        if (st == LIMN_OK) {
            limn_ids_add(&looks[i]->slot->ids, ids[i]);
            limn_look_take_logits(looks[i], logits[i]);
        } else {
            if (err) looks[i]->err = *err;
            limn_look_end(looks[i], st);
        }
    }
    return LIMN_OK;
}

limn_status limn_seer_step(limn_seer *s, limn_err *err) {
    limn_look *reading = NULL;
    bool writing = false;
    limn_err local = {0};
    end_cancelled(s);
    for (limn_look *l = s->first; l; l = l->next) {
        if (l->stage == LIMN_LOOK_WRITE) writing = true;
        if (l->stage < LIMN_LOOK_WRITE && !reading) reading = l;
    }
    /* In turn, so that a long prompt does not silence those that write. */
    if (reading && !(writing && s->read_last)) {
        s->read_last = true;
        limn_look_advance(reading);
        return LIMN_OK;
    }
    s->read_last = false;
    return writing ? write_step(s, err ? err : &local) : LIMN_OK;
}

limn_status limn_see(limn_answer **out, limn_seer *seer, const limn_talk *talk,
                     const limn_params *see, const limn_look_watch *watch, limn_err *err) {
    limn_look *look;
    *out = NULL;
    limn_status st = limn_look_new(&look, seer, talk, see, watch, err);
    while (st == LIMN_OK && !limn_look_is_done(look)) st = limn_seer_step(seer, err);
    if (st == LIMN_OK) return limn_look_take(out, &look, err);
    limn_look_free(&look);
    return st;
}
