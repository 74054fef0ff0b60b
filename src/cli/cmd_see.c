/* SPDX-License-Identifier: MIT */
/*
 * limn see: a question about pictures, answered as a stream of text. Arguments that are files are
 * looked at, in their order; the last one may be the question.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

enum { TEXT_MAX = 4 << 20 };

/* ---- what the user gave ---- */

static bool is_file(const char *path) {
    struct stat sb;
    return stat(path, &sb) == 0 && !S_ISDIR(sb.st_mode);
}

/* Written as one: a question may be a word that is the name of a folder here. */
static bool is_folder(const char *text) {
    struct stat sb;
    bool path = strchr(text, '/') || strcmp(text, ".") == 0 || strcmp(text, "..") == 0;
    return path && stat(text, &sb) == 0 && S_ISDIR(sb.st_mode);
}

/* A word like "photo.jpg" is meant as a file even when there is none. */
static bool looks_like_file(const char *text) {
    const char *dot = strrchr(text, '.');
    if (strchr(text, ' ') || strchr(text, '\n')) return false;
    if (strchr(text, '/')) return true;
    if (!dot || dot == text || strlen(dot) < 3 || strlen(dot) > 6) return false;
    for (const char *c = dot + 1; *c; c++)
        if (!isalnum((unsigned char)*c)) return false;
    return true;
}

/* The whole of a file (or stdin for "-") as a text; the caller frees. */
static limn_status read_text(char **out, const char *path, limn_err *err) {
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    *out = NULL;
    if (!f)
        return cli_fail(err, errno == ENOENT ? LIMN_E_NOT_FOUND : LIMN_E_IO, "%s: %s", path,
                        strerror(errno));
    char *text = malloc(TEXT_MAX + 1);
    size_t n = text ? fread(text, 1, TEXT_MAX + 1, f) : 0;
    limn_status st = LIMN_OK;
    if (!text)
        st = cli_fail(err, LIMN_E_NOMEM, "no memory for %s", path);
    else if (ferror(f))
        st = cli_fail(err, LIMN_E_IO, "%s: cannot be read", path);
    else if (n > TEXT_MAX)
        st = cli_fail(err, LIMN_E_LIMIT, "%s: is longer than %d bytes", path, TEXT_MAX);
    if (f != stdin) fclose(f);
    while (n > 0 && text && (text[n - 1] == '\n' || text[n - 1] == '\r')) n--;
    if (text && n <= TEXT_MAX) text[n] = 0;
    if (st == LIMN_OK && strlen(text) != n)
        st = cli_fail(err, LIMN_E_VALUE, "%s: the text has a NUL byte", path);
    if (st != LIMN_OK) {
        free(text);
        return st;
    }
    *out = text;
    return LIMN_OK;
}

/* "@file" as the value of a text row: the file's contents. */
limn_status cli_read_at_file(limn_params *params, const char *name, limn_err *err) {
    const char *value = limn_params_text(params, name);
    char *text;
    if (value[0] != '@') return LIMN_OK;
    limn_status st = read_text(&text, value + 1, err);
    if (st == LIMN_OK) st = limn_params_set(params, name, text, LIMN_FROM_CLI, err);
    free(text);
    return st;
}

/* A plain question; everything else goes through the tasks. */
static bool is_ask(const cli *c) {
    const char *format = limn_params_text(c->see, "format");
    return strcmp(limn_params_text(c->see, "task"), "ask") == 0 &&
           (strcmp(format, "auto") == 0 || strcmp(format, "text") == 0);
}

/* The question out of the arguments; *pictures of them are left. */
static limn_status take_question(cli *c, int *pictures, limn_err *err) {
    int n = c->n_args;
    const char *last = n > 0 ? c->args[n - 1] : NULL;
    char *text;
    limn_status st = LIMN_OK;
    *pictures = n;
    if (last && strcmp(last, "-") == 0) {
        *pictures = n - 1;
        st = read_text(&text, "-", err);
        if (st == LIMN_OK) st = limn_params_set(c->see, "prompt", text, LIMN_FROM_CLI, err);
        free(text);
    } else if (last && !is_file(last) && !is_folder(last) && !looks_like_file(last)) {
        if (limn_params_is_set(c->see, "prompt"))
            return cli_fail(err, LIMN_E_USAGE,
                            "the question is given twice: as an argument and --prompt");
        *pictures = n - 1;
        st = limn_params_set(c->see, "prompt", last, LIMN_FROM_CLI, err);
    }
    for (int i = 0; st == LIMN_OK && i < *pictures; i++)
        if (is_folder(c->args[i]))
            st = cli_fail(err, LIMN_E_IO, "%s: is a folder; name the files in it", c->args[i]);
        else if (!is_file(c->args[i]))
            st = cli_fail(err, LIMN_E_NOT_FOUND,
                          "%s: no such file (the question comes last, in quotes)", c->args[i]);
    if (st == LIMN_OK && is_ask(c) && !limn_params_text(c->see, "prompt")[0])
        st =
            cli_fail(err, LIMN_E_USAGE,
                     "see needs a question: limn see PICTURE \"...?\" (or --task, see limn tasks)");
    return st;
}

/* ---- what is shown ---- */

/* What a model writes may not steer the terminal. */
void cli_print_safe(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool c1 = c == 0xc2 && i + 1 < len && (unsigned char)text[i + 1] < 0xa0;
        if (c1) i++; /* control characters of ISO 8859 in UTF-8 */
        if (c1 || (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
            putchar('?');
        else
            putchar(c);
    }
}

bool cli_stream_said(void *stream, const limn_said *s) {
    cli_stream *o = stream;
    bool dim = s->kind == LIMN_SAID_REASONING && s->len > 0;
    if (!o->show || s->len == 0) return true;
    cli_progress_end(o->progress);
    if (dim != o->thinking && o->terminal) fputs(dim ? "\033[2m" : "\033[0m\n\n", stdout);
    if (dim != o->thinking && !o->terminal && !dim) fputs("\n\n", stdout);
    o->thinking = dim;
    if (o->terminal)
        cli_print_safe(s->text, s->len);
    else
        fwrite(s->text, 1, s->len, stdout);
    o->open = s->text[s->len - 1] != '\n';
    return fflush(stdout) == 0;
}

void cli_stream_event(void *stream, const limn_event *e) {
    cli_progress_event(((cli_stream *)stream)->progress, e);
}

void cli_stream_end(cli_stream *o) {
    cli_progress_end(o->progress);
    if (o->thinking && o->terminal) fputs("\033[0m", stdout);
    if (o->open) putchar('\n');
    o->thinking = o->open = false;
    fflush(stdout);
}

static limn_status write_answer(const cli *c, const char *text, size_t len, limn_err *err) {
    const char *path = limn_params_text(c->app, "output");
    FILE *f;
    if (!path[0] || strcmp(path, "-") == 0) return LIMN_OK;
    f = fopen(path, limn_params_int(c->app, "overwrite") ? "wb" : "wbx");
    if (!f && errno == EEXIST)
        return cli_fail(err, LIMN_E_IO, "%s: exists already; --overwrite replaces it", path);
    bool ok = f && fwrite(text, 1, len, f) == len;
    if (ok && len > 0 && text[len - 1] != '\n') ok = fputc('\n', f) != EOF;
    if (f && fclose(f) != 0) ok = false;
    return ok ? LIMN_OK
              : cli_fail(err, LIMN_E_IO, "%s: cannot be written: %s", path, strerror(errno));
}

/* "3.2 s: 1024 picture tokens of 1060 read at 520/s (900 cached), 80 written at 21/s" */
void cli_print_rates(const limn_answer *a) {
    int64_t fresh = a->prompt_tokens - a->cached_tokens;
    fprintf(stderr, "first word after %.2f s; read %lld tokens", a->first_seconds,
            (long long)fresh);
    if (a->read_seconds > 0) fprintf(stderr, " at %.0f/s", (double)fresh / a->read_seconds);
    if (a->images > a->cached_images)
        fprintf(stderr, ", %d picture%s in %.2f s", a->images - a->cached_images,
                a->images - a->cached_images == 1 ? "" : "s", a->image_seconds);
    if (a->cached_tokens > 0) fprintf(stderr, " (%lld known)", (long long)a->cached_tokens);
    fprintf(stderr, "; wrote %lld", (long long)a->completion_tokens);
    if (a->completion_tokens > 1 && a->write_seconds > 0)
        fprintf(stderr, " at %.1f/s", (double)(a->completion_tokens - 1) / a->write_seconds);
    if (a->guessed_tokens > 0)
        fprintf(stderr, ", %lld of %lld guesses right", (long long)a->right_guesses,
                (long long)a->guessed_tokens);
    fprintf(stderr, "; at most %.0f MB\n", (double)a->memory_bytes / 1e6);
}

static limn_status report(cli_stream *o, const limn_answer *a, limn_err *err) {
    cli *c = o->c;
    char *json = NULL;
    limn_status st = write_answer(c, a->text, a->len, err);
    if (limn_params_int(c->app, "json")) { /* also when the file could not be written */
        limn_status told = limn_answer_format_json(&json, a, st == LIMN_OK ? err : NULL);
        if (st == LIMN_OK) st = told;
    }
    if (json) printf("%s\n", json);
    limn_text_free(&json);
    cli_stream_end(o);
    if (limn_params_int(c->app, "quiet")) return st;
    if (a->finish == LIMN_FINISH_LENGTH)
        fprintf(stderr, "note: the answer was cut at %lld tokens (--max-tokens)\n",
                (long long)a->completion_tokens);
    if (a->finish == LIMN_FINISH_CONTEXT)
        fprintf(stderr, "note: the answer was cut: the context is full (--context)\n");
    if (a->finish == LIMN_FINISH_LOOP)
        fprintf(stderr, "note: the answer repeated itself and was ended (--loop-limit)\n");
    if (limn_params_int(c->app, "verbose")) cli_print_rates(a);
    return st;
}

/* ---- the run ---- */

limn_status cli_seer_new(limn_seer **seer, cli *c, cli_progress *progress, limn_err *err) {
    limn_seer_info info;
    cli_progress_event(progress, &(limn_event){.stage = "load", .left_seconds = -1});
    limn_status st = limn_seer_new(seer, c->app, c->see, err);
    cli_progress_end(progress);
    if (st != LIMN_OK) return st;
    limn_seer_get_info(&info, *seer);
    if (info.note && !limn_params_int(c->app, "quiet")) fprintf(stderr, "note: %s\n", info.note);
    if (limn_params_int(c->app, "verbose"))
        fprintf(
            stderr,
            "%s: %.0f MB of weights, %.0f MB in %s for %d conversation%s of %lld tokens, at most "
            "%.0f MB in all without pictures\n",
            info.name, (double)info.weight_bytes / 1e6, (double)info.cache_bytes / 1e6,
            info.cache_type, info.sequences, info.sequences == 1 ? "" : "s",
            (long long)info.context, (double)info.need_bytes / 1e6);
    return LIMN_OK;
}

static limn_status ask(cli_stream *o, limn_seer *seer, limn_message_part *parts, int n,
                       limn_err *err) {
    cli *c = o->c;
    limn_answer *answer = NULL;
    parts[n] =
        (limn_message_part){.kind = LIMN_MESSAGE_TEXT, .text = limn_params_text(c->see, "prompt")};
    limn_message message = {.role = LIMN_ROLE_USER, .parts = parts, .n_parts = (size_t)n + 1};
    limn_talk talk = {.messages = &message, .n_messages = 1};
    limn_look_watch watch = {
        .said = cli_stream_said, .event = cli_stream_event, .user = o, .cancel = c->cancel};
    limn_status st = limn_see(&answer, seer, &talk, c->see, &watch, err);
    if (st != LIMN_OK) cli_stream_end(o);
    if (st == LIMN_OK) st = report(o, answer, err);
    limn_answer_free(&answer);
    return st;
}

/* ---- tasks ---- */

/* The name of the drawn copy of picture `index`: -02, -03 ... before the ending from the second on.
 */
static limn_status draw_name(char out[CLI_PATH_MAX], const char *pattern, int index,
                             limn_err *err) {
    const char *dot = strrchr(pattern, '.');
    char number[16] = "";
    if (!dot || strchr(dot, '/')) dot = pattern + strlen(pattern);
    if (index > 0) snprintf(number, sizeof number, "-%02d", index + 1);
    int n = snprintf(out, CLI_PATH_MAX, "%.*s%s%s", (int)(dot - pattern), pattern, number, dot);
    return n < CLI_PATH_MAX ? LIMN_OK : cli_fail(err, LIMN_E_LIMIT, "the --draw name is too long");
}

static limn_status draw_all(cli *c, const limn_sight *s, limn_err *err) {
    const char *pattern = limn_params_text(c->app, "draw");
    limn_status st = LIMN_OK;
    for (size_t i = 0; st == LIMN_OK && pattern[0] && i < s->n_pictures; i++) {
        limn_image *picture = NULL, *drawn = NULL;
        char path[CLI_PATH_MAX];
        st = draw_name(path, pattern, (int)i, err);
        if (st == LIMN_OK) st = limn_sight_load_picture(&picture, s, (int)i, c->see, err);
        if (st == LIMN_OK) st = limn_sight_draw(&drawn, s, picture, (int)i, err);
        if (st == LIMN_OK) st = cli_output_save(c, drawn, path, NULL, err);
        if (st == LIMN_OK && !limn_params_int(c->app, "quiet")) fprintf(stderr, "%s\n", path);
        limn_image_free(&picture);
        limn_image_free(&drawn);
    }
    return st;
}

static limn_status run_task(cli_stream *o, limn_seer *seer, const limn_message_part *parts, int n,
                            limn_err *err) {
    cli *c = o->c;
    limn_sight *s = NULL;
    char *json = NULL;
    limn_look_watch watch = {
        .said = cli_stream_said, .event = cli_stream_event, .user = o, .cancel = c->cancel};
    limn_status st = limn_task_run(&s, seer, parts, (size_t)n, c->see, &watch, err);
    cli_stream_end(o);
    if (st == LIMN_OK) st = write_answer(c, s->text, s->len, err);
    if (st == LIMN_OK) st = draw_all(c, s, err);
    if (s && limn_params_int(c->app, "json")) { /* also when a file could not be written */
        limn_status told = limn_sight_format_json(&json, s, st == LIMN_OK ? err : NULL);
        if (st == LIMN_OK) st = told;
    }
    if (json) printf("%s\n", json);
    limn_text_free(&json);
    if (st == LIMN_OK && s->note && !limn_params_int(c->app, "quiet"))
        fprintf(stderr, "note: %s\n", s->note);
    if (st == LIMN_OK && limn_params_int(c->app, "verbose"))
        fprintf(stderr, "%.2f s; %lld tokens read (%lld of pictures, %lld known), %lld written\n",
                s->seconds, (long long)s->prompt_tokens, (long long)s->image_tokens,
                (long long)s->cached_tokens, (long long)s->completion_tokens);
    limn_sight_free(&s);
    return st;
}

/* Which formats of a task give boxes or points: the first of them, -1 for none. */
static int placed_format(const limn_task_info *t) {
    for (int i = 0; i < 6 && t->formats[i]; i++)
        if (t->places[i]) return i;
    return -1;
}

/* --draw is refused where there is nothing to draw; a format that the task does not have, later. */
static limn_status check_draw(const cli *c, const limn_task_info *t, limn_err *err) {
    const char *format = limn_params_text(c->see, "format");
    limn_task_info other;
    char names[400] = "";
    size_t at = 0;
    int i = 0;
    while (strcmp(format, "auto") != 0 && i < 6 && t->formats[i] &&
           strcmp(format, t->formats[i]) != 0)
        i++;
    if (i == 6 || !t->formats[i]) return LIMN_OK;
    if (t->places[i]) return cli_output_check(c, limn_params_text(c->app, "draw"), err);
    for (int k = 0; limn_task_get_info(&other, k) && at < sizeof names; k++) {
        int with = placed_format(&other);
        if (with < 0) continue;
        at +=
            (size_t)snprintf(names + at, sizeof names - at, "%s%s%s%s", at ? ", " : "", other.name,
                             with > 0 ? " --format " : "", with > 0 ? other.formats[with] : "");
    }
    return cli_fail(err, LIMN_E_USAGE, "--draw: task %s finds no boxes or points; these do: %s",
                    t->name, names);
}

/* Everything that can be refused before a model is opened. */
static limn_status check(cli *c, int pictures, limn_err *err) {
    limn_task_info t;
    limn_status st = LIMN_OK;
    const char *output = limn_params_text(c->app, "output");
    const char *name = limn_params_text(c->see, "task");
    int i = 0;
    while (limn_task_get_info(&t, i) && strcmp(t.name, name) != 0) i++;
    if (!limn_task_get_info(&t, i))
        return cli_fail(err, LIMN_E_USAGE, "there is no task \"%.40s\"; limn tasks lists them",
                        name);
    if (pictures < t.least_pictures && !(t.least_pictures == 2 && pictures == 1))
        return cli_fail(err, LIMN_E_USAGE, "task %s needs a picture", t.name);
    if (limn_params_text(c->app, "draw")[0]) st = check_draw(c, &t, err);
    if (st == LIMN_OK && output[0] && strcmp(output, "-") != 0)
        st = cli_write_check(c, output, err);
    if (st == LIMN_OK) st = cli_read_at_file(c->see, "schema", err);
    if (st == LIMN_OK) st = cli_read_at_file(c->see, "grammar", err);
    if (st == LIMN_OK) st = cli_read_at_file(c->see, "policy", err);
    return st == LIMN_OK ? limn_task_check(c->see, (size_t)pictures, err) : st;
}

limn_status cmd_see(cli *c, limn_err *err) {
    int pictures;
    limn_seer *seer = NULL;
    limn_message_part *parts = NULL;
    cli_progress progress;
    cli_stream o = {.c = c, .progress = &progress, .terminal = isatty(STDOUT_FILENO)};
    limn_status st = take_question(c, &pictures, err);
    if (st == LIMN_OK) st = check(c, pictures, err);
    if (st == LIMN_OK) st = cli_progress_init(&progress, c, err);
    if (st == LIMN_OK) st = cli_seer_new(&seer, c, &progress, err);
    if (st == LIMN_OK) {
        parts = calloc((size_t)pictures + 1, sizeof *parts);
        if (!parts) st = cli_fail(err, LIMN_E_NOMEM, "no memory for the question");
    }
    if (st == LIMN_OK) {
        for (int i = 0; i < pictures; i++)
            parts[i] = (limn_message_part){.kind = LIMN_MESSAGE_FILE, .path = c->args[i]};
        o.show = !limn_params_int(c->app, "json");
        st = is_ask(c) ? ask(&o, seer, parts, pictures, err)
                       : run_task(&o, seer, parts, pictures, err);
    }
    limn_seer_free(&seer);
    free(parts);
    return st;
}

/* ---- limn tasks ---- */

limn_status cmd_tasks(cli *c, limn_err *err) {
    bool json = limn_params_int(c->app, "json") != 0;
    limn_task_info t;
    (void)err;
    if (json) printf("{\"task\": [");
    for (int i = 0; limn_task_get_info(&t, i); i++) {
        if (json)
            printf("%s{\"name\": \"%s\", \"words\": \"%s\", \"least_pictures\": %d, \"clip\": %s, "
                   "\"help\": ",
                   i ? ", " : "", t.name, t.words, t.least_pictures, t.clip ? "true" : "false");
        else
            printf("%-9s %s%s%s%s\n%-9s   ", t.name, t.help, t.words[0] ? " (takes " : "", t.words,
                   t.words[0] ? ")" : "", "");
        if (json) cli_print_json_text(t.help);
        if (json) printf(", \"formats\": [");
        for (int k = 0; t.formats[k]; k++)
            printf(json ? "%s\"%s\"" : "%s%s", k ? ", " : "", t.formats[k]);
        printf(json ? "]}" : "\n");
    }
    if (json) printf("]}\n");
    return LIMN_OK;
}
