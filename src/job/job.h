/* SPDX-License-Identifier: MIT */
/*
 * A job: the record of one request that computes, from the moment it was acknowledged.
 *
 *     queued --> running --> succeeded | failed | cancelled
 *        ^          |
 *        +----------+   the process died, the lease ran out, or the server was drained
 *     queued --> cancelled
 *
 * A final state never changes again; the store refuses it, whoever asks. `epoch` counts how often
 * the job was handed to a worker: only the holder of the present epoch may end the job, so a worker
 * that was given up for dead cannot write a second result.
 *
 * How a job looks as JSON is the business of front ends (docs/API.md), not of this folder.
 * Records are plain data, owned by whoever holds them; nothing here is shared. Store (store.h) and
 * policy (queue.h) both speak in these records.
 */
#ifndef LIMN_JOB_JOB_H
#define LIMN_JOB_JOB_H

#include "base/mem.h"
#include "base/status.h"
#include "limn.h"

enum {
    LIMN_JOB_ID_LEN = 36, /* UUID version 7: sorts by time */
    LIMN_SHA_LEN = 64,    /* SHA-256 in lower-case hex: the name of an artifact */
    LIMN_JOB_OWNER_MAX = 64,
    LIMN_JOB_KEY_MAX = 255,
    LIMN_JOB_TAGS_MAX = 16,
    LIMN_JOB_TAG_MAX = 64, /* bytes of one tag */
    LIMN_JOB_PRIORITY_MAX = 100,
    LIMN_JOB_REQUEST_MAX = 1 << 20, /* bytes of the canonical request; pictures are artifacts */
    LIMN_JOB_RESULT_MAX = 16 << 20
};

/* X(id, word, final) */
#define LIMN_JOB_STATE_LIST(X)                                                                     \
    X(QUEUED, "queued", 0)                                                                         \
    X(RUNNING, "running", 0)                                                                       \
    X(SUCCEEDED, "succeeded", 1)                                                                   \
    X(FAILED, "failed", 1)                                                                         \
    X(CANCELLED, "cancelled", 1)

/* The numbers are stored: append only. */
typedef enum limn_job_state {
#define X(id, word, final) LIMN_JOB_##id,
    LIMN_JOB_STATE_LIST(X)
#undef X
        LIMN_JOB_STATES
} limn_job_state;

/* X(id, word, what it is) */
#define LIMN_JOB_KIND_LIST(X)                                                                      \
    X(DRAW, "draw", "pictures from a prompt, a start picture, a mask")                             \
    X(UPSCALE, "upscale", "a picture enlarged")                                                    \
    X(SEE, "see", "text about pictures, or a chat")                                                \
    X(GRID, "grid", "one drawing for every combination of up to three parameters")                 \
    X(LOAD, "load", "a model made ready")                                                          \
    X(UNLOAD, "unload", "a model's memory given back")

/* The numbers are stored: append only. */
typedef enum limn_job_kind {
#define X(id, word, about) LIMN_JOB_##id,
    LIMN_JOB_KIND_LIST(X)
#undef X
        LIMN_JOB_KINDS
} limn_job_kind;

/* Jobs of different lanes run side by side, those of one lane one after another: a question does
 * not wait behind a drawing. X(id, word). The numbers are stored: append only. */
#define LIMN_JOB_LANE_LIST(X)                                                                      \
    X(DRAW, "draw")                                                                                \
    X(SEE, "see")
typedef enum limn_job_lane {
#define X(id, word) LIMN_JOB_LANE_##id,
    LIMN_JOB_LANE_LIST(X)
#undef X
        LIMN_JOB_LANES
} limn_job_lane;

const char *limn_job_lane_word(limn_job_lane l);
/* Where a kind runs; loading and unloading go where the model is used (runner.h, prepare). */
limn_job_lane limn_job_kind_lane(limn_job_kind k);
const char *limn_job_state_word(limn_job_state s);
const char *limn_job_kind_word(limn_job_kind k);
/* false when there is no such word */
bool limn_job_state_find(limn_job_state *out, const char *word);
bool limn_job_kind_find(limn_job_kind *out, const char *word);
bool limn_job_state_is_final(limn_job_state s);
/* The arrows of the picture above. */
bool limn_job_state_may(limn_job_state from, limn_job_state to);

/* What an artifact is to its job. The numbers are stored: append only. */
typedef enum limn_artifact_role {
    LIMN_ARTIFACT_RESULT, /* a picture, in the order of drawing */
    LIMN_ARTIFACT_INPUT,  /* what the request refers to as "artifact:<sha>" */
    LIMN_ARTIFACT_SHEET,  /* a grid with its labels */
    LIMN_ARTIFACT_EXTRA   /* anything else, such as a marked picture */
} limn_artifact_role;
const char *limn_artifact_role_word(limn_artifact_role r); /* "result" */

/* One file of a job. Texts are owned. */
typedef struct limn_artifact {
    char sha[LIMN_SHA_LEN + 1];
    limn_artifact_role role;
    int index; /* within the job, from 0, counted over all roles */
    char mime[32];
    int width, height; /* 0: not a picture */
    int64_t bytes;
    char *recipe;       /* JSON object with all values as they were used; NULL: none */
    char *text;         /* picture text of limn_params_format_text; NULL: none */
    int64_t deleted_ms; /* 0: is not deleted */
} limn_artifact;

/* Texts are owned and never NULL unless the comment says so. */
typedef struct limn_job {
    int64_t seq; /* order of acknowledgement, from 1; never used twice */
    char id[LIMN_JOB_ID_LEN + 1];
    int64_t rank; /* among waiting jobs of a priority, smaller first; `seq` unless it was moved */
    limn_job_kind kind;
    limn_job_lane lane;
    limn_job_state state;
    char *owner;  /* who may see it; "" when the server has no keys */
    char *source; /* "native", "sdapi", "openai", "cli" */
    char *key;    /* idempotency key; NULL: none */
    char *parent; /* id of the job that this one belongs to; NULL: none */
    char *trace;  /* W3C trace id of the request that made it, 32 hex digits; "": none */
    int priority; /* -100..100, larger first */
    bool keep;    /* goes on when the client that waits for it goes away */
    int preview_every;
    char *model;   /* the model's name in the request; "": the default one */
    bool has_seed; /* kinds with a seed always have one */
    int64_t seed;  /* of the first picture */
    char *words;   /* the text that search looks at: prompt or question, case-folded */
    char *title;   /* the same for people, at most 200 bytes */
    char **tags;   /* [n_tags], sorted */
    int n_tags;
    char *request; /* canonical JSON; running it again gives the same pictures */
    char request_hash[LIMN_SHA_LEN + 1];
    double work; /* cost in units of the runner, for estimates; 0: not known */
    int images;  /* pictures that it will make, as far as known */
    int64_t created_ms, started_ms, finished_ms; /* Unix time; 0: not yet */
    int64_t deleted_ms;                          /* 0: is not deleted */
    int attempt, max_attempts;                   /* runs begun, and how many at most */
    int64_t epoch;                               /* see above */
    char *worker;                                /* who holds it; "" when nobody does */
    int64_t lease_until_ms;
    bool cancel_requested;
    limn_status error; /* LIMN_OK unless failed (or cancelled: E_CANCELLED) */
    char *error_text;
    char *result;             /* JSON object of the kind; NULL until it has one */
    limn_artifact *artifacts; /* [n_artifacts] */
    int n_artifacts;
} limn_job;

/* All texts "" or NULL as above. E_NOMEM. */
limn_status limn_job_new(limn_job **out, limn_err *err);
void limn_job_free(limn_job **job); /* nulls the caller's pointer */
/* Replaces an owned text. */
limn_status limn_job_set_text(char **field, const char *text, limn_err *err);
void limn_artifact_deinit(limn_artifact *a);
limn_status limn_job_add_artifact(limn_job *job, const limn_artifact *a, limn_err *err);

/* Copies, sorts, drops doubles. E_LIMIT: too many; E_VALUE: empty, too long, not UTF-8. */
limn_status limn_job_set_tags(limn_job *job, const char *const *tags, int n_tags, limn_err *err);

/* A new id: 36 characters and a NUL. The time in it is for sorting by eye only. */
void limn_job_id_make(char out[LIMN_JOB_ID_LEN + 1], int64_t unix_ms);
bool limn_job_id_is_valid(const char *id);
bool limn_sha_is_valid(const char *sha);

#endif
