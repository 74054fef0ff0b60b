/* SPDX-License-Identifier: MIT */
/* The queue over the stub engine: what is acknowledged, in which order it runs, how it ends. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/cancel.h"
#include "job_sql.h"

static const char four_steps[] =
    "{\"prompt\": \"a fox\", \"steps\": 4, \"width\": 64, \"height\": 64}";

/* ---- one job ---- */
static void test_draw(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 0);
    limn_err err = {0};
    limn_submitted sub;
    assert_ok(err, draw(q, four_steps, NULL, &sub, &err));
    assert_true(limn_job_id_is_valid(sub.id));
    limn_job *j = ended(q, sub.id);
    assert_int_equal(j->state, LIMN_JOB_SUCCEEDED);
    assert_int_equal(j->attempt, 1);
    assert_true(j->has_seed);
    assert_string_equal(j->words, "a fox");
    assert_string_equal(j->title, "a fox");
    assert_true(j->created_ms > 0 && j->started_ms >= j->created_ms);
    assert_true(j->finished_ms >= j->started_ms);
    assert_int_equal(j->n_artifacts, 1);
    const limn_artifact *a = &j->artifacts[0];
    assert_int_equal(a->role, LIMN_ARTIFACT_RESULT);
    assert_string_equal(a->mime, "image/png");
    assert_int_equal(a->width, 8);
    assert_non_null(strstr(a->recipe, "\"steps\": 4"));
    assert_non_null(strstr(a->text, "Steps: 4"));
    void *data;
    size_t size;
    assert_ok(err, limn_artifacts_read(limn_queue_artifacts(q), &data, &size, a->sha, &err));
    assert_int_equal(size, a->bytes);
    char sha[LIMN_SHA_LEN + 1];
    limn_sha_make(sha, data, size);
    assert_string_equal(sha, a->sha);
    limn_mem_free(data);
    assert_ok(err, limn_artifacts_thumb(limn_queue_artifacts(q), &data, &size, a->sha, &err));
    assert_memory_equal((char *)data + 8, "WEBP", 4);
    limn_mem_free(data);
    limn_job_free(&j);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* The seed is chosen once, at submit: a second run of the request gives the same picture. */
static void test_seed_is_fixed(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 0);
    limn_err err = {0};
    limn_submitted a, b;
    assert_ok(err, draw(q, four_steps, NULL, &a, &err));
    limn_job *ja = ended(q, a.id);
    assert_non_null(strstr(ja->request, "\"seed\""));
    assert_ok(err, draw(q, ja->request, NULL, &b, &err));
    limn_job *jb = ended(q, b.id);
    assert_int_equal(ja->seed, jb->seed);
    assert_string_equal(ja->request, jb->request);
    assert_string_equal(ja->artifacts[0].sha, jb->artifacts[0].sha);
    limn_job_free(&ja);
    limn_job_free(&jb);
    limn_queue_close(&q);
    folder_remove(dir);
}

static void test_failures(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 0);
    limn_err err = {0};
    limn_submitted a;
    assert_ok(err, draw(q, "{\"prompt\": \"stub:fail\"}", NULL, &a, &err));
    limn_job *j = ended(q, a.id);
    assert_int_equal(j->state, LIMN_JOB_FAILED);
    assert_int_equal(j->error, LIMN_E_NUMERIC);
    assert_string_equal(j->error_text, "the prompt asked for a failure");
    assert_int_equal(j->n_artifacts, 0);
    limn_job_free(&j);
    /* refused before a row exists */
    assert_int_equal(
        draw(q, "{\"prompt\": \"x\", \"init_image\": \"/etc/passwd\"}", NULL, &a, &err),
        LIMN_E_VALUE);
    assert_int_equal(draw(q, "{\"count\": 10000, \"batch_size\": 64}", NULL, &a, &err),
                     LIMN_E_VALUE);
    char json[200];
    snprintf(json, sizeof json, "{\"init_image\": \"artifact:%064d\"}", 7);
    assert_int_equal(draw(q, json, NULL, &a, &err), LIMN_E_NOT_FOUND);
    assert_int_equal(draw(q, four_steps, &(limn_submit){.priority = 101}, &a, &err), LIMN_E_VALUE);
    limn_queue_stats stats;
    limn_queue_get_stats(q, &stats);
    assert_int_equal(stats.submitted, 1);
    assert_true(stats.healthy);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- order and room ---- */
static void test_order(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, &(limn_queue_options){.paused = true}, 0);
    limn_err err = {0};
    limn_submitted s[5];
    static const int priority[] = {0, 0, 5, -3, 5}, position[] = {0, 1, 0, 3, 1};
    for (int i = 0; i < 5; i++) {
        assert_ok(err, draw(q, four_steps, &(limn_submit){.priority = priority[i]}, &s[i], &err));
        assert_int_equal(s[i].position, position[i]);
    }
    limn_standing at;
    assert_ok(err, limn_queue_standing(q, NULL, s[3].id, &at, &err));
    assert_int_equal(at.position, 4);
    assert_int_equal(at.state, LIMN_JOB_QUEUED);
    limn_queue_resume(q);
    static const int order[] = {2, 4, 0, 1, 3};
    limn_job *j[5];
    for (int i = 0; i < 5; i++) j[i] = ended(q, s[order[i]].id);
    limn_job_query query = {.oldest_first = true};
    limn_job_page page;
    assert_ok(err, limn_queue_list(q, &query, &page, &err));
    assert_int_equal(page.count, 5);
    limn_job_page_deinit(&page);
    for (int i = 1; i < 5; i++) assert_true(j[i]->started_ms >= j[i - 1]->finished_ms);
    for (int i = 0; i < 5; i++) limn_job_free(&j[i]);
    limn_queue_close(&q);
    folder_remove(dir);
}

static void test_room(void **state) {
    char *dir = folder_make();
    limn_queue_options o = {.paused = true, .max_queued = 4, .max_queued_owner = 2};
    limn_queue *q = queue_open(dir, &o, 0);
    limn_err err = {0};
    limn_submitted s;
    limn_submit anna = {.owner = "anna"}, key = {.key = "again"};
    assert_ok(err, draw(q, four_steps, &anna, &s, &err));
    assert_ok(err, draw(q, four_steps, &anna, &s, &err));
    assert_int_equal(draw(q, four_steps, &anna, &s, &err), LIMN_E_BUSY);
    assert_true(s.retry_seconds >= 1);
    assert_int_equal(limn_status_http(LIMN_E_BUSY), 429);
    assert_int_equal(limn_queue_admit(q, "anna", &s, &err), LIMN_E_BUSY);
    assert_int_equal(limn_queue_admit(q, "ben", &s, &err), LIMN_OK);
    assert_ok(err, draw(q, four_steps, &key, &s, &err));
    assert_ok(err, draw(q, four_steps, NULL, &s, &err));
    assert_int_equal(draw(q, four_steps, NULL, &s, &err), LIMN_E_BUSY);
    /* a repeated submit of an accepted job is not one more */
    assert_ok(err, draw(q, four_steps, &key, &s, &err));
    assert_true(s.existing);
    limn_queue_limits l;
    limn_queue_get_limits(q, &l);
    l.max_queued = 5;
    assert_ok(err, limn_queue_set_limits(q, &l, &err));
    assert_ok(err, draw(q, four_steps, NULL, &s, &err));
    limn_queue_close(&q);
    folder_remove(dir);
}

typedef struct flood {
    limn_queue *q;
    int accepted, busy, other;
} flood;

static void *flood_main(void *arg) {
    flood *f = arg;
    for (int i = 0; i < 12; i++) {
        limn_submitted s;
        limn_params *p;
        limn_submit sub = {0};
        if (limn_params_new(&p, LIMN_PARAMS_GEN, NULL) != LIMN_OK) continue;
        sub.params = p;
        limn_status st = limn_queue_submit(f->q, &sub, &s, NULL);
        f->accepted += st == LIMN_OK;
        f->busy += st == LIMN_E_BUSY;
        f->other += st != LIMN_OK && st != LIMN_E_BUSY;
        limn_params_free(&p);
    }
    return NULL;
}

/* Many at once: never more than there is room for, and they share commits. */
static void test_flood(void **state) {
    enum { THREADS = 8 };
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, &(limn_queue_options){.paused = true, .max_queued = 50}, 0);
    flood f[THREADS];
    pthread_t t[THREADS];
    int accepted = 0;
    for (int i = 0; i < THREADS; i++) {
        f[i] = (flood){.q = q};
        assert_int_equal(pthread_create(&t[i], NULL, flood_main, &f[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
        accepted += f[i].accepted;
        assert_int_equal(f[i].other, 0);
    }
    assert_int_equal(accepted, 50);
    limn_queue_stats stats;
    limn_queue_get_stats(q, &stats);
    assert_int_equal(stats.counts.state[LIMN_JOB_QUEUED], 50);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- keys ---- */
static void test_keys(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 0);
    limn_err err = {0};
    limn_submitted a, b;
    limn_submit key = {.key = "k1", .owner = "anna"}, ben = {.key = "k1", .owner = "ben"};
    assert_ok(err, draw(q, four_steps, &key, &a, &err));
    assert_false(a.existing);
    assert_ok(err, draw(q, four_steps, &key, &b, &err)); /* no seed in either: the same request */
    assert_true(b.existing);
    assert_string_equal(a.id, b.id);
    assert_int_equal(draw(q, "{\"prompt\": \"a dog\"}", &key, &b, &err), LIMN_E_REUSED);
    assert_int_equal(limn_status_http(LIMN_E_REUSED), 422);
    assert_ok(err, draw(q, "{\"prompt\": \"a dog\"}", &ben, &b, &err)); /* his own key */
    assert_string_not_equal(a.id, b.id);
    limn_job *j = ended(q, a.id);
    limn_job_free(&j);
    assert_ok(err, draw(q, four_steps, &key, &b, &err));
    assert_true(b.existing);
    assert_int_equal(b.state, LIMN_JOB_SUCCEEDED);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- cancel ---- */
static void test_cancel(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 2);
    limn_err err = {0};
    limn_submitted slow, waiting, deaf;
    limn_job_state was;
    assert_ok(err, draw(q, "{\"prompt\": \"stub:slow\", \"steps\": 500}", NULL, &slow, &err));
    assert_ok(err, draw(q, four_steps, NULL, &waiting, &err));
    while (state_of(q, slow.id) != LIMN_JOB_RUNNING) sleep_ms(1);
    assert_ok(err, limn_queue_cancel(q, NULL, waiting.id, &was, &err));
    assert_int_equal(was, LIMN_JOB_QUEUED);
    assert_int_equal(state_of(q, waiting.id), LIMN_JOB_CANCELLED);
    assert_ok(err, limn_queue_cancel(q, NULL, slow.id, &was, &err));
    assert_int_equal(was, LIMN_JOB_RUNNING);
    limn_job *j = ended(q, slow.id);
    assert_int_equal(j->state, LIMN_JOB_CANCELLED);
    assert_int_equal(j->error, LIMN_E_CANCELLED);
    assert_true(j->finished_ms - j->started_ms < 5000);
    limn_job_free(&j);
    assert_int_equal(limn_queue_cancel(q, NULL, slow.id, &was, &err), LIMN_E_CONFLICT);
    assert_int_equal(limn_status_http(LIMN_E_CONFLICT), 409);
    /* cancelled too late: it ended well before the flag was seen */
    assert_ok(err, draw(q, "{\"prompt\": \"stub:deaf\", \"steps\": 20}", NULL, &deaf, &err));
    while (state_of(q, deaf.id) == LIMN_JOB_QUEUED) sleep_ms(1);
    (void)limn_queue_cancel(q, NULL, deaf.id, &was, &err);
    j = ended(q, deaf.id);
    assert_int_equal(j->state, LIMN_JOB_SUCCEEDED);
    limn_job_free(&j);
    limn_queue_close(&q);
    folder_remove(dir);
}

static void test_cancel_waiting(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, &(limn_queue_options){.paused = true}, 0);
    limn_err err = {0};
    limn_submitted s;
    int64_t n;
    limn_submit anna = {.owner = "anna"};
    for (int i = 0; i < 3; i++) assert_ok(err, draw(q, four_steps, &anna, &s, &err));
    assert_ok(err, draw(q, four_steps, NULL, &s, &err));
    assert_ok(err, limn_queue_cancel_waiting(q, "anna", &n, &err));
    assert_int_equal(n, 3);
    assert_int_equal(state_of(q, s.id), LIMN_JOB_QUEUED);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- owners ---- */
static void test_owners(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 0);
    limn_err err = {0};
    limn_submitted s;
    limn_job *j;
    limn_artifact a;
    assert_ok(err, draw(q, four_steps, &(limn_submit){.owner = "anna"}, &s, &err));
    j = ended(q, s.id);
    const char *tags[] = {"x"};
    assert_int_equal(limn_queue_get(q, "ben", s.id, &(limn_job *){NULL}, &err), LIMN_E_NOT_FOUND);
    assert_int_equal(limn_queue_cancel(q, "ben", s.id, NULL, &err), LIMN_E_NOT_FOUND);
    assert_int_equal(limn_queue_remove(q, "ben", s.id, &err), LIMN_E_NOT_FOUND);
    assert_int_equal(limn_queue_set_tags(q, "ben", s.id, tags, 1, &err), LIMN_E_NOT_FOUND);
    assert_int_equal(limn_queue_artifact(q, "ben", j->artifacts[0].sha, &a, &err),
                     LIMN_E_NOT_FOUND);
    limn_feed *feed;
    assert_int_equal(
        limn_queue_subscribe(q, &(limn_feed_options){.job = s.id, .owner = "ben"}, &feed, &err),
        LIMN_E_NOT_FOUND);
    assert_ok(err, limn_queue_artifact(q, "anna", j->artifacts[0].sha, &a, &err));
    assert_string_equal(a.recipe, j->artifacts[0].recipe);
    /* what Ben draws from must be his own */
    char json[200];
    snprintf(json, sizeof json, "{\"init_image\": \"artifact:%s\"}", a.sha);
    limn_artifact_deinit(&a);
    assert_int_equal(draw(q, json, &(limn_submit){.owner = "ben"}, &s, &err), LIMN_E_NOT_FOUND);
    assert_ok(err, draw(q, json, &(limn_submit){.owner = "anna"}, &s, &err));
    limn_job_free(&j);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- history ---- */
static void expect_list(limn_queue *q, const limn_job_query *query, int count) {
    limn_err err = {0};
    limn_job_page page;
    assert_ok(err, limn_queue_list(q, query, &page, &err));
    if (page.count != count) fail_msg("%d jobs where %d were expected", page.count, count);
    limn_job_page_deinit(&page);
}

static void test_search(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 0);
    limn_err err = {0};
    limn_submitted s;
    const char *tags[] = {"sea", "best", "sea"};
    assert_ok(err, draw(q, "{\"prompt\": \"Ein RIESIGER Leuchtturm\", \"seed\": 7}",
                        &(limn_submit){.tags = tags, .n_tags = 3}, &s, &err));
    assert_ok(err, draw(q, "{\"prompt\": \"a small lighthouse 100% real\", \"model\": \"m1\"}",
                        NULL, &s, &err));
    limn_params *see;
    assert_ok(err, limn_params_new(&see, LIMN_PARAMS_SEE, &err));
    assert_ok(err, limn_params_set(see, "prompt", "what is this?", LIMN_FROM_API, &err));
    assert_ok(err,
              limn_queue_submit(q, &(limn_submit){.kind = LIMN_JOB_SEE, .params = see}, &s, &err));
    limn_params_free(&see);
    limn_job *j = ended(q, s.id);
    assert_string_equal(j->result,
                        "{\"text\":\"You said: what is this?\",\"finish_reason\":\"stop\","
                        "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5,"
                        "\"image_tokens\":0,\"cached_tokens\":0}}");
    int64_t created = j->created_ms, seed = 7;
    limn_job_free(&j);
    expect_list(q, &(limn_job_query){0}, 3);
    expect_list(q, &(limn_job_query){.words = "riesiger LEUCHT"}, 1);
    expect_list(q, &(limn_job_query){.words = "leuchtturm small"}, 0);
    expect_list(q, &(limn_job_query){.words = "100%"}, 1);
    expect_list(q, &(limn_job_query){.words = "%"}, 1);
    expect_list(q, &(limn_job_query){.words = "'; DROP TABLE job; --"}, 0);
    expect_list(q, &(limn_job_query){.seed = &seed}, 1);
    expect_list(q, &(limn_job_query){.model = "m1"}, 1);
    expect_list(q, &(limn_job_query){.kinds = 1u << LIMN_JOB_SEE}, 1);
    expect_list(q, &(limn_job_query){.states = 1u << LIMN_JOB_FAILED}, 0);
    expect_list(q, &(limn_job_query){.tags = tags, .n_tags = 2}, 1);
    expect_list(q, &(limn_job_query){.from_ms = created + 1000}, 0);
    expect_list(q, &(limn_job_query){.to_ms = created + 1000}, 3);
    expect_list(q, &(limn_job_query){.owner = "anna"}, 0);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* Pages do not move while new jobs arrive. */
static void test_paging(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, &(limn_queue_options){.paused = true}, 0);
    limn_err err = {0};
    limn_submitted s[25], extra;
    for (int i = 0; i < 25; i++) assert_ok(err, draw(q, four_steps, NULL, &s[i], &err));
    limn_job_query query = {.limit = 10};
    limn_job_page page;
    for (int p = 0, at = 24; p < 3; p++) {
        assert_ok(err, limn_queue_list(q, &query, &page, &err));
        assert_int_equal(page.count, p < 2 ? 10 : 5);
        for (int i = 0; i < page.count; i++) assert_string_equal(page.jobs[i]->id, s[at--].id);
        query.cursor = page.next;
        limn_job_page_deinit(&page);
        assert_ok(err, draw(q, four_steps, NULL, &extra, &err));
    }
    assert_int_equal(query.cursor, 0);
    limn_queue_close(&q);
    folder_remove(dir);
}

static void test_remove(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 0);
    limn_err err = {0};
    limn_submitted a, b, c;
    assert_ok(err, draw(q, "{\"seed\": 1, \"steps\": 2}", NULL, &a, &err));
    assert_ok(err, draw(q, "{\"seed\": 1, \"steps\": 2}", NULL, &b, &err));
    assert_ok(err, draw(q, "{\"seed\": 2, \"steps\": 2}", NULL, &c, &err));
    limn_job *j = ended(q, c.id);
    limn_job_free(&j);
    wait_files(dir, 2); /* a and b share one */
    assert_ok(err, limn_queue_remove(q, NULL, a.id, &err));
    assert_int_equal(count_files(dir, "blobs"), 2);
    assert_ok(err, limn_queue_remove(q, NULL, b.id, &err));
    assert_int_equal(count_files(dir, "blobs"), 1);
    assert_int_equal(limn_queue_remove(q, NULL, b.id, &err), LIMN_E_NOT_FOUND);
    limn_queue_pause(q);
    assert_ok(err, draw(q, four_steps, NULL, &a, &err));
    assert_int_equal(limn_queue_remove(q, NULL, a.id, &err), LIMN_E_CONFLICT);
    limn_queue_close(&q);
    folder_remove(dir);
}

typedef struct fake_clock {
    int64_t offset_ms;
} fake_clock;

static int64_t fake_ms(void *user) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000 +
           __atomic_load_n(&((fake_clock *)user)->offset_ms, __ATOMIC_RELAXED);
}

static void wait_count(limn_queue *q, int64_t want) {
    limn_err err = {0};
    limn_job_counts c;
    for (int i = 0; i < 500; i++) {
        assert_ok(err, limn_queue_counts(q, NULL, &c, &err));
        if (c.state[LIMN_JOB_SUCCEEDED] == want) return;
        sleep_ms(10);
    }
    fail_msg("%d jobs are kept, not %d", (int)c.state[LIMN_JOB_SUCCEEDED], (int)want);
}

static void test_retention(void **state) {
    char *dir = folder_make();
    limn_queue_options o = {.keep_jobs = 3, .trim_every_ms = 20};
    limn_queue *q = queue_open(dir, &o, 0);
    limn_err err = {0};
    limn_submitted s[8];
    const char *keep[] = {"keep"};
    limn_queue_pause(q);
    for (int i = 0; i < 8; i++) {
        char json[64];
        snprintf(json, sizeof json, "{\"seed\": %d, \"steps\": 1}", i);
        assert_ok(err, draw(q, json, &(limn_submit){.tags = keep, .n_tags = i == 0}, &s[i], &err));
    }
    limn_queue_resume(q);
    limn_job *j = ended(q, s[7].id);
    limn_job_free(&j);
    wait_count(q, 4); /* the newest three, and the one that is tagged */
    assert_int_equal(state_of(q, s[0].id), LIMN_JOB_SUCCEEDED);
    wait_files(dir, 4);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* A clock that somebody sets neither ends leases nor empties the history. */
static void test_clock_jump(void **state) {
    char *dir = folder_make();
    fake_clock clock = {0};
    limn_queue_options o = {.trim_every_ms = 20,
                            .keep_days = 1,
                            .lease_ms = 2000,
                            .clock = {.unix_ms = fake_ms, .user = &clock}};
    limn_queue *q = queue_open(dir, &o, 2);
    limn_err err = {0};
    limn_submitted a, b;
    assert_ok(err, draw(q, four_steps, NULL, &a, &err));
    limn_job *j = ended(q, a.id);
    limn_job_free(&j);
    assert_ok(err, draw(q, "{\"steps\": 40}", NULL, &b, &err));
    while (state_of(q, b.id) != LIMN_JOB_RUNNING) sleep_ms(1);
    __atomic_store_n(&clock.offset_ms, (int64_t)10 * 365 * 86400000, __ATOMIC_RELAXED);
    sleep_ms(60);
    __atomic_store_n(&clock.offset_ms, -(int64_t)86400000, __ATOMIC_RELAXED);
    j = ended(q, b.id);
    assert_int_equal(j->state, LIMN_JOB_SUCCEEDED);
    assert_int_equal(j->attempt, 1);
    limn_job_free(&j);
    sleep_ms(60);
    assert_int_equal(state_of(q, a.id), LIMN_JOB_SUCCEEDED); /* still there */
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- uploads ---- */
static void *make_png(size_t *size, int grey) {
    limn_err err = {0};
    limn_image *im;
    void *data;
    limn_file_options how = LIMN_FILE_OPTIONS;
    how.format = "png";
    assert_ok(err, limn_image_new(&im, 40, 30, 3, &err));
    memset(limn_image_pixels(im), grey, 40 * 30 * 3);
    assert_ok(err, limn_image_encode(&data, size, im, &how, NULL, &err));
    limn_image_free(&im);
    return data;
}

static void test_uploads(void **state) {
    char *dir = folder_make();
    limn_queue_options o = {.upload_ms = 1000, .trim_every_ms = 20};
    limn_queue *q = queue_open(dir, &o, 0);
    limn_err err = {0};
    limn_artifact used, unused;
    limn_submitted s;
    char json[200];
    size_t size;
    void *a = make_png(&size, 10);
    assert_ok(err, limn_queue_upload(q, "anna", a, size, &used, &err));
    limn_bytes_free(&a);
    assert_int_equal(used.width, 40);
    assert_int_equal(used.height, 30);
    snprintf(json, sizeof json, "{\"init_image\": \"artifact:%s\", \"steps\": 2}", used.sha);
    assert_ok(err, draw(q, json, &(limn_submit){.owner = "anna"}, &s, &err));
    a = make_png(&size, 20);
    assert_ok(err, limn_queue_upload(q, "anna", a, size, &unused, &err));
    limn_bytes_free(&a);
    limn_job *j = ended(q, s.id);
    assert_int_equal(j->n_artifacts, 2);
    assert_int_equal(j->artifacts[0].role, LIMN_ARTIFACT_INPUT);
    assert_string_equal(j->artifacts[0].sha, used.sha);
    assert_int_equal(j->artifacts[0].width, 40);
    limn_job_free(&j);
    limn_artifact found;
    for (int i = 0; i < 300; i++) {
        if (limn_queue_artifact(q, "anna", unused.sha, &found, &err) != LIMN_OK) break;
        limn_artifact_deinit(&found);
        sleep_ms(10);
    }
    assert_int_equal(limn_queue_artifact(q, "anna", unused.sha, &found, &err), LIMN_E_NOT_FOUND);
    for (int i = 0; i < 100 && count_files(dir, "blobs") != 2; i++) sleep_ms(10);
    assert_int_equal(count_files(dir, "blobs"), 2); /* input and result */
    static const char junk[] = "\x89PNG\r\n\x1a\nnot really";
    assert_int_not_equal(limn_queue_upload(q, NULL, junk, sizeof junk, &found, &err), LIMN_OK);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- grid ---- */
static limn_job *draw_grid(limn_queue *q, const char *params, const char *axes) {
    limn_err err = {0};
    limn_submitted s;
    limn_params *p = gen_make(params);
    limn_submit sub = {.kind = LIMN_JOB_GRID, .params = p, .json = axes, .json_len = strlen(axes)};
    assert_ok(err, limn_queue_submit(q, &sub, &s, &err));
    limn_params_free(&p);
    return ended(q, s.id);
}

/* Words of the prompts, each in turn; what one axis has put in another may replace. */
static void test_grid_words(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 0);
    limn_job *j = draw_grid(
        q,
        "{\"prompt\": \"a fox and a fox\", \"negative_prompt\": \"fox fur\", \"width\": 64, "
        "\"height\": 64}",
        "{\"axes\": [{\"parameter\": \"prompt\", \"search\": \"fox\", \"values\": [\"fox\", "
        "\"red fox\", \"\"]}, {\"parameter\": \"prompt\", \"search\": \"and\", \"values\": "
        "[\"beside\"]}]}");
    static const char *const said[] = {"\"a fox beside a fox\"", "\"a red fox beside a red fox\"",
                                       "\"a  beside a \""};
    assert_string_equal(j->error_text, "");
    assert_int_equal(j->n_artifacts, 4);
    for (int i = 0; i < 3; i++)
        if (!strstr(j->artifacts[i].recipe, said[i]))
            fail_msg("%s: %s", said[i], j->artifacts[i].recipe);
    assert_non_null(strstr(j->artifacts[1].recipe, "\"red fox fur\""));
    assert_non_null(strstr(j->result, "\"red fox, beside\""));
    limn_job_free(&j);
    limn_queue_close(&q);
    folder_remove(dir);
}

static void test_grid(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 0);
    limn_err err = {0};
    limn_submitted s;
    limn_params *p = gen_make("{\"prompt\": \"a fox\", \"width\": 64, \"height\": 64}");
    const char *axes = "{\"axes\": [{\"parameter\": \"steps\", \"values\": [1, 2, 3]},"
                       "{\"parameter\": \"sampler\", \"values\": [\"Euler a\", \"DDIM\"]}]}";
    limn_submit sub = {.kind = LIMN_JOB_GRID, .params = p, .json = axes, .json_len = strlen(axes)};
    assert_ok(err, limn_queue_submit(q, &sub, &s, &err));
    limn_job *j = ended(q, s.id);
    assert_string_equal(j->error_text, "");
    assert_int_equal(j->images, 6);
    assert_int_equal(j->n_artifacts, 7);
    assert_int_equal(j->artifacts[6].role, LIMN_ARTIFACT_SHEET);
    assert_non_null(strstr(j->artifacts[4].recipe, "\"steps\": 2"));
    assert_non_null(strstr(j->artifacts[4].recipe, "\"sampler\": \"DDIM\""));
    assert_non_null(strstr(j->result, "\"steps: 2, sampler: DDIM\""));
    limn_job_free(&j);
    static const char *const wrong[] = {
        "{}",
        "{\"axes\": []}",
        "{\"axes\": [{\"parameter\": \"steps\", \"values\": []}]}",
        "{\"axes\": [{\"parameter\": \"steps\", \"values\": [0]}]}",
        "{\"axes\": [{\"parameter\": \"quality\", \"values\": [1]}]}",
        "{\"axes\": [{\"parameter\": \"steps\", \"values\": [[1]]}]}",
        "{\"axes\": [{\"parameter\": \"nothing\", \"values\": [1]}]}",
        "{\"axes\": [{\"parameter\": \"prompt\", \"search\": \"dog\", \"values\": [\"a\"]}]}",
        "{\"axes\": [{\"parameter\": \"prompt\", \"search\": \"\", \"values\": [\"a\"]}]}",
        "{\"axes\": [{\"parameter\": \"prompt\", \"search\": 5, \"values\": [\"a\"]}]}",
        "{\"axes\": [{\"parameter\": \"sampler\", \"search\": \"fox\", \"values\": [\"DDIM\"]}]}",
        "{\"axes\": [{\"parameter\": \"prompt\", \"values\": [\"a\"], \"other\": 1}]}",
        "{\"axes\": [{\"parameter\": \"steps\", \"values\": [1]}], \"sheet\": 3}",
        "{\"axes\": [{\"parameter\": \"steps\", \"values\": [1]}], \"other\": 3}",
        "[]",
        "{\"axes\"",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        sub.json = wrong[i];
        sub.json_len = strlen(wrong[i]);
        assert_int_not_equal(limn_queue_submit(q, &sub, &s, &err), LIMN_OK);
    }
    limn_params_free(&p);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- leases ---- */
/* A worker that was given up for dead comes back with a result: it is refused. */
static void test_zombie(void **state) {
    char *dir = folder_make();
    limn_queue_options o = {.workers = 2, .lease_ms = 60, .no_heartbeat = true};
    limn_queue *q = queue_open(dir, &o, 20);
    limn_err err = {0};
    limn_submitted s;
    limn_queue_stats stats;
    /* runs 8 x 20 ms in deaf ears; the lease is over after 60 */
    assert_ok(err, draw(q, "{\"prompt\": \"stub:deaf\", \"steps\": 8}", NULL, &s, &err));
    limn_job *j = NULL;
    for (int i = 0; i < 300; i++) {
        limn_queue_get_stats(q, &stats);
        limn_job_free(&j);
        j = job_of(q, s.id);
        if (limn_job_state_is_final(j->state) && stats.busy == 0) break;
        sleep_ms(10);
    }
    assert_int_equal(j->state, LIMN_JOB_FAILED); /* each of its three runs lost its lease */
    assert_int_equal(j->attempt, 3);
    assert_int_equal(j->epoch, 3);
    assert_int_equal(j->n_artifacts, 0);
    assert_int_equal(stats.leases_lost, 3);
    assert_int_equal(stats.ended[LIMN_JOB_FAILED], 1);
    assert_int_equal(stats.ended[LIMN_JOB_SUCCEEDED], 0);
    for (int i = 0; i < 50 && count_files(dir, "blobs") > 0; i++) sleep_ms(10);
    assert_int_equal(count_files(dir, "blobs"), 0);
    limn_job_free(&j);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- restart ---- */
static void test_restart(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 5);
    limn_err err = {0};
    limn_submitted run, wait;
    assert_ok(err, draw(q, "{\"prompt\": \"stub:slow\", \"steps\": 100}", NULL, &run, &err));
    assert_ok(err, draw(q, four_steps, NULL, &wait, &err));
    while (state_of(q, run.id) != LIMN_JOB_RUNNING) sleep_ms(1);
    limn_job *j = job_of(q, run.id);
    int64_t seed = j->seed;
    limn_job_free(&j);
    limn_queue_close(&q); /* stops what runs; it waits again, and the run does not count */
    q = queue_open(dir, &(limn_queue_options){.paused = true}, 0);
    j = job_of(q, run.id);
    assert_int_equal(j->state, LIMN_JOB_QUEUED);
    assert_int_equal(j->attempt, 0);
    assert_int_equal(j->epoch, 1);
    assert_int_equal(j->seed, seed);
    limn_job_free(&j);
    limn_standing at;
    assert_ok(err, limn_queue_standing(q, NULL, wait.id, &at, &err));
    assert_int_equal(at.position, 1);
    limn_queue_resume(q);
    j = ended(q, run.id);
    assert_int_equal(j->state, LIMN_JOB_SUCCEEDED);
    limn_job_free(&j);
    j = ended(q, wait.id);
    limn_job_free(&j);
    limn_queue_close(&q);
    folder_remove(dir);
}

static void test_drain(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 5);
    limn_err err = {0};
    limn_submitted run, s;
    assert_ok(err, draw(q, "{\"prompt\": \"stub:slow\", \"steps\": 100}", NULL, &run, &err));
    while (state_of(q, run.id) != LIMN_JOB_RUNNING) sleep_ms(1);
    assert_false(limn_queue_drain(q, 30));
    assert_int_equal(state_of(q, run.id), LIMN_JOB_QUEUED);
    assert_int_equal(draw(q, four_steps, NULL, &s, &err), LIMN_E_UNAVAILABLE);
    assert_int_equal(limn_queue_ready(q, &err), LIMN_E_UNAVAILABLE);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- a job that others see running before the queue has noted it ---- */
static limn_store_ops late_ops;
static const limn_store_ops *real_ops;

static limn_status late_commit(limn_store *s, limn_err *err) {
    limn_status st = real_ops->commit(s, err);
    sleep_ms(100);
    return st;
}

static limn_queue *late_queue(const char *dir) {
    limn_err err = {0};
    limn_store *store;
    limn_artifacts *artifacts;
    limn_runner *runner;
    limn_queue *q;
    limn_stub_options so = {.step_ms = 5, .misbehave = true, .picture_side = 8};
    assert_ok(err, limn_queue_files_open(&store, &artifacts, dir, &err));
    real_ops = store->ops;
    late_ops = *real_ops;
    late_ops.commit = late_commit;
    store->ops = &late_ops;
    assert_ok(err, limn_runner_stub_new(&runner, &so, &err));
    assert_ok(err, limn_queue_open(&q, store, artifacts, runner, NULL, &err));
    return q;
}

static void test_stop_while_taking(void **state) {
    limn_err err = {0};
    for (int drains = 0; drains < 2; drains++) {
        char *dir = folder_make();
        limn_queue *q = late_queue(dir);
        limn_submitted run;
        assert_ok(err, draw(q, "{\"prompt\": \"stub:slow\", \"steps\": 100}", NULL, &run, &err));
        while (state_of(q, run.id) != LIMN_JOB_RUNNING) sleep_ms(1);
        if (drains) {
            assert_false(limn_queue_drain(q, 30));
            assert_int_equal(state_of(q, run.id), LIMN_JOB_QUEUED);
        }
        limn_queue_close(&q); /* without stopping it this takes 50 seconds */
        q = queue_open(dir, &(limn_queue_options){.paused = true}, 0);
        assert_int_equal(state_of(q, run.id), LIMN_JOB_QUEUED);
        limn_queue_close(&q);
        folder_remove(dir);
    }
}

/* One folder, one server. */
static void test_second_process(void **state) {
    char *dir = folder_make(), path[200];
    limn_queue *q = queue_open(dir, NULL, 0);
    limn_err err = {0};
    limn_runner *runner;
    limn_queue *second;
    assert_ok(err, limn_runner_stub_new(&runner, NULL, &err));
    assert_int_equal(limn_queue_open_dir(&second, dir, runner, NULL, &err), LIMN_E_CONFLICT);
    /* looking is allowed */
    limn_store *store;
    snprintf(path, sizeof path, "%s/jobs.db", dir);
    assert_ok(err, limn_store_sqlite_open(
                       &store, &(limn_sqlite_options){.path = path, .read_only = true}, &err));
    assert_ok(err, store->ops->check(store, &err));
    limn_store_close(&store);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* ---- no memory ---- */
/* Whichever allocation fails, in whichever thread: a submit is refused or the job ends, and the
 * queue is as good as before. */
static void test_no_memory(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, NULL, 0);
    limn_err err = {0};
    limn_submitted s;
    int refused = 0, failed = 0;
    limn_params *p = gen_make(four_steps);
    for (int n = 0; n < 240; n += 3) {
        limn_submit sub = {.params = p, .preview_every = 2};
        limn_mem_fail_after(n);
        limn_status st = limn_queue_submit(q, &sub, &s, &err);
        sleep_ms(2);
        limn_mem_fail_after(-1);
        if (st != LIMN_OK) {
            refused++;
            continue;
        }
        limn_job *j = ended(q, s.id);
        if (j->state == LIMN_JOB_FAILED) {
            assert_int_equal(j->error, LIMN_E_NOMEM);
            failed++;
        } else {
            assert_int_equal(j->state, LIMN_JOB_SUCCEEDED);
        }
        limn_job_free(&j);
    }
    limn_params_free(&p);
    assert_true(refused >= 5);
    assert_true(refused + failed >= 10);
    assert_ok(err, draw(q, four_steps, NULL, &s, &err));
    limn_job *j = ended(q, s.id);
    assert_int_equal(j->state, LIMN_JOB_SUCCEEDED);
    limn_job_free(&j);
    limn_queue_close(&q);
    folder_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draw),           cmocka_unit_test(test_seed_is_fixed),
        cmocka_unit_test(test_failures),       cmocka_unit_test(test_order),
        cmocka_unit_test(test_room),           cmocka_unit_test(test_flood),
        cmocka_unit_test(test_keys),           cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancel_waiting), cmocka_unit_test(test_owners),
        cmocka_unit_test(test_search),         cmocka_unit_test(test_paging),
        cmocka_unit_test(test_remove),         cmocka_unit_test(test_retention),
        cmocka_unit_test(test_clock_jump),     cmocka_unit_test(test_uploads),
        cmocka_unit_test(test_grid),           cmocka_unit_test(test_grid_words),
        cmocka_unit_test(test_zombie),         cmocka_unit_test(test_restart),
        cmocka_unit_test(test_drain),          cmocka_unit_test(test_stop_while_taking),
        cmocka_unit_test(test_second_process), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
