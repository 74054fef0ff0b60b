/* SPDX-License-Identifier: MIT */
/*
 * limn: the program. Finds the command, reads the options by the parameter tables, runs it, and
 * turns its status into one line and an exit code (docs/CLI.md lists them).
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli.h"

static const cli_command commands[] = {
    {"draw", "[PROMPT]", "draw pictures from a prompt (- reads it from stdin)", 0, 1,
     LIMN_PARAMS_GEN, cmd_draw},
    {"redo", "PICTURE", "draw a picture again from the recipe inside it", 1, 1, LIMN_PARAMS_GEN,
     cmd_redo},
    {"upscale", "PICTURE", "enlarge a picture", 1, 1, LIMN_PARAMS_GEN, cmd_upscale},
    {"see", "FILE... QUESTION", "ask a question about pictures", 0, 4096, LIMN_PARAMS_SEE, cmd_see},
    {"chat", "[FILE...]", "talk with a model about pictures", 0, 256, LIMN_PARAMS_SEE, cmd_chat},
    {"sheet", "PICTURE...", "put pictures on one sheet with their prompts below", 1, 256,
     LIMN_PARAMS_GEN, cmd_sheet},
    {"info", "FILE", "say what a model or picture is and what is inside", 1, 1, LIMN_PARAMS_APP,
     cmd_info},
    {"quantize", "IN OUT.gguf", "store a model in fewer bits, as a GGUF file", 0, 2,
     LIMN_PARAMS_APP, cmd_quantize},
    {"samplers", "", "list solvers and noise schedules", 0, 0, LIMN_PARAMS_APP, cmd_samplers},
    {"upscalers", "", "list ways to enlarge pictures", 0, 0, LIMN_PARAMS_APP, cmd_upscalers},
    {"tasks", "", "list what see can do (limn see --task NAME)", 0, 0, LIMN_PARAMS_APP, cmd_tasks},
    {"models", "", "list models that can be named", 0, 0, LIMN_PARAMS_APP, cmd_models},
    {"schema", "[gen|see|serve|app]", "print the JSON Schema of the parameters", 0, 1,
     LIMN_PARAMS_APP, cmd_schema},
    {"serve", "", "serve drawing and seeing over HTTP, with a page for the browser", 0, 0,
     LIMN_PARAMS_SERVE, cmd_serve},
    {"key", "create OWNER [SCOPE] [DAYS] | list | revoke ID", "keys for the server", 1, 4,
     LIMN_PARAMS_SERVE, cmd_key},
    {"jobs", "[STATE|ID|WORDS]", "what the server's queue holds and has done", 0, 1,
     LIMN_PARAMS_SERVE, cmd_jobs},
    {"manual", "", "write the manual page", 0, 0, LIMN_PARAMS_APP, cmd_manual},
    {"completion", "bash|zsh|fish", "write what a shell completes", 1, 1, LIMN_PARAMS_APP,
     cmd_completion},
    {"version", "", "print the version", 0, 0, LIMN_PARAMS_APP, cmd_version},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

const cli_command *cli_commands(int *count) {
    *count = COMMANDS;
    return commands;
}

/* The flag that the signal handler sets; written before the handler is installed. */
static limn_cancel *signal_cancel;

static void on_signal(int number) {
    (void)number;
    limn_cancel_set(signal_cancel);
}

/* The first signal asks the run to stop, the second one ends the program. */
static void catch_signals(limn_cancel *cancel) {
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    signal_cancel = cancel;
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN); /* a closed pipe or a file-size limit is an error of the write, not */
    signal(SIGXFSZ, SIG_IGN); /* the end of the program */
}

limn_status cli_fail(limn_err *err, limn_status st, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    for (unsigned char *c = (unsigned char *)err->text; *c; c++)
        if (*c < 0x20 || *c == 0x7f) *c = '?';
    err->status = st;
    return st;
}

void cli_print_json_text(const char *text) {
    putchar('"');
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            printf("\\%c", *c);
        else if (*c == '\n')
            fputs("\\n", stdout);
        else if (*c < 0x20)
            printf("\\u%04x", *c);
        else
            putchar(*c);
    }
    putchar('"');
}

static int terminal_columns(int fd) {
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return 80;
}

static const cli_command *find_command(const char *name) {
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    return NULL;
}

static void print_usage(FILE *to) {
    fprintf(to,
            "limn %s draws pictures with diffusion models and answers questions about pictures.\n\n"
            "    limn draw \"a lighthouse at dusk, oil painting\" -o out.png\n"
            "    limn see out.png \"What is on the rocks?\"\n\nCommands:\n",
            limn_version());
    for (int i = 0; i < COMMANDS; i++) {
        char name[40];
        snprintf(name, sizeof name, "%s %s", commands[i].name, commands[i].args);
        fprintf(to, "  %-22s %s\n", name, commands[i].help);
    }
    fprintf(to, "\nlimn COMMAND --help lists the options of a command.\n");
}

static limn_status print_help(const cli_command *cmd, limn_err *err) {
    limn_params_kind kinds[] = {cmd->kind, LIMN_PARAMS_APP};
    int skip = cmd->kind == LIMN_PARAMS_APP;
    char *text;
    limn_status st =
        limn_params_help(&text, kinds + skip, 2 - skip, terminal_columns(STDOUT_FILENO), err);
    if (st != LIMN_OK) return st;
    printf("limn %s [OPTIONS] %s: %s\n\n%s", cmd->name, cmd->args, cmd->help, text);
    limn_text_free(&text);
    return LIMN_OK;
}

static bool asks_for(int argc, char **argv, const char *long_name, const char *short_name) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], long_name) == 0 || strcmp(argv[i], short_name) == 0) return true;
    return false;
}

static bool takes_dry_run(const cli_command *cmd) {
    return cmd->run == cmd_draw || cmd->run == cmd_redo || cmd->run == cmd_quantize;
}

static limn_status check_args(const cli *c, const cli_command *cmd, limn_err *err) {
    if (c->n_args < cmd->min_args)
        return cli_fail(err, LIMN_E_USAGE, "%s needs %s; limn %s --help says more", cmd->name,
                        cmd->args, cmd->name);
    if (c->n_args > cmd->max_args)
        return cli_fail(err, LIMN_E_USAGE, "%s does not know what to do with \"%.60s\"%s",
                        cmd->name, c->args[cmd->max_args],
                        cmd->kind == LIMN_PARAMS_GEN ? " (put a prompt of several words in quotes)"
                                                     : "");
    if (limn_params_int(c->app, "dry_run") && !takes_dry_run(cmd))
        return cli_fail(err, LIMN_E_USAGE, "%s has no --dry-run (draw, redo and quantize have)",
                        cmd->name);
    return LIMN_OK;
}

static limn_status run_command(const cli_command *cmd, cli *c, int argc, char **argv,
                               limn_err *err) {
    limn_status st = limn_params_new(&c->app, LIMN_PARAMS_APP, err);
    if (st == LIMN_OK) st = limn_params_new(&c->gen, LIMN_PARAMS_GEN, err);
    if (st == LIMN_OK) st = limn_params_new(&c->see, LIMN_PARAMS_SEE, err);
    if (st == LIMN_OK) st = limn_params_new(&c->serve, LIMN_PARAMS_SERVE, err);
    if (st == LIMN_OK) st = limn_cancel_new(&c->cancel, err);
    if (st != LIMN_OK) return st;
    limn_params *const sets[] = {c->app, cmd->kind == LIMN_PARAMS_SEE     ? c->see
                                         : cmd->kind == LIMN_PARAMS_SERVE ? c->serve
                                                                          : c->gen};
    st = limn_params_parse_args(sets, cmd->kind == LIMN_PARAMS_APP ? 1 : 2, argc, argv, &c->n_args,
                                err);
    c->args = argv;
    if (st == LIMN_OK) st = check_args(c, cmd, err);
    if (st != LIMN_OK) return st;
    catch_signals(c->cancel);
    st = cmd->run(c, err);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    return st;
}

/* One line for people; a JSON object too when the caller reads JSON. */
static int report(limn_status st, const limn_err *err, bool json) {
    if (st == LIMN_OK) return 0;
    const char *text = err->text[0] ? err->text : limn_status_text(st);
    fprintf(stderr, "limn: %s\n", text);
    if (json) {
        printf("{\"error\": {\"status\": ");
        cli_print_json_text(limn_status_text(st));
        printf(", \"exit\": %d, \"text\": ", limn_status_exit(st));
        cli_print_json_text(text);
        printf("}}\n");
    }
    return limn_status_exit(st);
}

int main(int argc, char **argv) {
    limn_err err = {0};
    cli c = {.begin = cli_now()};
    if (argc < 2) {
        print_usage(stderr);
        return limn_status_exit(LIMN_E_USAGE);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return 0;
    }
    /* Not for people: what `limn serve` starts to decode pictures in. */
    if (strcmp(argv[1], "decode-host") == 0 && argc == 2) _exit(limn_decode_host());
    const cli_command *cmd = find_command(strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
    if (!cmd) {
        cli_fail(&err, LIMN_E_USAGE, "there is no command \"%.60s\"; limn --help lists them",
                 argv[1]);
        return report(LIMN_E_USAGE, &err, false);
    }
    if (asks_for(argc - 2, argv + 2, "--help", "-h"))
        return report(print_help(cmd, &err), &err, false);
    limn_status st = run_command(cmd, &c, argc - 2, argv + 2, &err);
    int code = report(st, &err, c.app && limn_params_int(c.app, "json"));
    limn_params_free(&c.app);
    limn_params_free(&c.gen);
    limn_params_free(&c.see);
    limn_params_free(&c.serve);
    limn_cancel_free(&c.cancel);
    if (fflush(stdout) != 0 && code == 0) {
        fprintf(stderr, "limn: the result cannot be written to standard output\n");
        code = limn_status_exit(LIMN_E_IO);
    }
    return code;
}
