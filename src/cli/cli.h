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
    double begin; /* cli_now() when the program began */
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
limn_status cmd_chat(cli *c, limn_err *err);
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
/* An answer on its way to stdout. */
typedef struct cli_stream {
    cli *c;
    cli_progress *progress;
    bool show, terminal, thinking, open; /* open: the last line has no end yet */
} cli_stream;
bool cli_stream_said(void *stream, const limn_said *s);   /* a limn_said_fn */
void cli_stream_event(void *stream, const limn_event *e); /* a limn_event_fn */
/* Ends the last line and the dimmed thinking; before anything else is printed. */
void cli_stream_end(cli_stream *o);
/* One line on stderr: how fast pictures, prompt and answer went. */
void cli_print_rates(const limn_answer *a);
/* Text to stdout with '?' for everything that could steer a terminal. */
void cli_print_safe(const char *text, size_t len);

/* ---- chat_line.c: lines from a person or a pipe ---- */

typedef struct chat_lines {
    bool terminal;      /* with editing and history */
    char history[4096]; /* its file; "" for none */
} chat_lines;

void chat_lines_init(chat_lines *l);
/* Saves the history. */
void chat_lines_end(chat_lines *l);
typedef enum chat_line_end { CHAT_LINE, CHAT_LINE_END, CHAT_LINE_STOPPED } chat_line_end;
/* The next line without its end; a backslash at the end goes on in the next one. Freed by the
 * caller. STOPPED: Ctrl-C, what was typed is forgotten. */
chat_line_end chat_line_read(char **out, chat_lines *l);

/* ---- chat_talk.c: the conversation so far ---- */

typedef struct chat_turn {
    limn_role role;
    char *text;
    struct chat_file {
        char *path;
        void *data;
        size_t size;
    } *files;
    size_t n_files;
} chat_turn;

typedef struct chat_talk {
    chat_turn *turns;
    size_t n, cap;
    struct chat_file *next; /* attached to the question that comes */
    size_t n_next;
} chat_talk;

void chat_talk_clear(chat_talk *t);
/* Attaches a file to the next question; its bytes are kept. */
limn_status chat_talk_attach(chat_talk *t, const char *path, limn_err *err);
/* Takes paths of files out of a line, as terminals paste them when a picture is dropped: quoted,
 * with backslashes, as file:// or plain. What is left is the text. Of a `question` it is noted on
 * stderr when a word can only be meant as a file and is none. */
limn_status chat_talk_attach_dropped(chat_talk *t, char *line, bool question, limn_err *err);
/* Adds a turn; a question takes the attached files. */
limn_status chat_talk_add(chat_talk *t, limn_role role, const char *text, limn_err *err);
/* Forgets the last turn; its files stay attached to the next question. */
void chat_talk_drop(chat_talk *t);
/* Takes off what would go with the next question. */
void chat_talk_detach(chat_talk *t);
/* The messages for limn_see; freed by the caller with free(*messages), free(*parts). */
limn_status chat_talk_make(limn_talk *out, limn_message **messages, limn_message_part **parts,
                           const chat_talk *t, limn_err *err);
/* JSON file of the conversation (with the paths of its files) and the settings. */
limn_status chat_talk_save(const chat_talk *t, const limn_params *see, const char *path,
                           bool overwrite, limn_err *err);
limn_status chat_talk_load(chat_talk *t, limn_params *see, const char *path, limn_err *err);

/* ---- output.c: where pictures go ---- */

enum { CLI_PATH_MAX = 4096 };

/* How files are written, from the "file" group of gen and --overwrite. */
limn_file_options cli_file_options(const cli *c);
/* The name of picture `index` of `count` with this seed. E_LIMIT: too long. */
limn_status cli_output_name(char out[CLI_PATH_MAX], const cli *c, int index, int count,
                            int64_t seed, limn_err *err);
/* Refuses, before any work, a name that could not be written: no such folder, no right to write, a
 * file that exists and may not be replaced. */
limn_status cli_write_check(const cli *c, const char *path, limn_err *err);
/* The same for a picture: also an ending that says no format. */
limn_status cli_output_check(const cli *c, const char *path, limn_err *err);
/* Saves, or writes to stdout when the name is "-". */
limn_status cli_output_save(const cli *c, const limn_image *image, const char *path,
                            const char *text, limn_err *err);

/* ---- progress.c: what the user sees meanwhile ---- */

struct cli_progress {
    bool terminal, utf8, quiet;
    bool verbose; /* stages say when they begin and how much memory was taken so far */
    int columns;
    double begin;     /* of the program */
    char stage[32];   /* last one shown */
    double shown;     /* when the last plain line was written */
    bool open;        /* a bar is on the current line */
    int preview;      /* limn_terminal, or -1 */
    int preview_rows; /* lines that the last preview takes */
};

double cli_now(void); /* seconds of a clock that never jumps */
limn_status cli_progress_init(cli_progress *p, const cli *c, limn_err *err);
void cli_progress_event(void *progress, const limn_event *event); /* a limn_event_fn */
/* Ends the bar's line; before anything else is printed. */
void cli_progress_end(cli_progress *p);

#endif
