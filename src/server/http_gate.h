/* SPDX-License-Identifier: MIT */
/*
 * The gate: decides about the head of a request before anything else looks at it.
 *
 * libmicrohttpd lets through what RFC 9112 forbids (Content-Length beside Transfer-Encoding, a
 * space before the colon, two Hosts, control characters ...), which is how requests are smuggled
 * past a proxy. The gate therefore reads the raw bytes of the first request of every connection,
 * and the parsed headers of the later ones; both go through the same rules. It does no input or
 * output and keeps no state outside the struct. Sources: RFC 9110, RFC 9112 sections 2.2, 3, 5, 6.
 */
#ifndef LIMN_SERVER_HTTP_GATE_H
#define LIMN_SERVER_HTTP_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct limn_http_gate {
    int status;         /* 0 so far good; else the HTTP status of the refusal */
    const char *reason; /* static text for the refusal */
    int minor;          /* HTTP/1.<minor> */
    int headers, hosts, lengths, codings;
    bool is_get; /* GET, HEAD or OPTIONS */
} limn_http_gate;

typedef enum limn_gate_verdict {
    LIMN_GATE_MORE,  /* the head is not complete yet */
    LIMN_GATE_PASS,  /* well-formed */
    LIMN_GATE_REFUSE /* status and reason say why */
} limn_gate_verdict;

/* The first bytes of a connection. *head_len, when passed, is how long the head is. */
limn_gate_verdict limn_http_gate_head(limn_http_gate *gate, const char *data, size_t len,
                                      size_t *head_len);

/* The same rules piece by piece, for heads that are parsed already; false: refused. */
bool limn_http_gate_line(limn_http_gate *gate, const char *method, size_t method_len,
                         const char *target, size_t target_len, const char *version,
                         size_t version_len);
bool limn_http_gate_header(limn_http_gate *gate, const char *name, size_t name_len,
                           const char *value, size_t value_len);
bool limn_http_gate_end(limn_http_gate *gate);

/* %XX of a path or query value into out (size >= len + 1), NUL-terminated. false: a broken escape,
 * an encoded NUL or control character. plus: '+' is a space. */
bool limn_http_decode(char *out, const char *text, size_t len, bool plus);

#endif
