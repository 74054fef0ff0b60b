/* SPDX-License-Identifier: MIT */
/*
 * Small artifacts come to the disk with the end of their job and get a file later. Here the folder
 * in which files are begun is taken away, so that "later" lasts as long as a test wants.
 */
#include "job/artifacts.h"
#include "job_sql.h"

static const char one_step[] = "{\"prompt\": \"a fox\", \"steps\": 1, \"seed\": 7}";

static void block(const char *dir) {
    char *path = path_in(dir, "tmp");
    assert_int_equal(rmdir(path), 0);
    free(path);
}

static void unblock(const char *dir) {
    char *path = path_in(dir, "tmp");
    assert_int_equal(mkdir(path, 0700), 0);
    free(path);
}

static int64_t kept(const char *dir) {
    return ask_dir(dir, "SELECT count(*) FROM kept");
}

static void wait_kept(const char *dir, int64_t want) {
    for (int i = 0; i < 6000 && kept(dir) != want; i++) sleep_ms(10);
    assert_int_equal(kept(dir), want);
}

/* Draws, and gives the picture's name. */
static void draw_one(limn_queue *q, char id[LIMN_JOB_ID_LEN + 1], char sha[LIMN_SHA_LEN + 1]) {
    limn_err err = {0};
    limn_submitted s;
    assert_ok(err, draw(q, one_step, NULL, &s, &err));
    limn_job *j = ended(q, s.id);
    assert_int_equal(j->state, LIMN_JOB_SUCCEEDED);
    assert_int_equal(j->n_artifacts, 1);
    strcpy(id, s.id);
    strcpy(sha, j->artifacts[0].sha);
    limn_job_free(&j);
}

/* Every way to read it gives the bytes of its name. */
static void check_bytes(limn_queue *q, const char *sha) {
    limn_artifacts *a = limn_queue_artifacts(q);
    limn_err err = {0};
    char real[LIMN_SHA_LEN + 1], buffer[LIMN_ARTIFACT_SMALL];
    void *data;
    size_t size;
    int fd;
    int64_t bytes;
    assert_ok(err, limn_artifacts_read(a, &data, &size, sha, &err));
    limn_sha_make(real, data, size);
    assert_string_equal(real, sha);
    limn_mem_free(data);
    assert_ok(err, limn_artifacts_open_fd(a, &fd, &bytes, sha, &err));
    assert_int_equal(bytes, size);
    assert_int_equal(read(fd, buffer, sizeof buffer), size);
    limn_sha_make(real, buffer, size);
    assert_string_equal(real, sha);
    close(fd);
    assert_ok(err, limn_artifacts_thumb(a, &data, &size, sha, &err));
    assert_memory_equal((char *)data + 8, "WEBP", 4);
    limn_mem_free(data);
}

static bool is_readable(limn_queue *q, const char *sha) {
    void *data = NULL;
    size_t size;
    bool found = limn_artifacts_read(limn_queue_artifacts(q), &data, &size, sha, NULL) == LIMN_OK;
    limn_mem_free(data);
    return found;
}

/* A job ends although no file can be written; its picture is there in every state: in memory, taken
 * over by the next process, in its file. */
static void test_later(void **state) {
    char *dir = folder_make(), id[LIMN_JOB_ID_LEN + 1], sha[LIMN_SHA_LEN + 1];
    limn_queue *q = queue_open(dir, NULL, 0);
    block(dir);
    draw_one(q, id, sha);
    assert_int_equal(kept(dir), 1);
    check_bytes(q, sha);
    limn_queue_close(&q);
    assert_int_equal(kept(dir), 1);
    assert_int_equal(count_files(dir, "blobs"), 0);
    q = queue_open(dir, NULL, 0); /* makes the folder */
    check_bytes(q, sha);
    wait_kept(dir, 0);
    assert_int_equal(count_files(dir, "blobs"), 1);
    check_bytes(q, sha);
    limn_queue_close(&q);
    assert_int_equal(count_files(dir, "tmp"), 0);
    q = queue_open(dir, NULL, 0);
    check_bytes(q, sha);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* The process died after the file was written and before its row was dropped. */
static void test_file_and_row(void **state) {
    char *dir = folder_make(), id[LIMN_JOB_ID_LEN + 1], sha[LIMN_SHA_LEN + 1];
    limn_queue *q = queue_open(dir, NULL, 0);
    limn_err err = {0};
    block(dir);
    draw_one(q, id, sha);
    unblock(dir);
    assert_ok(err, limn_artifacts_file(limn_queue_artifacts(q), sha, &err));
    assert_int_equal(count_files(dir, "blobs"), 1);
    check_bytes(q, sha);
    wait_kept(dir, 0);
    check_bytes(q, sha);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* What is removed is gone at once, and nothing comes back; drawn again, it stays. */
static void test_remove(void **state) {
    char *dir = folder_make(), id[LIMN_JOB_ID_LEN + 1], sha[LIMN_SHA_LEN + 1];
    limn_queue *q = queue_open(dir, NULL, 0);
    limn_err err = {0};
    block(dir);
    draw_one(q, id, sha);
    assert_ok(err, limn_queue_remove(q, NULL, id, &err));
    assert_false(is_readable(q, sha));
    draw_one(q, id, sha);
    check_bytes(q, sha);
    assert_ok(err, limn_queue_remove(q, NULL, id, &err));
    assert_false(is_readable(q, sha));
    unblock(dir);
    wait_kept(dir, 0);
    assert_int_equal(count_files(dir, "blobs"), 0);

    block(dir);
    draw_one(q, id, sha);
    assert_ok(err, limn_queue_remove(q, NULL, id, &err));
    draw_one(q, id, sha);
    assert_int_equal(kept(dir), 1); /* of the second, whatever becomes of the first */
    unblock(dir);
    wait_kept(dir, 0);
    assert_int_equal(count_files(dir, "blobs"), 1);
    check_bytes(q, sha);
    limn_queue_close(&q);
    folder_remove(dir);
}

/* A row that a disk has spoilt costs its picture, not the server. */
static void test_damage(void **state) {
    char *dir = folder_make(), id[LIMN_JOB_ID_LEN + 1], sha[LIMN_SHA_LEN + 1];
    char *path = path_in(dir, "jobs.db");
    limn_queue *q = queue_open(dir, NULL, 0);
    block(dir);
    draw_one(q, id, sha);
    limn_queue_close(&q);
    run_sql(path, "UPDATE kept SET data = x'00'");
    q = queue_open(dir, NULL, 0);
    assert_false(is_readable(q, sha));
    draw_one(q, id, sha);
    wait_files(dir, 1);
    check_bytes(q, sha);
    limn_queue_close(&q);
    free(path);
    folder_remove(dir);
}

/* Only so much waits in memory; what is large or finds no room there has its file at once. */
static void test_room(void **state) {
    enum { MANY = 100 };
    char *dir = folder_make(), text[LIMN_ARTIFACT_SMALL + 1];
    limn_err err = {0};
    limn_artifacts *a;
    int at_once = 0;
    assert_ok(err, limn_artifacts_open(&a, dir, &err));
    memset(text, 'x', sizeof text);
    char shas[MANY][LIMN_SHA_LEN + 1];
    for (int i = 0; i < MANY; i++) {
        limn_artifact made = {0};
        bool later;
        text[0] = (char)i;
        assert_ok(
            err, limn_artifacts_put_later(a, &made, text, LIMN_ARTIFACT_SMALL, NULL, &later, &err));
        strcpy(shas[i], made.sha);
        at_once += !later;
        assert_int_equal(count_files(dir, "blobs"), at_once);
    }
    assert_in_range(at_once, 1, MANY - 1);
    for (int i = 0; i < MANY; i++) limn_artifacts_unpin(a, shas[i]);
    limn_artifact made = {0};
    bool later = true;
    assert_ok(err, limn_artifacts_put_later(a, &made, text, sizeof text, NULL, &later, &err));
    assert_false(later);
    assert_int_equal(limn_artifacts_hold(a, shas[0], "other", 5, &err), LIMN_E_FORMAT);
    limn_artifacts_close(&a);
    folder_remove(dir);
}

/* What is too large to wait cannot be written: the job fails with a reason, nothing is left behind,
 * and it works again when there is room. */
static void test_no_room(void **state) {
    enum { WORDS = LIMN_ARTIFACT_SMALL };
    char *dir = folder_make(), *large = malloc(WORDS + 100);
    limn_queue *q = queue_open(dir, NULL, 0);
    limn_err err = {0};
    limn_submitted s;
    /* the prompt goes into the picture's file */
    sprintf(large, "{\"prompt\": \"%0*d\", \"steps\": 1}", WORDS, 0);
    block(dir);
    assert_ok(err, draw(q, large, NULL, &s, &err));
    limn_job *j = ended(q, s.id);
    assert_int_equal(j->state, LIMN_JOB_FAILED);
    assert_int_equal(j->error, LIMN_E_UNAVAILABLE);
    assert_int_equal(j->n_artifacts, 0);
    limn_job_free(&j);
    unblock(dir);
    assert_ok(err, draw(q, large, NULL, &s, &err));
    j = ended(q, s.id);
    assert_int_equal(j->state, LIMN_JOB_SUCCEEDED);
    assert_int_equal(count_files(dir, "blobs"), 1); /* before the end, as ever */
    assert_int_equal(kept(dir), 0);
    limn_job_free(&j);
    limn_queue_close(&q);
    free(large);
    folder_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_later),  cmocka_unit_test(test_file_and_row),
        cmocka_unit_test(test_remove), cmocka_unit_test(test_damage),
        cmocka_unit_test(test_room),   cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
