/* SPDX-License-Identifier: MIT */
/* limn serve, limn key and limn jobs: the server, the keys that open it, what it has done. */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
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

/* ---- reading again ---- */

/* Set by SIGHUP; written before the handler is installed. */
static limn_cancel *asked_again;

static void on_hangup(int number) {
    (void)number;
    limn_cancel_set(asked_again);
}

/* What the flags said alone: files and variables are weaker and read again. */
typedef struct serving_user {
    cli *c;
    limn_params *serve, *app;
} serving_user;

static limn_status read_again(void *user, limn_params **out, limn_err *err) {
    serving_user *u = user;
    cli again = *u->c;
    limn_status st = limn_params_copy(&again.serve, u->serve, err);
    if (st != LIMN_OK) return st;
    st = limn_params_copy(&again.app, u->app, err);
    if (st == LIMN_OK) st = read_settings(&again, err);
    if (st == LIMN_OK) {
        *out = again.serve;
        again.serve = NULL;
    }
    limn_params_free(&again.serve);
    limn_params_free(&again.app);
    return st;
}

/* ---- the service manager (sd_notify(3), without its library) ---- */

static void notify(void *user, const char *state) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    char text[64];
    (void)user;
    size_t n = path ? strlen(path) : 0;
    if (n < 2 || n >= sizeof a.sun_path || (path[0] != '/' && path[0] != '@')) return;
    memcpy(a.sun_path, path, n);
    if (path[0] == '@') a.sun_path[0] = 0;
    if (strcmp(state, "RELOADING=1") == 0) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        snprintf(text, sizeof text, "%s\nMONOTONIC_USEC=%lld", state,
                 (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000);
        state = text;
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    /* nobody who could be told if it fails */
    (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&a,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
}

/* A third of what the manager waits for; 0: it does not watch this process. */
static double watchdog_seconds(void) {
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    double seconds = usec ? strtod(usec, NULL) / 1e6 : 0;
    if (pid && strtol(pid, NULL, 10) != (long)getpid()) return 0;
    return seconds > 0 && seconds < 86400 ? seconds / 3 : 0;
}

limn_status cmd_serve(cli *c, limn_err *err) {
    serving_user user = {.c = c};
    struct sigaction hangup = {.sa_handler = on_hangup, .sa_flags = SA_RESTART};
    limn_serving serving = {.log = limn_params_int(c->app, "quiet") ? NULL : print_line,
                            .ready = print_ready,
                            .user = &user,
                            .terminal = isatty(STDERR_FILENO) != 0,
                            .stop = c->cancel,
                            .settings = read_again,
                            .notify = getenv("NOTIFY_SOCKET") ? notify : NULL,
                            .watchdog_seconds = watchdog_seconds()};
    limn_status st = limn_cancel_new(&serving.reload, err);
    if (st == LIMN_OK) st = limn_params_copy(&user.serve, c->serve, err);
    if (st == LIMN_OK) st = limn_params_copy(&user.app, c->app, err);
    if (st == LIMN_OK) st = read_settings(c, err);
    if (st == LIMN_OK) {
        asked_again = serving.reload;
        sigaction(SIGHUP, &hangup, NULL);
        st = limn_serve(c->serve, c->app, &serving, err);
        signal(SIGHUP, SIG_DFL);
    }
    limn_params_free(&user.serve);
    limn_params_free(&user.app);
    limn_cancel_free(&serving.reload);
    return st;
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
    limn_status st = limn_key_create(&key, c->serve, c->args[1], scope, (int)days, NULL, err);
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
        return limn_key_revoke(c->serve, c->args[1], NULL, err);
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
