/* SPDX-License-Identifier: MIT */
/* The error table; see http_error.h. */
#include "server/http_error.h"

static const limn_http_error_row rows[LIMN_HTTP_CODES] = {
#define X(id, http, type, code) [LIMN_HTTP_##id] = {http, type, code},
    LIMN_HTTP_ERROR_LIST(X)
#undef X
};

const limn_http_error_row *limn_http_error_get(limn_http_code code) {
    return &rows[code];
}

limn_http_code limn_http_error_find(limn_status st) {
    switch (st) {
    case LIMN_E_USAGE: return LIMN_HTTP_UNKNOWN_FIELD;
    case LIMN_E_VALUE: return LIMN_HTTP_BAD_VALUE;
    case LIMN_E_NOT_FOUND: return LIMN_HTTP_NOT_FOUND;
    case LIMN_E_IO: return LIMN_HTTP_IO;
    case LIMN_E_FORMAT: return LIMN_HTTP_BAD_FILE;
    case LIMN_E_UNSUPPORTED: return LIMN_HTTP_ABSENT;
    case LIMN_E_SHAPE:
    case LIMN_E_MISSING: return LIMN_HTTP_BAD_MODEL;
    case LIMN_E_NOMEM: return LIMN_HTTP_NO_MEMORY;
    case LIMN_E_LIMIT: return LIMN_HTTP_BAD_VALUE;
    case LIMN_E_CONTEXT: return LIMN_HTTP_CONTEXT;
    case LIMN_E_CANCELLED: return LIMN_HTTP_CANCELLED;
    case LIMN_E_NUMERIC: return LIMN_HTTP_NUMERIC;
    case LIMN_E_BUSY: return LIMN_HTTP_QUEUE_FULL;
    case LIMN_E_CONFLICT: return LIMN_HTTP_CONFLICT;
    case LIMN_E_UNAVAILABLE: return LIMN_HTTP_UNAVAILABLE;
    case LIMN_E_REUSED: return LIMN_HTTP_REUSED;
    case LIMN_OK:
    case LIMN_E_INTERNAL: break;
    }
    return LIMN_HTTP_INTERNAL;
}

limn_http_code limn_http_error_of(int http) {
    for (int i = 0; i < LIMN_HTTP_CODES; i++)
        if (rows[i].http == http) return (limn_http_code)i;
    return LIMN_HTTP_INTERNAL;
}
