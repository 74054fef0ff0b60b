/* SPDX-License-Identifier: MIT */
/*
 * Jobs, artifacts and events as the native interface shows them (docs/API.md, sections 3 and 4).
 * Event streams and WebSockets send the same objects. Any thread.
 */
#ifndef LIMN_SERVER_EVENT_JSON_H
#define LIMN_SERVER_EVENT_JSON_H

#include "server/server.h"

/* with_params: the whole request too. Standing (position, time left, progress) is asked for. NULL
 * when out of memory. */
json_t *limn_job_to_json(limn_server *s, const limn_job *job, bool with_params);
json_t *limn_artifact_to_json(const limn_artifact *a);
/* The event as the text of one object; nothing when it is none for clients. *last: no event of this
 * job follows. What a thousand readers of one event need from the disk is read once (`cache`). */
void limn_event_write(limn_buf *out, limn_server *s, const limn_job_event *e, bool *last);
/* Its "type"; NULL: none for clients. */
const char *limn_event_type(const limn_job_event *e);

enum { LIMN_STATE_CACHE = 16 };
/* Texts of jobs as they were at their last changes of state. Any thread. */
struct limn_state_cache {
    pthread_mutex_t lock;
    struct {
        char job[LIMN_JOB_ID_LEN + 1];
        limn_job_state state;
        int64_t time_ms;
        char *text;
    } rows[LIMN_STATE_CACHE];
    int next;
};
limn_status limn_state_cache_new(limn_state_cache **out, limn_err *err);
void limn_state_cache_free(limn_state_cache **cache);
/* "lost" and "bye". */
json_t *limn_event_plain_json(const char *type, const char *job);

#endif
