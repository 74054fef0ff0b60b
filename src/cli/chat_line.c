/* SPDX-License-Identifier: MIT */
/*
 * Lines of limn chat: with editing and history (libedit) on a terminal, plain elsewhere. History is
 * kept in $XDG_STATE_HOME/limn/chat_history, readable by its owner only.
 */
#include <editline/readline.h>
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

enum { HISTORY_LINES = 1000, LINE_MAX_BYTES = 1 << 20 };

/* "" when there is no home, or its folders cannot be made: then there is no history file. */
static void history_path(char *out, size_t size) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char dir[3000];
    out[0] = 0;
    if (state && state[0])
        snprintf(dir, sizeof dir, "%.2900s", state);
    else if (home && home[0])
        snprintf(dir, sizeof dir, "%.2900s/.local/state", home);
    else
        return;
    for (char *at = strchr(dir + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        mkdir(dir, 0700);
        *at = '/';
    }
    mkdir(dir, 0700);
    size_t n = strlen(dir);
    snprintf(dir + n, sizeof dir - n, "/limn");
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) return;
    snprintf(out, size, "%s/chat_history", dir);
}

void chat_lines_init(chat_lines *l) {
    const char *term = getenv("TERM");
    *l = (chat_lines){0};
    l->terminal =
        isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !(term && strcmp(term, "dumb") == 0);
    setlocale(LC_CTYPE, "");
    if (!l->terminal) return;
    using_history();
    stifle_history(HISTORY_LINES);
    history_path(l->history, sizeof l->history);
    if (l->history[0]) read_history(l->history); /* none yet: an empty one */
}

void chat_lines_end(chat_lines *l) {
    if (!l->terminal || !l->history[0]) return;
    mode_t mask = umask(0077);
    if (write_history(l->history) != 0)
        fprintf(stderr, "note: the history cannot be written to %s\n", l->history);
    umask(mask);
}

static chat_line_end line_get(char **out, const chat_lines *l, const char *prompt) {
    *out = NULL;
    if (l->terminal) {
        errno = 0;
        *out = readline(prompt);
        if (!*out) return errno == EINTR ? CHAT_LINE_STOPPED : CHAT_LINE_END;
        return CHAT_LINE;
    }
    size_t cap = 0;
    errno = 0;
    ssize_t n = getline(out, &cap, stdin);
    if (n < 0) {
        free(*out);
        *out = NULL;
        return errno == EINTR ? CHAT_LINE_STOPPED : CHAT_LINE_END;
    }
    while (n > 0 && ((*out)[n - 1] == '\n' || (*out)[n - 1] == '\r')) (*out)[--n] = 0;
    return CHAT_LINE;
}

chat_line_end chat_line_read(char **out, chat_lines *l) {
    char *all = NULL;
    size_t len = 0;
    *out = NULL;
    for (;;) {
        char *line;
        chat_line_end end = line_get(&line, l, all ? "... " : "> ");
        if (end == CHAT_LINE_STOPPED || (end == CHAT_LINE_END && !all)) {
            free(all);
            return end;
        }
        size_t n = line ? strlen(line) : 0;
        bool more = n > 0 && line[n - 1] == '\\' && len + n < LINE_MAX_BYTES;
        char *grown = realloc(all, len + n + 2);
        if (!grown) {
            free(all);
            free(line);
            return CHAT_LINE_END;
        }
        all = grown;
        if (line) memcpy(all + len, line, n);
        len += n;
        all[len] = 0;
        free(line);
        if (!more) break;
        all[len - 1] = '\n';
    }
    if (l->terminal && all[0]) add_history(all);
    *out = all;
    return CHAT_LINE;
}
