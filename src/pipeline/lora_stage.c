/* SPDX-License-Identifier: MIT */
/* Adapters of a run; see lora_stage.h. */
#include "pipeline/lora_stage.h"

#include <stdlib.h>

#include "base/log.h"
#include "formats/lora_file.h"

enum { MAX_LORAS = 32, TARGETS = 1 + LIMN_TEXT_ENCODERS };

/* What one request says: a name and strengths per part. */
typedef struct lora_wish {
    char name[512];
    double te, unet, in, mid, out;
} lora_wish;

/* One file on one network. */
typedef struct lora_binding {
    const limn_lora *lora;
    int target;
    lora_wish wish;
} lora_binding;

typedef struct limn_adapters {
    char *key;
    limn_lora *loras[MAX_LORAS];
    lora_binding bindings[MAX_LORAS][TARGETS];
    int count;
} adapters;

/* ---- what is asked for ---- */
/* "name", "name:0.8", "name:0.8:0.5" (network, text encoder). Numbers are taken off the end, so a
 * path may hold colons. */
static limn_status wish_of_param(lora_wish *w, const char *text, limn_err *err) {
    double v[2];
    int n = 0;
    size_t len = strlen(text);
    if (len >= sizeof w->name)
        return limn_fail(err, LIMN_E_VALUE, "a LoRA name of %zu bytes is too long", len);
    memcpy(w->name, text, len + 1);
    for (; n < 2; n++) {
        char *colon = strrchr(w->name, ':');
        if (!colon || !limn_real_parse(&v[n], colon + 1)) break;
        *colon = 0;
    }
    w->unet = n == 0 ? 1 : v[n - 1];
    w->te = n == 2 ? v[0] : w->unet;
    w->in = w->mid = w->out = 1;
    return LIMN_OK;
}

/* Texts are encoded once, before the first step, so their strength is that of the start. */
static limn_status wish_of_net(lora_wish *w, const limn_prompt_net *net, int step, int steps,
                               limn_err *err) {
    if (strlen(net->name) >= sizeof w->name)
        return limn_fail(err, LIMN_E_VALUE, "a LoRA name is too long");
    memcpy(w->name, net->name, strlen(net->name) + 1);
    float s = limn_prompt_curve_at(&net->strength, step, steps, 1.0f);
    w->te = limn_prompt_curve_at(&net->te, 0, steps,
                                 limn_prompt_curve_at(&net->strength, 0, steps, 1.0f));
    w->unet = limn_prompt_curve_at(&net->unet, step, steps, s);
    w->in = limn_prompt_curve_at(&net->in, step, steps, 1.0f);
    w->mid = limn_prompt_curve_at(&net->mid, step, steps, 1.0f);
    w->out = limn_prompt_curve_at(&net->out, step, steps, 1.0f);
    return LIMN_OK;
}

static limn_status wishes_collect(lora_wish *list, int *n, const limn_gen *g,
                                  const limn_prompt *prompt, int step, int steps, limn_err *err) {
    limn_status st = LIMN_OK;
    *n = 0;
    for (int i = 0; i < g->loras.count; i++) {
        LIMN_CHECK(err, *n < MAX_LORAS, LIMN_E_LIMIT, "more than %d LoRAs at once", MAX_LORAS);
        LIMN_TRY(wish_of_param(&list[(*n)++], g->loras.item[i], err));
    }
    for (size_t i = 0; i < prompt->n_nets; i++) {
        const limn_prompt_net *net = &prompt->nets[i];
        LIMN_CHECK(err, strcmp(net->type, "lora") == 0, LIMN_E_UNSUPPORTED,
                   "<%s:%s>: only lora networks are supported in prompts", net->type, net->name);
        LIMN_CHECK(err, *n < MAX_LORAS, LIMN_E_LIMIT, "more than %d LoRAs at once", MAX_LORAS);
        LIMN_TRY(wish_of_net(&list[(*n)++], net, step, steps, err));
    }
out:
    return st;
}

/* ---- changing weights ---- */
static double block_factor(const lora_wish *w, const char *name) {
    if (strncmp(name, "down_blocks.", 12) == 0) return w->in;
    if (strncmp(name, "mid_block.", 10) == 0) return w->mid;
    if (strncmp(name, "up_blocks.", 10) == 0) return w->out;
    return 1;
}

static double strength_of(const lora_binding *b, const char *name) {
    return b->target == 0 ? b->wish.unet * block_factor(&b->wish, name) : b->wish.te;
}

static bool binding_has(void *user, const char *name) {
    const lora_binding *b = user;
    return strength_of(b, name) != 0 && limn_lora_find(b->lora, b->target, name) != NULL;
}

static limn_status binding_apply(void *user, const char *name, float *w, int64_t row0, int64_t rows,
                                 int64_t in, limn_err *err) {
    (void)in;
    const lora_binding *b = user;
    const limn_lora_entry *e = limn_lora_find(b->lora, b->target, name);
    return limn_lora_row_delta(e, strength_of(b, name), row0, row0 + rows, w, NULL, err);
}

static limn_model_weights *weights_of(limn_checkpoint *c, int target) {
    return target == 0 ? c->unet : c->text[target - 1].weights;
}

static limn_status open_lora(adapters *a, limn_engine *e, limn_checkpoint *c, const lora_wish *w,
                             limn_err *err) {
    limn_status st = LIMN_OK;
    char *path = NULL;
    limn_weights *file = NULL;
    limn_lora_target targets[TARGETS];
    int n_targets = 1 + c->n_text, at = a->count;
    for (int t = 0; t < n_targets; t++)
        targets[t] = (limn_lora_target){.part = t == 0                     ? LIMN_PART_UNET
                                                : c->text[t - 1].slot == 0 ? LIMN_PART_TE
                                                                           : LIMN_PART_TE2,
                                        .weights = limn_model_weights_set(weights_of(c, t)),
                                        .unet = t == 0 ? &c->unet_cfg : NULL};
    LIMN_TRY(limn_engine_find(&path, e, w->name, "Lora|loras|lora|", err));
    LIMN_TRY(limn_weights_open(&file, path, err));
    LIMN_TRY(limn_lora_open(&a->loras[at], file, targets, (size_t)n_targets, err));
    a->count++;
    size_t unmatched = limn_lora_unmatched(a->loras[at]);
    if (unmatched > 0)
        limn_log(LIMN_LOG_WARN, "lora", "%s: %zu tensors change nothing in this model, first '%s'",
                 path, unmatched, limn_lora_unmatched_at(a->loras[at], 0));
    for (int t = 0; t < n_targets; t++) {
        a->bindings[at][t] = (lora_binding){a->loras[at], t, *w};
        LIMN_TRY(limn_model_weights_add_adapter(weights_of(c, t), binding_apply, binding_has,
                                                &a->bindings[at][t], err));
    }
out:
    limn_weights_unref(&file);
    limn_mem_free(path);
    return st;
}

void limn_lora_stage_free(limn_checkpoint *c) {
    adapters *a = c->adapters;
    if (!a) return;
    limn_model_weights_clear_adapters(c->unet);
    for (int i = 0; i < c->n_text; i++) limn_model_weights_clear_adapters(c->text[i].weights);
    for (int i = 0; i < a->count; i++) limn_lora_free(&a->loras[i]);
    limn_mem_free(a->key);
    limn_mem_free(a);
    c->adapters = NULL;
}

static void key_of(limn_buf *key, const lora_wish *list, int n) {
    for (int i = 0; i < n; i++)
        limn_buf_addf(key, "%s\n%g %g %g %g %g\n", list[i].name, list[i].te, list[i].unet,
                      list[i].in, list[i].mid, list[i].out);
}

limn_status limn_lora_stage_apply(limn_engine *e, limn_checkpoint *c, const limn_gen *gen,
                                  const limn_prompt *prompt, int steps, limn_err *err) {
    limn_status st = LIMN_OK;
    int n = 0;
    limn_buf key;
    limn_buf_init(&key, 1 << 20);
    lora_wish *list = limn_mem_calloc(MAX_LORAS, sizeof *list);
    LIMN_CHECK(err, list, LIMN_E_NOMEM, "no memory for LoRAs");
    LIMN_TRY(wishes_collect(list, &n, gen, prompt, 0, steps, err));
    key_of(&key, list, n);
    if (c->adapters ? strcmp(c->adapters->key, limn_buf_text(&key)) == 0 : n == 0) goto out;
    limn_lora_stage_free(c);
    if (n == 0) goto out;
    c->adapters = limn_mem_calloc(1, sizeof *c->adapters);
    LIMN_CHECK(err, c->adapters, LIMN_E_NOMEM, "no memory for LoRAs");
    c->adapters->key = limn_buf_take(&key);
    LIMN_CHECK(err, c->adapters->key, LIMN_E_NOMEM, "no memory for LoRAs");
    for (int i = 0; i < n; i++) LIMN_TRY(open_lora(c->adapters, e, c, &list[i], err));
out:
    if (st != LIMN_OK) limn_lora_stage_free(c);
    limn_buf_deinit(&key);
    limn_mem_free(list);
    return st;
}

static bool changes(const limn_prompt *prompt) {
    for (size_t i = 0; i < prompt->n_nets; i++) {
        const limn_prompt_net *n = &prompt->nets[i];
        if (n->strength.n > 1 || n->unet.n > 1 || n->in.n > 1 || n->mid.n > 1 || n->out.n > 1)
            return true;
    }
    return false;
}

limn_status limn_lora_stage_step(bool *changed, limn_checkpoint *c, const limn_gen *gen,
                                 const limn_prompt *prompt, int step, int steps, limn_err *err) {
    limn_status st = LIMN_OK;
    int n = 0;
    limn_buf key;
    *changed = false;
    if (!c->adapters || !changes(prompt)) return LIMN_OK;
    limn_buf_init(&key, 1 << 20);
    lora_wish *list = limn_mem_calloc(MAX_LORAS, sizeof *list);
    LIMN_CHECK(err, list, LIMN_E_NOMEM, "no memory for LoRAs");
    LIMN_TRY(wishes_collect(list, &n, gen, prompt, step, steps, err));
    key_of(&key, list, n);
    if (strcmp(c->adapters->key, limn_buf_text(&key)) == 0) goto out;
    assert(n == c->adapters->count);
    limn_mem_free(c->adapters->key);
    c->adapters->key = limn_buf_take(&key);
    LIMN_CHECK(err, c->adapters->key, LIMN_E_NOMEM, "no memory for LoRAs");
    for (int i = 0; i < n; i++) c->adapters->bindings[i][0].wish = list[i];
    limn_model_weights_adapters_changed(c->unet);
    *changed = true;
out:
    if (st != LIMN_OK) limn_lora_stage_free(c);
    limn_buf_deinit(&key);
    limn_mem_free(list);
    return st;
}
