/* SPDX-License-Identifier: MIT */
/* Fetching from strangers, by libcurl; see remote_fetch.h. */
#include "server/remote_fetch.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/clock.h"

enum { ADDRESSES_MAX = 16, HOST_MAX = 256, SLOW_BYTES = 1000, SLOW_SECONDS = 5 };
#define NOT_REACHED "the file cannot be fetched from there"

/* ---- addresses ---- */

static bool is_public_v4(uint32_t a) {
    static const struct {
        uint32_t net;
        int bits;
    } special[] = {
        {0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16},
        {0xac100000, 12}, {0xc0000000, 24}, {0xc0000200, 24}, {0xc0586300, 24}, {0xc0a80000, 16},
        {0xc6120000, 15}, {0xc6336400, 24}, {0xcb007100, 24}, {0xe0000000, 4},  {0xf0000000, 4},
    };
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++)
        if (((a ^ special[i].net) >> (32 - special[i].bits)) == 0) return false;
    return true;
}

/* Of 2000::/3, without 2001::/23, 2001:db8::/32, 2002::/16 and 3fff::/20; so neither mapped nor
 * translated addresses. */
static bool is_public_v6(const uint8_t *a) {
    if (a[0] >> 5 != 1) return false;
    if (a[0] == 0x20 && a[1] == 0x01 && a[2] < 2) return false;
    if (a[0] == 0x20 && a[1] == 0x01 && a[2] == 0x0d && a[3] == 0xb8) return false;
    if (a[0] == 0x20 && a[1] == 0x02) return false;
    return !(a[0] == 0x3f && a[1] == 0xff && a[2] >> 4 == 0);
}

bool limn_remote_is_public(const struct sockaddr *address) {
    if (address->sa_family == AF_INET)
        return is_public_v4(
            ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr));
    if (address->sa_family == AF_INET6)
        return is_public_v6(
            ((const struct sockaddr_in6 *)(const void *)address)->sin6_addr.s6_addr);
    return false;
}

/* "127.0.0.1:8080", "[::1]:8080" */
static bool parse_private(struct sockaddr_storage *out, const char *entry) {
    char host[64];
    const char *colon = strrchr(entry, ':');
    size_t n = colon ? (size_t)(colon - entry) : 0;
    bool v6 = entry[0] == '[' && n > 2 && entry[n - 1] == ']';
    char *end = NULL;
    long port = colon && isdigit((unsigned char)colon[1]) ? strtol(colon + 1, &end, 10) : 0;
    memset(out, 0, sizeof *out);
    if (!end || *end || port < 1 || port > 65535 || n >= sizeof host) return false;
    snprintf(host, sizeof host, "%.*s", (int)(v6 ? n - 2 : n), v6 ? entry + 1 : entry);
    struct sockaddr_in *a4 = (struct sockaddr_in *)(void *)out;
    struct sockaddr_in6 *a6 = (struct sockaddr_in6 *)(void *)out;
    out->ss_family = v6 ? AF_INET6 : AF_INET;
    if (v6) {
        a6->sin6_port = htons((uint16_t)port);
        return inet_pton(AF_INET6, host, &a6->sin6_addr) == 1;
    }
    a4->sin_port = htons((uint16_t)port);
    return inet_pton(AF_INET, host, &a4->sin_addr) == 1;
}

limn_status limn_remote_check_private(const char *entry, limn_err *err) {
    struct sockaddr_storage a;
    return parse_private(&a, entry)
               ? LIMN_OK
               : limn_fail(err, LIMN_E_VALUE,
                           "\"%.60s\": must be like 10.0.0.5:8080 or [fd00::5]:80", entry);
}

static bool same_address(const struct sockaddr *a, const struct sockaddr *b) {
    if (a->sa_family != b->sa_family) return false;
    if (a->sa_family == AF_INET) {
        const struct sockaddr_in *x = (const void *)a, *y = (const void *)b;
        return x->sin_port == y->sin_port && x->sin_addr.s_addr == y->sin_addr.s_addr;
    }
    const struct sockaddr_in6 *x = (const void *)a, *y = (const void *)b;
    return x->sin6_port == y->sin6_port && memcmp(&x->sin6_addr, &y->sin6_addr, 16) == 0;
}

static bool is_allowed(const limn_remote_rules *rules, const struct sockaddr *address) {
    struct sockaddr_storage own;
    if (address->sa_family != AF_INET && address->sa_family != AF_INET6) return false;
    if (limn_remote_is_public(address)) return true;
    for (int i = 0; i < rules->n_privates; i++)
        if (parse_private(&own, rules->privates[i]) &&
            same_address(address, (const struct sockaddr *)&own))
            return true;
    return false;
}

/* ---- the URL ---- */

typedef struct target {
    char host[HOST_MAX]; /* without brackets */
    char port[8];
    char resolve[1024]; /* for CURLOPT_RESOLVE */
    bool literal_v6;
} target;

static bool is_clean(const char *url) {
    size_t n = strlen(url);
    if (n > LIMN_REMOTE_URL_MAX) return false;
    for (const unsigned char *c = (const unsigned char *)url; *c; c++)
        if (*c <= ' ' || *c >= 0x7f || strchr("\\\"<>^`{|}", *c)) return false;
    return true;
}

static bool host_is_listed(const limn_remote_rules *rules, const char *host) {
    size_t n = strlen(host);
    if (rules->n_hosts == 0) return true;
    for (int i = 0; i < rules->n_hosts; i++) {
        const char *want = rules->hosts[i];
        size_t m = strlen(want);
        if (want[0] == '.' ? n > m && strcasecmp(host + n - m, want) == 0
                           : strcasecmp(host, want) == 0)
            return true;
    }
    return false;
}

static limn_status split_url(target *t, CURLU *u, const char *url, const limn_remote_rules *rules,
                             limn_err *err) {
    char *scheme = NULL, *host = NULL, *port = NULL;
    limn_status st = LIMN_OK;
    LIMN_CHECK(err,
               is_clean(url) && curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER) == 0 &&
                   curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == 0 &&
                   curl_url_get(u, CURLUPART_HOST, &host, 0) == 0 &&
                   curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == 0,
               LIMN_E_VALUE, "not a URL of a file");
    bool tls = strcmp(scheme, "https") == 0;
    LIMN_CHECK(err, tls || (rules->http && strcmp(scheme, "http") == 0), LIMN_E_VALUE,
               rules->http ? "only http and https URLs are fetched"
                           : "only https URLs are fetched");
    size_t n = strlen(host);
    if (n > 2 && host[0] == '[') { /* an IPv6 address; a zone has no place in it */
        t->literal_v6 = true;
        snprintf(t->host, sizeof t->host, "%.*s", (int)n - 2, host + 1);
    } else {
        while (n > 0 && host[n - 1] == '.') n--;
        snprintf(t->host, sizeof t->host, "%.*s", (int)n, host);
    }
    LIMN_CHECK(err, n > 0 && n < HOST_MAX && !strchr(t->host, '%') && strlen(port) < sizeof t->port,
               LIMN_E_VALUE, "not a URL of a file");
    snprintf(t->port, sizeof t->port, "%s", port);
    LIMN_CHECK(err, host_is_listed(rules, t->host), LIMN_E_VALUE,
               "files are not fetched from that host");
    /* What is checked is what is connected to: the name without its dots at the end. */
    LIMN_CHECK(err, t->literal_v6 || curl_url_set(u, CURLUPART_HOST, t->host, 0) == 0, LIMN_E_VALUE,
               "not a URL of a file");
out:
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    return st;
}

/* Ports other than those of the schemes belong to the exceptions only. */
static bool port_is_usual(const target *t) {
    return strcmp(t->port, "443") == 0 || strcmp(t->port, "80") == 0;
}

/* One look-up; a name with a private address among its answers is refused altogether. */
static limn_status look_up(target *t, const limn_remote_rules *rules, limn_err *err) {
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int count = 0;
    size_t len;
    int bad = rules->lookup ? rules->lookup(t->host, t->port, &hints, &list)
                            : getaddrinfo(t->host, t->port, &hints, &list);
    if (bad || !list) return limn_fail(err, LIMN_E_VALUE, NOT_REACHED);
    len = (size_t)snprintf(t->resolve, sizeof t->resolve, "%s:%s:", t->host, t->port);
    bool good = len < sizeof t->resolve;
    for (const struct addrinfo *a = list; a && good; a = a->ai_next) {
        char text[NI_MAXHOST];
        if (count == ADDRESSES_MAX) break;
        good =
            is_allowed(rules, a->ai_addr) &&
            (port_is_usual(t) || !limn_remote_is_public(a->ai_addr)) &&
            getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0;
        if (!good) break;
        bool v6 = a->ai_family == AF_INET6;
        int n = snprintf(t->resolve + len, sizeof t->resolve - len, "%s%s%s%s", count ? "," : "",
                         v6 ? "[" : "", text, v6 ? "]" : "");
        good = n > 0 && (size_t)n < sizeof t->resolve - len;
        len += good ? (size_t)n : 0;
        count++;
    }
    freeaddrinfo(list);
    return good && count ? LIMN_OK : limn_fail(err, LIMN_E_VALUE, NOT_REACHED);
}

/* ---- one request ---- */

typedef struct transfer {
    const limn_remote_rules *rules;
    limn_buf *out;
    size_t begin; /* of out */
    bool refused, large, coded;
} transfer;

/* The last word about where a connection goes. */
static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *a) {
    transfer *t = user;
    if (purpose != CURLSOCKTYPE_IPCXN || !is_allowed(t->rules, &a->addr)) {
        t->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static size_t take_body(char *data, size_t one, size_t n, void *user) {
    transfer *t = user;
    if (t->out->len - t->begin + n > t->rules->bytes) t->large = true;
    if (t->large) return 0;
    limn_buf_add(t->out, data, n);
    return t->out->failed ? 0 : n;
}

/* Nothing was asked to be compressed: what is all the same is no file. */
static size_t take_header(char *data, size_t one, size_t n, void *user) {
    transfer *t = user;
    static const char name[] = "content-encoding:";
    if (n > sizeof name && strncasecmp(data, name, sizeof name - 1) == 0) {
        size_t at = sizeof name - 1;
        while (at < n && data[at] == ' ') at++;
        t->coded = t->coded || n - at < 8 || strncasecmp(data + at, "identity", 8) != 0;
    }
    return n;
}

static int progress(void *user, curl_off_t total, curl_off_t now, curl_off_t a, curl_off_t b) {
    const transfer *t = user;
    return t->coded || (t->rules->stop && atomic_load(t->rules->stop));
}

static bool set_options(CURL *c, CURLU *u, struct curl_slist *resolve, transfer *t) {
    const limn_remote_rules *r = t->rules;
    int bad = 0;
    bad |= curl_easy_setopt(c, CURLOPT_CURLU, u);
    bad |= curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, r->http ? "http,https" : "https");
    bad |= curl_easy_setopt(c, CURLOPT_RESOLVE, resolve);
    bad |= curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    bad |= curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, t);
    bad |= curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_body);
    bad |= curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    bad |= curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, take_header);
    bad |= curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
    bad |= curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, progress);
    bad |= curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
    bad |= curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    bad |= curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    bad |= curl_easy_setopt(c, CURLOPT_PROXY, "");
    bad |= curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    bad |= curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, 1L);
    bad |= curl_easy_setopt(c, CURLOPT_FORBID_REUSE, 1L);
    bad |= curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    bad |= curl_easy_setopt(c, CURLOPT_HTTP09_ALLOWED, 0L);
    bad |= curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)r->seconds * 1000);
    bad |= curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)r->seconds * 500);
    bad |= curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, (long)SLOW_BYTES);
    bad |= curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)SLOW_SECONDS);
    bad |= curl_easy_setopt(c, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)r->bytes);
    bad |= curl_easy_setopt(c, CURLOPT_USERAGENT, "limn/" LIMN_VERSION);
    return bad == 0;
}

static limn_status judge(CURL *c, CURLcode done, const transfer *t, char **next, limn_err *err) {
    long code = 0;
    char *where = NULL;
    if (t->large || done == CURLE_FILESIZE_EXCEEDED)
        return limn_fail(err, LIMN_E_LIMIT, "the file has more than %zu bytes", t->rules->bytes);
    if (t->out->failed) return limn_fail(err, LIMN_E_NOMEM, "no memory for the file");
    if (t->rules->stop && atomic_load(t->rules->stop))
        return limn_fail(err, LIMN_E_UNAVAILABLE, "the server is stopping");
    if (t->coded) return limn_fail(err, LIMN_E_FORMAT, "the file comes in a compressed form");
    if (done == CURLE_OPERATION_TIMEDOUT && !t->refused)
        return limn_fail(err, LIMN_E_LIMIT, "the file takes too long to come");
    if (done != CURLE_OK) return limn_fail(err, LIMN_E_VALUE, NOT_REACHED);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &code);
    if (code >= 300 && code < 400 &&
        curl_easy_getinfo(c, CURLINFO_REDIRECT_URL, &where) == CURLE_OK && where) {
        *next = limn_mem_strdup(where);
        return *next ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for the file");
    }
    if (code != 200) return limn_fail(err, LIMN_E_FORMAT, "the file is not there (%ld)", code);
    return LIMN_OK;
}

/* *next: where a redirect leads; NULL: the file is in out. */
static limn_status get_one(limn_buf *out, char **next, const char *url,
                           const limn_remote_rules *rules, limn_err *err) {
    CURLU *u = curl_url();
    CURL *c = curl_easy_init();
    struct curl_slist *resolve = NULL;
    target where = {0};
    transfer t = {.rules = rules, .out = out, .begin = out->len};
    limn_status st = LIMN_OK;
    *next = NULL;
    LIMN_CHECK(err, u && c, LIMN_E_NOMEM, "no memory to fetch a file");
    LIMN_TRY(split_url(&where, u, url, rules, err));
    LIMN_TRY(look_up(&where, rules, err));
    if (!where.literal_v6) {
        resolve = curl_slist_append(NULL, where.resolve);
        LIMN_CHECK(err, resolve, LIMN_E_NOMEM, "no memory to fetch a file");
    }
    LIMN_CHECK(err, set_options(c, u, resolve, &t), LIMN_E_INTERNAL, "a file cannot be fetched");
    CURLcode done = curl_easy_perform(c);
    st = judge(c, done, &t, next, err);
    if (st != LIMN_OK || *next) { /* what came is not the file */
        out->len = t.begin;
        if (out->data) out->data[out->len] = 0;
    }
out:
    curl_easy_cleanup(c);
    curl_url_cleanup(u);
    curl_slist_free_all(resolve);
    return st;
}

/* libcurl wants to be started once, before any of its threads. */
static pthread_once_t started = PTHREAD_ONCE_INIT;

static void start_curl(void) {
    if (limn_late_open(&limn_late_curl, NULL) == LIMN_OK) curl_global_init(CURL_GLOBAL_DEFAULT);
}

limn_status limn_remote_get(limn_buf *out, const char *url, const limn_remote_rules *rules,
                            limn_err *err) {
    char *at = limn_mem_strdup(url), *next = NULL;
    limn_status st = at ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory to fetch a file");
    pthread_once(&started, start_curl);
    if (st == LIMN_OK) st = limn_late_open(&limn_late_curl, err);
    for (int hops = 0; st == LIMN_OK; hops++) {
        st = get_one(out, &next, at, rules, err);
        limn_mem_free(at);
        at = next;
        if (!at) break;
        if (st == LIMN_OK && hops == LIMN_REMOTE_REDIRECTS)
            st = limn_fail(err, LIMN_E_VALUE, "the URL leads on more than %d times",
                           LIMN_REMOTE_REDIRECTS);
    }
    limn_mem_free(at);
    return st;
}
