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
/* The event as one object; NULL when it is none for clients. *last: no event of this job follows.
 */
json_t *limn_event_to_json(limn_server *s, const limn_job_event *e, bool *last);
/* "lost" and "bye". */
json_t *limn_event_plain_json(const char *type, const char *job);

#endif
