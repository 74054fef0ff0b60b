/* SPDX-License-Identifier: MIT */
/* limn schema and limn version: what other programs ask first. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

limn_status cmd_schema(cli *c, limn_err *err) {
    const char *which = c->n_args ? c->args[0] : "gen";
    char *text;
    static const struct {
        const char *name;
        limn_params_kind kind;
    } rows[] = {{"gen", LIMN_PARAMS_GEN},
                {"app", LIMN_PARAMS_APP},
                {"see", LIMN_PARAMS_SEE},
                {"serve", LIMN_PARAMS_SERVE}};
    size_t i = 0, n = sizeof rows / sizeof rows[0];
    while (i < n && strcmp(which, rows[i].name) != 0) i++;
    if (i == n)
        return cli_fail(err, LIMN_E_USAGE, "schema knows gen, see, serve and app, not \"%.40s\"",
                        which);
    limn_status st = limn_params_schema(&text, rows[i].kind, limn_engine_choice, err);
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
