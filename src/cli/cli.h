/* SPDX-License-Identifier: MIT */
/*
 * The command line: what main.c hands to a command, and the pieces that commands share.
 *
 * This folder includes limn.h and nothing else of limn; it is the first user of the public
 * interface. Only here may a program print and end. One thread; a signal handler touches nothing
 * but the cancel flag.
 */
#ifndef LIMN_CLI_CLI_H
#define LIMN_CLI_CLI_H

#include "limn.h"

typedef struct cli {
    limn_params *app, *gen, *see, *serve; /* what the options said */
    limn_cancel *cancel;                  /* set by Ctrl-C and SIGTERM */
    char **args;                          /* what is not an option */
    int n_args;
} cli;

typedef struct cli_progress cli_progress;

typedef struct cli_command {
    const char *name;
    const char *args; /* for the usage line: "PROMPT" */
    const char *help;
    int min_args, max_args;
    limn_params_kind kind; /* of the parameters that it takes; APP: only those that all take */
    limn_status (*run)(cli *c, limn_err *err);
} cli_command;

limn_status cmd_draw(cli *c, limn_err *err);
limn_status cmd_redo(cli *c, limn_err *err);
limn_status cmd_upscale(cli *c, limn_err *err);
limn_status cmd_see(cli *c, limn_err *err);
limn_status cmd_tasks(cli *c, limn_err *err);
limn_status cmd_sheet(cli *c, limn_err *err);
limn_status cmd_quantize(cli *c, limn_err *err);
limn_status cmd_info(cli *c, limn_err *err);
limn_status cmd_samplers(cli *c, limn_err *err);
limn_status cmd_upscalers(cli *c, limn_err *err);
limn_status cmd_models(cli *c, limn_err *err);
limn_status cmd_schema(cli *c, limn_err *err);
limn_status cmd_serve(cli *c, limn_err *err);
limn_status cmd_key(cli *c, limn_err *err);
limn_status cmd_jobs(cli *c, limn_err *err);
limn_status cmd_manual(cli *c, limn_err *err);
limn_status cmd_completion(cli *c, limn_err *err);
limn_status cmd_version(cli *c, limn_err *err);

/* All commands, in the order of the usage. */
const cli_command *cli_commands(int *count);

/* err gets the text, the status comes back: limn_fail of the inside is not public. */
limn_status cli_fail(limn_err *err, limn_status st, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* "text" as a JSON string on stdout. */
void cli_print_json_text(const char *text);

/* ---- cmd_draw.c: drawing with c->gen as it is (draw and redo) ---- */

/* Draws, saves and reports. `original`, if not NULL, is compared with the first picture. */
limn_status cli_draw(cli *c, const limn_image *original, limn_err *err);

/* ---- cmd_see.c: pieces that chat shares ---- */

/* Opens the model that c->see names and says what there is to say about it. */
limn_status cli_seer_new(limn_seer **seer, cli *c, cli_progress *progress, limn_err *err);
/* A value "@file" of a text parameter becomes the contents of the file. */
limn_status cli_read_at_file(limn_params *params, const char *name, limn_err *err);
/* Text to stdout with '?' for everything that could steer a terminal. */
void cli_print_safe(const char *text, size_t len);

/* ---- output.c: where pictures go ---- */

enum { CLI_PATH_MAX = 4096 };

/* How files are written, from the "file" group of gen and --overwrite. */
limn_file_options cli_file_options(const cli *c);
/* The name of picture `index` of `count` with this seed. E_LIMIT: too long. */
limn_status cli_output_name(char out[CLI_PATH_MAX], const cli *c, int index, int count,
                            int64_t seed, limn_err *err);
/* Refuses, before any work, a name that could not be written: unknown ending, no such folder, no
 * right to write, a file that exists and may not be replaced. */
limn_status cli_output_check(const cli *c, const char *path, limn_err *err);
/* Saves, or writes to stdout when the name is "-". */
limn_status cli_output_save(const cli *c, const limn_image *image, const char *path,
                            const char *text, limn_err *err);

/* ---- progress.c: what the user sees meanwhile ---- */

struct cli_progress {
    bool terminal, utf8, quiet;
    int columns;
    char stage[32];   /* last one shown */
    double shown;     /* when the last plain line was written */
    bool open;        /* a bar is on the current line */
    int preview;      /* limn_terminal, or -1 */
    int preview_rows; /* lines that the last preview takes */
};

limn_status cli_progress_init(cli_progress *p, const cli *c, limn_err *err);
void cli_progress_event(void *progress, const limn_event *event); /* a limn_event_fn */
/* Ends the bar's line; before anything else is printed. */
void cli_progress_end(cli_progress *p);

#endif
