/* SPDX-License-Identifier: MIT */
/*
 * What happens to jobs, as numbered events that any number of readers can follow.
 *
 * A hub keeps a bounded ring of events for every job that is waiting, running or just ended, and
 * one ring for all jobs together. A feed is a reader's place in one of them: it owns no copies, so
 * a thousand slow readers cost a thousand numbers, and posting never waits for any of them. When a
 * ring is full, old previews go first, then the oldest of the rest; of progress only the newest
 * report is kept. A reader that lost something that matters (text, states, finished pictures) is
 * told (`gap`). The ring of all jobs has no text pieces: follow the job for those.
 *
 * Numbers rise within a job, also when it runs again after a crash (epoch * 2^32 + count), so a
 * client may come back with the last number it saw. Numbers of the feed of all jobs rise within a
 * server and start above those of the server before.
 *
 * Threads: everything may be called from any thread, a feed by one at a time. A feed's wake
 * function is called with the hub's lock held: it may set a flag, write an eventfd or resume a
 * connection, and must not call the hub.
 */
#ifndef LIMN_JOB_EVENTS_H
#define LIMN_JOB_EVENTS_H

#include "job/job.h"

/* X(id, word) */
#define LIMN_JOB_EVENT_LIST(X)                                                                     \
    X(STATE, "state")       /* `state`; with the last one `error` */                               \
    X(PROGRESS, "progress") /* stage, steps, times */                                              \
    X(PREVIEW, "preview")   /* `data`: the picture so far, JPEG */                                 \
    X(TEXT, "text")         /* `text`: a piece of what is being written; `said` */                 \
    X(NOTE, "note")         /* `text`: something to tell the user */                               \
    X(OUTPUT, "output")     /* `artifact`: a file that is finished */

typedef enum limn_job_event_kind {
#define X(id, word) LIMN_JOB_EVENT_##id,
    LIMN_JOB_EVENT_LIST(X)
#undef X
        LIMN_JOB_EVENT_KINDS
} limn_job_event_kind;

/* Immutable and shared; give it back with limn_job_event_unref. */
typedef struct limn_job_event {
    int64_t number;      /* within its job */
    int64_t feed_number; /* among all jobs */
    limn_job_event_kind kind;
    char job[LIMN_JOB_ID_LEN + 1];
    limn_job_kind job_kind;
    int64_t time_ms;
    limn_job_state state; /* of the job at that time */
    limn_status error;    /* with a final state */
    const char *stage;    /* a constant: "load", "encode", "denoise", "decode", "write" ...; "" */
    int image, images;    /* which of how many, from 0 */
    int step, steps;      /* done and total; steps 0: not countable */
    double step_seconds;  /* 0: not known */
    double left_seconds;  /* for the whole job; < 0: not known */
    double progress;      /* 0..1 of the whole job; < 0: not known */
    const char *text;     /* NUL-terminated; "" when there is none */
    size_t text_len;
    limn_said_kind said; /* TEXT: what the piece belongs to */
    const void *data;    /* PREVIEW: the picture; TEXT: JSON of its log-probabilities, or NULL */
    size_t size;
    const char *mime;              /* of data */
    int width, height;             /* of a preview */
    const limn_artifact *artifact; /* OUTPUT, without its recipe and text; else NULL */
} limn_job_event;

const char *limn_job_event_word(limn_job_event_kind k);
void limn_job_event_unref(const limn_job_event **e); /* NULL-safe; nulls the caller's pointer */

typedef struct limn_hub limn_hub;
typedef struct limn_feed limn_feed;

typedef struct limn_hub_options {
    int ring_events;      /* of one job; 0: 4096 */
    size_t ring_bytes;    /* of one job; 0: 8 MiB */
    int all_events;       /* of the ring of all jobs; 0: 4096 */
    int ended_jobs;       /* rings kept of jobs that have ended; 0: 64 */
    size_t ended_bytes;   /* ... and their size together; 0: 64 MiB */
    int previews;         /* kept of one job; 0: 2 */
    int64_t first_number; /* of the feed of all jobs; 0: from the clock */
} limn_hub_options;

limn_status limn_hub_new(limn_hub **out, const limn_hub_options *opt, limn_err *err);
/* All feeds must be closed before. */
void limn_hub_free(limn_hub **hub);

/* Copies what `e` points at and gives it its numbers. An event that cannot be kept for lack of
 * memory is dropped, and its readers see a gap. `owner` decides who may read it. */
void limn_hub_post(limn_hub *hub, const limn_job_event *e, const char *owner, int64_t epoch);

/* For a job that ended before this process began: its only event, seen by feeds of that job. Does
 * nothing when the hub has events of the job. */
void limn_hub_restore(limn_hub *hub, const limn_job_event *e, const char *owner, int64_t epoch);
/* The newest event of a kind that is kept of a job; NULL when there is none. */
const limn_job_event *limn_hub_last(limn_hub *hub, const char *job, limn_job_event_kind kind);

typedef struct limn_feed_options {
    const char *job;   /* NULL: all jobs */
    const char *owner; /* sees only this owner's jobs; NULL: all */
    int64_t after; /* the last number that was seen; 0: from the oldest kept; -1: only new ones */
    bool previews; /* wants pictures */
    void (*wake)(void *user); /* see limn_feed_next; NULL: none */
    void *user;
    bool eventfd; /* limn_feed_fd is wanted */
} limn_feed_options;

/* A feed of a job that the hub does not know yet stays empty until something is posted. */
limn_status limn_feed_open(limn_feed **out, limn_hub *hub, const limn_feed_options *opt,
                           limn_err *err);
void limn_feed_close(limn_feed **feed);
/* The next event, or NULL when there is none now: the feed is then armed, and the next event that
 * concerns it calls `wake` once (and makes the eventfd readable, which the next call resets).
 * Progress that newer progress has made old is left out. *gap (may be NULL): something that matters
 * was lost before this event. */
const limn_job_event *limn_feed_next(limn_feed *feed, bool *gap);
/* The same, waiting up to timeout_ms (< 0: for ever); NULL after that, or when it was stopped. */
const limn_job_event *limn_feed_wait(limn_feed *feed, int timeout_ms, bool *gap);
/* Ends present and coming waits of this feed. Any thread. */
void limn_feed_stop(limn_feed *feed);
int limn_feed_fd(const limn_feed *feed); /* -1 without the option */

typedef struct limn_hub_stats {
    int64_t feeds, rings, events, bytes;
    int64_t posted, dropped; /* dropped: of events that matter */
} limn_hub_stats;
void limn_hub_get_stats(limn_hub *hub, limn_hub_stats *out);

#endif
