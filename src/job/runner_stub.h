/* SPDX-License-Identifier: MIT */
/*
 * A runner without models, deterministic and as fast as wanted: pictures are gradients made from
 * the seed, answers repeat the question. For tests of everything around it, and for `limn serve
 * --engine stub`, which measures the server alone.
 */
#ifndef LIMN_JOB_RUNNER_STUB_H
#define LIMN_JOB_RUNNER_STUB_H

#include "job/runner.h"

typedef struct limn_stub_options {
    double step_ms;   /* time of one step (or token); 0: none */
    int picture_side; /* most pixels of a side that are really made; 0: 64 */
    /* Words in a prompt that make it misbehave: "stub:fail" (E_NUMERIC), "stub:nomem", "stub:slow"
     * (100 times the step time), "stub:deaf" (cancel is seen at the end only), "stub:die" (ends the
     * process at once by SIGKILL). Off unless wanted. */
    bool misbehave;
} limn_stub_options;

limn_status limn_runner_stub_new(limn_runner **out, const limn_stub_options *opt, limn_err *err);

#endif
