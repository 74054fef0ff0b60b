/* SPDX-License-Identifier: MIT */
/* limn serve, limn key and limn jobs: the server, the keys that open it, what it has done. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

static void print_line(void *user, const char *line) {
    (void)user;
    fprintf(stderr, "%s\n", line);
}

/* For people, and for scripts that wait for it. */
static void print_ready(void *user, const char *address, int port) {
    bool v6 = strchr(address, ':') != NULL;
    (void)user;
    printf("limn serves http://%s%s%s:%d\n", v6 ? "[" : "", address, v6 ? "]" : "", port);
    fflush(stdout);
}

/* Flags are read already; a file is weaker, variables are weakest. */
static limn_status read_settings(cli *c, limn_err *err) {
    limn_params *const sets[] = {c->serve, c->app};
    limn_status st = limn_params_parse_env(c->serve, "LIMN_SERVE_", err);
    if (st == LIMN_OK) st = limn_params_parse_env(c->app, "LIMN_", err);
    const char *path = limn_params_text(c->serve, "config");
    if (st == LIMN_OK && *path) st = limn_params_parse_lines(sets, 2, path, err);
    return st;
}

limn_status cmd_serve(cli *c, limn_err *err) {
    limn_status st = read_settings(c, err);
    if (st != LIMN_OK) return st;
    limn_serving serving = {.log = limn_params_int(c->app, "quiet") ? NULL : print_line,
                            .ready = print_ready,
                            .terminal = isatty(STDERR_FILENO) != 0,
                            .stop = c->cancel};
    return limn_serve(c->serve, c->app, &serving, err);
}

/* ---- keys ---- */

static limn_status create_key(cli *c, limn_err *err) {
    char *key;
    const char *scope = c->n_args > 2 ? c->args[2] : "infer";
    char *end = NULL;
    long days = c->n_args > 3 ? strtol(c->args[3], &end, 10) : 0;
    if (c->n_args < 2) return cli_fail(err, LIMN_E_USAGE, "key create needs an owner");
    if (end && (*end || days < 1 || days > 36500))
        return cli_fail(err, LIMN_E_USAGE, "the key's days are 1 to 36500");
    limn_status st = limn_key_create(&key, c->serve, c->args[1], scope, (int)days, err);
    if (st != LIMN_OK) return st;
    if (limn_params_int(c->app, "json"))
        printf("{\"key\": \"%s\"}\n", key);
    else
        printf("%s\n", key);
    limn_text_free(&key);
    return LIMN_OK;
}

limn_status cmd_key(cli *c, limn_err *err) {
    char *list;
    limn_status st = read_settings(c, err);
    if (st != LIMN_OK) return st;
    if (strcmp(c->args[0], "create") == 0) return create_key(c, err);
    if (strcmp(c->args[0], "list") == 0 && c->n_args == 1) {
        st = limn_key_list(&list, c->serve, err);
        if (st != LIMN_OK) return st;
        printf("%s\n", list);
        limn_text_free(&list);
        return LIMN_OK;
    }
    if (strcmp(c->args[0], "revoke") == 0 && c->n_args == 2)
        return limn_key_revoke(c->serve, c->args[1], err);
    return cli_fail(err, LIMN_E_USAGE, "key knows create OWNER [SCOPE] [DAYS], list and revoke ID");
}

/* ---- jobs ---- */

limn_status cmd_jobs(cli *c, limn_err *err) {
    char *text;
    bool json = limn_params_int(c->app, "json") != 0;
    limn_status st = read_settings(c, err);
    if (st != LIMN_OK) return st;
    st = limn_jobs_show(&text, c->serve, c->n_args > 0 ? c->args[0] : NULL, json, err);
    if (st != LIMN_OK) return st;
    cli_print_safe(text, strlen(text));
    if (json) putchar('\n');
    limn_text_free(&text);
    return LIMN_OK;
}
