/* SPDX-License-Identifier: MIT */
/* A SEE job on an open seer: its conversation is put together from the request and the artifacts,
 * the answer streams into the run. The worker's thread. */
#ifndef LIMN_JOB_RUN_SEE_H
#define LIMN_JOB_RUN_SEE_H

#include "job/runner.h"

/* `see`: the values of the request. E_VALUE names a member of it. */
limn_status limn_run_see(limn_run *run, limn_seer *seer, const limn_params *see, limn_err *err);

#endif
