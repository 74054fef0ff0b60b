/* SPDX-License-Identifier: MIT */
/* Rings of events and their readers: numbers, resuming, what is dropped first, many at once. */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "job/events.h"
#include "job_fixture.h"

static const char job_a[] = "01938e7c-2f6b-7c11-b0d5-4a3f9a6e1c22";
static const char job_b[] = "01938e7c-2f6b-7c11-b0d5-4a3f9a6e1c23";

static limn_hub *hub_open(const limn_hub_options *opt) {
    limn_err err = {0};
    limn_hub *h;
    assert_ok(err, limn_hub_new(&h, opt, &err));
    return h;
}

static limn_feed *feed_open(limn_hub *h, const limn_feed_options *opt) {
    limn_err err = {0};
    limn_feed *f;
    assert_ok(err, limn_feed_open(&f, h, opt, &err));
    return f;
}

static void post_full(limn_hub *h, const char *job, limn_job_event_kind kind, const char *text,
                      limn_job_state state, int64_t epoch, const char *owner) {
    limn_job_event e = {.kind = kind, .state = state, .text = text, .stage = "denoise"};
    memcpy(e.job, job, sizeof e.job);
    e.text_len = text ? strlen(text) : 0;
    if (kind == LIMN_JOB_EVENT_PREVIEW) {
        e.data = text;
        e.size = e.text_len;
        e.mime = "image/jpeg";
    }
    limn_hub_post(h, &e, owner, epoch);
}

static void post(limn_hub *h, const char *job, limn_job_event_kind kind, const char *text) {
    post_full(h, job, kind, text, LIMN_JOB_RUNNING, 1, "");
}

static void expect(limn_feed *f, limn_job_event_kind kind, const char *text) {
    bool gap;
    const limn_job_event *e = limn_feed_next(f, &gap);
    if (!e) fail_msg("no event where %s was expected", limn_job_event_word(kind));
    assert_string_equal(limn_job_event_word(e->kind), limn_job_event_word(kind));
    if (text) assert_string_equal(e->text, text);
    assert_false(gap);
    limn_job_event_unref(&e);
}

static void expect_none(limn_feed *f) {
    assert_null(limn_feed_next(f, NULL));
}

static void test_follow(void **state) {
    limn_hub *h = hub_open(NULL);
    limn_feed *a = feed_open(h, &(limn_feed_options){.job = job_a});
    limn_feed *all = feed_open(h, &(limn_feed_options){.after = -1});
    expect_none(a);
    post_full(h, job_a, LIMN_JOB_EVENT_STATE, NULL, LIMN_JOB_RUNNING, 1, "");
    post(h, job_a, LIMN_JOB_EVENT_TEXT, "Hel");
    post(h, job_b, LIMN_JOB_EVENT_TEXT, "other");
    post(h, job_a, LIMN_JOB_EVENT_TEXT, "lo");
    post(h, job_b, LIMN_JOB_EVENT_NOTE, "b");
    post_full(h, job_a, LIMN_JOB_EVENT_STATE, NULL, LIMN_JOB_SUCCEEDED, 1, "");
    expect(a, LIMN_JOB_EVENT_STATE, NULL);
    expect(a, LIMN_JOB_EVENT_TEXT, "Hel");
    expect(a, LIMN_JOB_EVENT_TEXT, "lo");
    expect(a, LIMN_JOB_EVENT_STATE, NULL);
    expect_none(a);
    expect(all, LIMN_JOB_EVENT_STATE, NULL); /* no pieces of text */
    expect(all, LIMN_JOB_EVENT_NOTE, "b");
    expect(all, LIMN_JOB_EVENT_STATE, NULL);
    expect_none(all);
    limn_feed_close(&a);
    limn_feed_close(&all);
    limn_hub_free(&h);
}

/* The last number that was seen is enough to go on, also after a crash: a new epoch is higher. */
static void test_resume(void **state) {
    limn_hub *h = hub_open(NULL);
    limn_feed *f = feed_open(h, &(limn_feed_options){.job = job_a});
    int64_t seen = 0;
    for (int i = 0; i < 5; i++) post(h, job_a, LIMN_JOB_EVENT_TEXT, i < 2 ? "old" : "new");
    for (int i = 0; i < 2; i++) {
        const limn_job_event *e = limn_feed_next(f, NULL);
        assert_true(e->number > seen);
        seen = e->number;
        limn_job_event_unref(&e);
    }
    limn_feed_close(&f);
    f = feed_open(h, &(limn_feed_options){.job = job_a, .after = seen});
    for (int i = 0; i < 3; i++) expect(f, LIMN_JOB_EVENT_TEXT, "new");
    expect_none(f);
    limn_feed_close(&f);
    limn_hub_free(&h);

    h = hub_open(NULL);
    f = feed_open(h, &(limn_feed_options){.job = job_a, .after = seen});
    post_full(h, job_a, LIMN_JOB_EVENT_STATE, NULL, LIMN_JOB_RUNNING, 2, "");
    expect(f, LIMN_JOB_EVENT_STATE, NULL);
    limn_feed_close(&f);
    limn_hub_free(&h);
}

/* A server that was started again: what the one before had to say is lost, and that is told. */
static void test_resume_all(void **state) {
    limn_hub *h = hub_open(&(limn_hub_options){.first_number = 1000});
    bool gap = false;
    limn_feed *f = feed_open(h, &(limn_feed_options){.after = 500});
    post(h, job_a, LIMN_JOB_EVENT_NOTE, "x");
    const limn_job_event *e = limn_feed_next(f, &gap);
    assert_true(gap);
    assert_int_equal(e->feed_number, 1001);
    limn_job_event_unref(&e);
    post(h, job_a, LIMN_JOB_EVENT_NOTE, "y");
    e = limn_feed_next(f, &gap);
    assert_false(gap);
    limn_job_event_unref(&e);
    limn_feed_close(&f);
    /* and one whose clock went back */
    f = feed_open(h, &(limn_feed_options){.after = 99999});
    e = limn_feed_next(f, &gap);
    assert_true(gap);
    assert_string_equal(e->text, "x");
    limn_job_event_unref(&e);
    limn_feed_close(&f);
    limn_hub_free(&h);
}

static void test_what_goes_first(void **state) {
    limn_hub *h = hub_open(&(limn_hub_options){.ring_events = 8, .all_events = 8});
    limn_feed *f = feed_open(h, &(limn_feed_options){.job = job_a, .previews = true});
    limn_feed *blind = feed_open(h, &(limn_feed_options){.job = job_a});
    bool gap;
    for (int i = 0; i < 100; i++) {
        post(h, job_a, LIMN_JOB_EVENT_PROGRESS, i == 99 ? "last" : "p");
        post(h, job_a, LIMN_JOB_EVENT_PREVIEW, i == 99 ? "last" : i == 98 ? "last but one" : "v");
    }
    /* of progress the newest, of previews the newest two; nothing that matters was lost */
    expect(f, LIMN_JOB_EVENT_PREVIEW, "last but one");
    expect(f, LIMN_JOB_EVENT_PROGRESS, "last");
    expect(f, LIMN_JOB_EVENT_PREVIEW, "last");
    expect_none(f);
    expect(blind, LIMN_JOB_EVENT_PROGRESS, "last");
    expect_none(blind);
    for (int i = 0; i < 7; i++) post(h, job_a, LIMN_JOB_EVENT_TEXT, "t");
    for (int i = 0; i < 7; i++) expect(f, LIMN_JOB_EVENT_TEXT, "t");
    for (int i = 0; i < 9; i++) post(h, job_a, LIMN_JOB_EVENT_TEXT, i == 1 ? "second" : "t");
    const limn_job_event *e = limn_feed_next(f, &gap);
    assert_true(gap); /* one of nine was too many for the ring */
    assert_string_equal(e->text, "second");
    limn_job_event_unref(&e);
    e = limn_feed_next(f, &gap);
    assert_false(gap);
    limn_job_event_unref(&e);
    limn_feed_close(&f);
    limn_feed_close(&blind);
    limn_hub_free(&h);
}

/* However much is posted and however little is read, memory stays within the bounds. */
static void test_bounds(void **state) {
    limn_hub *h = hub_open(&(limn_hub_options){.ring_bytes = 1 << 16, .ended_jobs = 4});
    limn_feed *f = feed_open(h, &(limn_feed_options){.previews = true});
    limn_hub_stats s;
    char big[4000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    for (int i = 0; i < 200; i++) {
        char id[LIMN_JOB_ID_LEN + 1];
        limn_job_id_make(id, i);
        for (int k = 0; k < 30; k++) post(h, id, LIMN_JOB_EVENT_NOTE, big);
        post_full(h, id, LIMN_JOB_EVENT_STATE, NULL, LIMN_JOB_SUCCEEDED, 1, "");
        limn_hub_get_stats(h, &s);
        assert_true(s.rings <= 5);
        assert_true(s.bytes <= 6 << 16);
    }
    bool gap = false;
    const limn_job_event *e = limn_feed_next(f, &gap);
    assert_non_null(e);
    limn_job_event_unref(&e);
    limn_feed_close(&f);
    limn_hub_free(&h);
}

static void test_owners(void **state) {
    limn_hub *h = hub_open(NULL);
    limn_feed *anna = feed_open(h, &(limn_feed_options){.owner = "anna", .after = -1});
    limn_feed *admin = feed_open(h, &(limn_feed_options){.after = -1});
    post_full(h, job_a, LIMN_JOB_EVENT_NOTE, "a", LIMN_JOB_RUNNING, 1, "anna");
    post_full(h, job_b, LIMN_JOB_EVENT_NOTE, "b", LIMN_JOB_RUNNING, 1, "ben");
    expect(anna, LIMN_JOB_EVENT_NOTE, "a");
    expect_none(anna);
    expect(admin, LIMN_JOB_EVENT_NOTE, "a");
    expect(admin, LIMN_JOB_EVENT_NOTE, "b");
    limn_feed_close(&anna);
    limn_feed_close(&admin);
    limn_hub_free(&h);
}

static void count_wake(void *user) {
    atomic_fetch_add((atomic_int *)user, 1);
}

/* Armed by an empty read, woken once, then silent until it has read everything again. */
static void test_wake(void **state) {
    atomic_int woken = 0;
    limn_hub *h = hub_open(NULL);
    limn_feed *f = feed_open(
        h, &(limn_feed_options){.job = job_a, .wake = count_wake, .user = &woken, .eventfd = true});
    struct pollfd p = {.fd = limn_feed_fd(f), .events = POLLIN};
    post(h, job_a, LIMN_JOB_EVENT_TEXT, "1");
    assert_int_equal(woken, 0);
    expect(f, LIMN_JOB_EVENT_TEXT, "1");
    expect_none(f);
    assert_int_equal(poll(&p, 1, 0), 0);
    post(h, job_a, LIMN_JOB_EVENT_PREVIEW, "not wanted");
    assert_int_equal(woken, 0);
    post(h, job_a, LIMN_JOB_EVENT_TEXT, "2");
    post(h, job_a, LIMN_JOB_EVENT_TEXT, "3");
    assert_int_equal(woken, 1);
    assert_int_equal(poll(&p, 1, 0), 1);
    expect(f, LIMN_JOB_EVENT_TEXT, "2");
    expect(f, LIMN_JOB_EVENT_TEXT, "3");
    expect_none(f);
    assert_int_equal(poll(&p, 1, 0), 0);
    limn_feed_stop(f);
    assert_null(limn_feed_wait(f, -1, NULL));
    limn_feed_close(&f);
    limn_hub_free(&h);
}

/* ---- many at once ---- */
enum { WRITERS = 3, READERS = 6, EVENTS = 400 };

typedef struct reader {
    limn_hub *hub;
    char job[LIMN_JOB_ID_LEN + 1];
    int texts, gaps, disorder;
    bool slow;
} reader;

static void *write_main(void *arg) {
    const reader *r = arg;
    limn_hub *h = r->hub;
    for (int i = 0; i < EVENTS; i++) {
        post(h, r->job, LIMN_JOB_EVENT_TEXT, "piece");
        post(h, r->job, LIMN_JOB_EVENT_PROGRESS, NULL);
        if (i % 8 == 0) post(h, r->job, LIMN_JOB_EVENT_PREVIEW, "preview");
    }
    post_full(h, r->job, LIMN_JOB_EVENT_STATE, NULL, LIMN_JOB_SUCCEEDED, 1, "");
    return NULL;
}

static void *read_main(void *arg) {
    reader *r = arg;
    limn_feed *f;
    int64_t last = 0;
    limn_feed_options o = {.job = r->job, .previews = true};
    if (limn_feed_open(&f, r->hub, &o, NULL) != LIMN_OK) return NULL;
    for (bool over = false; !over;) {
        bool gap;
        const limn_job_event *e = limn_feed_wait(f, 20000, &gap);
        if (!e) break;
        r->texts += e->kind == LIMN_JOB_EVENT_TEXT;
        r->gaps += gap;
        r->disorder += e->number <= last;
        last = e->number;
        over = e->kind == LIMN_JOB_EVENT_STATE && limn_job_state_is_final(e->state);
        limn_job_event_unref(&e);
        if (r->slow) sleep_ms(1);
    }
    limn_feed_close(&f);
    return NULL;
}

static void test_many(void **state) {
    limn_hub *h = hub_open(NULL);
    pthread_t w[WRITERS], t[READERS];
    reader r[READERS] = {0};
    for (int i = 0; i < READERS; i++) {
        r[i].hub = h;
        r[i].slow = i >= WRITERS;
        if (i < WRITERS) limn_job_id_make(r[i].job, i);
        if (i >= WRITERS) memcpy(r[i].job, r[i - WRITERS].job, sizeof r[i].job);
        assert_int_equal(pthread_create(&t[i], NULL, read_main, &r[i]), 0);
    }
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&w[i], NULL, write_main, &r[i]), 0);
    for (int i = 0; i < WRITERS; i++) pthread_join(w[i], NULL);
    for (int i = 0; i < READERS; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(r[i].texts, EVENTS);
        assert_int_equal(r[i].gaps, 0);
        assert_int_equal(r[i].disorder, 0);
    }
    limn_hub_free(&h);
}

/* ---- with a queue ---- */
static void test_of_queue(void **state) {
    char *dir = folder_make();
    limn_queue *q = queue_open(dir, &(limn_queue_options){.paused = true}, 0);
    limn_err err = {0};
    limn_submitted s;
    limn_feed *f;
    static const char json[] = "{\"steps\": 3, \"count\": 2, \"width\": 64, \"height\": 64}";
    assert_ok(err, draw(q, json, &(limn_submit){.preview_every = 1}, &s, &err));
    assert_ok(err, limn_queue_subscribe(q, &(limn_feed_options){.job = s.id, .previews = true}, &f,
                                        &err));
    limn_queue_resume(q);
    limn_job *j = ended(q, s.id);
    limn_job_free(&j);
    int count[LIMN_JOB_EVENT_KINDS] = {0};
    limn_job_state last = LIMN_JOB_QUEUED;
    for (const limn_job_event *e; (e = limn_feed_next(f, NULL)) != NULL;) {
        count[e->kind]++;
        if (e->kind == LIMN_JOB_EVENT_OUTPUT) {
            assert_true(limn_sha_is_valid(e->artifact->sha));
            assert_int_equal(e->artifact->width, 8);
        }
        if (e->kind == LIMN_JOB_EVENT_STATE) last = e->state;
        limn_job_event_unref(&e);
    }
    assert_int_equal(count[LIMN_JOB_EVENT_STATE], 3);
    assert_int_equal(count[LIMN_JOB_EVENT_OUTPUT], 2);
    assert_int_equal(last, LIMN_JOB_SUCCEEDED);
    limn_feed_close(&f);
    limn_queue_close(&q);
    /* long ended, seen by a new process: its final state */
    q = queue_open(dir, NULL, 0);
    assert_ok(err, limn_queue_subscribe(q, &(limn_feed_options){.job = s.id}, &f, &err));
    const limn_job_event *e = limn_feed_wait(f, 1000, NULL);
    assert_int_equal(e->state, LIMN_JOB_SUCCEEDED);
    limn_job_event_unref(&e);
    limn_feed_close(&f);
    limn_queue_close(&q);
    folder_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_follow),     cmocka_unit_test(test_resume),
        cmocka_unit_test(test_resume_all), cmocka_unit_test(test_what_goes_first),
        cmocka_unit_test(test_bounds),     cmocka_unit_test(test_owners),
        cmocka_unit_test(test_wake),       cmocka_unit_test(test_many),
        cmocka_unit_test(test_of_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
