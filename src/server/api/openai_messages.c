/* SPDX-License-Identifier: MIT */
/* OpenAI's messages and input items into the conversations of the queue; see openai.h. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "server/api/openai.h"

enum { MESSAGES_MAX = 4096, PARTS_MAX = 1024 };

/* One conversation while it is read. */
typedef struct reading {
    limn_http_req *rq;
    int media; /* pictures, clips and documents so far */
    limn_err *err;
} reading;

/* ---- parts ---- */

/* The picture or file of a part: {"url": ...} or the string itself. */
static const char *part_ref(const json_t *part, const char *name, const char *member) {
    const json_t *v = json_object_get(part, name);
    return json_is_object(v) ? openai_text(v, member) : json_string_value(v);
}

static limn_status add_image(reading *r, json_t *parts, const char *ref, const char *where) {
    char kept[LIMN_PICTURE_REF_MAX];
    if (!ref) return limn_fail(r->err, LIMN_E_VALUE, "%s: there is no picture", where);
    limn_status st = limn_picture_take(r->rq, kept, ref, false, where, r->err);
    if (st != LIMN_OK) return st;
    json_array_append_new(parts, json_pack("{s:s, s:s}", "type", "image", "image", kept));
    return LIMN_OK;
}

static limn_status add_file(reading *r, json_t *parts, const char *ref, const char *where) {
    limn_media_ref kept;
    if (!ref) return limn_fail(r->err, LIMN_E_VALUE, "%s: there are no file data", where);
    limn_status st = limn_media_take(r->rq, &kept, ref, true, where, r->err);
    if (st != LIMN_OK) return st;
    json_array_append_new(parts, json_pack("{s:s, s:s}", "type", kept.part, kept.part, kept.text));
    return LIMN_OK;
}

/* Types of parts, of chat and of responses. */
static const struct part_type {
    const char *type;
    enum { PART_TEXT, PART_IMAGE, PART_FILE } what;
    const char *member, *inner; /* where the text or the data are */
} part_types[] = {
    {"text", PART_TEXT, "text", NULL},
    {"input_text", PART_TEXT, "text", NULL},
    {"output_text", PART_TEXT, "text", NULL},
    {"image_url", PART_IMAGE, "image_url", "url"},
    {"input_image", PART_IMAGE, "image_url", "url"},
    {"video_url", PART_FILE, "video_url", "url"},
    {"input_video", PART_FILE, "input_video", "data"},
    {"file", PART_FILE, "file", "file_data"},
    {"input_file", PART_FILE, "file_data", NULL},
};

static limn_status read_part(reading *r, json_t *parts, const json_t *part, const char *where) {
    const char *type = json_string_value(json_object_get(part, "type"));
    const struct part_type *t = NULL;
    for (size_t i = 0; type && i < sizeof part_types / sizeof part_types[0]; i++)
        if (strcmp(type, part_types[i].type) == 0) t = &part_types[i];
    if (!t)
        return limn_fail(r->err, LIMN_E_VALUE, "%s: a part of type \"%.40s\" is not understood",
                         where, type ? type : "");
    if (t->what == PART_TEXT) {
        const json_t *text = json_object_get(part, t->member);
        if (!json_is_string(text))
            return limn_fail(r->err, LIMN_E_VALUE, "%s: its text must be a string", where);
        json_array_append_new(parts, json_pack("{s:s, s:O}", "type", "text", "text", text));
        return LIMN_OK;
    }
    if (++r->media > LIMN_LIMIT_IMAGES_IN)
        return limn_fail(r->err, LIMN_E_VALUE, "%s: more than %d pictures and files", where,
                         LIMN_LIMIT_IMAGES_IN);
    const char *ref = part_ref(part, t->member, t->inner);
    if (!ref) ref = openai_text(part, "file_url"); /* of input_file */
    return t->what == PART_IMAGE ? add_image(r, parts, ref, where) : add_file(r, parts, ref, where);
}

static limn_status read_content(reading *r, json_t *message, const json_t *content,
                                const char *where) {
    char here[96];
    limn_status st = LIMN_OK;
    json_t *parts;
    if (!content || json_is_null(content)) return LIMN_OK;
    if (json_is_string(content)) {
        json_object_set(message, "content", (json_t *)(uintptr_t)content);
        return LIMN_OK;
    }
    if (!json_is_array(content) || json_array_size(content) > PARTS_MAX)
        return limn_fail(r->err, LIMN_E_VALUE, "%s/content: is a string or a list of at most %d",
                         where, PARTS_MAX);
    parts = json_array();
    for (size_t i = 0; i < json_array_size(content) && st == LIMN_OK; i++) {
        snprintf(here, sizeof here, "%s/content/%zu", where, i);
        st = read_part(r, parts, json_array_get(content, i), here);
    }
    json_object_set_new(message, "content", parts);
    return st;
}

/* ---- messages ---- */

static limn_status read_calls(json_t *message, const json_t *calls, const char *where,
                              limn_err *err) {
    json_t *list;
    if (!calls || json_is_null(calls)) return LIMN_OK;
    if (!json_is_array(calls))
        return limn_fail(err, LIMN_E_VALUE, "%s/tool_calls: must be a list", where);
    list = json_array();
    json_object_set_new(message, "tool_calls", list);
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *f = json_object_get(json_array_get(calls, i), "function");
        const char *name = openai_text(f, "name");
        const char *arguments = json_string_value(json_object_get(f, "arguments"));
        if (!name || !arguments)
            return limn_fail(err, LIMN_E_VALUE,
                             "%s/tool_calls/%zu: function.name and function.arguments are needed",
                             where, i);
        json_array_append_new(
            list, json_pack("{s:{s:s, s:s}}", "function", "name", name, "arguments", arguments));
    }
    return LIMN_OK;
}

static const char *known_role(const char *role) {
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    if (role && strcmp(role, "developer") == 0) return "system";
    if (role && strcmp(role, "function") == 0) return "tool";
    for (size_t i = 0; role && i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(role, roles[i]) == 0) return roles[i];
    return NULL;
}

static limn_status read_message(reading *r, json_t *list, const json_t *m, int index) {
    char where[48];
    const char *role = known_role(json_string_value(json_object_get(m, "role")));
    const char *why = openai_text(m, "reasoning_content");
    snprintf(where, sizeof where, "/messages/%d", index);
    if (!role)
        return limn_fail(r->err, LIMN_E_VALUE,
                         "%s/role: is system, developer, user, assistant or tool", where);
    json_t *message = json_pack("{s:s}", "role", role);
    json_array_append_new(list, message);
    if (why) json_object_set_new(message, "reasoning", json_string(why));
    limn_status st = read_content(r, message, json_object_get(m, "content"), where);
    if (st == LIMN_OK) st = read_calls(message, json_object_get(m, "tool_calls"), where, r->err);
    if (st == LIMN_OK && !json_object_get(message, "content") &&
        !json_object_get(message, "tool_calls"))
        st = limn_fail(r->err, LIMN_E_VALUE, "%s/content: is needed", where);
    return st;
}

limn_status openai_read_messages(limn_http_req *rq, json_t **out, const json_t *messages,
                                 limn_err *err) {
    reading r = {.rq = rq, .err = err};
    size_t n = json_array_size(messages);
    *out = NULL;
    if (!json_is_array(messages) || n < 1 || n > MESSAGES_MAX)
        return limn_fail(err, LIMN_E_VALUE, "/messages: is a list of 1 to %d", MESSAGES_MAX);
    json_t *list = json_array();
    if (!list) return limn_fail(err, LIMN_E_NOMEM, "no memory for the messages");
    limn_status st = LIMN_OK;
    for (size_t i = 0; i < n && st == LIMN_OK; i++)
        st = read_message(&r, list, json_array_get(messages, i), (int)i);
    if (st == LIMN_OK)
        *out = list;
    else
        json_decref(list);
    return st;
}

/* ---- input items of /v1/responses ---- */

static json_t *item_message(const json_t *item) {
    const char *type = openai_text(item, "type");
    if (type && strcmp(type, "function_call") == 0)
        return json_pack("{s:s, s:[{s:{s:O, s:O}}]}", "role", "assistant", "tool_calls", "function",
                         "name", json_object_get(item, "name"), "arguments",
                         json_object_get(item, "arguments"));
    if (type && strcmp(type, "function_call_output") == 0)
        return json_pack("{s:s, s:O}", "role", "tool", "content", json_object_get(item, "output"));
    if (type && strcmp(type, "message") != 0) return NULL;
    return json_incref((json_t *)(uintptr_t)item);
}

limn_status openai_input_messages(json_t **out, const json_t *body, limn_err *err) {
    json_t *input = json_object_get(body, "input"), *list = json_array();
    const char *instructions = openai_text(body, "instructions");
    limn_status st = LIMN_OK;
    *out = NULL;
    LIMN_CHECK(err, list, LIMN_E_NOMEM, "no memory for the messages");
    if (instructions)
        json_array_append_new(list,
                              json_pack("{s:s, s:s}", "role", "system", "content", instructions));
    LIMN_CHECK(err, json_is_string(input) || json_is_array(input), LIMN_E_VALUE,
               "/input: a string or a list is needed");
    if (json_is_string(input))
        json_array_append_new(list, json_pack("{s:s, s:O}", "role", "user", "content", input));
    for (size_t i = 0; i < json_array_size(input); i++) {
        json_t *m = item_message(json_array_get(input, i));
        LIMN_CHECK(err, m && json_array_append_new(list, m) == 0, LIMN_E_VALUE,
                   "/input/%zu: an item of this kind is not understood", i);
    }
    *out = list;
    list = NULL;
out:
    json_decref(list);
    return st;
}
