/* SPDX-License-Identifier: MIT */
/* limn samplers, upscalers, models: the engine's lists, for people or as JSON. */
#include <stdio.h>

#include "cli/cli.h"

typedef struct list_row {
    const char *list, *title;
} list_row;

static void print_list_json(const list_row *row, bool first) {
    limn_choice choice;
    printf("%s\"%s\": [", first ? "" : ", ", row->list);
    for (int i = 0; limn_engine_choice(&choice, row->list, i); i++) {
        printf("%s{\"name\": ", i ? ", " : "");
        cli_print_json_text(choice.name);
        printf(", \"aliases\": ");
        cli_print_json_text(choice.aliases ? choice.aliases : "");
        printf(", \"help\": ");
        cli_print_json_text(choice.help ? choice.help : "");
        putchar('}');
    }
    putchar(']');
}

static void print_list(const list_row *row, bool aliases) {
    limn_choice choice;
    int width = 0, n;
    for (int i = 0; limn_engine_choice(&choice, row->list, i); i++) {
        n = snprintf(NULL, 0, "%s", choice.name);
        if (n > width) width = n;
    }
    printf("%s:\n", row->title);
    for (int i = 0; limn_engine_choice(&choice, row->list, i); i++) {
        printf("  %-*s  %s\n", width, choice.name, choice.help ? choice.help : "");
        if (aliases && choice.aliases) printf("  %*s  also: %s\n", width, "", choice.aliases);
    }
}

static limn_status print_lists(const cli *c, const list_row *rows, int count) {
    bool json = limn_params_int(c->app, "json") != 0;
    bool aliases = limn_params_int(c->app, "verbose") != 0;
    if (json) putchar('{');
    for (int i = 0; i < count; i++) {
        if (json) {
            print_list_json(&rows[i], i == 0);
        } else {
            if (i) putchar('\n');
            print_list(&rows[i], aliases);
        }
    }
    if (json) printf("}\n");
    return LIMN_OK;
}

limn_status cmd_samplers(cli *c, limn_err *err) {
    static const list_row rows[] = {{"sampler", "Samplers (--sampler; -v shows other names)"},
                                    {"schedule", "Noise schedules (--schedule)"}};
    (void)err;
    return print_lists(c, rows, 2);
}

limn_status cmd_upscalers(cli *c, limn_err *err) {
    static const list_row rows[] = {{"upscaler", "Upscalers (--upscaler, --hires-upscaler)"}};
    (void)err;
    return print_lists(c, rows, 1);
}

limn_status cmd_models(cli *c, limn_err *err) {
    static const list_row rows[] = {{"model", "Models (--model)"}};
    (void)err;
    return print_lists(c, rows, 1);
}
