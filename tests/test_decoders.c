/* SPDX-License-Identifier: MIT */
/*
 * Decoding in locked processes: the same pixels as without, locks that hold, and a parent that
 * survives children that crash, hang, are killed or lie down.
 */
#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
/* After the headers that it needs. */
#include <cmocka.h>

#include "base/clock.h"
#include "base/cancel.h"
#include "base/log.h"
#include "base/mem.h"
#include "image/image.h"
#include "media/decoders.h"
#include "media/decoders_impl.h"
#include "media/jail.h"
#include "media/media.h"

static char last_log[1024];
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

static void keep_log(void *user, limn_log_level level, const char *area, const char *text) {
    if (level < LIMN_LOG_WARN || strcmp(area, "decode") != 0) return;
    pthread_mutex_lock(&log_lock);
    snprintf(last_log, sizeof last_log, "%s", text);
    pthread_mutex_unlock(&log_lock);
}

static const char *program(void) {
    const char *path = getenv("LIMN_PROGRAM");
    assert_non_null(path);
    return path;
}

static limn_decoders *start(limn_decoders_options o) {
    limn_decoders *d;
    limn_err err = {0};
    o.program = program();
    assert_int_equal(limn_decoders_start(&d, &o, &err), LIMN_OK);
    assert_int_equal(limn_decoders_try(d, &err), LIMN_OK);
    return d;
}

/* Waits until the first try has been made. */
static limn_decoders_info settled(limn_decoders *d) {
    limn_decoders_info info;
    for (int i = 0; i < 2000; i++) {
        limn_decoders_look(d, &info);
        if (info.state != LIMN_DECODERS_STARTING) return info;
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    fail_msg("the decoders do not start");
    return info;
}

/* Waits until something is decoded again after a process was killed. */
static void comes_back(limn_decoders *d) {
    limn_err err = {0};
    for (int i = 0; i < 2000; i++) {
        if (limn_decoders_probe(d, LIMN_PROBE_NOTHING, &err) == LIMN_OK) return;
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    fail_msg("nothing is decoded again: %s", err.text);
}

static limn_image *picture(int w, int h) {
    limn_image *image;
    assert_int_equal(limn_image_new(&image, w, h, 3, NULL), LIMN_OK);
    for (int i = 0; i < w * h * 3; i++) image->data[i] = (uint8_t)(i * 7 + i / 911);
    return image;
}

static void *encode(const limn_image *image, const char *format, size_t *size) {
    limn_file_options o = LIMN_FILE_OPTIONS;
    void *data;
    o.format = (char *)(uintptr_t)format;
    o.lossless = true;
    assert_int_equal(limn_image_encode(&data, size, image, &o, "a fox\nSteps: 3, Seed: 5", NULL),
                     LIMN_OK);
    return data;
}

/* ---- the same as here ---- */

static void test_pictures(void **state) {
    static const char *const formats[] = {"png", "jpeg", "webp"};
    limn_image *image = picture(301, 217), *here, *there;
    limn_decoders *d = start((limn_decoders_options){0});
    assert_int_equal(settled(d).state, LIMN_DECODERS_READY);
    for (int i = 0; i < 3; i++) {
        size_t size;
        char *text_here, *text_there;
        limn_err err = {0};
        void *data = encode(image, formats[i], &size);
        limn_decoders_use(NULL);
        assert_int_equal(limn_image_decode(&here, data, size, NULL), LIMN_OK);
        assert_int_equal(limn_image_decode_text(&text_here, data, size, NULL), LIMN_OK);
        limn_decoders_use(d);
        assert_int_equal(limn_image_decode(&there, data, size, &err), LIMN_OK);
        assert_int_equal(limn_image_decode_text(&text_there, data, size, NULL), LIMN_OK);
        assert_string_equal(text_here, text_there);
        assert_int_equal(there->width, 301);
        assert_memory_equal(here->data, there->data, (size_t)here->width * 217 * 3);
        /* Cut off: the same status. */
        limn_image *none;
        assert_int_equal(limn_image_decode(&none, data, size / 2, &err), LIMN_E_FORMAT);
        assert_null(none);
        limn_bytes_free(&data);
        limn_text_free(&text_here);
        limn_text_free(&text_there);
        limn_image_free(&here);
        limn_image_free(&there);
    }
    limn_image_free(&image);
    limn_decoders_stop(&d);
}

typedef struct seen {
    limn_status status;
    int count, width, height;
    limn_media_kind kind;
    char format[16];
    uint64_t sum;
} seen;

static seen look(const char *path) {
    seen s = {0};
    limn_media *m;
    limn_image *image;
    limn_err err = {0};
    limn_media_options o = {.max_frames = 12, .max_pages = 50, .dpi = 60};
    s.status = limn_media_open(&m, path, &o, &err);
    if (s.status != LIMN_OK) return s;
    const limn_media_info *info = limn_media_info_of(m);
    s.count = info->count;
    s.kind = info->kind;
    s.width = info->width;
    s.height = info->height;
    snprintf(s.format, sizeof s.format, "%s", info->format);
    while ((s.status = limn_media_next(&image, m, &err)) == LIMN_OK && image) {
        size_t n = (size_t)image->width * (size_t)image->height * (size_t)image->channels;
        for (size_t i = 0; i < n; i++) s.sum = s.sum * 31 + image->data[i];
        limn_image_free(&image);
    }
    limn_media_close(&m);
    return s;
}

/* Every file of the tests for media, whole and damaged ones. */
static void test_media(void **state) {
    static const char *const folders[] = {"../../fuzz/corpus/media", "../../fuzz/corpus/picture",
                                          "image", "bad"};
    limn_decoders *d = start((limn_decoders_options){0});
    int files = 0;
    settled(d);
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        char dir[1000], path[2000];
        snprintf(dir, sizeof dir, "%s/%s", getenv("LIMN_GOLDEN_DIR"), folders[i]);
        DIR *list = opendir(dir);
        for (struct dirent *e; list && (e = readdir(list));) {
            if (e->d_type != DT_REG) continue;
            snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
            limn_decoders_use(NULL);
            seen here = look(path);
            limn_decoders_use(d);
            seen there = look(path);
            if (memcmp(&here, &there, sizeof here) != 0)
                fail_msg("%s: status %d, %d; %d, %d pictures; %s", e->d_name, here.status,
                         there.status, here.count, there.count, last_log);
            files++;
        }
        if (list) closedir(list);
    }
    assert_true(files > 20);
    limn_decoders_info info;
    limn_decoders_look(d, &info);
    assert_int_equal(info.crashed, 0);
    limn_decoders_stop(&d);
}

/* ---- the locks ---- */

static void test_locks(void **state) {
    static const struct {
        limn_decode_probe probe;
        int signal;
    } fatal[] = {{LIMN_PROBE_WRITE, SIGSYS},
                 {LIMN_PROBE_SOCKET, SIGSYS},
                 {LIMN_PROBE_EXEC, SIGSYS},
                 {LIMN_PROBE_CRASH, LIMN_SANITIZED ? 0 : SIGSEGV}};
    limn_decoders *d = start((limn_decoders_options){.memory = (int64_t)1 << 30});
    limn_err err = {0};
    settled(d);
    assert_int_equal(limn_decoders_probe(d, LIMN_PROBE_NOTHING, &err), LIMN_OK);
    assert_int_equal(limn_decoders_probe(d, LIMN_PROBE_READ, &err), LIMN_OK);
    if (!LIMN_SANITIZED) assert_int_equal(limn_decoders_probe(d, LIMN_PROBE_MEMORY, &err), LIMN_OK);
    for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++) {
        char word[32];
        limn_status st = limn_decoders_probe(d, fatal[i].probe, &err);
        if (st != LIMN_E_FORMAT) fail_msg("probe %d: %d %s", fatal[i].probe, st, err.text);
        assert_string_equal(err.text, "the file made its decoder fail");
        snprintf(word, sizeof word, "by signal %d ", fatal[i].signal);
        if (fatal[i].signal && !strstr(last_log, word))
            fail_msg("probe %d: %s", fatal[i].probe, last_log);
    }
    limn_decoders_info info;
    limn_decoders_look(d, &info);
    assert_int_equal(info.crashed, 4);
    assert_int_equal(limn_decoders_probe(d, LIMN_PROBE_NOTHING, &err), LIMN_OK);
    limn_decoders_stop(&d);
}

static void test_time(void **state) {
    limn_decoders *d = start((limn_decoders_options){.seconds = 1});
    limn_err err = {0};
    settled(d);
    assert_int_equal(limn_decoders_probe(d, LIMN_PROBE_SPIN, &err), LIMN_E_LIMIT);
    assert_string_equal(err.text, "the file takes longer than 1 s to decode");
    limn_decoders_info info;
    limn_decoders_look(d, &info);
    assert_int_equal(info.late, 1);
    assert_int_equal(info.busy, 0);
    limn_decoders_stop(&d);
}

/* A child that gets no processor time (stopped, as on a machine that does something else) is not
 * the fault of its file. */
static void test_busy_machine(void **state) {
    limn_decoders *d = start((limn_decoders_options){.seconds = 1});
    limn_decode_visit *v;
    limn_decode_reply r;
    limn_decode_ask ask = {.op = LIMN_DECODE_PROBE, .probe = LIMN_PROBE_SPIN};
    limn_err err = {0};
    settled(d);
    assert_int_equal(limn_decode_visit_begin(&v, d, ask, "x", 1, NULL, &err), LIMN_OK);
    assert_int_equal(kill(limn_decode_visit_pid(v), SIGSTOP), 0);
    assert_int_equal(limn_decode_visit_reply(v, &r, &err), LIMN_E_UNAVAILABLE);
    assert_string_equal(err.text, "no decoder has time, try later");
    limn_decode_visit_end(&v);
    limn_decoders_info info;
    limn_decoders_look(d, &info);
    assert_int_equal(info.late, 1);
    limn_decoders_stop(&d);
}

static void test_cancel(void **state) {
    limn_decoders *d = start((limn_decoders_options){.seconds = 60});
    limn_decode_visit *v;
    limn_decode_reply r;
    limn_decode_ask ask = {.op = LIMN_DECODE_PROBE, .probe = LIMN_PROBE_SPIN};
    atomic_bool cancel = false;
    limn_err err = {0};
    settled(d);
    assert_int_equal(limn_decode_visit_begin(&v, d, ask, "x", 1, &cancel, &err), LIMN_OK);
    atomic_store(&cancel, true);
    assert_int_equal(limn_decode_visit_reply(v, &r, &err), LIMN_E_CANCELLED);
    limn_decode_visit_end(&v);
    limn_decoders_stop(&d);
}

/* ---- killed ---- */

static int pid_of_idle(limn_decoders *d) {
    char path[64], line[256];
    int pid = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)d->host, (int)d->host);
    for (int i = 0; i < 500 && !pid; i++) {
        FILE *f = fopen(path, "r");
        if (f && fgets(line, sizeof line, f)) pid = atoi(line);
        if (f) fclose(f);
        if (!pid) nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    assert_true(pid > 1);
    return pid;
}

static void test_killed(void **state) {
    limn_decoders *d = start((limn_decoders_options){0});
    limn_decode_visit *v;
    limn_decode_reply r;
    limn_err err = {0};
    settled(d);
    comes_back(d);
    /* An idle one: the host makes another. */
    assert_int_equal(kill(pid_of_idle(d), SIGKILL), 0);
    comes_back(d);
    /* One at work. */
    limn_decode_ask ask = {.op = LIMN_DECODE_PROBE, .probe = LIMN_PROBE_SPIN};
    assert_int_equal(limn_decode_visit_begin(&v, d, ask, "x", 1, NULL, &err), LIMN_OK);
    assert_int_equal(kill(limn_decode_visit_pid(v), SIGKILL), 0);
    assert_int_equal(limn_decode_visit_reply(v, &r, &err), LIMN_E_FORMAT);
    assert_non_null(strstr(last_log, "by signal 9"));
    limn_decode_visit_end(&v);
    /* The host: it is started again, after a second at the earliest. */
    assert_int_equal(kill(d->host, SIGKILL), 0);
    comes_back(d);
    limn_decoders_stop(&d);
}

/* ---- many at once ---- */

typedef struct crowd {
    const void *data;
    size_t size;
    atomic_int good;
} crowd;

static void *decode_some(void *p) {
    crowd *c = p;
    for (int i = 0; i < 10; i++) {
        limn_image *image = NULL;
        if (limn_image_decode(&image, c->data, c->size, NULL) == LIMN_OK && image->width == 64)
            atomic_fetch_add(&c->good, 1);
        limn_image_free(&image);
    }
    return NULL;
}

static void test_crowd(void **state) {
    limn_decoders *d = start((limn_decoders_options){.most = 3});
    limn_image *image = picture(64, 64);
    crowd c = {0};
    pthread_t threads[8];
    void *data = encode(image, "png", &c.size);
    c.data = data;
    settled(d);
    limn_decoders_use(d);
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, decode_some, &c), 0);
    for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&c.good), 80);
    limn_decoders_stop(&d);
    limn_bytes_free(&data);
    limn_image_free(&image);
}

/* What a small picture costs; printed, not judged. */
static void test_cost(void **state) {
    limn_decoders *d = start((limn_decoders_options){0});
    limn_image *image = picture(64, 64), *out;
    size_t size;
    void *data = encode(image, "png", &size);
    double least[2] = {1, 1};
    settled(d);
    for (int away = 0; away < 2; away++) {
        limn_decoders_use(away ? d : NULL);
        for (int i = 0; i < 60; i++) {
            double begin = limn_clock_now();
            assert_int_equal(limn_image_decode(&out, data, size, NULL), LIMN_OK);
            double took = limn_clock_now() - begin;
            if (took < least[away]) least[away] = took;
            limn_image_free(&out);
        }
    }
    print_message("a PNG of 64 x 64: %.2f ms here, %.2f ms in a child\n", least[0] * 1e3,
                  least[1] * 1e3);
    limn_decoders_stop(&d);
    limn_bytes_free(&data);
    limn_image_free(&image);
}

/* A program that does not answer is said to be of no use, and nothing is decoded here instead. */
static void test_refused(void **state) {
    limn_decoders *d;
    limn_err err = {0};
    limn_image *image = picture(8, 8), *out;
    size_t size;
    void *data = encode(image, "png", &size);
    limn_decoders_options o = {.program = "/bin/false"};
    assert_int_equal(limn_decoders_start(&d, &o, &err), LIMN_OK);
    assert_int_equal(limn_decoders_try(d, &err), LIMN_OK);
    limn_decoders_info info = settled(d);
    assert_int_equal(info.state, LIMN_DECODERS_REFUSED);
    assert_true(info.why[0]);
    limn_decoders_use(d);
    assert_int_equal(limn_image_decode(&out, data, size, &err), LIMN_E_UNAVAILABLE);
    assert_null(out);
    limn_decoders_stop(&d);
    o.program = "/no/such/program";
    assert_int_equal(limn_decoders_start(&d, &o, &err), LIMN_OK);
    assert_int_equal(limn_decoders_probe(d, LIMN_PROBE_NOTHING, &err), LIMN_E_IO);
    limn_decoders_stop(&d);
    limn_bytes_free(&data);
    limn_image_free(&image);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pictures),     cmocka_unit_test(test_media),
        cmocka_unit_test(test_locks),        cmocka_unit_test(test_time),
        cmocka_unit_test(test_busy_machine), cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_killed),       cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_cost),         cmocka_unit_test(test_refused),
    };
    limn_log_set(keep_log, NULL, LIMN_LOG_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
