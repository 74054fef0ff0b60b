/* SPDX-License-Identifier: MIT */
/* Labels by the probabilities that the model gives them; see task_impl.h. */
#include <math.h>
#include <string.h>

#include "pipeline/task_impl.h"

/* p [n] = probabilities of the texts among each other, as answers after `lead`, which is given. The
 * picture and the question are read once, all texts are scored together. */
static limn_status scores_make(double *p, limn_task_job *r, const limn_message_part *file,
                               const char *prompt, const char *lead, const char *const *texts,
                               size_t n, bool whole, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_message_part parts[] = {*file, {.kind = LIMN_MESSAGE_TEXT, .text = prompt}};
    limn_message m = {.role = LIMN_ROLE_USER, .parts = parts, .n_parts = 2};
    limn_talk talk = {.messages = &m, .n_messages = 1};
    limn_look_watch w = {.event = limn_task_event, .user = r, .cancel = r->watch.cancel};
    limn_sight *s = &r->out->sight;
    limn_look *l = NULL;
    double top = -INFINITY, sum = 0;
    LIMN_TRY(limn_look_new(&l, r->seer, &talk, r->with, &w, err));
    LIMN_TRY(limn_look_score(l, lead, texts, n, whole, err));
    while (!limn_look_is_done(l)) LIMN_TRY(limn_seer_step(r->seer, err));
    st = l->st;
    if (st != LIMN_OK && err) *err = l->err;
    if (st != LIMN_OK) goto out;
    for (size_t i = 0; i < n; i++) top = l->branches[i].sum > top ? l->branches[i].sum : top;
    for (size_t i = 0; i < n; i++) sum += p[i] = exp(l->branches[i].sum - top);
    for (size_t i = 0; i < n; i++) p[i] /= sum;
    s->prompt_tokens += (int64_t)l->prompt.ids.len;
    s->image_tokens += l->prompt.image_tokens;
    s->cached_tokens += l->cached;
    s->completion_tokens += (int64_t)l->branch_ids.len;
out:
    limn_look_free(&l);
    return st;
}

/* Findings for the labels, best first. */
static limn_status labels_add(limn_task_job *r, const double *p, size_t n, int picture,
                              bool best_only, limn_err *err) {
    limn_status st = LIMN_OK;
    bool *done = limn_mem_calloc(n + 1, sizeof *done);
    LIMN_CHECK(err, done, LIMN_E_NOMEM, "no memory for scores");
    for (size_t k = 0; k < n; k++) {
        size_t best = n;
        for (size_t i = 0; i < n; i++)
            if (!done[i] && (best == n || p[i] > p[best])) best = i;
        done[best] = true;
        limn_finding f = {.label = r->labels[best], .score = p[best], .picture = picture};
        f.chosen = best_only ? k == 0
                             : p[best] >= (r->categories ? r->categories[best].threshold
                                                         : LIMN_TASK_THRESHOLD);
        LIMN_TRY(limn_findings_add(&r->out->found, &f, err));
    }
out:
    limn_mem_free(done);
    return st;
}

limn_status limn_task_classify(limn_task_job *r, const limn_message_part *file, int picture,
                               const char *prompt, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_answer *a = NULL;
    double *p = NULL;
    if (r->n_labels == 0) {
        LIMN_TRY(limn_task_question(&a, r, file, 1, prompt, err));
        size_t n = strcspn(a->text, "\r\n");
        while (n > 0 && strchr(" .", a->text[n - 1])) n--;
        char *label = limn_arena_strndup(&r->arena, a->text, n);
        LIMN_CHECK(err, label, LIMN_E_NOMEM, "no memory for a label");
        LIMN_TRY(limn_findings_add(
            &r->out->found,
            &(limn_finding){.label = label, .score = -1, .picture = picture, .chosen = true}, err));
    } else {
        p = limn_mem_calloc(r->n_labels, sizeof *p);
        LIMN_CHECK(err, p, LIMN_E_NOMEM, "no memory for scores");
        LIMN_TRY(scores_make(p, r, file, prompt, "", r->labels, r->n_labels, true, err));
        LIMN_TRY(labels_add(r, p, r->n_labels, picture, true, err));
    }
out:
    limn_mem_free(p);
    limn_answer_free(&a);
    return st;
}

/* "a fox", "an axe"; as it is when it has an article or a number of its own */
static const char *with_article(limn_task_job *r, const char *label) {
    static const char *const own[] = {"a ", "an ", "the ", "some ", "any ", "two ", "three "};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (strncmp(label, own[i], strlen(own[i])) == 0) return label;
    return limn_arena_printf(&r->arena, "%s %s", strchr("aeiouAEIOU", label[0]) ? "an" : "a",
                             label);
}

limn_status limn_task_tag(limn_task_job *r, const limn_message_part *file, int picture,
                          const char *prompt, limn_err *err) {
    static const char *const answers[] = {"Yes", "No"};
    limn_status st = LIMN_OK;
    limn_answer *a = NULL;
    double *p = NULL;
    if (r->n_labels == 0) {
        LIMN_TRY(limn_task_question(&a, r, file, 1, prompt, err));
        LIMN_TRY(limn_task_tags_parse(&r->out->found, a->text, a->len, picture, err));
        goto out;
    }
    p = limn_mem_calloc(r->n_labels, sizeof *p);
    LIMN_CHECK(err, p, LIMN_E_NOMEM, "no memory for scores");
    for (size_t i = 0; i < r->n_labels; i++) {
        double both[2];
        const char *thing = with_article(r, r->labels[i]);
        const char *asked = thing ? limn_task_fill(r, r->form.prompt, "{label}", thing) : NULL;
        LIMN_CHECK(err, asked, LIMN_E_NOMEM, "no memory for a question");
        LIMN_TRY(scores_make(both, r, file, asked, "", answers, 2, false, err));
        p[i] = both[0];
    }
    LIMN_TRY(labels_add(r, p, r->n_labels, picture, false, err));
out:
    limn_mem_free(p);
    limn_answer_free(&a);
    return st;
}

/* Scores of all categories, then the answer itself: its box and its reason go to the category that
 * it names. */
limn_status limn_task_moderate(limn_task_job *r, const limn_message_part *file,
                               const limn_task_frame *frame, const char *prompt, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_answer *a = NULL;
    limn_findings said_so;
    size_t before = r->out->found.n;
    double *p = limn_mem_calloc(r->n_labels, sizeof *p);
    limn_findings_init(&said_so);
    LIMN_CHECK(err, p, LIMN_E_NOMEM, "no memory for scores");
    LIMN_TRY(
        scores_make(p, r, file, prompt, "{\"category\": \"", r->labels, r->n_labels, false, err));
    LIMN_TRY(limn_task_question(&a, r, file, 1, prompt, err));
    LIMN_TRY(limn_task_rows_parse(&said_so, a->text, a->len, frame, err));
    LIMN_TRY(labels_add(r, p, r->n_labels, frame->picture, false, err));
    r->out->found.dropped += said_so.dropped;
    for (size_t i = before; i < r->out->found.n; i++)
        for (size_t k = 0; k < said_so.n; k++) {
            limn_finding *to = &r->out->found.list[i];
            const limn_finding *from = &said_so.list[k];
            if (strcmp(to->label, from->label) != 0) continue;
            to->has_box = from->has_box;
            memcpy(to->box, from->box, sizeof to->box);
            to->text = limn_arena_strdup(&r->out->found.arena, from->text);
            LIMN_CHECK(err, to->text, LIMN_E_NOMEM, "no memory for a reason");
        }
out:
    limn_findings_deinit(&said_so);
    limn_mem_free(p);
    limn_answer_free(&a);
    return st;
}
