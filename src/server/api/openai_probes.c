/* SPDX-License-Identifier: MIT */
/* The routes of llama-server that its clients probe: /health, /props, /slots, /tokenize,
 * /detokenize. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "pipeline/vl_model.h"
#include "server/api/openai.h"

void openai_health(limn_http_req *rq) {
    limn_err err = {0};
    if (!atomic_load(&rq->server->draining) && limn_queue_ready(rq->server->queue, &err) == LIMN_OK)
        limn_http_reply_json(rq, 200, json_pack("{s:s}", "status", "ok"));
    else
        limn_http_fail(rq, LIMN_HTTP_UNAVAILABLE, NULL, "%s",
                       err.text[0] ? err.text : "the server is stopping");
}

/* The default seeing model; false: there is none (the item is empty then). */
static bool default_seer(limn_http_req *rq, limn_shelf_item *item) {
    *item = (limn_shelf_item){0};
    return limn_shelf_find(rq->server->shelf, item, LIMN_SHELF_SEE, "", NULL) == LIMN_OK;
}

static json_t *default_name(limn_http_req *rq) {
    limn_shelf_item item;
    json_t *name = json_string(default_seer(rq, &item) ? item.name : "");
    limn_shelf_item_deinit(&item);
    return name;
}

/* "n_ctx" of a model: null while it is not open, as what fits is found out then. */
static json_t *context_of(const limn_http_req *rq, const json_t *name) {
    limn_runner *engine = rq->server->engine;
    int64_t n = engine ? limn_runner_engine_context(engine, json_string_value(name)) : 0;
    return n > 0 ? json_integer((json_int_t)n) : json_null();
}

/* What the template of a model can say, by llama-server's names. limn reads a system message and
 * media as lists of parts whatever the model; calls of tools only where they were taught. */
static json_t *template_caps(bool found, bool tools) {
    return json_pack("{s:b, s:b, s:b, s:b, s:b, s:b}", "supports_system_role", found,
                     "supports_typed_content", found, "supports_string_content", found,
                     "supports_tools", tools, "supports_tool_calls", tools,
                     "supports_parallel_tool_calls", tools);
}

void openai_props(limn_http_req *rq) {
    limn_queue_stats stats;
    limn_shelf_item item;
    limn_err err = {0};
    char *text = NULL;
    bool found = default_seer(rq, &item);
    bool sees = found && strncmp(item.family, "qwen3vl", 7) == 0;
    limn_queue_get_stats(rq->server->queue, &stats);
    if (found && limn_vl_template_read(&text, item.path, &err) != LIMN_OK) {
        limn_log(LIMN_LOG_WARN, "models", "%s", err.text);
        limn_http_fail(rq, LIMN_HTTP_BAD_MODEL, NULL, "%s: its chat template cannot be read",
                       item.name);
    } else {
        json_t *name = json_string(found ? item.name : "");
        bool tools = found && limn_vl_template_has_tools(text);
        limn_http_reply_json(
            rq, 200,
            json_pack("{s:{s:{}, s:o}, s:i, s:O, s:o, s:s, s:o, s:{s:b, s:b}, s:o, s:b}",
                      "default_generation_settings", "params", "n_ctx", context_of(rq, name),
                      "total_slots", stats.workers, "model_alias", name, "model_path", name,
                      "chat_template", text ? text : "", "chat_template_caps",
                      template_caps(found, tools), "modalities", "vision", sees, "audio", 0,
                      "build_info", openai_fingerprint(), "is_sleeping", 0));
    }
    limn_mem_free(text);
    limn_shelf_item_deinit(&item);
}

void openai_slots(limn_http_req *rq) {
    limn_queue_stats stats;
    json_t *list = json_array(), *name;
    const char *strict = limn_http_query(rq, "fail_on_no_slot");
    limn_queue_get_stats(rq->server->queue, &stats);
    if (strict && strcmp(strict, "1") == 0 && stats.lane_busy[LIMN_JOB_LANE_SEE] >= stats.workers) {
        json_decref(list);
        limn_http_fail(rq, LIMN_HTTP_UNAVAILABLE, NULL, "no slot is free");
        return;
    }
    name = default_name(rq);
    for (int i = 0; i < stats.workers; i++)
        json_array_append_new(list,
                              json_pack("{s:i, s:o, s:b}", "id", i, "n_ctx", context_of(rq, name),
                                        "is_processing", i < stats.lane_busy[LIMN_JOB_LANE_SEE]));
    json_decref(name);
    limn_http_reply_json(rq, 200, list);
}

/* {"content", "with_pieces", "model"} -> {"tokens": [ids or {"id", "piece"}]} */
void openai_tokenize(limn_http_req *rq) {
    limn_err err = {0};
    const json_t *content = json_object_get(rq->json, "content");
    const char *model = openai_text(rq->json, "model");
    bool pieces = json_is_true(json_object_get(rq->json, "with_pieces"));
    char *text = NULL;
    json_t *name = NULL, *found = NULL, *ids = json_array(), *t;
    size_t i;
    if (!json_is_string(content)) {
        limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, "content", "/content: a string is needed");
    } else if (!rq->server->engine) {
        limn_http_fail(rq, LIMN_HTTP_ABSENT, NULL, "tokens are counted by the engine");
    } else {
        name = model ? json_string(model) : default_name(rq);
        if (limn_runner_engine_tokens(rq->server->engine, &text, json_string_value(name),
                                      json_string_value(content), &err) != LIMN_OK) {
            openai_fail(rq, &err);
        } else {
            found = json_loads(text, 0, NULL);
            json_array_foreach(json_object_get(found, "tokens"), i, t) {
                json_t *id = json_object_get(t, "id");
                json_array_append_new(ids, pieces ? json_pack("{s:O, s:O}", "id", id, "piece",
                                                              json_object_get(t, "text"))
                                                  : json_incref(id));
            }
            limn_http_reply_json(rq, 200, json_pack("{s:O}", "tokens", ids));
        }
    }
    json_decref(ids);
    json_decref(found);
    json_decref(name);
    limn_text_free(&text);
}

/* {"tokens": [ids], "model"} -> {"content": text} */
void openai_detokenize(limn_http_req *rq) {
    limn_err err = {0};
    const json_t *list = json_object_get(rq->json, "tokens");
    const char *model = openai_text(rq->json, "model");
    size_t n = json_array_size(list);
    int32_t *ids = limn_mem_calloc(n + 1, sizeof *ids);
    bool good = json_is_array(list) && ids;
    char *text = NULL;
    json_t *name = NULL;
    for (size_t i = 0; good && i < n; i++) {
        const json_t *v = json_array_get(list, i);
        good =
            json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= INT32_MAX;
        if (good) ids[i] = (int32_t)json_integer_value(v);
    }
    if (!good) {
        limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, "tokens", "/tokens: a list of token ids is needed");
    } else if (!rq->server->engine) {
        limn_http_fail(rq, LIMN_HTTP_ABSENT, NULL, "tokens are read by the engine");
    } else {
        name = model ? json_string(model) : default_name(rq);
        if (limn_runner_engine_text(rq->server->engine, &text, json_string_value(name), ids, n,
                                    &err) == LIMN_OK)
            limn_http_reply_json(rq, 200, json_pack("{s:s}", "content", text));
        else
            openai_fail(rq, &err);
    }
    json_decref(name);
    limn_text_free(&text);
    limn_mem_free(ids);
}

limn_status openai_check_tools(limn_http_req *rq, const char *model, limn_err *err) {
    limn_shelf_item item = {0};
    char *text = NULL;
    limn_status st = LIMN_OK;
    if (!rq->server->engine) return LIMN_OK;
    LIMN_TRY(limn_shelf_find(rq->server->shelf, &item, LIMN_SHELF_SEE, model ? model : "", err));
    LIMN_TRY(limn_vl_template_read(&text, item.path, err));
    LIMN_CHECK(err, limn_vl_template_has_tools(text), LIMN_E_UNSUPPORTED,
               "/tools: %s was not taught to call tools (its chat template has no place for them); "
               "name another model, leave \"tools\" out, or force a call with \"tool_choice\"",
               item.name);
out:
    limn_mem_free(text);
    limn_shelf_item_deinit(&item);
    return st;
}
