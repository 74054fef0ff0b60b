/* SPDX-License-Identifier: MIT */
/* The store: whose files it opens, what it refuses, and what is left when the disk fails. */
#include <fcntl.h>
#include <limits.h>

#include "fail_vfs.h"
#include "job/report.h"
#include "job_sql.h"

static const char four_steps[] =
    "{\"prompt\": \"a fox\", \"steps\": 2, \"width\": 64, \"height\": 64}";

static limn_status store_open(limn_store **s, const char *path, limn_err *err) {
    return limn_store_sqlite_open(s, &(limn_sqlite_options){.path = path}, err);
}

/* ---- whose file it is ---- */
static void test_open(void **state) {
    char *dir = folder_make(), *path = path_in(dir, "jobs.db");
    limn_err err = {0};
    limn_store *s;
    assert_ok(err, store_open(&s, path, &err));
    assert_ok(err, s->ops->check(s, &err));
    limn_store *second;
    assert_int_equal(store_open(&second, path, &err), LIMN_E_CONFLICT);
    limn_store_close(&s);
    assert_ok(err, store_open(&s, path, &err));
    limn_store_close(&s);
    assert_int_equal(ask_sql(path, "PRAGMA user_version"), 4);
    run_sql(path, "PRAGMA user_version = 99");
    assert_int_equal(store_open(&s, path, &err), LIMN_E_FORMAT);
    assert_non_null(strstr(err.text, "newer"));
    remove(path);
    run_sql(path, "CREATE TABLE t (x); PRAGMA journal_mode = DELETE");
    assert_int_equal(store_open(&s, path, &err), LIMN_E_FORMAT);
    assert_non_null(strstr(err.text, "another program"));
    FILE *f = fopen(path, "wb");
    for (int i = 0; i < 1000; i++) fputs("this is not a database ", f);
    fclose(f);
    assert_int_equal(store_open(&s, path, &err), LIMN_E_FORMAT);
    free(path);
    folder_remove(dir);
}

/* What a scribble over the file leaves is refused at the door, not served. */
static void test_damage(void **state) {
    char *dir = folder_make(), *path = path_in(dir, "jobs.db");
    limn_err err = {0};
    limn_store *s;
    limn_submitted sub;
    limn_queue *q = queue_open(dir, &(limn_queue_options){.paused = true}, 0);
    for (int i = 0; i < 20; i++) assert_ok(err, draw(q, four_steps, NULL, &sub, &err));
    limn_queue_close(&q);
    int fd = open(path, O_RDWR);
    char junk[3000];
    memset(junk, 0xa5, sizeof junk);
    for (int page = 1; page < 6; page++)
        assert_true(pwrite(fd, junk, sizeof junk, page * 4096 + 8) > 0);
    close(fd);
    assert_int_equal(store_open(&s, path, &err), LIMN_E_FORMAT);
    free(path);
    folder_remove(dir);
}

/* ---- states ---- */
/* Whatever the code above asks for, a final state stays. */
static void test_final(void **state) {
    char *dir = folder_make(), *path = path_in(dir, "jobs.db");
    limn_err err = {0};
    limn_submitted sub;
    limn_queue *q = queue_open(dir, NULL, 0);
    assert_ok(err, draw(q, four_steps, NULL, &sub, &err));
    limn_job *j = ended(q, sub.id);
    limn_job_free(&j);
    limn_queue_close(&q);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    static const char *const sql[] = {"UPDATE job SET state = 0", "UPDATE job SET state = 3",
                                      "UPDATE job SET result = '{}'", "UPDATE job SET epoch = 9"};
    for (size_t i = 0; i < sizeof sql / sizeof sql[0]; i++)
        assert_int_equal(sqlite3_exec(db, sql[i], NULL, NULL, NULL), SQLITE_CONSTRAINT);
    sqlite3_close(db);
    limn_store *s;
    assert_ok(err, store_open(&s, path, &err));
    assert_ok(err, s->ops->begin(s, true, &err));
    limn_job_change c = {
        .id = sub.id, .from = LIMN_JOB_RUNNING, .to = LIMN_JOB_SUCCEEDED, .epoch = 1, .now_ms = 1};
    assert_int_equal(s->ops->change(s, &c, &err), LIMN_E_CONFLICT);
    c.id = "01938e7c-2f6b-7c11-b0d5-4a3f9a6e1c22";
    assert_int_equal(s->ops->change(s, &c, &err), LIMN_E_NOT_FOUND);
    c.from = LIMN_JOB_SUCCEEDED;
    assert_int_equal(s->ops->change(s, &c, &err), LIMN_E_INTERNAL); /* no such arrow */
    s->ops->rollback(s);
    limn_store_close(&s);
    free(path);
    folder_remove(dir);
}

/* ---- who is next ---- */
static void expect_claim(limn_store *s, const char *model, const char *id, bool passed) {
    limn_err err = {0};
    limn_job *j;
    limn_job_claim c = {
        .worker = "w", .now_ms = 1, .lease_until_ms = 2, .model = model, .reach = 3};
    assert_ok(err, s->ops->claim(s, &j, &c, &err));
    assert_string_equal(j->id, id);
    assert_int_equal(c.passed, passed);
    assert_int_equal(j->state, LIMN_JOB_RUNNING);
    assert_int_equal(j->epoch, 1);
    limn_job_free(&j);
}

/* Jobs of the model that is ready go first, but only among equals, and only so far ahead. */
static void test_claim(void **state) {
    char *dir = folder_make(), *path = path_in(dir, "jobs.db");
    limn_err err = {0};
    limn_submitted sub[7];
    limn_store *s;
    limn_queue *q = queue_open(dir, &(limn_queue_options){.paused = true}, 0);
    static const char models[] = "abacab";
    for (int i = 0; i < 6; i++) {
        char json[64];
        snprintf(json, sizeof json, "{\"model\": \"%c\"}", models[i]);
        assert_ok(err, draw(q, json, NULL, &sub[i], &err));
    }
    assert_ok(err, draw(q, "{\"model\": \"c\"}", &(limn_submit){.priority = 1}, &sub[6], &err));
    limn_queue_close(&q);
    assert_ok(err, store_open(&s, path, &err));
    assert_ok(err, s->ops->begin(s, true, &err));
    expect_claim(s, "b", sub[6].id, false); /* priority before all */
    expect_claim(s, "b", sub[1].id, true);
    expect_claim(s, "c", sub[3].id, true); /* third in line: just within reach */
    expect_claim(s, "x", sub[0].id, false);
    expect_claim(s, "b", sub[5].id, true);
    expect_claim(s, NULL, sub[2].id, false);
    expect_claim(s, "a", sub[4].id, false);
    limn_job *j;
    limn_job_claim c = {.worker = "w"};
    assert_int_equal(s->ops->claim(s, &j, &c, &err), LIMN_E_NOT_FOUND);
    s->ops->rollback(s);
    limn_store_close(&s);
    free(path);
    folder_remove(dir);
}

/* ---- looked at from outside ---- */
static void test_report(void **state) {
    char *dir = folder_make(), *path = path_in(dir, "jobs.db");
    limn_err err = {0};
    limn_submitted a, b;
    limn_store *s;
    limn_buf out;
    limn_queue *q = queue_open(dir, NULL, 0);
    assert_ok(err, draw(q, four_steps, NULL, &a, &err));
    assert_ok(err, draw(q, "{\"prompt\": \"stub:fail\"}", NULL, &b, &err));
    limn_job *j = ended(q, b.id);
    limn_job_free(&j);
    /* while the queue is open */
    assert_ok(err, limn_store_sqlite_open(
                       &s, &(limn_sqlite_options){.path = path, .read_only = true}, &err));
    limn_buf_init(&out, 1 << 20);
    assert_ok(err, limn_job_report(&out, s, NULL, false, &err));
    assert_non_null(strstr(limn_buf_text(&out), "succeeded 1, failed 1"));
    assert_non_null(strstr(limn_buf_text(&out), a.id));
    limn_buf_clear(&out);
    assert_ok(err, limn_job_report(&out, s, "failed", false, &err));
    assert_null(strstr(limn_buf_text(&out), a.id));
    limn_buf_clear(&out);
    assert_ok(err, limn_job_report(&out, s, "FOX", true, &err));
    assert_non_null(strstr(limn_buf_text(&out), a.id));
    assert_null(strstr(limn_buf_text(&out), b.id));
    limn_buf_clear(&out);
    assert_ok(err, limn_job_report(&out, s, b.id, true, &err));
    assert_non_null(strstr(limn_buf_text(&out), "\"error\":\"the prompt asked for a failure\""));
    limn_buf_deinit(&out);
    limn_store_close(&s);
    limn_queue_close(&q);
    free(path);
    folder_remove(dir);
}

/* ---- failing disks ---- */
static limn_queue *frail_open(const char *dir, double step_ms) {
    limn_err err = {0};
    limn_runner *runner;
    limn_store *store;
    limn_artifacts *artifacts;
    limn_queue *q;
    char *path = path_in(dir, "jobs.db");
    assert_ok(err, limn_artifacts_open(&artifacts, dir, &err));
    assert_ok(err, limn_store_sqlite_open(
                       &store, &(limn_sqlite_options){.path = path, .vfs = "fail"}, &err));
    limn_stub_options so = {.step_ms = step_ms, .misbehave = true, .picture_side = 8};
    assert_ok(err, limn_runner_stub_new(&runner, &so, &err));
    assert_ok(err, limn_queue_open(&q, store, artifacts, runner, NULL, &err));
    free(path);
    return q;
}

static bool is_there(limn_queue *q, const char *id) {
    limn_err err = {0};
    limn_job *j;
    bool there = limn_queue_get(q, NULL, id, &j, &err) == LIMN_OK;
    limn_job_free(&j);
    return there;
}

/* One call of the disk fails, whichever it is: what was acknowledged is there afterwards and ends,
 * what was refused is not, the file is whole, and work goes on. */
static int fail_once(int call, int code) {
    enum { JOBS = 6 };
    char *dir = folder_make();
    limn_queue *q = frail_open(dir, 0);
    limn_err err = {0};
    limn_submitted sub[JOBS];
    bool taken[JOBS];
    vfs_fail_after(call, 1, code);
    for (int i = 0; i < JOBS; i++) {
        limn_status st = draw(q, four_steps, NULL, &sub[i], &err);
        taken[i] = st == LIMN_OK;
        if (st != LIMN_OK && st != LIMN_E_UNAVAILABLE)
            fail_msg("call %d, code %d: %s: %s", call, code, limn_status_text(st), err.text);
    }
    for (int i = 0; i < JOBS; i++)
        if (taken[i]) {
            limn_job *j = ended(q, sub[i].id);
            assert_int_equal(j->state, LIMN_JOB_SUCCEEDED);
            assert_int_equal(j->n_artifacts, 1);
            limn_job_free(&j);
        }
    int failed = atomic_load(&vfs_plan.failed);
    vfs_heal();
    assert_ok(err, draw(q, four_steps, NULL, &sub[0], &err));
    limn_job *j = ended(q, sub[0].id);
    assert_int_equal(j->state, LIMN_JOB_SUCCEEDED);
    limn_job_free(&j);
    limn_queue_close(&q);
    q = queue_open(dir, NULL, 0);
    limn_job_counts counts;
    assert_ok(err, limn_queue_counts(q, NULL, &counts, &err));
    int64_t expected = 1;
    for (int i = 0; i < JOBS; i++) expected += taken[i];
    assert_true(is_there(q, sub[0].id));
    /* sub[0] was used again, and stands in both sums */
    assert_int_equal(counts.state[LIMN_JOB_SUCCEEDED], expected);
    limn_queue_close(&q);
    char *path = path_in(dir, "jobs.db");
    limn_store *s;
    assert_ok(err, store_open(&s, path, &err));
    assert_ok(err, s->ops->check(s, &err));
    limn_store_close(&s);
    assert_int_equal(ask_sql(path,
                             "SELECT count(*) FROM (SELECT 1 FROM log WHERE state >= 2 GROUP BY job"
                             " HAVING count(*) <> 1)"),
                     0);
    free(path);
    folder_remove(dir);
    return failed;
}

static void test_full_once(void **state) {
    int failed = 0;
    for (int call = 0; call < 60; call += 7) failed += fail_once(call, SQLITE_FULL);
    assert_true(failed >= 6); /* the last calls may lie behind the work */
}

static void test_write_error_once(void **state) {
    int failed = 0;
    for (int call = 1; call < 60; call += 9) failed += fail_once(call, SQLITE_IOERR_WRITE);
    assert_true(failed >= 4);
}

static void test_sync_error_once(void **state) {
    int failed = 0;
    for (int call = 0; call < 16; call += 2) failed += fail_once(call, SQLITE_IOERR_FSYNC);
    assert_true(failed >= 4);
}

/* The disk stays full for a while: submits are refused with a reason, a job that runs ends when
 * there is room again, and nobody needs to start anything anew. */
static void test_full_for_long(void **state) {
    char *dir = folder_make();
    limn_queue *q = frail_open(dir, 1);
    limn_err err = {0};
    limn_submitted run, s;
    assert_ok(err, draw(q, "{\"prompt\": \"x\", \"steps\": 30}", NULL, &run, &err));
    while (state_of(q, run.id) != LIMN_JOB_RUNNING) sleep_ms(1);
    vfs_fail_after(0, INT_MAX, SQLITE_FULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(draw(q, four_steps, NULL, &s, &err), LIMN_E_UNAVAILABLE);
        assert_true(s.retry_seconds > 0);
        assert_non_null(strstr(err.text, "the disk is full"));
    }
    assert_int_equal(limn_queue_ready(q, &err), LIMN_E_UNAVAILABLE);
    limn_queue_stats stats;
    limn_queue_get_stats(q, &stats);
    assert_false(stats.healthy);
    assert_non_null(strstr(stats.trouble, "full"));
    sleep_ms(150);
    assert_int_equal(state_of(q, run.id), LIMN_JOB_RUNNING); /* done, but not on the disk */
    vfs_heal();
    limn_job *j = ended(q, run.id);
    assert_int_equal(j->state, LIMN_JOB_SUCCEEDED);
    assert_int_equal(j->attempt, 1);
    limn_job_free(&j);
    assert_ok(err, limn_queue_ready(q, &err));
    assert_ok(err, draw(q, four_steps, NULL, &s, &err));
    j = ended(q, s.id);
    limn_job_free(&j);
    /* and it finds out by itself that there is room again */
    vfs_fail_after(0, INT_MAX, SQLITE_IOERR_FSYNC);
    assert_int_equal(draw(q, four_steps, NULL, &s, &err), LIMN_E_UNAVAILABLE);
    vfs_heal();
    for (int i = 0; i < 300 && limn_queue_ready(q, &err) != LIMN_OK; i++) sleep_ms(10);
    assert_ok(err, limn_queue_ready(q, &err));
    limn_queue_close(&q);
    folder_remove(dir);
}

static int register_vfs(void **state) {
    return fail_vfs_register();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_final),
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_claim),
        cmocka_unit_test(test_full_once),
        cmocka_unit_test(test_write_error_once),
        cmocka_unit_test(test_sync_error_once),
        cmocka_unit_test(test_full_for_long),
    };
    return cmocka_run_group_tests(tests, register_vfs, NULL);
}
