/* SPDX-License-Identifier: MIT */
/*
 * POST /v1/see: a question, or a task, about pictures, clips and documents, alone or as the next
 * turn of a conversation (docs/API.md, 2).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/api.h"

enum { TURNS_MAX = 256, PARTS_MAX = 256 };

/* One request while it is read. */
typedef struct reading {
    limn_http_req *rq;
    int files; /* so far */
    limn_err *err;
} reading;

/* Does the request name a task whose words are not a question in the conversation? */
static bool names_task(const limn_http_req *rq) {
    const char *task = json_string_value(json_object_get(rq->json, "task"));
    return task && *task && strcmp(task, "ask") != 0;
}

static bool take_member(limn_http_req *rq, const char *name, json_t **out) {
    *out = json_incref(json_object_get(rq->json, name));
    json_object_del(rq->json, name);
    if (json_is_null(*out)) *out = NULL;
    return *out != NULL;
}

/* ---- pictures and files ---- */

static limn_status add_file(reading *r, json_t *parts, const json_t *v, bool picture,
                            const char *where) {
    const char *text = json_string_value(v);
    limn_media_ref ref = {.part = "image"};
    limn_status st = LIMN_OK;
    if (!text) return limn_fail(r->err, LIMN_E_VALUE, "%s: must be a string", where);
    if (++r->files > LIMN_LIMIT_IMAGES_IN)
        return limn_fail(r->err, LIMN_E_VALUE, "%s: more than %d pictures and files", where,
                         LIMN_LIMIT_IMAGES_IN);
    if (picture)
        st = limn_picture_take(r->rq, ref.text, text, false, where, r->err);
    else
        st = limn_media_take(r->rq, &ref, text, false, where, r->err);
    if (st != LIMN_OK) return st;
    json_t *part = json_pack("{s:s, s:s}", "type", ref.part, ref.part, ref.text);
    return json_array_append_new(parts, part) == 0
               ? LIMN_OK
               : limn_fail(r->err, LIMN_E_NOMEM, "no memory for the request");
}

static limn_status add_list(reading *r, json_t *parts, const char *name, bool picture) {
    const json_t *list = json_object_get(r->rq->json, name);
    char where[64];
    limn_status st = LIMN_OK;
    if (!list || json_is_null(list)) return LIMN_OK;
    if (!json_is_array(list) || json_array_size(list) > LIMN_LIMIT_IMAGES_IN)
        return limn_fail(r->err, LIMN_E_VALUE, "/%s: a list of at most %d", name,
                         LIMN_LIMIT_IMAGES_IN);
    for (size_t i = 0; i < json_array_size(list) && st == LIMN_OK; i++) {
        snprintf(where, sizeof where, "/%s/%zu", name, i);
        st = add_file(r, parts, json_array_get(list, i), picture, where);
    }
    return st;
}

/* ---- what was said before ---- */

static limn_status add_part(reading *r, json_t *parts, const json_t *part, const char *where) {
    static const char *const media[] = {"image", "file", "video", "document"};
    const char *type = json_string_value(json_object_get(part, "type"));
    const json_t *text = json_object_get(part, "text");
    if (type && strcmp(type, "text") == 0 && json_is_string(text) && json_object_size(part) == 2) {
        json_array_append_new(parts, json_pack("{s:s, s:O}", "type", "text", "text", text));
        return LIMN_OK;
    }
    for (size_t i = 0; type && i < sizeof media / sizeof media[0]; i++)
        if (strcmp(type, media[i]) == 0 && json_object_size(part) == 2)
            return add_file(r, parts, json_object_get(part, type), i == 0, where);
    return limn_fail(r->err, LIMN_E_VALUE,
                     "%s: a part is {\"type\": \"text\", \"text\"}, {\"type\": \"image\", "
                     "\"image\"} or {\"type\": \"file\", \"file\"}",
                     where);
}

static limn_status add_turn(reading *r, json_t *list, const json_t *turn, int index) {
    static const char *const roles[] = {"system", "user", "assistant"};
    const char *role = json_string_value(json_object_get(turn, "role"));
    const json_t *content = json_object_get(turn, "content");
    char where[96];
    limn_status st = LIMN_OK;
    size_t i = 0;
    while (role && i < 3 && strcmp(role, roles[i]) != 0) i++;
    snprintf(where, sizeof where, "/messages/%d", index);
    if (!role || i == 3 || json_object_size(turn) != 2)
        return limn_fail(r->err, LIMN_E_VALUE,
                         "%s: is {\"role\": \"system\", \"user\" or \"assistant\", \"content\"}",
                         where);
    json_t *parts = json_array();
    json_array_append_new(list, json_pack("{s:s, s:o}", "role", role, "content", parts));
    if (json_is_string(content)) {
        json_array_append_new(parts, json_pack("{s:s, s:O}", "type", "text", "text", content));
        return LIMN_OK;
    }
    if (!json_is_array(content) || json_array_size(content) > PARTS_MAX)
        return limn_fail(r->err, LIMN_E_VALUE, "%s/content: a text, or a list of at most %d parts",
                         where, PARTS_MAX);
    for (size_t k = 0; k < json_array_size(content) && st == LIMN_OK; k++) {
        snprintf(where, sizeof where, "/messages/%d/content/%zu", index, k);
        st = add_part(r, parts, json_array_get(content, k), where);
    }
    return st;
}

static limn_status add_turns(reading *r, json_t *list) {
    const json_t *turns = json_object_get(r->rq->json, "messages");
    limn_status st = LIMN_OK;
    if (!turns || json_is_null(turns)) return LIMN_OK;
    if (!json_is_array(turns) || json_array_size(turns) > TURNS_MAX)
        return limn_fail(r->err, LIMN_E_VALUE, "/messages: a list of at most %d", TURNS_MAX);
    if (json_array_size(turns) && names_task(r->rq))
        return limn_fail(r->err, LIMN_E_VALUE, "/messages: a task has no earlier turns");
    for (size_t i = 0; i < json_array_size(turns) && st == LIMN_OK; i++)
        st = add_turn(r, list, json_array_get(turns, i), (int)i);
    return st;
}

/* ---- the whole ---- */

/* The turn that is answered: pictures, files, then the words, which a task has elsewhere. */
static limn_status add_question(reading *r, json_t *list) {
    const char *prompt = json_string_value(json_object_get(r->rq->json, "prompt"));
    bool task = names_task(r->rq), asks = prompt && *prompt && !task;
    const json_t *last = json_array_get(list, json_array_size(list) - 1);
    const char *role = last ? json_string_value(json_object_get(last, "role")) : NULL;
    limn_status st = LIMN_OK;
    json_t *parts = json_array();
    LIMN_CHECK(r->err, parts, LIMN_E_NOMEM, "no memory for the request");
    LIMN_TRY(add_list(r, parts, "images", true));
    LIMN_TRY(add_list(r, parts, "files", false));
    if (asks) json_array_append_new(parts, json_pack("{s:s, s:s}", "type", "text", "text", prompt));
    bool said = role && strcmp(role, "user") == 0;
    LIMN_CHECK(r->err, task || asks || (said && !json_array_size(parts)), LIMN_E_VALUE,
               "/prompt: is needed here");
    if (task || asks)
        json_array_append_new(list, json_pack("{s:s, s:O}", "role", "user", "content", parts));
out:
    json_decref(parts);
    return st;
}

static limn_status make_messages(limn_http_req *rq, json_t **out, limn_err *err) {
    reading r = {.rq = rq, .err = err};
    json_t *list = json_array();
    limn_status st = LIMN_OK;
    *out = NULL;
    LIMN_CHECK(err, list, LIMN_E_NOMEM, "no memory for the request");
    LIMN_TRY(add_turns(&r, list));
    LIMN_TRY(add_question(&r, list));
    *out = json_pack("{s:O}", "messages", list);
    LIMN_CHECK(err, *out, LIMN_E_NOMEM, "no memory for the request");
out:
    json_decref(list);
    return st;
}

/* The object "json_schema" becomes the text "schema" of the table. */
static limn_status take_schema(limn_http_req *rq, limn_err *err) {
    json_t *schema;
    limn_status st = LIMN_OK;
    char *text = NULL;
    if (!take_member(rq, "json_schema", &schema)) return LIMN_OK;
    LIMN_CHECK(err, json_is_object(schema), LIMN_E_VALUE, "/json_schema: must be an object");
    text = json_dumps(schema, JSON_COMPACT);
    LIMN_CHECK(err, text, LIMN_E_NOMEM, "no memory for the schema");
    json_object_set_new(rq->json, "schema", json_string(text));
out:
    free(text);
    json_decref(schema);
    return st;
}

void native_see(limn_http_req *rq) {
    limn_err err = {0};
    limn_params *see = NULL;
    limn_submit submit = {.kind = LIMN_JOB_SEE};
    json_t *messages = NULL;
    char *text = NULL;
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_params_new(&see, LIMN_PARAMS_SEE, &err));
    LIMN_TRY(limn_api_read_job(rq, &submit, &err));
    LIMN_TRY(make_messages(rq, &messages, &err));
    json_object_del(rq->json, "images");
    json_object_del(rq->json, "files");
    json_object_del(rq->json, "messages");
    if (!names_task(rq)) json_object_del(rq->json, "prompt"); /* it is in the message */
    LIMN_TRY(take_schema(rq, &err));
    LIMN_TRY(limn_api_read_params(rq, see, rq->json, &err));
    LIMN_TRY(limn_api_give_json(&submit, messages, &text, &err));
    submit.params = see;
    limn_api_make(rq, &submit);
out:
    if (st != LIMN_OK) limn_api_fail(rq, &err);
    limn_params_free(&see);
    json_decref(messages);
    free(text);
}
