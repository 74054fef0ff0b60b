/* SPDX-License-Identifier: MIT */
/*
 * A server that only says what it was asked to do: the command's options, variables and settings
 * file are tested with it. Keys are the real ones.
 */
#include <stdio.h>

#include "limn.h"

limn_status limn_serve(const limn_params *serve, const limn_params *app,
                       const limn_serving *serving, limn_err *err) {
    char line[256];
    (void)err;
    snprintf(line, sizeof line, "host %s, depth %lld, compat %s, threads %lld",
             limn_params_text(serve, "host"), (long long)limn_params_int(serve, "queue_depth"),
             limn_params_text(serve, "compat"), (long long)limn_params_int(app, "threads"));
    if (serving->log) serving->log(serving->user, line);
    serving->ready(serving->user, limn_params_text(serve, "host"),
                   (int)limn_params_int(serve, "port"));
    return LIMN_OK;
}
