/* SPDX-License-Identifier: MIT */
/*
 * Whether a request may go on: which name the server was called by (DNS rebinding), where a change
 * comes from (cross-site requests), who asks, what they may do, and how often. The only place that
 * decides about access; every way to show a key ends in the same principal.
 */
#include <arpa/inet.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "server/server.h"

/* ---- names ---- */

/* The host part of "host:port" or "[v6]:port". */
static void split_host(char out[256], const char *host) {
    size_t n = strcspn(host, host[0] == '[' ? "]" : ":");
    if (host[0] == '[' && host[n]) n++;
    snprintf(out, 256, "%.*s", (int)n, host);
}

/* "127.0.0.1.example.com" is a name that anybody can own, not an address. */
static bool is_loopback_name(const char *name) {
    unsigned char v4[4];
    return strcasecmp(name, "localhost") == 0 || strcmp(name, "[::1]") == 0 ||
           (inet_pton(AF_INET, name, v4) == 1 && v4[0] == 127);
}

static bool is_address(const char *name) {
    unsigned char any[16];
    return name[0] == '[' || inet_pton(AF_INET, name, any) == 1;
}

/* A page of another site can have its own name resolved to this machine, but cannot change the name
 * that the browser sends. */
static bool host_is_ours(const limn_server *s, const char *host) {
    char name[256];
    split_host(name, host);
    for (int i = 0; i < s->set->allow_hosts.count; i++)
        if (strcasecmp(name, s->set->allow_hosts.item[i]) == 0) return true;
    if (is_loopback_name(name)) return true;
    if (s->loopback) return false;
    return is_address(name) || s->set->allow_hosts.count == 0;
}

/* "http://host:port" names the same host as the Host header. */
static bool same_origin(const char *origin, const char *host) {
    const char *at = strstr(origin, "://");
    return at && host && strcasecmp(at + 3, host) == 0;
}

static bool check_names(limn_http_req *rq) {
    const char *host = limn_http_header(rq, "Host"), *origin = limn_http_header(rq, "Origin");
    const char *site = limn_http_header(rq, "Sec-Fetch-Site");
    if (host && !host_is_ours(rq->server, host)) {
        limn_http_fail(rq, LIMN_HTTP_BAD_HOST, NULL,
                       "this server does not answer to that name (--allow-host)");
        return false;
    }
    bool reads = strcmp(rq->method, "GET") == 0 || strcmp(rq->method, "HEAD") == 0 ||
                 strcmp(rq->method, "OPTIONS") == 0;
    if (reads && !(rq->route && (rq->route->flags & LIMN_ROUTE_UPGRADE))) return true;
    bool foreign =
        (origin && !same_origin(origin, host)) || (site && strcmp(site, "cross-site") == 0);
    if (!foreign) return true;
    limn_http_fail(rq, LIMN_HTTP_FOREIGN_ORIGIN, NULL, "pages of other sites may not do this");
    return false;
}

/* ---- keys ---- */

/* The key inside "Basic base64(user:key)". */
static bool basic_key(limn_http_req *rq, char *out, size_t size, const char *text) {
    unsigned char plain[512];
    size_t n = 0;
    while (*text == ' ') text++;
    if (sodium_base642bin(plain, sizeof plain - 1, text, strlen(text), " ", &n, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0)
        return false;
    plain[n] = 0;
    const char *colon = strchr((const char *)plain, ':');
    (void)rq;
    snprintf(out, size, "%s", colon ? colon + 1 : "");
    return *out != 0;
}

static bool cookie_value(char *out, size_t size, const char *cookies) {
    static const char name[] = "limn_session=";
    while (cookies && *cookies) {
        while (*cookies == ' ' || *cookies == ';') cookies++;
        size_t n = strcspn(cookies, ";");
        if (strncmp(cookies, name, sizeof name - 1) == 0) {
            snprintf(out, size, "%.*s", (int)(n - (sizeof name - 1)), cookies + sizeof name - 1);
            return true;
        }
        cookies += n;
    }
    return false;
}

/* Fills rq->who from whatever the request carries; *offered: it carried something. */
static bool identify(limn_http_req *rq, bool *offered) {
    limn_server *s = rq->server;
    char text[512];
    const char *auth = limn_http_header(rq, "Authorization");
    const char *plain = limn_http_header(rq, "X-Api-Key");
    const char *cookies = limn_http_header(rq, "Cookie");
    *offered = true;
    if (auth && strncasecmp(auth, "Bearer ", 7) == 0 && auth[7])
        return limn_keyring_check(s->keys, &rq->who, auth + 7);
    if (plain && *plain) return limn_keyring_check(s->keys, &rq->who, plain);
    if (auth && strncasecmp(auth, "Basic ", 6) == 0 && basic_key(rq, text, sizeof text, auth + 6))
        return limn_keyring_check(s->keys, &rq->who, text);
    if (cookies && cookie_value(text, sizeof text, cookies))
        return limn_keyring_check_cookie(s->keys, &rq->who, text);
    *offered = false;
    return false;
}

static bool refuse_too_often(limn_http_req *rq, double retry) {
    char seconds[32];
    limn_metrics_add(rq->server->metrics, LIMN_METRIC_RATE_LIMITED);
    limn_http_fail(rq, LIMN_HTTP_RATE_LIMITED, NULL, "too many requests");
    snprintf(seconds, sizeof seconds, "%d", (int)retry + 1);
    limn_http_add_header(rq, "Retry-After", seconds);
    return false;
}

static bool authorise(limn_http_req *rq, limn_scope need) {
    limn_server *s = rq->server;
    bool offered, needed = limn_keyring_has_keys(s->keys);
    double retry;
    if (!needed) {
        /* the start refuses a public address in this state, unless that was asked for */
        rq->who = (limn_principal){.known = true, .scope = LIMN_SCOPE_ADMIN};
        return true;
    }
    bool valid = identify(rq, &offered);
    if (offered && !valid) {
        if (!limn_buckets_take(s->bad_keys, rq->address, 1, &retry) && need != LIMN_SCOPE_NONE)
            return refuse_too_often(rq, retry);
        limn_metrics_add(s->metrics, LIMN_METRIC_AUTH_FAILED);
    }
    if (need == LIMN_SCOPE_NONE || (valid && rq->who.scope >= need)) return true;
    if (!valid)
        limn_http_fail(rq, offered ? LIMN_HTTP_INVALID_KEY : LIMN_HTTP_MISSING_KEY, NULL,
                       offered ? "the key is not valid" : "a key is needed");
    else
        limn_http_fail(rq, LIMN_HTTP_MISSING_SCOPE, NULL, "this needs a key with the scope %s",
                       need == LIMN_SCOPE_ADMIN ? "admin" : "infer");
    return false;
}

static bool within_rate(limn_http_req *rq) {
    limn_server *s = rq->server;
    char who[96];
    double retry;
    int cost = rq->route ? rq->route->cost : 1;
    if (cost == 0) return true;
    if (!rq->who.key[0] && rq->local && !atomic_load(&s->rate_given)) return true;
    snprintf(who, sizeof who, "%s%s",
             rq->who.key[0] ? "key:" : "address:", rq->who.key[0] ? rq->who.key : rq->address);
    bool ok = limn_buckets_take(s->rates, who, cost, &retry);
    limn_buckets_look(s->rates, who, &rq->rate);
    if (ok) return true;
    return refuse_too_often(rq, retry);
}

bool limn_guard_check(limn_http_req *rq) {
    if (!check_names(rq)) return false;
    /* what has no route tells nothing, but only to those who may ask at all below the interfaces */
    limn_scope need = rq->route                        ? rq->route->scope
                      : rq->family == LIMN_FAMILY_PAGE ? LIMN_SCOPE_NONE
                                                       : LIMN_SCOPE_READ;
    return authorise(rq, need) && within_rate(rq);
}
