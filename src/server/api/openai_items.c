/* SPDX-License-Identifier: MIT */
/* GET /v1/responses/{id}/input_items: what a response was asked, the turns before it included, as
 * items of OpenAI. The newest comes first unless "order" is "asc"; see openai.h. */
#include <stdlib.h>
#include <string.h>

#include "server/api/openai.h"

enum { ITEMS_DEFAULT = 20, ITEMS_MAX = 100 };

/* A part of a stored message; pictures and files by the address of their artifact. */
static json_t *part_json(limn_http_req *rq, const json_t *part) {
    const char *type = openai_text(part, "type");
    const char *ref = type ? openai_text(part, type) : NULL;
    if (type && strcmp(type, "text") == 0)
        return json_pack("{s:s, s:O}", "type", "input_text", "text", json_object_get(part, "text"));
    bool image = type && strcmp(type, "image") == 0;
    const char *sha = ref && strncmp(ref, "artifact:", 9) == 0 ? ref + 9 : "";
    json_t *url = json_sprintf("%s/v1/artifacts/%s/file", limn_http_origin(rq), sha);
    if (image)
        return json_pack("{s:s, s:o, s:s}", "type", "input_image", "image_url", url, "detail",
                         "auto");
    return json_pack("{s:s, s:o}", "type", "input_file", "file_url", url);
}

static json_t *content_json(limn_http_req *rq, const json_t *content, bool answer) {
    json_t *list = json_array();
    const json_t *part;
    size_t i;
    if (json_is_string(content))
        json_array_append_new(
            list, answer ? json_pack("{s:s, s:O, s:[]}", "type", "output_text", "text", content,
                                     "annotations")
                         : json_pack("{s:s, s:O}", "type", "input_text", "text", content));
    json_array_foreach(content, i, part) json_array_append_new(list, part_json(rq, part));
    return list;
}

/* The items of one stored message: its words, then the calls that it made. */
static void add_message(limn_http_req *rq, json_t *list, const json_t *m, const char *job,
                        size_t at, int *calls, int *outputs) {
    const char *role = openai_text(m, "role");
    const json_t *content = json_object_get(m, "content"), *call;
    size_t i;
    if (role && strcmp(role, "tool") == 0) {
        json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:O?, s:s}", "type",
                                              "function_call_output", "id",
                                              json_sprintf("fco_%s_%zu", job, at), "call_id",
                                              json_sprintf("call_%s_%d", job, (*outputs)++),
                                              "output", content, "status", "completed"));
        return;
    }
    bool answer = role && strcmp(role, "assistant") == 0;
    if (content && (!answer || json_string_length(content) || json_is_array(content)))
        json_array_append_new(list, json_pack("{s:s, s:o, s:s, s:s, s:o}", "type", "message", "id",
                                              json_sprintf("msg_%s_%zu", job, at), "status",
                                              "completed", "role", role ? role : "user", "content",
                                              content_json(rq, content, answer)));
    json_array_foreach(json_object_get(m, "tool_calls"), i, call) {
        const json_t *f = json_object_get(call, "function");
        json_array_append_new(list,
                              json_pack("{s:s, s:o, s:o, s:O, s:O, s:s}", "type", "function_call",
                                        "id", json_sprintf("fc_%s_%zu_%zu", job, at, i), "call_id",
                                        json_sprintf("call_%s_%d", job, (*calls)++), "name",
                                        json_object_get(f, "name"), "arguments",
                                        json_object_get(f, "arguments"), "status", "completed"));
    }
}

/* All items, oldest first; instructions are none. */
static json_t *items_of(limn_http_req *rq, const limn_job *job) {
    json_t *request = json_loads(job->request ? job->request : "{}", 0, NULL), *list = json_array();
    const json_t *m;
    size_t i;
    int calls = 0, outputs = 0;
    bool instructed = json_object_get(json_object_get(request, "response"), "instructions") != NULL;
    json_array_foreach(json_object_get(request, "messages"), i, m) {
        if (i > 0 || !instructed) add_message(rq, list, m, job->id, i, &calls, &outputs);
    }
    json_decref(request);
    return list;
}

/* Place behind the item "after" in the order that is asked for; false: there is no such item. */
static bool find_after(size_t *from, limn_http_req *rq, const json_t *items, bool oldest) {
    const char *after = limn_http_query(rq, "after");
    size_t n = json_array_size(items);
    *from = 0;
    for (size_t k = 0; after && k < n; k++) {
        const char *id = openai_text(json_array_get(items, oldest ? k : n - 1 - k), "id");
        if (id && strcmp(id, after) == 0) {
            *from = k + 1;
            return true;
        }
    }
    return !after;
}

void openai_items_reply(limn_http_req *rq, const limn_job *job) {
    const char *order = limn_http_query(rq, "order");
    bool oldest = order && strcmp(order, "asc") == 0;
    int64_t limit;
    size_t from;
    if (order && !oldest && strcmp(order, "desc") != 0) {
        limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, "order", "?order= is asc or desc");
        return;
    }
    if (!limn_api_query_int(rq, "limit", 1, ITEMS_MAX, ITEMS_DEFAULT, &limit)) return;
    json_t *items = items_of(rq, job), *page = json_array();
    size_t n = json_array_size(items);
    if (!find_after(&from, rq, items, oldest)) {
        limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, "after", "?after= names no item of this response");
    } else {
        for (size_t k = from; k < n && k - from < (size_t)limit; k++)
            json_array_append(page, json_array_get(items, oldest ? k : n - 1 - k));
        size_t got = json_array_size(page);
        limn_http_reply_json(
            rq, 200,
            json_pack("{s:s, s:O, s:O?, s:O?, s:b}", "object", "list", "data", page, "first_id",
                      json_object_get(json_array_get(page, 0), "id"), "last_id",
                      got ? json_object_get(json_array_get(page, got - 1), "id") : NULL, "has_more",
                      from + got < n));
    }
    json_decref(items);
    json_decref(page);
}
