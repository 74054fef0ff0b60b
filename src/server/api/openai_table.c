/* SPDX-License-Identifier: MIT */
/* The OpenAI routes, and llama-server's probes, one row each; see native_table.c. */
#include "server/api/openai.h"

#define GET .method = "GET"
#define POST .method = "POST"
#define JSON .flags = LIMN_ROUTE_JSON, .body = LIMN_LIMIT_JSON_BYTES
#define MEDIA .flags = LIMN_ROUTE_JSON | LIMN_ROUTE_SUBMIT, .body = LIMN_LIMIT_MEDIA_BYTES
#define FORM .flags = LIMN_ROUTE_RAW | LIMN_ROUTE_SUBMIT, .body = LIMN_LIMIT_MEDIA_BYTES
#define ABSENT .flags = LIMN_ROUTE_ABSENT, .body = LIMN_LIMIT_JSON_BYTES
#define NONE .scope = LIMN_SCOPE_NONE
#define READ .scope = LIMN_SCOPE_READ
#define INFER .scope = LIMN_SCOPE_INFER

/* clang-format off */
static const limn_route rows[] = {
    {POST, .path = "/v1/chat/completions", INFER, MEDIA, .cost = 5, .handler = openai_chat,
     .summary = "chat with pictures, clips and documents (OpenAI)"},
    {POST, .path = "/v1/responses", INFER, MEDIA, .cost = 5, .handler = openai_responses,
     .summary = "the same in the newer shape (OpenAI)"},
    {GET, .path = "/v1/responses/{id}", READ, .cost = 1, .handler = openai_response,
     .summary = "a response again (OpenAI)"},
    {.method = "DELETE", .path = "/v1/responses/{id}", INFER, .cost = 1, .handler = openai_response,
     .summary = "remove a response (OpenAI)"},
    {POST, .path = "/v1/responses/{id}/cancel", INFER, .cost = 1,
     .handler = openai_response_cancel, .summary = "stop a response in the background (OpenAI)"},
    {GET, .path = "/v1/responses/{id}/input_items", READ, .cost = 1,
     .handler = openai_response_items, .summary = "what a response was asked (OpenAI)"},
    {POST, .path = "/v1/images/generations", INFER, MEDIA, .cost = 5, .handler = openai_image_make,
     .summary = "draw pictures (OpenAI)"},
    {POST, .path = "/v1/images/edits", INFER, FORM, .cost = 5, .handler = openai_image_edit,
     .summary = "edit a picture (OpenAI)"},
    {POST, .path = "/v1/images/variations", INFER, FORM, .cost = 5, .handler = openai_image_vary,
     .summary = "vary a picture (OpenAI)"},
    {POST, .path = "/v1/moderations", INFER, MEDIA, .cost = 5, .handler = openai_moderate,
     .summary = "what is objectionable in texts and pictures (OpenAI)"},
    {POST, .path = "/v1/embeddings", INFER, ABSENT, .summary = "embeddings (OpenAI)"},
    {POST, .path = "/v1/completions", INFER, ABSENT, .summary = "plain completions (OpenAI)"},
    /* llama-server */
    {GET, .path = "/health", NONE, .flags = LIMN_ROUTE_QUIET, .handler = openai_health,
     .summary = "is it well (llama-server)"},
    {GET, .path = "/props", READ, .cost = 1, .handler = openai_props,
     .summary = "what it can do (llama-server)"},
    {GET, .path = "/slots", READ, .cost = 1, .handler = openai_slots,
     .summary = "who works (llama-server)"},
    {POST, .path = "/tokenize", READ, JSON, .cost = 1, .handler = openai_tokenize,
     .summary = "text to tokens (llama-server)"},
    {POST, .path = "/detokenize", READ, JSON, .cost = 1, .handler = openai_detokenize,
     .summary = "tokens to text (llama-server)"},
};
/* clang-format on */

const limn_route_table limn_openai_routes = {LIMN_FAMILY_OPENAI, "openai", rows,
                                             (int)(sizeof rows / sizeof rows[0])};
