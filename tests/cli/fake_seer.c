/* SPDX-License-Identifier: MIT */
/*
 * The seer of limn_cli_fake: no model, its answer repeats what was asked, so that the tests of the
 * command line see which pictures and which question arrived.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "limn.h"

struct limn_seer {
    char model[256];
};

limn_status limn_seer_new(limn_seer **out, const limn_params *app, const limn_params *see,
                          limn_err *err) {
    (void)app;
    *out = limn_mem_calloc(1, sizeof **out);
    if (!*out) return limn_fail(err, LIMN_E_NOMEM, "no memory");
    snprintf((*out)->model, sizeof(*out)->model, "%s", limn_params_text(see, "model"));
    return LIMN_OK;
}

void limn_seer_free(limn_seer **seer) {
    if (!seer || !*seer) return;
    limn_mem_free(*seer);
    *seer = NULL;
}

void limn_seer_get_info(limn_seer_info *out, const limn_seer *seer) {
    *out = (limn_seer_info){.path = seer->model,
                            .name = "fake",
                            .sees = true,
                            .context = 4096,
                            .sequences = 1,
                            .cache_type = "f16",
                            .note = seer->model[0] ? NULL : "using the fake model"};
}

limn_status limn_see(limn_answer **out, limn_seer *seer, const limn_talk *talk,
                     const limn_params *see, const limn_look_watch *watch, limn_err *err) {
    limn_answer *a = limn_mem_calloc(1, sizeof *a + 4096);
    char *text = (char *)(a + 1);
    size_t at = 0;
    *out = NULL;
    if (!a) return limn_fail(err, LIMN_E_NOMEM, "no memory");
    const limn_message *m = &talk->messages[talk->n_messages - 1];
    for (size_t i = 0; i < m->n_parts && at < 4000; i++)
        at += (size_t)snprintf(text + at, 4096 - at, "%s[%.200s]", i ? " " : "",
                               m->parts[i].kind == LIMN_MESSAGE_TEXT ? m->parts[i].text
                                                                     : m->parts[i].path);
    a->text = text;
    a->len = at;
    if (limn_params_int(see, "max_tokens") > 0) a->finish = LIMN_FINISH_LENGTH;
    a->completion_tokens = 7;
    limn_said s = {.kind = LIMN_SAID_TEXT, .text = text, .len = at};
    if (watch && watch->said) watch->said(watch->user, &s);
    *out = a;
    return LIMN_OK;
}

/* ---- tasks: the words that a task got ---- */

bool limn_task_get_info(limn_task_info *out, int index) {
    static const limn_task_info rows[] = {
        {.name = "ask", .help = "answer a question", {"text", "json"}, "question", 0, false, {0}},
        {.name = "boxes",
         .help = "locate things",
         {"text", "json"},
         "categories",
         1,
         false,
         {1, 1}}};
    if (index < 0 || index > 1) return false;
    *out = rows[index];
    return true;
}

limn_status limn_task_check(const limn_params *see, size_t n_files, limn_err *err) {
    (void)see, (void)n_files, (void)err;
    return LIMN_OK;
}

limn_status limn_task_run(limn_sight **out, limn_seer *seer, const limn_message_part *files,
                          size_t n_files, const limn_params *see, const limn_look_watch *watch,
                          limn_err *err) {
    static const limn_finding box = {
        .label = "a box", .text = "", .score = -1, .has_box = true, .box = {4, 4, 40, 30}};
    limn_sight *s = limn_mem_calloc(1, sizeof *s + 512);
    limn_image *im;
    (void)seer;
    *out = NULL;
    if (!s) return limn_fail(err, LIMN_E_NOMEM, "no memory");
    limn_status st = limn_image_load(&im, files[0].path, err);
    if (st != LIMN_OK) return st;
    char *text = (char *)(s + 1);
    snprintf(text, 500, "%s of %zu: %s\n", limn_params_text(see, "task"), n_files,
             limn_params_list_count(see, "categories") ? limn_params_list_item(see, "categories", 0)
                                                       : limn_params_text(see, "prompt"));
    limn_sight_picture *p = limn_mem_calloc(1, sizeof *p);
    *p = (limn_sight_picture){files[0].path, 1, limn_image_width(im), limn_image_height(im)};
    limn_image_free(&im);
    *s = (limn_sight){.task = "boxes",
                      .format = "text",
                      .text = text,
                      .len = strlen(text),
                      .findings = &box,
                      .n_findings = 1,
                      .pictures = p,
                      .n_pictures = 1};
    limn_said said = {.kind = LIMN_SAID_TEXT, .text = text, .len = s->len};
    if (watch && watch->said) watch->said(watch->user, &said);
    *out = s;
    return LIMN_OK;
}

void limn_sight_free(limn_sight **sight) {
    if (!sight || !*sight) return;
    limn_mem_free((void *)(uintptr_t)(*sight)->pictures);
    limn_mem_free(*sight);
    *sight = NULL;
}

limn_status limn_sight_format_json(char **out, const limn_sight *s, limn_err *err) {
    *out = limn_mem_strdup("{\"task\": \"boxes\"}");
    (void)s;
    return *out ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory");
}

limn_status limn_sight_load_picture(limn_image **out, const limn_sight *s, int index,
                                    const limn_params *see, limn_err *err) {
    (void)see;
    return limn_image_load(out, s->pictures[index].file, err);
}

limn_status limn_sight_draw(limn_image **out, const limn_sight *s, const limn_image *picture,
                            int index, limn_err *err) {
    (void)s, (void)index;
    return limn_image_new(out, limn_image_width(picture), limn_image_height(picture), 3, err);
}

limn_status limn_answer_format_json(char **out, const limn_answer *a, limn_err *err) {
    limn_buf b;
    limn_buf_init(&b, 8192);
    limn_buf_addf(&b, "{\"text\": \"%s\"}", a->text);
    *out = limn_buf_take(&b);
    return *out ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory");
}

void limn_answer_free(limn_answer **answer) {
    if (!answer || !*answer) return;
    limn_mem_free(*answer);
    *answer = NULL;
}
