/* SPDX-License-Identifier: MIT */
/* What a request asks for: form, labels, policy, prompt, schema; see task_impl.h. */
#include <stdio.h>
#include <string.h>

#include "pipeline/task_impl.h"

enum { LABELS_MAX = 1024, LABEL_BYTES = 512 };

/* ---- prompts ---- */

const char *limn_task_fill(limn_task_job *r, const char *pattern, const char *name,
                           const char *text) {
    limn_buf b;
    const char *at;
    limn_buf_init(&b, 8 << 20);
    while ((at = strstr(pattern, name)) != NULL) {
        limn_buf_add(&b, pattern, (size_t)(at - pattern));
        limn_buf_adds(&b, text);
        pattern = at + strlen(name);
    }
    limn_buf_adds(&b, pattern);
    const char *made = b.failed ? NULL : limn_arena_strdup(&r->arena, limn_buf_text(&b));
    limn_buf_deinit(&b);
    return made;
}

static const char *list_text(limn_task_job *r, bool about) {
    limn_buf b;
    limn_buf_init(&b, 4 << 20);
    for (size_t i = 0; i < r->n_labels; i++) {
        limn_buf_addf(&b, "%s%s", i ? ", " : "", r->labels[i]);
        if (about && r->categories && r->categories[i].about[0])
            limn_buf_addf(&b, " (%s)", r->categories[i].about);
    }
    const char *made = b.failed ? NULL : limn_arena_strdup(&r->arena, limn_buf_text(&b));
    limn_buf_deinit(&b);
    return made;
}

const char *limn_task_prompt(limn_task_job *r) {
    const limn_task *t = r->task;
    const char *words = r->o->prompt, *p = r->form.prompt;
    if (t->words == LIMN_WORDS_NEEDED) return words;
    if (t->words == LIMN_WORDS_MAY && words[0])
        return limn_task_fill(r, r->form.asked ? r->form.asked : "{question}", "{question}", words);
    if (r->n_labels == 0 && r->form.open) p = r->form.open;
    const char *list = list_text(r, true);
    if (!list) return NULL;
    p = limn_task_fill(r, p, "{labels}", list);
    p = p ? limn_task_fill(r, p, "{keys}", list) : NULL;
    if (p && r->reasons)
        p = limn_task_fill(r, p, "category and bbox_2d", "category, reason and bbox_2d");
    return p;
}

/* ---- words ---- */

static limn_status form_find(limn_task_job *r, limn_err *err) {
    const limn_task *t = r->task;
    const limn_task_form *with = &t->forms[0];
    for (int i = 0; i < LIMN_TASK_FORMS; i++) {
        const limn_task_form *f = &t->forms[i];
        if (f->format == LIMN_SEEING_FORMAT_AUTO) break;
        if (f->prompt) with = f;
        if (r->o->format != LIMN_SEEING_FORMAT_AUTO && (int)f->format != r->o->format) continue;
        r->form = *with;
        r->form.format = f->format;
        return LIMN_OK;
    }
    return limn_fail(err, LIMN_E_USAGE, "task %s has no format %s; limn tasks says which it has",
                     t->name, limn_params_text(r->see, "format"));
}

static limn_status label_add(limn_task_job *r, const char *text, size_t len, limn_err *err) {
    while (len > 0 && *text == ' ') text++, len--;
    while (len > 0 && text[len - 1] == ' ') len--;
    if (len == 0) return LIMN_OK;
    if (r->n_labels == LABELS_MAX || len > LABEL_BYTES)
        return limn_fail(err, LIMN_E_LIMIT, "more than %d categories, or one longer than %d bytes",
                         LABELS_MAX, LABEL_BYTES);
    char *copy = limn_arena_strndup(&r->arena, text, len);
    if (!copy) return limn_fail(err, LIMN_E_NOMEM, "no memory for labels");
    for (size_t i = 0; i < r->n_labels; i++)
        if (strcmp(r->labels[i], copy) == 0) return LIMN_OK;
    r->labels[r->n_labels++] = copy;
    return LIMN_OK;
}

static limn_status labels_read(limn_task_job *r, limn_err *err) {
    const limn_task *t = r->task;
    const limn_seeing *o = r->o;
    limn_status st = LIMN_OK;
    const limn_texts *given = t->words == LIMN_WORDS_KEYS ? &o->keys : &o->categories;
    bool takes = t->words == LIMN_WORDS_LABELS || t->words == LIMN_WORDS_KEYS;
    LIMN_CHECK(err, takes || (o->categories.count == 0 && o->keys.count == 0), LIMN_E_USAGE,
               "task %s takes no categories or keys", t->name);
    LIMN_CHECK(err, given == &o->keys ? o->categories.count == 0 : o->keys.count == 0, LIMN_E_USAGE,
               "task %s takes %s, not %s", t->name, given == &o->keys ? "keys" : "categories",
               given == &o->keys ? "categories" : "keys");
    r->labels = limn_arena_alloc(&r->arena, LABELS_MAX * sizeof *r->labels);
    LIMN_CHECK(err, r->labels, LIMN_E_NOMEM, "no memory for labels");
    if (!takes) goto out;
    for (int i = 0; i < given->count; i++) {
        LIMN_CHECK(err, given->item[i][strspn(given->item[i], " ")], LIMN_E_USAGE,
                   "task %s got an empty %s", t->name, given == &o->keys ? "key" : "category");
        LIMN_TRY(label_add(r, given->item[i], strlen(given->item[i]), err));
    }
    LIMN_CHECK(err, r->n_labels == 0 || !o->prompt[0], LIMN_E_USAGE,
               "task %s got its %s twice: as options and in words", t->name,
               given == &o->keys ? "keys" : "categories");
    for (const char *p = o->prompt; *p;) {
        size_t n = strcspn(p, ",\n");
        LIMN_TRY(label_add(r, p, n, err));
        p += n + (p[n] != 0);
    }
    LIMN_CHECK(err, r->n_labels > 0 || r->form.open, LIMN_E_USAGE,
               "task %s needs categories: say what to look for", t->name);
out:
    return st;
}

/* {"categories": ["weapon", {"name": ..., "description": ..., "threshold": 0.5}], "reasons": true}
 */
static limn_status policy_read(limn_task_job *r, limn_err *err) {
    static const char *const own =
        "{\"categories\": [\"weapon\", \"alcohol\", \"tobacco\", \"gambling\", \"medical\"]}";
    const char *text = r->o->policy[0] ? r->o->policy : own, *key;
    json_error_t e;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &e), *v;
    limn_status st = LIMN_OK;
    size_t i;
    LIMN_CHECK(err, json_is_object(root), LIMN_E_VALUE, "policy: line %d: %s", e.line,
               root ? "not an object" : e.text);
    json_object_foreach(root, key, v) {
        LIMN_CHECK(err, strcmp(key, "categories") == 0 || strcmp(key, "reasons") == 0, LIMN_E_VALUE,
                   "policy: there is no \"%.40s\" (categories, reasons)", key);
    }
    json_t *list = json_object_get(root, "categories");
    size_t n = json_array_size(list);
    LIMN_CHECK(err, n >= 1 && n < LABELS_MAX, LIMN_E_VALUE, "policy: needs 1 to %d categories",
               LABELS_MAX - 1);
    r->reasons = json_is_true(json_object_get(root, "reasons"));
    r->categories = limn_arena_alloc(&r->arena, (n + 1) * sizeof *r->categories);
    LIMN_CHECK(err, r->categories, LIMN_E_NOMEM, "no memory for a policy");
    json_array_foreach(list, i, v) {
        const char *name = json_string_value(json_is_object(v) ? json_object_get(v, "name") : v);
        const char *about = json_string_value(json_object_get(v, "description"));
        json_t *at = json_object_get(v, "threshold");
        double threshold = at ? json_number_value(at) : LIMN_TASK_THRESHOLD;
        size_t before = r->n_labels;
        LIMN_CHECK(err, name && strcmp(name, "none") != 0 && threshold > 0 && threshold <= 1,
                   LIMN_E_VALUE,
                   "policy: category %zu needs a name (not \"none\") and a threshold above 0, at "
                   "most 1",
                   i + 1);
        LIMN_TRY(label_add(r, name, strlen(name), err));
        LIMN_CHECK(err, r->n_labels == before + 1, LIMN_E_VALUE, "policy: \"%.40s\" is there twice",
                   name);
        r->categories[before] = (limn_task_category){
            r->labels[before], limn_arena_strdup(&r->arena, about ? about : ""), threshold};
        LIMN_CHECK(err, r->categories[before].about, LIMN_E_NOMEM, "no memory for a policy");
    }
    LIMN_TRY(label_add(r, "none", 4, err));
    r->categories[n] = (limn_task_category){"none", "", LIMN_TASK_THRESHOLD};
out:
    json_decref(root);
    return st;
}

static void json_text(limn_buf *out, const char *text) {
    char *dump = NULL;
    json_t *v = json_string(text);
    if (v) dump = json_dumps(v, JSON_ENCODE_ANY);
    limn_buf_adds(out, dump ? dump : "\"\"");
    free(dump);
    json_decref(v);
}

static void enum_write(limn_buf *b, const limn_task_job *r) {
    limn_buf_adds(b, "{\"enum\":[");
    for (size_t i = 0; i < r->n_labels; i++) {
        if (i) limn_buf_addc(b, ',');
        json_text(b, r->labels[i]);
    }
    limn_buf_adds(b, "]}");
}

/* The schema that bounds the answer; "" for none. */
static limn_status schema_make(const char **out, limn_task_job *r, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_buf b;
    limn_buf_init(&b, 1 << 20);
    bool free_form = r->form.answer == LIMN_ANSWER_DATA && !r->form.schema;
    LIMN_CHECK(err, !r->o->schema[0] || free_form || strcmp(r->task->name, "ask") == 0,
               LIMN_E_USAGE, "task %s has a schema of its own", r->task->name);
    if (r->o->schema[0]) {
        limn_buf_adds(&b, r->o->schema);
    } else if (r->categories) {
        limn_buf_adds(&b, "{\"type\":\"object\",\"properties\":{\"category\":");
        enum_write(&b, r);
        if (r->reasons) limn_buf_adds(&b, ",\"reason\":{\"type\":\"string\",\"maxLength\":300}");
        limn_buf_addf(&b,
                      ",\"bbox_2d\":{\"type\":\"array\",\"items\":{\"type\":\"integer\","
                      "\"minimum\":0,\"maximum\":1000},\"minItems\":4,\"maxItems\":4}},"
                      "\"required\":[\"category\"%s],\"additionalProperties\":false}",
                      r->reasons ? ",\"reason\"" : "");
    } else if (r->task->words == LIMN_WORDS_KEYS && r->n_labels > 0) {
        limn_buf_adds(&b, "{\"type\":\"object\",\"properties\":{");
        for (size_t i = 0; i < r->n_labels; i++) {
            if (i) limn_buf_addc(&b, ',');
            json_text(&b, r->labels[i]);
            limn_buf_adds(&b, ":{\"anyOf\":[{\"type\":\"string\",\"maxLength\":1000},"
                              "{\"type\":\"number\"},{\"type\":\"null\"}]}");
        }
        limn_buf_adds(&b, "},\"required\":[");
        for (size_t i = 0; i < r->n_labels; i++) {
            if (i) limn_buf_addc(&b, ',');
            json_text(&b, r->labels[i]);
        }
        limn_buf_adds(&b, "],\"additionalProperties\":false}");
    } else if (free_form) {
        LIMN_CHECK(err, r->task->words != LIMN_WORDS_KEYS, LIMN_E_USAGE,
                   "task %s needs keys or a schema: say what to read", r->task->name);
        limn_buf_adds(&b, "{\"type\":[\"object\",\"array\"]}");
    } else if (r->form.schema) {
        limn_buf label;
        limn_buf_init(&label, 1 << 20);
        if (r->n_labels > 0)
            enum_write(&label, r);
        else
            limn_buf_adds(&label, "{\"type\":\"string\",\"maxLength\":100}");
        *out = limn_task_fill(r, r->form.schema, "{label}", limn_buf_text(&label));
        limn_buf_deinit(&label);
        LIMN_CHECK(err, *out, LIMN_E_NOMEM, "no memory for a schema");
        goto out;
    }
    *out = b.failed ? NULL : limn_arena_strdup(&r->arena, limn_buf_text(&b));
    LIMN_CHECK(err, *out, LIMN_E_LIMIT, "the schema is too long");
out:
    limn_buf_deinit(&b);
    return st;
}

/* The caller's options with what the task wants: length, no chance where facts are read. */
static limn_status options_make(limn_task_job *r, limn_err *err) {
    limn_status st = LIMN_OK;
    const char *schema;
    char number[24];
    LIMN_TRY(limn_params_copy(&r->with, r->see, err));
    LIMN_TRY(schema_make(&schema, r, err));
    if (schema[0]) LIMN_TRY(limn_params_set(r->with, "schema", schema, LIMN_FROM_SCRIPT, err));
    if (strcmp(r->task->name, "compare") == 0)
        LIMN_TRY(limn_params_set(r->with, "number_pictures", "on", LIMN_FROM_PROFILE, err));
    if (r->task->max_tokens > 0 && !limn_params_is_set(r->with, "max_tokens")) {
        snprintf(number, sizeof number, "%d", r->task->max_tokens);
        LIMN_TRY(limn_params_set(r->with, "max_tokens", number, LIMN_FROM_PROFILE, err));
    }
    if (r->task->words != LIMN_WORDS_NEEDED && !limn_params_is_set(r->with, "temperature"))
        LIMN_TRY(limn_params_set(r->with, "temperature", "0", LIMN_FROM_PROFILE, err));
out:
    return st;
}

limn_status limn_task_settle(limn_task_job *r, size_t n_files, limn_err *err) {
    limn_status st = LIMN_OK;
    const limn_seeing *o = r->o;
    r->task = limn_task_find(o->task);
    LIMN_CHECK(err, r->task, LIMN_E_USAGE, "there is no task \"%.40s\"; limn tasks lists them",
               o->task);
    LIMN_TRY(form_find(r, err));
    LIMN_CHECK(err,
               (int)n_files >= r->task->least_pictures ||
                   (r->task->least_pictures == 2 && n_files == 1),
               LIMN_E_USAGE, "task %s needs a picture", r->task->name);
    LIMN_CHECK(err, r->task->words != LIMN_WORDS_NEEDED || o->prompt[0], LIMN_E_USAGE,
               "task %s needs a question", r->task->name);
    LIMN_CHECK(err, r->task->words != LIMN_WORDS_NONE || !o->prompt[0], LIMN_E_USAGE,
               "task %s takes no question", r->task->name);
    LIMN_CHECK(err, !o->policy[0] || strcmp(r->task->name, "moderate") == 0, LIMN_E_USAGE,
               "task %s takes no policy", r->task->name);
    LIMN_CHECK(err, !limn_seeing_has(o, "logprobs") || strcmp(r->task->name, "ask") == 0,
               LIMN_E_USAGE,
               "task %s gives no logprobs, only ask does; classify and moderate give scores",
               r->task->name);
    LIMN_TRY(labels_read(r, err));
    if (strcmp(r->task->name, "moderate") == 0) LIMN_TRY(policy_read(r, err));
    LIMN_TRY(options_make(r, err));
out:
    return st;
}
