/* SPDX-License-Identifier: MIT */
/*
 * What stands in front of every request, without sockets: the gate byte by byte, heads of pictures,
 * base64, JSON bounds, keys and token buckets.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "server/api/api.h"
#include "server/auth_file.h"
#include "server/http_gate.h"

#define HOST "Host: a\r\n"

static int status_of(const char *text, size_t len) {
    limn_http_gate gate;
    limn_gate_verdict v = limn_http_gate_head(&gate, text, len, NULL);
    return v == LIMN_GATE_MORE ? 0 : v == LIMN_GATE_PASS ? 200 : gate.status;
}

static void test_heads(void **state) {
    static const struct {
        const char *text;
        int status;
    } rows[] = {
        {"GET / HTTP/1.1\r\n" HOST "\r\n", 200},
        {"GET / HTTP/1.0\r\n\r\n", 200},
        {"POST /a?b=%20 HTTP/1.1\r\nhost: [::1]:80\r\nX-A: \t b\xe9 \r\n\r\n", 200},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST HOST "\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
        {"GET / HTTP/1.2\r\n" HOST "\r\n", 505},
        {"GET / HTTP/2.0\r\n" HOST "\r\n", 505},
        {"GET / HTTQ/1.1\r\n" HOST "\r\n", 400},
        {"GET /  HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET a HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /% HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /%00 HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET /#a HTTP/1.1\r\n" HOST "\r\n", 400},
        {"BREW / HTTP/1.1\r\n" HOST "\r\n", 501},
        {"G(T / HTTP/1.1\r\n" HOST "\r\n", 400},
        {"\r\nGET / HTTP/1.1\r\n" HOST "\r\n", 400},
        {"GET / HTTP/1.1\n" HOST "\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "A : b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "A: b\rc\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" HOST "A: b\x7f\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\n" HOST "Content-Length: 9999999999999999999\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\n" HOST "Content-Length: 999999999999999999\r\n\r\n", 200},
        {"PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n", 200},
        {"PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n", 501},
        {"PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400},
        {"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\n\r\n", 200},
        {"PUT / HTTP/1.1\r\n" HOST "Expect: tea\r\n\r\n", 417},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t len = strlen(rows[i].text);
        int got = status_of(rows[i].text, len);
        if (got != rows[i].status) fail_msg("%d, not %d: %s", got, rows[i].status, rows[i].text);
        for (size_t n = 0; n < len; n++) { /* no early verdict but the right one */
            int early = status_of(rows[i].text, n);
            assert_true(early == 0 || early == rows[i].status);
            if (rows[i].status == 200) assert_int_equal(early, 0);
        }
    }
    assert_int_equal(status_of("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 29), 400);
}

static void test_head_limits(void **state) {
    static char text[200000];
    (void)state;
    int n = snprintf(text, sizeof text, "GET /%0*d HTTP/1.1\r\n" HOST "\r\n", 100000, 0);
    assert_int_equal(status_of(text, (size_t)n), 414);
    assert_int_equal(status_of(text, 9000), 414); /* before its end is there */
    n = snprintf(text, sizeof text, "GET / HTTP/1.1\r\n" HOST "A: %0*d\r\n\r\n", 100000, 0);
    assert_int_equal(status_of(text, (size_t)n), 431);
    assert_int_equal(status_of(text, 17000), 431);
    n = snprintf(text, sizeof text, "GET / HTTP/1.1\r\n" HOST);
    for (int i = 0; i < LIMN_LIMIT_HEADERS; i++) n += snprintf(text + n, 16, "A: b\r\n");
    n += snprintf(text + n, 16, "\r\n");
    assert_int_equal(status_of(text, (size_t)n), 431);
}

static void test_decode(void **state) {
    char out[64];
    (void)state;
    assert_true(limn_http_decode(out, "a%2Fb+c", 7, false));
    assert_string_equal(out, "a/b+c");
    assert_true(limn_http_decode(out, "a+%e2%82%ac", 11, true));
    assert_string_equal(out, "a \xe2\x82\xac");
    assert_false(limn_http_decode(out, "%", 1, true));
    assert_false(limn_http_decode(out, "%2", 2, true));
    assert_false(limn_http_decode(out, "%2x", 3, true));
    assert_false(limn_http_decode(out, "%00", 3, true));
    assert_false(limn_http_decode(out, "%0a", 3, true));
}

static void test_pictures(void **state) {
    limn_image *image;
    limn_picture_head head;
    static const char *const formats[] = {"png", "jpeg", "webp"};
    (void)state;
    assert_int_equal(limn_image_new(&image, 37, 21, 3, NULL), LIMN_OK);
    for (int i = 0; i < 6; i++) {
        limn_file_options opt = LIMN_FILE_OPTIONS;
        void *data;
        size_t size;
        opt.format = formats[i % 3];
        opt.lossless = i >= 3;
        assert_int_equal(
            limn_image_encode(&data, &size, image, &opt, i & 1 ? "a\nSteps: 1" : NULL, NULL),
            LIMN_OK);
        assert_int_equal(limn_picture_sniff(&head, data, size, NULL), LIMN_OK);
        assert_int_equal(head.width, 37);
        assert_int_equal(head.height, 21);
        assert_string_equal(head.mime + 6, opt.format);
        for (size_t n = 0; n < size; n++) { /* a cut head is refused or says the same */
            void *part = malloc(n + 1);     /* so that reading behind it is seen */
            memcpy(part, data, n);
            if (limn_picture_sniff(&head, part, n, NULL) == LIMN_OK)
                assert_int_equal(head.width, 37);
            free(part);
        }
        limn_bytes_free(&data);
    }
    limn_image_free(&image);
    limn_err err = {0};
    assert_int_equal(limn_picture_sniff(&head, "GIF89a", 6, &err), LIMN_E_FORMAT);
}

static void test_base64(void **state) {
    void *data;
    size_t size;
    (void)state;
    static const char *const same[] = {"aGVsbG8=", "aGVsbG8", "aGVs\r\nbG8=\n", " aGVsbG8= "};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(limn_base64_read(&data, &size, same[i], strlen(same[i]), NULL), LIMN_OK);
        assert_int_equal(size, 5);
        assert_memory_equal(data, "hello", 5);
        limn_mem_free(data);
    }
    static const char *const bad[] = {"", "=", "a", "aGV$bG8=", "aGVsbG8=aGVs"};
    for (size_t i = 0; i < 5; i++)
        assert_int_not_equal(limn_base64_read(&data, &size, bad[i], strlen(bad[i]), NULL), LIMN_OK);
}

static void test_buckets(void **state) {
    limn_buckets *b;
    double retry;
    (void)state;
    assert_int_equal(limn_buckets_new(&b, 60, 10, NULL), LIMN_OK);
    for (int i = 0; i < 10; i++) assert_true(limn_buckets_take(b, "a", 1, &retry));
    assert_false(limn_buckets_take(b, "a", 1, &retry));
    assert_true(retry > 0.5 && retry <= 1);
    assert_true(limn_buckets_take(b, "b", 5, &retry));   /* another one's is full */
    assert_true(limn_buckets_take(b, "c", 100, &retry)); /* dearer than the bucket: all of it */
    assert_false(limn_buckets_take(b, "c", 1, &retry));
    char name[16];
    for (int i = 0; i < 20000; i++) { /* more names than there are buckets */
        snprintf(name, sizeof name, "x%d", i);
        assert_true(limn_buckets_take(b, name, 1, &retry));
    }
    limn_buckets_free(&b);
    assert_int_equal(limn_buckets_new(&b, 0, 0, NULL), LIMN_OK);
    for (int i = 0; i < 100; i++) assert_true(limn_buckets_take(b, "a", 100, &retry));
    limn_buckets_free(&b);
}

static void remove_keys(const char *dir) {
    static const char *const files[] = {"keys.json", "keys.json.lock", "keys.json.secret"};
    char path[96];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
}

static void test_keys(void **state) {
    char dir[] = "/tmp/limn-keys-XXXXXX", path[64], cookie[LIMN_COOKIE_MAX], *key, *old;
    limn_params *serve;
    limn_keyring *ring;
    limn_principal who = {0};
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(limn_params_new(&serve, LIMN_PARAMS_SERVE, NULL), LIMN_OK);
    assert_int_equal(limn_params_set(serve, "data_dir", dir, LIMN_FROM_CLI, NULL), LIMN_OK);
    snprintf(path, sizeof path, "%s/keys.json", dir);
    assert_int_equal(limn_keyring_open(&ring, path, NULL), LIMN_OK);
    assert_false(limn_keyring_has_keys(ring));
    limn_keyring_close(&ring);
    assert_int_equal(limn_key_create(&key, serve, "anna", "infer", 0, NULL, NULL), LIMN_OK);
    assert_int_equal(limn_key_create(&old, serve, "ben", "admin", 1, NULL, NULL), LIMN_OK);
    limn_key_row *rows;
    int count;
    assert_int_equal(limn_key_file_load(&rows, &count, path, NULL), LIMN_OK);
    assert_int_equal(count, 2);
    rows[1].expires_ms = limn_clock_unix_ms() - 1;
    assert_int_equal(limn_key_file_save(rows, count, path, NULL), LIMN_OK);
    limn_mem_free(rows);
    assert_int_equal(limn_keyring_open(&ring, path, NULL), LIMN_OK);
    assert_true(limn_keyring_has_keys(ring));
    assert_true(limn_keyring_check(ring, &who, key));
    assert_string_equal(who.owner, "anna");
    assert_int_equal(who.scope, LIMN_SCOPE_INFER);
    assert_int_equal(limn_keyring_make_cookie(ring, cookie, &who, NULL), LIMN_OK);
    limn_principal again = {0};
    assert_true(limn_keyring_check_cookie(ring, &again, cookie));
    assert_string_equal(again.key, who.key);
    for (size_t i = 0; cookie[i]; i++) { /* no changed character passes */
        char c = cookie[i];
        cookie[i] = c == '1' ? '2' : '1';
        assert_false(limn_keyring_check_cookie(ring, &again, cookie));
        cookie[i] = c;
    }
    assert_false(limn_keyring_check(ring, &who, old)); /* expired */
    key[5] = key[5] == 'a' ? 'b' : 'a';
    assert_false(limn_keyring_check(ring, &who, key));
    assert_false(limn_keyring_check(ring, &who, ""));
    limn_keyring_close(&ring);
    limn_text_free(&key);
    limn_text_free(&old);
    limn_params_free(&serve);
    remove_keys(dir);
}

/* ---- two who change keys at once ---- */

typedef struct revoking {
    const limn_params *serve;
    const char *asker, *id; /* revokes this key */
    limn_status st;
} revoking;

static void *revoke_one(void *user) {
    revoking *r = user;
    r->st = limn_key_revoke(r->serve, r->id, r->asker, NULL);
    return NULL;
}

/* How many wait for the lock of this file. */
static int count_waiting(const char *path) {
    struct stat info;
    char line[256], inode[32];
    int n = 0;
    FILE *f = fopen("/proc/locks", "r");
    assert_non_null(f);
    assert_int_equal(stat(path, &info), 0);
    snprintf(inode, sizeof inode, ":%llu ", (unsigned long long)info.st_ino);
    while (fgets(line, sizeof line, f)) n += strstr(line, "->") && strstr(line, inode);
    fclose(f);
    return n;
}

/* Both have been let in and wait for the file: whoever is first revokes the other. */
static void test_admins(void **state) {
    char dir[] = "/tmp/limn-keys-XXXXXX", path[64], lock[64], *key, *none;
    limn_params *serve;
    limn_key_row *rows;
    limn_err err = {0};
    pthread_t threads[2];
    int count;
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/keys.json", dir);
    snprintf(lock, sizeof lock, "%s/keys.json.lock", dir);
    assert_int_equal(limn_params_new(&serve, LIMN_PARAMS_SERVE, NULL), LIMN_OK);
    assert_int_equal(limn_params_set(serve, "data_dir", dir, LIMN_FROM_CLI, NULL), LIMN_OK);
    assert_int_equal(limn_key_create(&none, serve, "eve", "infer", 0, "", &err), LIMN_E_CONFLICT);
    assert_int_equal(limn_key_create(&key, serve, "anna", "admin", 0, "", NULL), LIMN_OK);
    limn_text_free(&key);
    assert_int_equal(limn_key_create(&none, serve, "eve", "admin", 0, "", &err), LIMN_E_CONFLICT);
    assert_int_equal(limn_key_create(&key, serve, "ben", "admin", 0, NULL, NULL), LIMN_OK);
    limn_text_free(&key);
    assert_int_equal(limn_key_file_load(&rows, &count, path, NULL), LIMN_OK);
    assert_int_equal(count, 2);

    int fd = open(lock, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && flock(fd, LOCK_EX) == 0);
    revoking both[2] = {{serve, rows[0].id, rows[1].id, LIMN_OK},
                        {serve, rows[1].id, rows[0].id, LIMN_OK}};
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, revoke_one, &both[i]), 0);
    while (count_waiting(lock) < 2) sched_yield();
    close(fd);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    int won = both[1].st == LIMN_OK;
    assert_int_equal(both[won].st, LIMN_OK);
    assert_int_equal(both[!won].st, LIMN_E_CONFLICT);

    const char *last = rows[won].id;
    assert_int_equal(limn_key_revoke(serve, last, last, &err), LIMN_E_CONFLICT);
    assert_int_equal(limn_key_revoke(serve, "none", last, &err), LIMN_E_NOT_FOUND);
    assert_int_equal(limn_key_create(&none, serve, "eve", "read", 0, rows[!won].id, &err),
                     LIMN_E_CONFLICT);
    assert_int_equal(limn_key_revoke(serve, last, NULL, &err), LIMN_OK); /* the folder's owner */
    limn_mem_free(rows);
    limn_params_free(&serve);
    remove_keys(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),  cmocka_unit_test(test_head_limits),
        cmocka_unit_test(test_decode), cmocka_unit_test(test_pictures),
        cmocka_unit_test(test_base64), cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_keys),   cmocka_unit_test(test_admins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
