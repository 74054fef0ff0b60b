/* SPDX-License-Identifier: MIT */
/*
 * The OpenAPI 3.1 document and the page of it, both from the route tables, the parameter tables and
 * the schemas of openapi_table.c; so they say what the server does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/api.h"
#include "server/api/openapi_table.h"

static json_t *ref(const char *name) {
    char path[96];
    snprintf(path, sizeof path, "#/components/schemas/%s", name);
    return json_pack("{s:s}", "$ref", path);
}

/* A parameter table as a body, with the member "job". */
static json_t *body_schema(limn_params_kind kind) {
    char *text;
    if (limn_params_schema(&text, kind, limn_engine_choice, NULL) != LIMN_OK) return json_object();
    json_t *o = json_loads(text, 0, NULL);
    limn_text_free(&text);
    json_object_del(o, "$schema");
    json_object_set_new(json_object_get(o, "properties"), "job", ref("JobOptions"));
    return o;
}

static json_t *schemas(void) {
    json_t *all = json_object();
    for (const limn_openapi_schema *s = limn_openapi_schemas; s->name; s++)
        json_object_set_new(all, s->name, json_loads(s->json, 0, NULL));
    json_object_set_new(all, "Draw", body_schema(LIMN_PARAMS_GEN));
    json_t *see = body_schema(LIMN_PARAMS_SEE), *members = json_object_get(see, "properties");
    json_object_set_new(members, "images",
                        json_pack("{s:s, s:{s:s}, s:i}", "type", "array", "items", "type", "string",
                                  "maxItems", LIMN_LIMIT_IMAGES_IN));
    json_object_set_new(members, "files",
                        json_pack("{s:s, s:{s:s}, s:i}", "type", "array", "items", "type", "string",
                                  "maxItems", LIMN_LIMIT_IMAGES_IN));
    json_object_set_new(
        members, "messages",
        json_pack("{s:s, s:o, s:i}", "type", "array", "items", ref("Turn"), "maxItems", 256));
    json_object_set_new(members, "json_schema", json_pack("{s:[s, s]}", "type", "object", "null"));
    json_object_set_new(all, "See", see);
    return all;
}

/* ---- paths ---- */

static json_t *path_args(const char *path) {
    json_t *list = json_array();
    for (const char *at = strchr(path, '{'); at; at = strchr(at + 1, '{')) {
        size_t n = strcspn(at, "}");
        json_array_append_new(list, json_pack("{s:o, s:s, s:b, s:{s:s}}", "name",
                                              json_stringn(at + 1, n - 1), "in", "path", "required",
                                              1, "schema", "type", "string"));
    }
    return list;
}

static json_t *media(const char *schema, const char *example) {
    json_t *type = json_pack("{s:o}", "schema", schema ? ref(schema) : json_object());
    json_t *value = example ? json_loads(example, 0, NULL) : NULL;
    if (value) json_object_set_new(type, "example", value);
    return json_pack("{s:o}", "application/json", type);
}

static const char *good_status(const limn_route *row) {
    if (row->flags & LIMN_ROUTE_UPGRADE) return "101";
    if (row->flags & LIMN_ROUTE_SUBMIT) return "202";
    if (strcmp(row->path, "/v1/uploads") == 0) return "201";
    return "200";
}

static json_t *operation(const limn_route_table *table, const limn_route *row) {
    static const char *const scopes[] = {"none", "read", "infer", "admin"};
    char id[128];
    size_t n = 0;
    for (const char *c = row->method; *c; c++) id[n++] = (char)(*c | 32);
    for (const char *c = row->path; *c && n < sizeof id - 1; c++)
        id[n++] = (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') ? *c : '_';
    id[n] = 0;
    json_t *answers = json_object(), *args = path_args(row->path);
    json_object_set_new(answers, good_status(row),
                        row->response ? json_pack("{s:s, s:o}", "description", row->summary,
                                                  "content", media(row->response, NULL))
                                      : json_pack("{s:s}", "description", row->summary));
    json_object_set_new(
        answers, "default",
        json_pack("{s:s, s:o}", "description", "an error", "content", media("Error", NULL)));
    json_t *o = json_pack("{s:s, s:s, s:[s], s:o, s:s}", "operationId", id, "summary", row->summary,
                          "tags", table->tag, "responses", answers, "x-scope", scopes[row->scope]);
    if (json_array_size(args))
        json_object_set_new(o, "parameters", args);
    else
        json_decref(args);
    if (row->flags & LIMN_ROUTE_JSON)
        json_object_set_new(o, "requestBody",
                            json_pack("{s:b, s:o}", "required", !(row->flags & LIMN_ROUTE_OPTIONAL),
                                      "content", media(row->request, row->example)));
    if (row->flags & LIMN_ROUTE_RAW)
        json_object_set_new(o, "requestBody",
                            json_pack("{s:b, s:{s:{}}}", "required", 1, "content", "image/*"));
    if (row->scope == LIMN_SCOPE_NONE) json_object_set_new(o, "security", json_array());
    return o;
}

static json_t *paths(void) {
    json_t *all = json_object();
    const limn_route_table *const *tables = limn_route_tables();
    for (int t = 0; tables[t]; t++) {
        for (int i = 0; i < tables[t]->count; i++) {
            const limn_route *row = &tables[t]->rows[i];
            if (row->flags & LIMN_ROUTE_ABSENT) continue;
            json_t *item = json_object_get(all, row->path);
            char method[8];
            if (!item) {
                item = json_object();
                json_object_set_new(all, row->path, item);
            }
            snprintf(method, sizeof method, "%s", row->method);
            for (char *c = method; *c; c++) *c = (char)(*c | 32);
            json_object_set_new(item, method, operation(tables[t], row));
        }
    }
    return all;
}

limn_status limn_serve_openapi(char **out, limn_err *err) {
    json_t *doc = json_pack(
        "{s:s, s:{s:s, s:s, s:s, s:{s:s, s:s}}, s:[{s:s}], s:o, s:{s:o, s:{s:{s:s, s:s}, s:{s:s, "
        "s:s}}}, s:[{s:[]}, {s:[]}]}",
        "openapi", "3.1.0", "info", "title", "limn", "version", limn_version(), "description",
        "Draws pictures and sees. Everything that computes is a durable job.", "license", "name",
        "MIT", "identifier", "MIT", "servers", "url", "/", "paths", paths(), "components",
        "schemas", schemas(), "securitySchemes", "bearer", "type", "http", "scheme", "bearer",
        "basic", "type", "http", "scheme", "basic", "security", "bearer", "basic");
    char *text = doc ? json_dumps(doc, JSON_INDENT(1)) : NULL;
    json_decref(doc);
    *out = text ? limn_mem_strdup(text) : NULL;
    free(text);
    return *out ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for the document");
}

void native_openapi(limn_http_req *rq) {
    limn_err err = {0};
    char *text;
    if (limn_serve_openapi(&text, &err) == LIMN_OK)
        limn_http_reply_bytes(rq, 200, "application/json", text, strlen(text));
    else
        limn_api_fail(rq, &err);
}

/* ---- the page ---- */

static void add_html(limn_buf *b, const char *text) {
    for (const char *c = text; *c; c++) {
        if (*c == '<')
            limn_buf_adds(b, "&lt;");
        else if (*c == '&')
            limn_buf_adds(b, "&amp;");
        else
            limn_buf_addc(b, *c);
    }
}

static void add_table(limn_buf *b, const limn_route_table *table) {
    limn_buf_addf(b, "<h2>%s</h2>\n<table><tr><th>method<th>path<th>scope<th>what it does\n",
                  table->tag);
    for (int i = 0; i < table->count; i++) {
        const limn_route *row = &table->rows[i];
        static const char *const scopes[] = {"", "read", "infer", "admin"};
        if (row->flags & LIMN_ROUTE_ABSENT) continue;
        limn_buf_addf(b, "<tr><td>%s<td><code>%s</code><td>%s<td>", row->method, row->path,
                      scopes[row->scope]);
        add_html(b, row->summary);
        if (row->example) {
            limn_buf_adds(b, "<details><summary>example</summary><pre>");
            add_html(b, row->example);
            limn_buf_adds(b, "</pre></details>");
        }
        limn_buf_addc(b, '\n');
    }
    limn_buf_adds(b, "</table>\n");
}

void page_docs(limn_http_req *rq) {
    limn_buf b;
    limn_buf_init(&b, 4 << 20);
    limn_buf_adds(&b, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">"
                      "<meta name=\"viewport\" content=\"width=device-width\">"
                      "<title>limn: the HTTP interface</title>\n<h1>The HTTP interface</h1>\n"
                      "<p>For programs: <a href=\"/v1/openapi.json\">/v1/openapi.json</a>.\n");
    const limn_route_table *const *tables = limn_route_tables();
    for (int t = 0; tables[t]; t++) add_table(&b, tables[t]);
    size_t n = b.len;
    char *text = limn_buf_take(&b);
    if (text)
        limn_http_reply_bytes(rq, 200, "text/html; charset=utf-8", text, n);
    else
        limn_http_fail(rq, LIMN_HTTP_NO_MEMORY, NULL, "no memory for the page");
    limn_buf_deinit(&b);
}
