/* SPDX-License-Identifier: MIT */
/* From a request's JSON to a job; see api.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "param/gen.h"
#include "server/api/api.h"

/* ---- names, not paths ---- */

static bool is_path(const char *name) {
    return name[0] == '/' || name[0] == '~' || name[0] == '\\' || strstr(name, "..") ||
           strstr(name, "://") ||
           (name[0] && name[1] == ':' && (name[2] == '\\' || name[2] == '/'));
}

/* "<lora:NAME:1>" inside a prompt. */
static bool prompt_names_path(const char *prompt) {
    char name[256];
    for (const char *at = strchr(prompt, '<'); at; at = strchr(at + 1, '<')) {
        const char *colon = at + 1 + strcspn(at + 1, ":<>");
        if (*colon != ':') continue;
        size_t n = strcspn(colon + 1, ":>");
        snprintf(name, sizeof name, "%.*s", (int)(n < 255 ? n : 255), colon + 1);
        if (is_path(name)) return true;
    }
    return false;
}

limn_status limn_api_check_names(const limn_params *params, limn_err *err) {
    const limn_param_table *t = limn_param_table_get(params->kind);
    for (int i = 0; i < t->count; i++) {
        const limn_param *p = &t->rows[i];
        bool names = (p->flags & LIMN_P_PATH) || (p->list && strcmp(p->list, "upscaler") == 0);
        bool prompt = strcmp(p->name, "prompt") == 0 || strcmp(p->name, "negative_prompt") == 0;
        if (!limn_params_is_set(params, p->name) || !(names || prompt)) continue;
        int n = p->type == LIMN_TYPE_LIST ? limn_params_list_count(params, p->name) : 1;
        for (int k = 0; k < n; k++) {
            const char *value = p->type == LIMN_TYPE_LIST
                                    ? limn_params_list_item(params, p->name, k)
                                    : limn_params_text(params, p->name);
            if (prompt ? prompt_names_path(value) : is_path(value))
                return limn_fail(err, LIMN_E_VALUE, "/%s: a name is wanted here, not a path",
                                 p->name);
        }
    }
    return LIMN_OK;
}

/* ---- values ---- */

static bool is_picture(const limn_param *p) {
    return p && (strcmp(p->name, "init_image") == 0 || strcmp(p->name, "mask") == 0);
}

limn_status limn_api_read_params(limn_http_req *rq, limn_params *params, json_t *object,
                                 limn_err *err) {
    const limn_param_table *t = limn_param_table_get(params->kind);
    json_t *values = json_object();
    const char *key;
    json_t *v;
    char *text = NULL;
    limn_status st = LIMN_OK;
    LIMN_CHECK(err, values, LIMN_E_NOMEM, "no memory for the request");
    json_object_foreach(object, key, v) {
        char ref[LIMN_PICTURE_REF_MAX], where[128];
        if (strcmp(key, "job") == 0) continue;
        snprintf(where, sizeof where, "/%.100s", key);
        if (is_picture(limn_param_find(t, key)) && json_is_string(v) && json_string_length(v)) {
            LIMN_TRY(limn_picture_take(rq, ref, json_string_value(v), false, where, err));
            json_object_set_new(values, key, json_string(ref));
        } else if (!json_is_null(v)) {
            json_object_set(values, key, v);
        }
    }
    text = json_dumps(values, JSON_COMPACT);
    LIMN_CHECK(err, text, LIMN_E_NOMEM, "no memory for the request");
    LIMN_TRY(limn_params_parse_json(params, text, strlen(text), LIMN_FROM_API, err));
    LIMN_TRY(limn_api_check_names(params, err));
out:
    free(text);
    json_decref(values);
    return st;
}

static limn_status read_tags(limn_http_req *rq, limn_submit *submit, const json_t *list,
                             limn_err *err) {
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n > LIMN_JOB_TAGS_MAX)
        return limn_fail(err, LIMN_E_VALUE, "/job: tags is a list of at most %d strings",
                         LIMN_JOB_TAGS_MAX);
    const char **tags = limn_arena_alloc(&rq->arena, (n + 1) * sizeof *tags);
    if (!tags) return limn_fail(err, LIMN_E_NOMEM, "no memory for tags");
    for (size_t i = 0; i < n; i++) {
        tags[i] = json_string_value(json_array_get(list, i));
        if (!tags[i] || !*tags[i] || strlen(tags[i]) > LIMN_JOB_TAG_MAX)
            return limn_fail(err, LIMN_E_VALUE, "/job: a tag has 1 to %d bytes", LIMN_JOB_TAG_MAX);
    }
    submit->tags = tags;
    submit->n_tags = (int)n;
    return LIMN_OK;
}

static limn_status read_int(int *out, const json_t *v, const char *name, int lo, int hi,
                            limn_err *err) {
    if (!json_is_integer(v) || json_integer_value(v) < lo || json_integer_value(v) > hi)
        return limn_fail(err, LIMN_E_VALUE, "/job: %s is a whole number, %d to %d", name, lo, hi);
    *out = (int)json_integer_value(v);
    return LIMN_OK;
}

limn_status limn_api_give_json(limn_submit *submit, const json_t *spec, char **text,
                               limn_err *err) {
    *text = spec ? json_dumps(spec, JSON_COMPACT) : NULL;
    if (!*text) return limn_fail(err, LIMN_E_NOMEM, "no memory for the request");
    submit->json = *text;
    submit->json_len = strlen(*text);
    return LIMN_OK;
}

limn_status limn_api_read_job(limn_http_req *rq, limn_submit *submit, limn_err *err) {
    const json_t *job = json_object_get(rq->json, "job");
    const char *key;
    json_t *v;
    submit->keep = true;
    submit->preview_every = 2;
    if (!job) return LIMN_OK;
    if (!json_is_object(job)) return limn_fail(err, LIMN_E_VALUE, "/job: must be an object");
    json_object_foreach((json_t *)(uintptr_t)job, key, v) {
        limn_status st = LIMN_OK;
        if (strcmp(key, "priority") == 0) {
            int max = rq->who.scope == LIMN_SCOPE_ADMIN ? LIMN_JOB_PRIORITY_MAX : 0;
            st = read_int(&submit->priority, v, key, -LIMN_JOB_PRIORITY_MAX, max, err);
        } else if (strcmp(key, "preview_every") == 0) {
            st = read_int(&submit->preview_every, v, key, 0, 1000, err);
        } else if (strcmp(key, "keep") == 0) {
            if (!json_is_boolean(v))
                st = limn_fail(err, LIMN_E_VALUE, "/job: keep is true or false");
            submit->keep = json_is_true(v);
        } else if (strcmp(key, "tags") == 0) {
            st = read_tags(rq, submit, v, err);
        } else {
            st = limn_fail(err, LIMN_E_USAGE, "/job: there is no member \"%.60s\"", key);
        }
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

void limn_api_fail(limn_http_req *rq, const limn_err *err) {
    bool later = err->status == LIMN_E_BUSY || err->status == LIMN_E_UNAVAILABLE;
    limn_http_fail_err(rq, err, later ? 5 : 0);
}

bool limn_api_submit(limn_http_req *rq, limn_submit *submit, limn_submitted *out) {
    limn_err err = {0};
    const char *key = limn_http_header(rq, "Idempotency-Key");
    if (key && (!*key || strlen(key) > 128 || !limn_utf8_is_valid(key, strlen(key)))) {
        limn_http_fail(rq, LIMN_HTTP_BAD_REQUEST, NULL, "Idempotency-Key has 1 to 128 characters");
        return false;
    }
    submit->owner = rq->who.owner;
    submit->key = key;
    submit->trace = rq->trace[0] ? rq->trace : NULL;
    limn_status st = limn_queue_submit(rq->server->queue, submit, out, &err);
    if (st != LIMN_OK) {
        limn_http_fail_err(rq, &err, out->retry_seconds);
        return false;
    }
    snprintf(rq->job, sizeof rq->job, "%s", out->id);
    return true;
}

limn_status limn_api_load_artifact(limn_http_req *rq, const limn_artifact *a, void **data,
                                   size_t *size, limn_err *err) {
    return limn_artifacts_read(limn_queue_artifacts(rq->server->queue), data, size, a->sha, err);
}

bool limn_api_query_int(limn_http_req *rq, const char *name, int64_t lo, int64_t hi,
                        int64_t fallback, int64_t *out) {
    const char *text = limn_http_query(rq, name);
    *out = fallback;
    if (!text || !*text) return true;
    if (limn_int_parse(out, text) && *out >= lo && *out <= hi) return true;
    limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, name, "?%s= is a whole number, %lld to %lld", name,
                   (long long)lo, (long long)hi);
    return false;
}
