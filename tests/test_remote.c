/* SPDX-License-Identifier: MIT */
/*
 * Fetching from strangers: which addresses count as public, how URLs try to look like others, names
 * that answer with two addresses or with another one the second time. A listener on loopback counts
 * who reaches it; no name server and no network is used.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
/* After the headers that it needs. */
#include <cmocka.h>

#include "server/remote_fetch.h"

/* ---- a listener ---- */

static struct {
    int fd, port;
    atomic_int visits;
    pthread_t thread;
} site;

static void *serve(void *unused) {
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    char head[4096];
    for (int c; (c = accept(site.fd, NULL, NULL)) >= 0; close(c)) {
        atomic_fetch_add(&site.visits, 1);
        if (read(c, head, sizeof head) > 0) (void)!write(c, answer, sizeof answer - 1);
    }
    return unused;
}

static int open_site(void **state) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof a;
    site.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(site.fd, (struct sockaddr *)&a, n) || listen(site.fd, 8)) return -1;
    getsockname(site.fd, (struct sockaddr *)&a, &n);
    site.port = ntohs(a.sin_port);
    return pthread_create(&site.thread, NULL, serve, NULL);
}

static int close_site(void **state) {
    shutdown(site.fd, SHUT_RDWR);
    pthread_join(site.thread, NULL);
    close(site.fd);
    return 0;
}

/* ---- names ---- */

static atomic_int lookups;

static struct addrinfo *answer_with(const char *text, const char *port) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *list = NULL;
    assert_int_equal(getaddrinfo(text, port, &hints, &list), 0);
    return list;
}

static int lookup(const char *host, const char *port, const struct addrinfo *hints,
                  struct addrinfo **out) {
    int n = atomic_fetch_add(&lookups, 1);
    if (strcmp(host, "two.test") == 0) {
        *out = answer_with("93.184.216.34", port);
        (*out)->ai_next = answer_with("127.0.0.1", port);
    } else if (strcmp(host, "moves.test") == 0) {
        *out = answer_with(n == 0 ? "127.0.0.1" : "10.0.0.1", port);
    } else if (strcmp(host, "inside.test") == 0) {
        *out = answer_with("192.168.1.1", port);
    } else if (strcmp(host, "mine.test") == 0 || strcmp(host, "a.mine.test") == 0) {
        *out = answer_with("127.0.0.1", port);
    } else {
        return getaddrinfo(host, port, hints, out);
    }
    return 0;
}

static limn_status get(const char *url, limn_remote_rules rules, char *text, limn_err *err) {
    limn_buf out;
    limn_buf_init(&out, 1 << 20);
    rules.seconds = rules.seconds ? rules.seconds : 3;
    rules.bytes = rules.bytes ? rules.bytes : 1 << 16;
    rules.lookup = lookup;
    limn_status st = limn_remote_get(&out, url, &rules, err);
    snprintf(text, 64, "%s", limn_buf_text(&out));
    limn_buf_deinit(&out);
    return st;
}

/* ---- addresses ---- */

static bool is_public(const char *text) {
    struct addrinfo *a = answer_with(text, "80");
    bool yes = limn_remote_is_public(a->ai_addr);
    freeaddrinfo(a);
    return yes;
}

static void test_addresses(void **state) {
    static const char *const refused[] = {"0.0.0.0",
                                          "0.1.2.3",
                                          "10.0.0.1",
                                          "10.255.255.255",
                                          "100.64.0.1",
                                          "100.127.255.255",
                                          "127.0.0.1",
                                          "127.255.255.254",
                                          "169.254.169.254",
                                          "172.16.0.1",
                                          "172.31.255.255",
                                          "192.0.0.8",
                                          "192.0.2.1",
                                          "192.88.99.1",
                                          "192.168.0.1",
                                          "198.18.0.1",
                                          "198.19.255.255",
                                          "198.51.100.7",
                                          "203.0.113.9",
                                          "224.0.0.1",
                                          "239.255.255.255",
                                          "240.0.0.1",
                                          "255.255.255.255",
                                          "::",
                                          "::1",
                                          "::ffff:127.0.0.1",
                                          "::ffff:8.8.8.8",
                                          "64:ff9b::7f00:1",
                                          "100::1",
                                          "2001::1",
                                          "2001:2::1",
                                          "2001:db8::1",
                                          "2002:7f00:1::1",
                                          "3fff::1",
                                          "fc00::1",
                                          "fd12:3456::1",
                                          "fe80::1",
                                          "fec0::1",
                                          "ff02::1"};
    static const char *const good[] = {
        "1.1.1.1",        "8.8.8.8",         "9.255.255.255",   "11.0.0.1",
        "100.63.255.255", "100.128.0.1",     "126.255.255.255", "128.0.0.1",
        "172.15.255.255", "172.32.0.1",      "192.167.255.255", "198.17.255.255",
        "198.20.0.1",     "223.255.255.255", "2606:4700::1111", "2001:4860:4860::8888",
        "2a00:1450::1",   "3ffe::1"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (is_public(refused[i])) fail_msg("%s counts as public", refused[i]);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!is_public(good[i])) fail_msg("%s does not count as public", good[i]);
    struct sockaddr local = {.sa_family = AF_UNIX};
    assert_false(limn_remote_is_public(&local));
}

/* ---- URLs ---- */

static void test_refused(void **state) {
    static const char *const urls[] = {"http://127.0.0.1:%d/a",
                                       "http://127.1:%d/a",
                                       "http://0x7f000001:%d/a",
                                       "http://2130706433:%d/a",
                                       "http://017700000001:%d/a",
                                       "http://0x7f.1:%d/a",
                                       "http://[::1]:%d/a",
                                       "http://[::ffff:127.0.0.1]:%d/a",
                                       "http://[::ffff:7f00:1]:%d/a",
                                       "http://localhost:%d/a",
                                       "http://localhost.:%d/a",
                                       "http://LOCALHOST:%d/a",
                                       "http://user@127.0.0.1:%d/a",
                                       "http://user:pass@localhost:%d/a",
                                       "http://1.1.1.1\\@127.0.0.1:%d/a",
                                       "http://1.1.1.1#@127.0.0.1:%d/a\\b",
                                       "http://127.0.0.1%%09:%d/a",
                                       "http://127.0.0.1%%2f:%d/a",
                                       "http:///127.0.0.1:%d/a",
                                       "http:127.0.0.1:%d/a",
                                       "http://0:%d/a",
                                       "http://two.test:%d/a",
                                       "http://inside.test:%d/a",
                                       "http://[fe80::1%%25lo]:%d/a",
                                       "http://127.0.0.1:%d/a b",
                                       "http://127.0.0.1:%d/\n",
                                       "https://127.0.0.1:%d/a",
                                       "//127.0.0.1:%d/a",
                                       "127.0.0.1:%d/a",
                                       "file:///etc/passwd?%d",
                                       "gopher://127.0.0.1:%d/_x",
                                       "ftp://127.0.0.1:%d/a",
                                       "dict://127.0.0.1:%d/x",
                                       "ldap://127.0.0.1:%d/",
                                       "tftp://127.0.0.1:%d/a",
                                       "smb://127.0.0.1:%d/a",
                                       "http://%d"};
    int before = atomic_load(&site.visits);
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        char url[128], text[64];
        limn_err err = {0};
        snprintf(url, sizeof url, urls[i], site.port);
        limn_status st = get(url, (limn_remote_rules){.http = true}, text, &err);
        if (st != LIMN_E_VALUE || text[0]) fail_msg("%s: %d %s", url, st, err.text);
        if (strstr(err.text, "127.") || strstr(err.text, "private")) fail_msg("%s", err.text);
    }
    char longest[3000], text[64];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    memcpy(longest, "http://", 7);
    assert_int_equal(get(longest, (limn_remote_rules){.http = true}, text, NULL), LIMN_E_VALUE);
    assert_int_equal(atomic_load(&site.visits), before);
}

static void test_allowed(void **state) {
    char url[64], own[64], text[64];
    const char *const privates[] = {own}, *const hosts[] = {".mine.test", "other.test"};
    limn_remote_rules rules = {.http = true, .privates = privates, .n_privates = 1};
    limn_err err = {0};
    snprintf(own, sizeof own, "127.0.0.1:%d", site.port);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/a", site.port);
    assert_int_equal(get(url, rules, text, &err), LIMN_OK);
    assert_string_equal(text, "hello");
    /* Without http. */
    rules.http = false;
    assert_int_equal(get(url, rules, text, &err), LIMN_E_VALUE);
    rules.http = true;
    /* Hosts that are listed. */
    rules.hosts = hosts;
    rules.n_hosts = 2;
    assert_int_equal(get(url, rules, text, &err), LIMN_E_VALUE);
    snprintf(url, sizeof url, "http://a.mine.test.:%d/a", site.port);
    assert_int_equal(get(url, rules, text, &err), LIMN_OK);
    snprintf(url, sizeof url, "http://mine.test:%d/a", site.port);
    assert_int_equal(get(url, rules, text, &err), LIMN_E_VALUE);
    /* Another port of the same address is another place. */
    rules.n_hosts = 0;
    snprintf(own, sizeof own, "127.0.0.1:%d", site.port == 1 ? 2 : 1);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/a", site.port);
    assert_int_equal(get(url, rules, text, &err), LIMN_E_VALUE);
    /* Too much. */
    snprintf(own, sizeof own, "127.0.0.1:%d", site.port);
    rules.bytes = 4;
    assert_int_equal(get(url, rules, text, &err), LIMN_E_LIMIT);
    assert_string_equal(text, "");
}

/* A name that moves: it is looked up once, and that answer is what is connected to. */
static void test_rebinding(void **state) {
    char url[64], own[64], text[64];
    const char *const privates[] = {own};
    limn_remote_rules rules = {.http = true, .privates = privates, .n_privates = 1};
    limn_err err = {0};
    snprintf(own, sizeof own, "127.0.0.1:%d", site.port);
    snprintf(url, sizeof url, "http://moves.test:%d/a", site.port);
    atomic_store(&lookups, 0);
    assert_int_equal(get(url, rules, text, &err), LIMN_OK);
    assert_int_equal(atomic_load(&lookups), 1);
    assert_int_equal(get(url, rules, text, &err), LIMN_E_VALUE); /* now it is elsewhere */
}

static void test_settings(void **state) {
    assert_int_equal(limn_remote_check_private("10.0.0.5:80", NULL), LIMN_OK);
    assert_int_equal(limn_remote_check_private("[fd00::1]:8080", NULL), LIMN_OK);
    static const char *const bad[] = {"",
                                      ":",
                                      "10.0.0.5",
                                      "10.0.0.5:",
                                      "10.0.0.5:0",
                                      "10.0.0.5:65536",
                                      "10.0.0.5:80x",
                                      "fd00::1:80",
                                      "[fd00::1]",
                                      "localhost:80",
                                      "10.0.0.5:-1",
                                      "[10.0.0.5]:80"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (limn_remote_check_private(bad[i], NULL) != LIMN_E_VALUE) fail_msg("%s", bad[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_allowed), cmocka_unit_test(test_rebinding),
        cmocka_unit_test(test_settings)};
    return cmocka_run_group_tests(tests, open_site, close_site);
}
