/* SPDX-License-Identifier: MIT */
/* Where the server keeps things; see the data_dir and keys rows of the table. Any thread. */
#ifndef LIMN_SERVER_SERVE_PATHS_H
#define LIMN_SERVER_SERVE_PATHS_H

#include "param/serve.h"

enum { LIMN_SERVE_PATH_MAX = 4096 };

/* The data folder: as set, or $XDG_DATA_HOME/limn, or ~/.local/share/limn. E_NOT_FOUND: no home. */
limn_status limn_serve_path_data(char out[LIMN_SERVE_PATH_MAX], const limn_params *serve,
                                 limn_err *err);
limn_status limn_serve_path_keys(char out[LIMN_SERVE_PATH_MAX], const limn_params *serve,
                                 limn_err *err);
/* <data folder>/<name> */
limn_status limn_serve_path_in(char out[LIMN_SERVE_PATH_MAX], const limn_params *serve,
                               const char *name, limn_err *err);

#endif
