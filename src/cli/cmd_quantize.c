/* SPDX-License-Identifier: MIT */
/* limn quantize: a model in another type, as a GGUF file, with the loss that was measured. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static void print_types(void) {
    const char *name, *help;
    for (int i = 0; limn_quantize_choice(&name, &help, i); i++) printf("%-8s %s\n", name, help);
}

limn_status cmd_quantize(cli *c, limn_err *err) {
    cli_progress progress;
    char *report = NULL;
    const char *type = limn_params_text(c->app, "quantize_type");
    if (strcmp(type, "help") == 0) {
        print_types();
        return LIMN_OK;
    }
    if (c->n_args != 2)
        return cli_fail(err, LIMN_E_USAGE,
                        "quantize needs a model and a file to write: limn quantize IN OUT.gguf "
                        "--type q4_k_m");
    limn_quantize_options o = {.type = *type ? type : "q4_k_m",
                               .dry_run = limn_params_int(c->app, "dry_run"),
                               .overwrite = limn_params_int(c->app, "overwrite"),
                               .json = limn_params_int(c->app, "json"),
                               .threads = (int)limn_params_int(c->app, "threads")};
    limn_status st = cli_progress_init(&progress, c, err);
    if (st != LIMN_OK) return st;
    limn_watch watch = {.event = cli_progress_event, .user = &progress, .cancel = c->cancel};
    st = limn_quantize(&report, c->args[0], c->args[1], &o, &watch, err);
    cli_progress_end(&progress);
    if (st == LIMN_OK && (o.json || !limn_params_int(c->app, "quiet"))) printf("%s", report);
    limn_text_free(&report);
    return st;
}
