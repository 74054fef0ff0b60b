/* SPDX-License-Identifier: MIT */
/* See call_schema.h. */
#include "pipeline/call_schema.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* "$ref": "#/$defs/x" of a tool's parameters means the root of what is made here. */
static limn_status move_definitions(json_t *root, json_t *parameters, limn_err *err) {
    static const char *const names[] = {"$defs", "definitions"};
    const char *key;
    json_t *v;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        json_t *from = json_object_get(parameters, names[i]);
        json_t *to = json_object_get(root, names[i]);
        if (!json_is_object(from)) continue;
        if (!to) {
            to = json_object();
            json_object_set_new(root, names[i], to);
        }
        json_object_foreach(from, key, v) {
            const json_t *known = json_object_get(to, key);
            if (known && !json_equal(known, v))
                return limn_fail(err, LIMN_E_VALUE, "two tools define '%.60s' differently", key);
            json_object_set(to, key, v);
        }
        json_object_del(parameters, names[i]);
    }
    return LIMN_OK;
}

static limn_status add_tool(json_t *root, json_t *choices, const char *text, limn_err *err) {
    json_t *tool = json_loads(text, 0, NULL), *function = json_object_get(tool, "function");
    const char *name = json_string_value(json_object_get(function, "name"));
    json_t *given = json_object_get(function, "parameters");
    json_t *parameters =
        json_is_object(given) ? json_copy(given) : json_pack("{s:s}", "type", "object");
    limn_status st = name ? LIMN_OK : limn_fail(err, LIMN_E_VALUE, "a tool has no name");
    if (st == LIMN_OK) st = move_definitions(root, parameters, err);
    if (st == LIMN_OK) {
        json_t *call = json_pack("{s:s, s:{s:{s:s}, s:O}, s:[s, s], s:b}", "type", "object",
                                 "properties", "name", "const", name, "arguments", parameters,
                                 "required", "name", "arguments", "additionalProperties", 0);
        if (!call || json_array_append_new(choices, call) != 0)
            st = limn_fail(err, LIMN_E_NOMEM, "no memory for a tool call");
    }
    json_decref(parameters);
    json_decref(tool);
    return st;
}

limn_status limn_call_schema(char **out, const char *const *tools, size_t n, limn_err *err) {
    json_t *root = json_object(), *choices = json_array();
    char *text = NULL;
    limn_status st = LIMN_OK;
    *out = NULL;
    LIMN_CHECK(err, n > 0, LIMN_E_VALUE, "a call is wanted, and there are no tools");
    for (size_t i = 0; i < n; i++) LIMN_TRY(add_tool(root, choices, tools[i], err));
    json_object_set(root, "anyOf", choices);
    text = json_dumps(root, JSON_COMPACT);
    *out = text ? limn_mem_strdup(text) : NULL;
    LIMN_CHECK(err, *out, LIMN_E_NOMEM, "no memory for a tool call");
out:
    free(text);
    json_decref(choices);
    json_decref(root);
    return st;
}
