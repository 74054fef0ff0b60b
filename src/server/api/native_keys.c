/* SPDX-License-Identifier: MIT */
/*
 * Native routes about keys (docs/API.md, 7): what `limn key` does, for who has the scope admin. The
 * file of keys is changed under its lock, and the asker looked up again in it (limn.h): of two
 * admins who revoke one another, one stays. The keyring reads it again at once.
 */
#include <stdlib.h>
#include <string.h>

#include "server/api/api.h"

static const char *member(const json_t *row, const char *name) {
    const char *text = json_string_value(json_object_get(row, name));
    return text ? text : "";
}

void native_keys(limn_http_req *rq) {
    limn_err err = {0};
    char *text = NULL;
    limn_status st = limn_key_list(&text, rq->server->serve, &err);
    json_t *list = st == LIMN_OK ? json_loads(text, 0, NULL) : NULL, *row;
    size_t i;
    limn_mem_free(text);
    if (st != LIMN_OK) {
        limn_api_fail(rq, &err);
        return;
    }
    json_array_foreach(list, i, row) {
        if (json_integer_value(json_object_get(row, "expires")) == 0)
            json_object_set_new(row, "expires", json_null());
        json_object_set_new(row, "own", json_boolean(strcmp(member(row, "id"), rq->who.key) == 0));
    }
    limn_http_reply_json(rq, 200, list ? json_pack("{s:o, s:n}", "data", list, "next") : NULL);
}

void native_key_make(limn_http_req *rq) {
    enum { DAYS_MAX = 3650 };
    limn_err err = {0};
    const char *owner = NULL, *scope = NULL;
    char *key = NULL;
    json_int_t days = 0;
    json_error_t why;
    if (json_unpack_ex(rq->json, &why, JSON_STRICT, "{s:s, s:s, s?I}", "owner", &owner, "scope",
                       &scope, "days", &days) != 0 ||
        days < 0 || days > DAYS_MAX) {
        limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, "owner",
                       "a key has an \"owner\", a \"scope\" and perhaps \"days\", 0 to %d",
                       DAYS_MAX);
        return;
    }
    if (limn_key_create(&key, rq->server->serve, owner, scope, (int)days, rq->who.key, &err) !=
        LIMN_OK) {
        limn_api_fail(rq, &err);
        return;
    }
    limn_keyring_reload(rq->server->keys);
    limn_server_log(rq->server, LIMN_LOG_INFO, "a key was made", "owner", owner, "scope", scope,
                    NULL);
    limn_http_reply_json(rq, 201, json_pack("{s:s}", "key", key));
    limn_mem_free(key);
}

void native_key_revoke(limn_http_req *rq) {
    limn_err err = {0};
    if (limn_key_revoke(rq->server->serve, rq->args[0], rq->who.key, &err) != LIMN_OK) {
        limn_api_fail(rq, &err);
        return;
    }
    limn_keyring_reload(rq->server->keys);
    limn_server_log(rq->server, LIMN_LOG_INFO, "a key was revoked", "id", rq->args[0], NULL);
    limn_http_reply_empty(rq, 204);
}
