/* SPDX-License-Identifier: MIT */
/* What the tests of jobs share: a temporary folder, a queue over the stub engine, short submits. */
#ifndef LIMN_TESTS_JOB_FIXTURE_H
#define LIMN_TESTS_JOB_FIXTURE_H

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "job/queue.h"
#include "job/runner_stub.h"

#define assert_ok(err, call)                                                                       \
    do {                                                                                           \
        limn_status st_ = (call);                                                                  \
        if (st_ != LIMN_OK) fail_msg("%s: %s: %s", #call, limn_status_text(st_), (err).text);      \
    } while (0)

static inline int remove_one(const char *path, const struct stat *sb, int flag, struct FTW *ftw) {
    (void)sb, (void)flag, (void)ftw;
    return remove(path);
}

static inline void folder_remove(char *dir) {
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(dir);
}

/* In memory where that is possible: there fsync costs nothing, and nothing here cuts the power.
 * LIMN_TEST_DIR names another place. */
static inline char *folder_make(void) {
    const char *places[] = {getenv("LIMN_TEST_DIR"), "/dev/shm", "/tmp"};
    for (int i = 0; i < 3; i++) {
        char name[300];
        snprintf(name, sizeof name, "%s/limn-job-XXXXXX", places[i] ? places[i] : "");
        if (places[i] && mkdtemp(name)) return strdup(name);
    }
    fail_msg("there is no place for temporary folders");
    return NULL;
}

static inline void sleep_ms(int ms) {
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static inline limn_queue *queue_open(const char *dir, const limn_queue_options *opt,
                                     double step_ms) {
    limn_err err = {0};
    limn_runner *runner;
    limn_queue *q;
    limn_stub_options so = {.step_ms = step_ms, .misbehave = true, .picture_side = 8};
    assert_ok(err, limn_runner_stub_new(&runner, &so, &err));
    assert_ok(err, limn_queue_open_dir(&q, dir, runner, opt, &err));
    return q;
}

static inline limn_params *gen_make(const char *json) {
    limn_err err = {0};
    limn_params *p;
    assert_ok(err, limn_params_new(&p, LIMN_PARAMS_GEN, &err));
    assert_ok(err, limn_params_parse_json(p, json, strlen(json), LIMN_FROM_API, &err));
    return p;
}

/* Submits a drawing of the values in `json`; other members of `more` (NULL: none) as they are. */
static inline limn_status draw(limn_queue *q, const char *json, const limn_submit *more,
                               limn_submitted *out, limn_err *err) {
    limn_submit s = more ? *more : (limn_submit){0};
    limn_params *p = gen_make(json);
    s.params = p;
    limn_status st = limn_queue_submit(q, &s, out, err);
    limn_params_free(&p);
    return st;
}

/* The job as it is; the caller frees. */
static inline limn_job *job_of(limn_queue *q, const char *id) {
    limn_err err = {0};
    limn_job *j;
    assert_ok(err, limn_queue_get(q, NULL, id, &j, &err));
    return j;
}

static inline limn_job_state state_of(limn_queue *q, const char *id) {
    limn_job *j = job_of(q, id);
    limn_job_state s = j->state;
    limn_job_free(&j);
    return s;
}

/* Waits for the end. */
static inline limn_job *ended(limn_queue *q, const char *id) {
    limn_err err = {0};
    limn_job *j;
    assert_ok(err, limn_queue_wait(q, NULL, id, 20000, &j, &err));
    return j;
}

#endif
