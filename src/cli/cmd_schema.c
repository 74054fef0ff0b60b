/* SPDX-License-Identifier: MIT */
/* limn schema and limn version: what other programs ask first. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

limn_status cmd_schema(cli *c, limn_err *err) {
    const char *which = c->n_args ? c->args[0] : "gen";
    char *text;
    if (strcmp(which, "gen") != 0 && strcmp(which, "app") != 0)
        return cli_fail(err, LIMN_E_USAGE, "schema knows gen and app, not \"%.40s\"", which);
    limn_status st = limn_params_schema(&text, which[0] == 'g' ? LIMN_PARAMS_GEN : LIMN_PARAMS_APP,
                                        limn_engine_choice, err);
    if (st != LIMN_OK) return st;
    fputs(text, stdout);
    limn_text_free(&text);
    return LIMN_OK;
}

limn_status cmd_version(cli *c, limn_err *err) {
    (void)err;
    if (limn_params_int(c->app, "json")) {
        printf("{\"version\": \"%s\"}\n", limn_version());
        return LIMN_OK;
    }
    printf("limn %s\n", limn_version());
    return LIMN_OK;
}
