/* SPDX-License-Identifier: MIT */
/* Jobs of a data folder, looked at from outside of the server; see limn.h. */
#include <sys/stat.h>

#include "job/report.h"
#include "server/serve_paths.h"

limn_status limn_jobs_show(char **out, const limn_params *serve, const char *what, bool json,
                           limn_err *err) {
    char path[LIMN_SERVE_PATH_MAX];
    struct stat sb;
    limn_store *store = NULL;
    limn_buf text;
    limn_status st = LIMN_OK;
    *out = NULL;
    limn_buf_init(&text, 64 << 20);
    LIMN_TRY(limn_serve_path_in(path, serve, "jobs.db", err));
    LIMN_CHECK(err, stat(path, &sb) == 0, LIMN_E_NOT_FOUND, "%s: no server has kept jobs here",
               path);
    limn_sqlite_options o = {.path = path, .read_only = true};
    LIMN_TRY(limn_store_sqlite_open(&store, &o, err));
    LIMN_TRY(limn_job_report(&text, store, what, json, err));
    *out = limn_buf_take(&text);
    LIMN_CHECK(err, *out, LIMN_E_NOMEM, "no memory for a list of jobs");
out:
    limn_store_close(&store);
    limn_buf_deinit(&text);
    return st;
}
