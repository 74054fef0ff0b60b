/* SPDX-License-Identifier: MIT */
/*
 * What the server takes at most: one row per limit, so that the code that holds it, the page about
 * the machine (/v1/system) and the tests read the same number. Immutable; any thread.
 */
#ifndef LIMN_SERVER_LIMITS_H
#define LIMN_SERVER_LIMITS_H

/* X(id, value, word, what it is) */
#define LIMN_HTTP_LIMIT_LIST(X)                                                                    \
    X(HEAD_BYTES, 16384, "head_bytes", "request line and headers together")                        \
    X(HEADERS, 64, "headers", "header lines of one request")                                       \
    X(TARGET_BYTES, 8192, "target_bytes", "path and query")                                        \
    X(QUERY_ARGS, 32, "query_args", "members of a query")                                          \
    X(HEAD_SECONDS, 10, "head_seconds", "time for the first request's head")                       \
    X(IDLE_SECONDS, 75, "idle_seconds", "silence before a connection is closed")                   \
    X(JSON_BYTES, 1048576, "json_bytes", "JSON body of a plain request")                           \
    X(MEDIA_BYTES, 67108864, "media_bytes", "body that carries pictures or documents")             \
    X(UPLOAD_BYTES, 33554432, "upload_bytes", "one uploaded picture")                              \
    X(BODIES_BYTES, 536870912, "bodies_bytes", "bodies in memory, all requests together")          \
    X(JSON_DEPTH, 64, "json_depth", "nesting of JSON")                                             \
    X(JSON_NODES, 1000000, "json_nodes", "values in one JSON body")                                \
    X(PIXELS, 67108864, "pixels", "pixels of one picture")                                         \
    X(SIDE, 16384, "side", "width or height of one picture")                                       \
    X(IMAGES_IN, 16, "images_in", "pictures in one request")                                       \
    X(IMAGES_OUT, 64, "images_out", "pictures of one drawing request of other programs' dialects") \
    X(WAIT_SECONDS, 600, "wait_seconds", "?wait= of a native request")                             \
    X(SSE_CLIENTS, 2048, "sse_clients", "open event streams")                                      \
    X(WS_CLIENTS, 1024, "ws_clients", "open WebSockets")                                           \
    X(WS_MESSAGE_BYTES, 65536, "ws_message_bytes", "one message of a WebSocket client")            \
    X(WS_BUFFER_BYTES, 262144, "ws_buffer_bytes", "unsent bytes of one WebSocket")                 \
    X(WS_SUBSCRIPTIONS, 16, "ws_subscriptions", "subscriptions of one WebSocket")                  \
    X(PING_SECONDS, 15, "ping_seconds", "silence before a stream sends a sign of life")            \
    X(BAD_KEYS, 20, "bad_keys", "wrong keys of one address before it has to wait")                 \
    X(STUDIO_BYTES, 65536, "studio_bytes", "settings that the page keeps per owner")               \
    X(PAGE_ROWS, 200, "page_rows", "rows of one page of a list")

enum {
#define X(id, value, word, about) LIMN_LIMIT_##id = value,
    LIMN_HTTP_LIMIT_LIST(X)
#undef X
};

#endif
