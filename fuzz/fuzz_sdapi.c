/* SPDX-License-Identifier: MIT */
/*
 * Bodies of txt2img and img2img with both profiles on their way to a drawing: what is accepted is a
 * set of values that can be written and read back, and never names a file; a refusal has a reason.
 */
#include <string.h>

#include "fuzz_server.h"
#include "server/api/sdapi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_values(const limn_params *gen) {
    char *text = NULL;
    limn_params *again = NULL;
    const char *init = limn_params_text(gen, "init_image");
    demand(!init[0] || strncmp(init, "artifact:", 9) == 0);
    demand(limn_params_int(gen, "count") * limn_params_int(gen, "batch_size") <=
           LIMN_LIMIT_IMAGES_OUT);
    demand(limn_params_format_json(&text, gen, false, NULL) == LIMN_OK);
    demand(limn_params_new(&again, LIMN_PARAMS_GEN, NULL) == LIMN_OK);
    demand(limn_params_parse_json(again, text, strlen(text), LIMN_FROM_API, NULL) == LIMN_OK);
    limn_params_free(&again);
    limn_text_free(&text);
}

static void read_body(limn_http_req *rq, bool image) {
    limn_params *gen = NULL;
    limn_err err = {0};
    json_t *body = NULL;
    demand(limn_params_new(&gen, LIMN_PARAMS_GEN, NULL) == LIMN_OK);
    if (sdapi_drawing_body(&body, rq, image, &err) == LIMN_OK &&
        sdapi_read_drawing(rq, gen, body, image, &err) == LIMN_OK)
        check_values(gen);
    else
        demand(err.text[0]);
    limn_params_free(&gen);
    json_decref(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    limn_http_req rq = {.server = fuzz_server()};
    if (size < 1 || limn_json_read(&rq.json, (const char *)data + 1, size - 1, NULL) != LIMN_OK)
        return 0;
    limn_serve_settings set = *limn_serve_of(rq.server->serve);
    set.compat = data[0] & 1 ? LIMN_COMPAT_SDNEXT : LIMN_COMPAT_A1111;
    rq.server->set = &set;
    limn_arena_init(&rq.arena);
    if (json_is_object(rq.json)) read_body(&rq, data[0] & 2);
    rq.server->set = limn_serve_of(rq.server->serve);
    limn_arena_deinit(&rq.arena);
    json_decref(rq.json);
    return 0;
}
