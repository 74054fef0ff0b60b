/* SPDX-License-Identifier: MIT */
/* A server for targets that need one: a real queue in a folder of its own, no worker, no models, no
 * threads of HTTP. Opened by the first input and kept: a fuzzer has no end of its own. */
#ifndef LIMN_FUZZ_SERVER_H
#define LIMN_FUZZ_SERVER_H

#include <stdio.h>
#include <stdlib.h>

#include "job/runner_stub.h"
#include "job/store_sqlite.h"
#include "server/server.h"

static void demand(bool ok) {
    if (!ok) __builtin_trap();
}

static limn_server *fuzz_server(void) {
    static limn_server s;
    static char dir[] = "/tmp/limn-fuzz-XXXXXX";
    char db[64];
    limn_store *store = NULL;
    limn_artifacts *artifacts = NULL;
    limn_runner *runner = NULL;
    limn_queue_options opt = {.max_queued = 8, .max_queued_owner = 8};
    if (s.queue) return &s;
    demand(mkdtemp(dir) != NULL);
    snprintf(db, sizeof db, "%s/jobs.db", dir);
    demand(limn_params_new(&s.serve, LIMN_PARAMS_SERVE, NULL) == LIMN_OK);
    demand(limn_params_set(s.serve, "data_dir", dir, LIMN_FROM_API, NULL) == LIMN_OK);
    s.set = limn_serve_of(s.serve);
    demand(limn_store_sqlite_open(&store, &(limn_sqlite_options){.path = db}, NULL) == LIMN_OK);
    demand(limn_artifacts_open(&artifacts, dir, NULL) == LIMN_OK);
    demand(limn_runner_stub_new(&runner, &(limn_stub_options){0}, NULL) == LIMN_OK);
    demand(limn_queue_open(&s.queue, store, artifacts, runner, &opt, NULL) == LIMN_OK);
    demand(limn_shelf_new(&s.own_shelf, dir, NULL) == LIMN_OK);
    s.shelf = s.own_shelf;
    demand(limn_prefs_open(&s.prefs, &s, NULL) == LIMN_OK);
    return &s;
}

#endif
