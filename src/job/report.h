/* SPDX-License-Identifier: MIT */
/* A store shown to a person or a program, without a queue: what waits, what ran, one job. Reads
 * only, so a server may be using the store. */
#ifndef LIMN_JOB_REPORT_H
#define LIMN_JOB_REPORT_H

#include "job/store.h"

/* what: NULL or "": counts and the newest jobs; a state: those; an id: that job with its request;
 * anything else: jobs with all of these words. Lines, or one JSON object. */
limn_status limn_job_report(limn_buf *out, limn_store *store, const char *what, bool json,
                            limn_err *err);

#endif
