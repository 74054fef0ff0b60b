/* SPDX-License-Identifier: MIT */
/* moderation.json beside a seeing model: the categories that it was taught; see openai.h. */
#include <stdio.h>
#include <string.h>

#include "server/api/openai.h"
#include "server/auth_file.h"

enum { FILE_MAX = 64 << 10, ROWS_MAX = 64, NAME_MAX_BYTES = 63 };

static limn_status read_row(limn_http_req *rq, openai_category *row, const json_t *v, size_t at,
                            limn_err *err) {
    const char *name = json_string_value(json_is_object(v) ? json_object_get(v, "name") : v);
    const char *about = openai_text(v, "description");
    const json_t *threshold = json_object_get(v, "threshold");
    double t = threshold ? json_number_value(threshold) : OPENAI_FLAG_AT;
    if (!name || !*name || strlen(name) > NAME_MAX_BYTES || !(t > 0 && t <= 1))
        return limn_fail(err, LIMN_E_FORMAT,
                         "moderation.json: category %zu needs a name of at most %d bytes and a "
                         "threshold above 0, at most 1",
                         at + 1, NAME_MAX_BYTES);
    *row = (openai_category){.name = limn_arena_strdup(&rq->arena, name),
                             .about = limn_arena_strdup(&rq->arena, about ? about : ""),
                             .pictures = true,
                             .at = t};
    return row->name && row->about ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory");
}

limn_status openai_policy_read(limn_http_req *rq, const openai_category **rows, int *count,
                               const char *path, limn_err *err) {
    const char file[] = "/moderation.json";
    size_t room = strlen(path) + sizeof file;
    char *whole = limn_arena_alloc(&rq->arena, room);
    void *data = NULL;
    size_t size = 0, i;
    json_t *root = NULL, *v;
    limn_err why = {0};
    *count = 0;
    if (!whole) return limn_fail(err, LIMN_E_NOMEM, "no memory for the request");
    snprintf(whole, room, "%s%s", path, file);
    limn_status st = limn_private_read(&data, &size, whole, FILE_MAX, &why);
    if (st == LIMN_E_NOT_FOUND) return LIMN_OK; /* also when the model is a file, no folder */
    LIMN_CHECK(err, st == LIMN_OK, st, "moderation.json: cannot be read");
    root = json_loadb(data, size, JSON_REJECT_DUPLICATES, NULL);
    json_t *list = json_object_get(root, "categories");
    size_t n = json_array_size(list);
    LIMN_CHECK(err, n >= 1 && n <= ROWS_MAX, LIMN_E_FORMAT,
               "moderation.json: is {\"categories\": [...]} with 1 to %d of them", ROWS_MAX);
    openai_category *all = limn_arena_alloc(&rq->arena, n * sizeof *all);
    LIMN_CHECK(err, all, LIMN_E_NOMEM, "no memory for the request");
    json_array_foreach(list, i, v) LIMN_TRY(read_row(rq, &all[i], v, i, err));
    *rows = all;
    *count = (int)n;
out:
    limn_mem_free(data);
    json_decref(root);
    return st;
}
