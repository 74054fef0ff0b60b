/* SPDX-License-Identifier: MIT */
/*
 * One file from a stranger's URL, without becoming a stranger's hand in this network: names are
 * looked up once, every answer must be a public address, and the connection is made to what was
 * checked (the socket's real address is checked again when it is made). Redirects are followed by
 * hand, each as if it were asked for. No proxies, cookies, passwords, compression or reuse.
 *
 * Any thread; blocks up to `seconds` for each of at most four requests.
 */
#ifndef LIMN_SERVER_REMOTE_FETCH_H
#define LIMN_SERVER_REMOTE_FETCH_H

#include <netdb.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/late.h"
#include "base/mem.h"
#include "base/status.h"

extern limn_late limn_late_curl;

enum { LIMN_REMOTE_REDIRECTS = 3, LIMN_REMOTE_URL_MAX = 2048 };

typedef struct limn_remote_rules {
    bool http;                /* http:// too, not only https:// */
    const char *const *hosts; /* [n_hosts] names, ".name" for all below it; none: any */
    int n_hosts;
    const char *const *privates; /* [n_privates] "address:port" that may be private */
    int n_privates;
    int seconds;
    size_t bytes;
    const atomic_bool *stop; /* may be NULL */
    /* NULL: getaddrinfo. For tests; the list is freed with freeaddrinfo. */
    int (*lookup)(const char *host, const char *port, const struct addrinfo *hints,
                  struct addrinfo **out);
} limn_remote_rules;

/* Appends the body of a 200 to `out`. E_VALUE: the URL or where it leads is not allowed; E_LIMIT:
 * too large or too slow; E_FORMAT: another answer than the file. Texts say nothing about what is
 * inside this network: a refused address and one that does not answer read alike. */
limn_status limn_remote_get(limn_buf *out, const char *url, const limn_remote_rules *rules,
                            limn_err *err);

/* False for loopback, private, link-local, shared (RFC 6598), multicast, mapped, tunnelled and
 * documentation addresses: whatever is not global unicast (IANA special-purpose registries). */
bool limn_remote_is_public(const struct sockaddr *address);
/* E_VALUE names what is wrong with an entry of `privates` as a setting. */
limn_status limn_remote_check_private(const char *entry, limn_err *err);

#endif
