/* SPDX-License-Identifier: MIT */
/*
 * What does the work of jobs: a small vtable that the queue calls, with two bodies: runner_engine.h
 * draws and sees, runner_stub.h is deterministic and instant, for tests.
 *
 * A runner gets a job's canonical request and must make the same outputs from it every time, since
 * a job whose process died runs again. It reports through the limn_run that it is given, never to
 * the store.
 */
#ifndef LIMN_JOB_RUNNER_H
#define LIMN_JOB_RUNNER_H

#include "job/artifacts.h"
#include "job/job.h"

typedef struct limn_runner limn_runner;
typedef struct limn_run limn_run; /* a job that is running; made by the queue */

/* What a client asks for. Borrowed for the call; zero-initialise. */
typedef struct limn_submit {
    limn_job_kind kind;
    /* DRAW, UPSCALE, GRID: kind LIMN_PARAMS_GEN; SEE: kind LIMN_PARAMS_SEE; else NULL. Pictures
     * (init_image, mask) are "artifact:<sha>" of what was uploaded (limn_queue_upload) or drawn. */
    const limn_params *params;
    /* GRID: {"axes": [{"parameter": "steps", "values": [10, 20]}, ...1..3], "sheet": true}
     * SEE: {"messages": [{"role": "user", "content": [{"type": "text", "text": "..."},
     *       {"type": "image", "image": "artifact:<sha>"}]}], "tools": [...]}, also parts of type
     *       "video" ("fps") and "document"; assistant messages may have "tool_calls" as OpenAI has
     *       them and "reasoning". Or NULL: the question is the "prompt" of params, which otherwise
     *       follows as a last message
     * LOAD, UNLOAD: {"model": "name"}. Otherwise NULL. */
    const char *json;
    size_t json_len;
    const char *owner;  /* NULL: "" */
    const char *source; /* NULL: "native" */
    const char *key;    /* idempotency key; NULL: none */
    const char *parent; /* NULL: none */
    const char *trace;  /* W3C trace id; NULL: none */
    const char *const *tags;
    int n_tags;
    int priority; /* -100..100 */
    bool keep;
    int preview_every; /* a preview each n steps; 0: none */
} limn_submit;

typedef struct limn_runner_ops {
    const char *name; /* "engine", "stub" */
    void (*close)(limn_runner *r);
    /* Any thread, milliseconds: refuses what run would refuse (unknown names, sizes, missing
     * pictures) and fills job->request (canonical, with every random choice made), words, title,
     * model, seed, work, images, lane (of LOAD and UNLOAD), and an artifact of role INPUT for every
     * picture it refers to. */
    limn_status (*prepare)(limn_runner *r, limn_job *job, const limn_submit *submit, limn_err *err);
    /* A worker's thread, one per lane at a time: does the job. E_CANCELLED when the run's flag was
     * set. */
    limn_status (*run)(limn_runner *r, limn_run *run, limn_err *err);
    /* A worker's thread, when nothing has waited for a second: housekeeping that may take time.
     * NULL: none. */
    void (*idle)(limn_runner *r);
    /* Name of the lane's model that is ready, "" when none: jobs that use it go first among equals.
     * LIMN_JOB_LANES: of any lane. NULL: always "". `out` has `size` bytes. Any thread. */
    void (*ready_model)(limn_runner *r, limn_job_lane lane, char *out, size_t size);
} limn_runner_ops;

struct limn_runner {
    const limn_runner_ops *ops;
};
void limn_runner_close(limn_runner **r);

/* ---- what a runner may do with its run; on the thread that runs it ---- */
const limn_job *limn_run_job(const limn_run *run);
limn_artifacts *limn_run_artifacts(limn_run *run);
const limn_cancel *limn_run_cancel(const limn_run *run);
/* A drawing asks when the flag was set: true, once, when only the picture in work is to be given
 * up; the flag is clear then. */
bool limn_run_skip(limn_run *run);
/* `e`: stage, image, images, step, steps, times and preview as limn.h has them; the preview is sent
 * as JPEG, and left out when nobody looks. */
void limn_run_report(limn_run *run, const limn_event *e);
/* "Waits for memory": the stage until something else is reported. */
void limn_run_wait_memory(limn_run *run);
void limn_run_note(limn_run *run, const char *text);
/* A piece of text as it is written; `logprobs` is JSON or NULL. */
void limn_run_text(limn_run *run, limn_said_kind said, const char *text, size_t len,
                   const char *logprobs);
/* A finished file; role, recipe and text are taken from `a` (copied), the rest is filled in;
 * `image` as for limn_artifacts_put. It is kept only if the run's end is accepted. */
limn_status limn_run_output(limn_run *run, const limn_artifact *a, const void *data, size_t size,
                            const limn_image *image, limn_err *err);
/* The job's result, a JSON object; replaces the one before. */
limn_status limn_run_result(limn_run *run, const char *json, limn_err *err);

#endif
