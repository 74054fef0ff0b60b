/* SPDX-License-Identifier: MIT */
/*
 * Bodies of requests on their way to a job: OpenAI's messages and input items, values and options
 * of the native interface, URLs that are to be fetched, and results that scores are read from. A
 * real queue (no worker runs anything) takes the pictures that are in them; nothing is ever looked
 * up.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz_server.h"
#include "server/api/openai.h"
#include "server/remote_fetch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_messages(limn_http_req *rq, bool input) {
    json_t *items = NULL, *messages = NULL;
    limn_err err = {0};
    limn_status st = LIMN_OK;
    if (input) st = openai_input_messages(&items, rq->json, &err);
    if (st == LIMN_OK)
        st = openai_read_messages(rq, &messages,
                                  input ? items : json_object_get(rq->json, "messages"), &err);
    if (st == LIMN_OK) {
        demand(json_is_array(messages) && json_array_size(messages) >= 1);
        char *text = json_dumps(messages, JSON_COMPACT);
        demand(text != NULL);
        free(text);
    } else {
        demand(!messages && err.text[0]);
    }
    json_decref(items);
    json_decref(messages);
}

static void fuzz_values(limn_http_req *rq, limn_params_kind kind) {
    limn_params *p;
    limn_submit submit = {0};
    limn_err err = {0};
    demand(limn_params_new(&p, kind, NULL) == LIMN_OK);
    limn_status st = limn_api_read_job(rq, &submit, &err);
    demand(st == LIMN_OK || err.text[0]);
    if (st == LIMN_OK) st = limn_api_read_params(rq, p, rq->json, &err);
    demand(st == LIMN_OK || err.text[0]);
    limn_params_free(&p);
}

static void fuzz_scores(const json_t *result) {
    double scores[OPENAI_CATEGORIES] = {0};
    if (!openai_moderate_scores(scores, result)) return;
    for (int i = 0; i < OPENAI_CATEGORIES; i++) demand(scores[i] >= 0 && scores[i] <= 1);
}

/* No name has an address here. */
static int lookup(const char *host, const char *port, const struct addrinfo *hints,
                  struct addrinfo **out) {
    demand(host[0] && port[0] && strlen(host) < 256);
    return EAI_NONAME;
}

static void fuzz_url(const char *data, size_t size) {
    limn_remote_rules rules = {.http = true, .seconds = 1, .bytes = 100, .lookup = lookup};
    limn_err err = {0};
    limn_buf out;
    char *url = limn_mem_strndup(data, size);
    if (!url) return;
    limn_buf_init(&out, 100);
    demand(limn_remote_get(&out, url, &rules, &err) == LIMN_E_VALUE && err.text[0]);
    (void)limn_remote_check_private(url, NULL);
    limn_buf_deinit(&out);
    limn_mem_free(url);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    limn_http_req rq = {0};
    if (size < 2) return 0;
    const char *text = (const char *)data + 1;
    if (data[0] % 6 == 5) {
        fuzz_url(text, size - 1);
        return 0;
    }
    if (limn_json_read(&rq.json, text, size - 1, NULL) != LIMN_OK) return 0;
    rq.server = fuzz_server();
    limn_arena_init(&rq.arena);
    if (json_is_object(rq.json)) switch (data[0] % 6) {
        case 0: fuzz_messages(&rq, false); break;
        case 1: fuzz_messages(&rq, true); break;
        case 2: fuzz_values(&rq, LIMN_PARAMS_GEN); break;
        case 3: fuzz_values(&rq, LIMN_PARAMS_SEE); break;
        default: fuzz_scores(rq.json); break;
        }
    limn_arena_deinit(&rq.arena);
    json_decref(rq.json);
    return 0;
}
