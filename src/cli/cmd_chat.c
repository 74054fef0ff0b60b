/* SPDX-License-Identifier: MIT */
/*
 * limn chat: a conversation about pictures. Files in a line are attached to the question, lines
 * that begin with "/" are commands. Ctrl-C stops the answer; Ctrl-D or /quit ends the program.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

typedef struct chat {
    cli *c;
    limn_seer *seer;
    chat_talk talk;
    chat_lines lines;
    cli_stream stream; /* what is shown of the answer */
    char *said;        /* what came of it, for when it is stopped */
    size_t said_len;
    bool over;
} chat;

/* ---- signals: any number of them stop answers, none the program ---- */

static limn_cancel *chat_cancel;

static void on_interrupt(int number) {
    (void)number;
    limn_cancel_set(chat_cancel);
}

static void catch_interrupts(limn_cancel *cancel) {
    struct sigaction sa = {.sa_handler = on_interrupt};
    chat_cancel = cancel;
    sigaction(SIGINT, &sa, NULL);
}

/* ---- answers ---- */

static bool said(void *user, const limn_said *s) {
    chat *k = user;
    if (s->kind == LIMN_SAID_TEXT && s->len > 0) {
        char *grown = realloc(k->said, k->said_len + s->len + 1);
        if (!grown) return false;
        k->said = grown;
        memcpy(k->said + k->said_len, s->text, s->len + 1);
        k->said_len += s->len;
    }
    return cli_stream_said(&k->stream, s);
}

static void event(void *user, const limn_event *e) {
    cli_stream_event(&((chat *)user)->stream, e);
}

/* What goes wrong with one question is told; the conversation goes on without it. */
static void failed(chat *k, limn_status st, const limn_err *err) {
    bool partial = st == LIMN_E_CANCELLED && k->said_len > 0;
    limn_err local = {0};
    if (partial && chat_talk_add(&k->talk, LIMN_ROLE_ASSISTANT, k->said, &local) == LIMN_OK) {
        fprintf(stderr, "(stopped)\n");
        return;
    }
    chat_talk_drop(&k->talk);
    if (st == LIMN_E_CANCELLED)
        fprintf(stderr, "(stopped; the question is forgotten)\n");
    else
        fprintf(stderr, "limn: %s\n", err->text);
    for (size_t i = 0; i < k->talk.n_next; i++)
        fprintf(stderr, "still attached: %s%s\n", k->talk.next[i].path,
                i + 1 == k->talk.n_next ? " (/image alone takes it off)" : "");
}

static void answer(chat *k) {
    limn_err err = {0};
    limn_talk talk;
    limn_message *messages = NULL;
    limn_message_part *parts = NULL;
    limn_answer *a = NULL;
    limn_look_watch watch = {.said = said, .event = event, .user = k, .cancel = k->c->cancel};
    free(k->said);
    k->said = NULL;
    k->said_len = 0;
    limn_cancel_clear(k->c->cancel);
    limn_status st = chat_talk_make(&talk, &messages, &parts, &k->talk, &err);
    if (st == LIMN_OK) st = limn_see(&a, k->seer, &talk, k->c->see, &watch, &err);
    cli_stream_end(&k->stream);
    if (st == LIMN_OK) st = chat_talk_add(&k->talk, LIMN_ROLE_ASSISTANT, a->text, &err);
    if (st != LIMN_OK) failed(k, st, &err);
    if (st == LIMN_OK && a->finish == LIMN_FINISH_CONTEXT)
        fprintf(stderr, "note: the context is full; /reset begins anew\n");
    if (st == LIMN_OK && a->finish == LIMN_FINISH_LENGTH)
        fprintf(stderr, "note: the answer was cut (/set max_tokens N)\n");
    if (st == LIMN_OK && a->finish == LIMN_FINISH_LOOP)
        fprintf(stderr, "note: the answer repeated itself and was ended (/set loop_limit N)\n");
    if (st == LIMN_OK && limn_params_int(k->c->app, "verbose")) cli_print_rates(a);
    limn_cancel_clear(k->c->cancel);
    limn_answer_free(&a);
    free(messages);
    free(parts);
}

/* ---- commands ---- */

static limn_status do_image(chat *k, char *rest, limn_err *err) {
    size_t before = k->talk.n_next;
    while (*rest == ' ') rest++;
    if (!*rest && before > 0) {
        for (size_t i = 0; i < before; i++) printf("taken off: %s\n", k->talk.next[i].path);
        chat_talk_detach(&k->talk);
        return LIMN_OK;
    }
    limn_status st = chat_talk_attach_dropped(&k->talk, rest, false, err);
    while (*rest == ' ') rest++;
    if (st == LIMN_OK && *rest) st = chat_talk_attach(&k->talk, rest, err); /* spaces, unquoted */
    if (st == LIMN_OK && k->talk.n_next == before)
        st = cli_fail(err, LIMN_E_USAGE, "/image needs a file");
    for (size_t i = before; st == LIMN_OK && i < k->talk.n_next; i++)
        printf("attached: %s\n", k->talk.next[i].path);
    return st;
}

static limn_status do_system(chat *k, char *rest, limn_err *err) {
    limn_params *see = k->c->see;
    if (!*rest) {
        printf("%s\n", limn_params_text(see, "system"));
        return LIMN_OK;
    }
    return limn_params_set(see, "system", rest, LIMN_FROM_SCRIPT, err);
}

static limn_status do_reset(chat *k, char *rest, limn_err *err) {
    (void)rest, (void)err;
    chat_talk_clear(&k->talk);
    printf("a new conversation\n");
    return LIMN_OK;
}

static limn_status do_save(chat *k, char *rest, limn_err *err) {
    if (!*rest) return cli_fail(err, LIMN_E_USAGE, "/save needs a file");
    limn_status st = chat_talk_save(&k->talk, k->c->see, rest,
                                    limn_params_int(k->c->app, "overwrite") != 0, err);
    if (st == LIMN_OK) printf("%s\n", rest);
    return st;
}

static limn_status do_load(chat *k, char *rest, limn_err *err) {
    if (!*rest) return cli_fail(err, LIMN_E_USAGE, "/load needs a file");
    limn_status st = chat_talk_load(&k->talk, k->c->see, rest, err);
    if (st == LIMN_OK) printf("%zu turns\n", k->talk.n);
    return st;
}

/* Rows that decide how the model was opened cannot change while it is open. */
static bool is_fixed(const char *name) {
    limn_param_info row;
    for (int i = 0; limn_params_info(&row, LIMN_PARAMS_SEE, i); i++)
        if (strcmp(row.name, name) == 0) return strcmp(row.group, "model") == 0;
    return false;
}

static limn_status do_set(chat *k, char *rest, limn_err *err) {
    limn_params *see = k->c->see;
    char *value = strchr(rest, ' '), *json;
    if (!*rest) {
        limn_status st = limn_params_format_json(&json, see, false, err);
        if (st == LIMN_OK) printf("%s\n", json);
        limn_text_free(&json);
        return st;
    }
    if (!value) return limn_params_unset(see, rest, err);
    while (*value == ' ') *value++ = 0;
    if (is_fixed(rest))
        return cli_fail(err, LIMN_E_USAGE, "%s cannot change while the model is open", rest);
    return limn_params_set(see, rest, value, LIMN_FROM_SCRIPT, err);
}

static limn_status do_quit(chat *k, char *rest, limn_err *err) {
    (void)rest, (void)err;
    k->over = true;
    return LIMN_OK;
}

static limn_status do_help(chat *k, char *rest, limn_err *err);

static const struct {
    const char *name, *args, *help;
    limn_status (*run)(chat *k, char *rest, limn_err *err);
} commands[] = {
    {"/image", "[FILE...]",
     "attach pictures, clips, documents to the next question, or take them off", do_image},
    {"/system", "[TEXT]", "instructions before the conversation", do_system},
    {"/reset", "", "begin a new conversation", do_reset},
    {"/save", "FILE", "keep the conversation as JSON", do_save},
    {"/load", "FILE", "go on with a kept conversation", do_load},
    {"/set", "[NAME [VALUE]]", "show the settings, change one, or take it back", do_set},
    {"/help", "", "this list", do_help},
    {"/quit", "", "end (also Ctrl-D)", do_quit},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static limn_status do_help(chat *k, char *rest, limn_err *err) {
    (void)k, (void)rest, (void)err;
    for (int i = 0; i < COMMANDS; i++)
        printf("%-8s %-15s %s\n", commands[i].name, commands[i].args, commands[i].help);
    printf("Files whose paths stand in a line are attached; a line that ends with \\ goes on.\n"
           "Ctrl-C stops an answer.\n");
    return LIMN_OK;
}

/* false: the line is no command. "/home/a.png what is it?" is a question. */
static bool command_run(chat *k, char *line) {
    size_t n = strcspn(line, " ");
    limn_err err = {0};
    if (line[0] != '/' || memchr(line + 1, '/', n > 1 ? n - 1 : 0)) return false;
    for (int i = 0; i < COMMANDS; i++) {
        if (strlen(commands[i].name) != n || strncmp(commands[i].name, line, n) != 0) continue;
        char *rest = line + n;
        while (*rest == ' ') rest++;
        size_t len = strlen(rest);
        while (len > 0 && rest[len - 1] == ' ') rest[--len] = 0;
        if (commands[i].run(k, rest, &err) != LIMN_OK) fprintf(stderr, "limn: %s\n", err.text);
        fflush(stdout);
        return true;
    }
    fprintf(stderr, "limn: there is no command %.*s; /help lists them\n", (int)n, line);
    return true;
}

static void line_take(chat *k, char *line) {
    limn_err err = {0};
    if (command_run(k, line)) return;
    size_t before = k->talk.n_next;
    limn_status st = chat_talk_attach_dropped(&k->talk, line, true, &err);
    if (st != LIMN_OK) {
        fprintf(stderr, "limn: %s\n", err.text);
        return;
    }
    for (size_t i = before; i < k->talk.n_next; i++)
        if (k->lines.terminal) printf("attached: %s\n", k->talk.next[i].path);
    size_t blank = strspn(line, " \t");
    if (!line[blank]) return; /* only files: the question follows */
    st = chat_talk_add(&k->talk, LIMN_ROLE_USER, line + blank, &err);
    if (st != LIMN_OK)
        fprintf(stderr, "limn: %s\n", err.text);
    else
        answer(k);
}

static void greet(const chat *k) {
    limn_seer_info info;
    if (!k->lines.terminal || limn_params_int(k->c->app, "quiet")) return;
    limn_seer_get_info(&info, k->seer);
    printf("%s, %lld tokens of context%s. /help lists commands, Ctrl-D ends.\n", info.name,
           (long long)info.context, info.sees ? "; drop pictures here" : "; text only");
}

limn_status cmd_chat(cli *c, limn_err *err) {
    cli_progress progress;
    chat k = {.c = c};
    k.stream = (cli_stream){
        .c = c, .progress = &progress, .show = true, .terminal = isatty(STDOUT_FILENO)};
    limn_status st = cli_progress_init(&progress, c, err);
    if (st == LIMN_OK) st = cli_read_at_file(c->see, "schema", err);
    if (st == LIMN_OK) st = cli_read_at_file(c->see, "grammar", err);
    for (int i = 0; st == LIMN_OK && i < c->n_args; i++)
        st = chat_talk_attach(&k.talk, c->args[i], err);
    if (st == LIMN_OK) st = cli_seer_new(&k.seer, c, &progress, err);
    if (st != LIMN_OK) {
        chat_talk_clear(&k.talk);
        return st;
    }
    chat_lines_init(&k.lines);
    if (!k.lines.terminal) progress.quiet = true; /* answers only, as for a pipe */
    catch_interrupts(c->cancel);
    greet(&k);
    while (!k.over) {
        char *line;
        limn_cancel_clear(c->cancel);
        chat_line_end end = chat_line_read(&line, &k.lines);
        if (end == CHAT_LINE_END) break;
        if (end == CHAT_LINE_STOPPED) {
            printf("\n(Ctrl-D or /quit ends)\n");
            clearerr(stdin);
            continue;
        }
        line_take(&k, line);
        free(line);
    }
    if (k.lines.terminal && !k.over) putchar('\n');
    chat_lines_end(&k.lines);
    limn_seer_free(&k.seer);
    chat_talk_clear(&k.talk);
    free(k.said);
    return LIMN_OK;
}
