/* SPDX-License-Identifier: MIT */
/*
 * kill -9 at any moment: a child takes jobs from two threads, runs them, cancels some, meets one
 * that kills its process, and is itself killed after a random time; then the next one takes over
 * the folder. LIMN_TORTURE_ROUNDS says how often (20). In the end:
 *   every id that was acknowledged is there and ended, each exactly once;
 *   the same key never made two jobs;
 *   a job that succeeded has its pictures, once, with the bytes that their names promise, and
 *   drawing its request again gives the same ones;
 *   no file is left that no job refers to, none waits in the database, and that is whole.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "job_sql.h"

enum { KEYS = 40 };

/* ---- the child ---- */
typedef struct submitter {
    limn_queue *q;
    int fd; /* acknowledged ids, one a line */
    unsigned seed;
} submitter;

static limn_status submit_one(submitter *s, limn_submitted *out) {
    char json[200], key[20];
    limn_submit sub = {.preview_every = rand_r(&s->seed) % 3};
    limn_params *p;
    int kind = rand_r(&s->seed) % 200;
    if (limn_params_new(&p, LIMN_PARAMS_GEN, NULL) != LIMN_OK) return LIMN_E_NOMEM;
    const char *prompt = kind == 0 ? "stub:die" : kind < 15 ? "stub:fail" : "a fox";
    snprintf(json, sizeof json, "{\"prompt\": \"%s\", \"steps\": %d, \"count\": %d}", prompt,
             1 + rand_r(&s->seed) % 4, 1 + rand_r(&s->seed) % 2);
    if (kind >= 150) {
        int n = rand_r(&s->seed) % KEYS;
        snprintf(key, sizeof key, "key-%d", n);
        snprintf(json, sizeof json, "{\"prompt\": \"keyed %d\", \"steps\": 2}", n);
        sub.key = key;
    }
    limn_status st = limn_params_parse_json(p, json, strlen(json), LIMN_FROM_API, NULL);
    sub.params = p;
    if (st == LIMN_OK) st = limn_queue_submit(s->q, &sub, out, NULL);
    limn_params_free(&p);
    return st;
}

static void *submit_main(void *arg) {
    submitter *s = arg;
    for (;;) {
        limn_submitted out;
        limn_status st = submit_one(s, &out);
        if (st != LIMN_OK) {
            sleep_ms(5); /* the queue is full */
            continue;
        }
        char line[LIMN_JOB_ID_LEN + 2];
        snprintf(line, sizeof line, "%s\n", out.id);
        if (write(s->fd, line, LIMN_JOB_ID_LEN + 1) != LIMN_JOB_ID_LEN + 1) return NULL;
        if (rand_r(&s->seed) % 10 == 0) limn_queue_cancel(s->q, NULL, out.id, NULL, NULL);
    }
}

static int child_main(const char *dir, unsigned seed) {
    limn_runner *runner;
    limn_queue *q;
    limn_err err = {0};
    pthread_t t[2];
    submitter s[2];
    limn_queue_options o = {.max_queued = 30};
    limn_stub_options so = {.step_ms = 3, .misbehave = true, .picture_side = 8};
    char path[300];
    snprintf(path, sizeof path, "%s/acknowledged", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || limn_runner_stub_new(&runner, &so, &err) != LIMN_OK ||
        limn_queue_open_dir(&q, dir, runner, &o, &err) != LIMN_OK) {
        fprintf(stderr, "child: %s\n", err.text);
        return 1;
    }
    for (int i = 0; i < 2; i++) {
        s[i] = (submitter){q, fd, (seed * 2 + (unsigned)i) * 2654435761u};
        if (pthread_create(&t[i], NULL, submit_main, &s[i]) != 0) return 1;
    }
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    return 1;
}

static void run_child(const char *self, const char *dir, int round, int life_ms) {
    char seed[20];
    int status;
    snprintf(seed, sizeof seed, "%d", round);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execl(self, self, "--child", dir, seed, (char *)NULL);
        _exit(127);
    }
    sleep_ms(life_ms);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fail_msg("round %d: the child ended by itself (%d)", round, status);
}

/* ---- the end ---- */
static void wait_until_idle(limn_queue *q) {
    limn_err err = {0};
    limn_job_counts c;
    for (int i = 0; i < 6000; i++) {
        assert_ok(err, limn_queue_counts(q, NULL, &c, &err));
        if (c.state[LIMN_JOB_QUEUED] + c.state[LIMN_JOB_RUNNING] == 0) return;
        sleep_ms(10);
    }
    fail_msg("jobs still wait after a minute");
}

static void check_pictures(limn_queue *q, const limn_job *j) {
    limn_err err = {0};
    assert_int_equal(j->n_artifacts, j->images);
    for (int i = 0; i < j->n_artifacts; i++) {
        char sha[LIMN_SHA_LEN + 1];
        void *data;
        size_t size;
        assert_ok(err, limn_artifacts_read(limn_queue_artifacts(q), &data, &size,
                                           j->artifacts[i].sha, &err));
        limn_sha_make(sha, data, size);
        assert_string_equal(sha, j->artifacts[i].sha);
        limn_mem_free(data);
    }
}

static void check_same_again(limn_queue *q, const limn_job *j) {
    limn_err err = {0};
    limn_submitted s;
    assert_ok(err, draw(q, j->request, NULL, &s, &err));
    limn_job *again = ended(q, s.id);
    assert_int_equal(again->n_artifacts, j->n_artifacts);
    for (int i = 0; i < j->n_artifacts; i++)
        assert_string_equal(again->artifacts[i].sha, j->artifacts[i].sha);
    limn_job_free(&again);
}

static int check_acknowledged(limn_queue *q, const char *dir, int *rerun) {
    char path[300], line[64];
    int n = 0;
    snprintf(path, sizeof path, "%s/acknowledged", dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        limn_job *j = job_of(q, line);
        if (!limn_job_state_is_final(j->state))
            fail_msg("%s is %s", line, limn_job_state_word(j->state));
        assert_true(j->attempt <= 3);
        if (j->state == LIMN_JOB_SUCCEEDED) check_pictures(q, j);
        if (j->state == LIMN_JOB_SUCCEEDED && j->attempt > 1 && *rerun < 20) {
            check_same_again(q, j);
            ++*rerun;
        }
        limn_job_free(&j);
        n++;
    }
    fclose(f);
    return n;
}

static void test_kill(void **state) {
    const char *rounds_text = getenv("LIMN_TORTURE_ROUNDS");
    int rounds = rounds_text ? atoi(rounds_text) : 20, rerun = 0, kept = 0;
    unsigned seed = 12345;
    char self[4096] = "", *dir = folder_make();
    limn_err err = {0};
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    for (int i = 0; i < rounds; i++) {
        run_child(self, dir, i, 150 + rand_r(&seed) % 450);
        if (i % 5 == 4) kept += (int)ask_dir(dir, "SELECT count(*) FROM kept");
    }

    limn_queue_options o = {.max_queued = 100};
    limn_runner *runner;
    limn_queue *q;
    limn_stub_options so = {.picture_side = 8}; /* who killed others is harmless here */
    assert_ok(err, limn_runner_stub_new(&runner, &so, &err));
    assert_ok(err, limn_queue_open_dir(&q, dir, runner, &o, &err));
    wait_until_idle(q);
    limn_queue_close(&q);
    assert_ok(err, limn_runner_stub_new(&runner, &so, &err));
    assert_ok(err, limn_queue_open_dir(&q, dir, runner, &o, &err)); /* sweeps once more */
    assert_int_equal(count_files(dir, "blobs"),
                     ask_dir(dir, "SELECT count(DISTINCT sha) FROM artifact"));
    assert_int_equal(count_files(dir, "tmp"), 0);
    int acknowledged = check_acknowledged(q, dir, &rerun);
    limn_queue_close(&q);

    char path[300];
    limn_store *s;
    snprintf(path, sizeof path, "%s/jobs.db", dir);
    assert_ok(err, limn_store_sqlite_open(&s, &(limn_sqlite_options){.path = path}, &err));
    assert_ok(err, s->ops->check(s, &err));
    limn_store_close(&s);
    assert_int_equal(ask_dir(dir, "SELECT count(*) FROM job WHERE state < 2"), 0);
    assert_int_equal(ask_dir(dir, "SELECT count(*) FROM kept"), 0);
    assert_int_equal(ask_dir(dir, "SELECT count(*) FROM job WHERE 1 <> (SELECT count(*) FROM log"
                                  " WHERE log.job = job.seq AND log.state >= 2)"),
                     0);
    assert_true(ask_dir(dir, "SELECT count(*) FROM job WHERE key IS NOT NULL") <= KEYS);
    int64_t jobs = ask_dir(dir, "SELECT count(*) FROM job");
    int64_t again = ask_dir(dir, "SELECT count(*) FROM job WHERE epoch > 1");
    print_message("%d rounds: %d acknowledged, %d jobs, %d ran more than once, %d drawn again;"
                  " %d pictures had no file yet in %d of the rounds\n",
                  rounds, acknowledged, (int)jobs, (int)again, rerun, kept, rounds / 5);
    assert_true(acknowledged >= rounds);
    assert_true(kept > 0 || rounds < 20);
    assert_true(again > 0);
    folder_remove(dir);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill)};
    if (argc == 4 && strcmp(argv[1], "--child") == 0)
        return child_main(argv[2], (unsigned)atoi(argv[3]));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
