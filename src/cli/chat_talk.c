/* SPDX-License-Identifier: MIT */
/* The conversation of limn chat: turns, attached files, saving and loading; see cli.h. */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "cli/cli.h"

#define FILE_MAX_BYTES ((size_t)1 << 30)
enum { FILES_MAX = 256, TURNS_MAX = 4096, JSON_MAX = 64 << 20 };

/* ---- files ---- */

static void files_free(struct chat_file *files, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(files[i].path);
        free(files[i].data);
    }
    free(files);
}

void chat_talk_clear(chat_talk *t) {
    for (size_t i = 0; i < t->n; i++) {
        free(t->turns[i].text);
        files_free(t->turns[i].files, t->turns[i].n_files);
    }
    free(t->turns);
    files_free(t->next, t->n_next);
    *t = (chat_talk){0};
}

/* "~/a.png" and "file:///a%20b.png" as the file system knows them; the caller frees. */
static char *path_of(const char *text) {
    const char *home = getenv("HOME");
    size_t size = strlen(text) + (home ? strlen(home) : 0) + 2, n = 0;
    char *out = malloc(size);
    if (!out) return NULL;
    if (strncmp(text, "~/", 2) == 0 && home) {
        snprintf(out, size, "%s%s", home, text + 1);
        return out;
    }
    bool url = strncmp(text, "file://", 7) == 0;
    if (url) text += 7;
    if (url && *text != '/') text = strchr(text, '/') ? strchr(text, '/') : text; /* host */
    for (; *text; text++) {
        unsigned byte;
        if (url && text[0] == '%' && isxdigit((unsigned char)text[1]) &&
            isxdigit((unsigned char)text[2]) && sscanf(text + 1, "%2x", &byte) == 1 && byte) {
            out[n++] = (char)byte;
            text += 2;
        } else {
            out[n++] = *text;
        }
    }
    out[n] = 0;
    return out;
}

static bool is_file(const char *path) {
    struct stat sb;
    return stat(path, &sb) == 0 && S_ISREG(sb.st_mode);
}

static limn_status bytes_load(struct chat_file *f, limn_err *err) {
    struct stat sb;
    FILE *in = fopen(f->path, "rb");
    if (!in || fstat(fileno(in), &sb) != 0 || !S_ISREG(sb.st_mode)) {
        limn_status st = cli_fail(err, !in && errno != ENOENT ? LIMN_E_IO : LIMN_E_NOT_FOUND,
                                  "%s: %s", f->path, in ? "is no file" : strerror(errno));
        if (in) fclose(in);
        return st;
    }
    limn_status st = LIMN_OK;
    f->size = (size_t)sb.st_size;
    if (f->size == 0)
        st = cli_fail(err, LIMN_E_FORMAT, "%s: is empty", f->path);
    else if (f->size > FILE_MAX_BYTES)
        st = cli_fail(err, LIMN_E_LIMIT, "%s: is larger than 1 GB", f->path);
    else if (!(f->data = malloc(f->size)))
        st = cli_fail(err, LIMN_E_NOMEM, "no memory for %s", f->path);
    else if (fread(f->data, 1, f->size, in) != f->size)
        st = cli_fail(err, LIMN_E_IO, "%s: cannot be read", f->path);
    fclose(in);
    return st;
}

limn_status chat_talk_attach(chat_talk *t, const char *path, limn_err *err) {
    struct chat_file f = {.path = path_of(path)};
    if (t->n_next == FILES_MAX) {
        free(f.path);
        return cli_fail(err, LIMN_E_LIMIT, "more than %d files for one question", FILES_MAX);
    }
    limn_status st =
        f.path ? bytes_load(&f, err) : cli_fail(err, LIMN_E_NOMEM, "no memory for a file");
    struct chat_file *grown =
        st == LIMN_OK ? realloc(t->next, (t->n_next + 1) * sizeof *grown) : NULL;
    if (st == LIMN_OK && !grown) st = cli_fail(err, LIMN_E_NOMEM, "no memory for a file");
    if (st != LIMN_OK) {
        free(f.path);
        free(f.data);
        return st;
    }
    t->next = grown;
    t->next[t->n_next++] = f;
    return LIMN_OK;
}

/* One word of a shell: quotes and backslashes taken away. *end: behind it. */
static char *word_read(const char *at, const char **end) {
    char *word = malloc(strlen(at) + 1), quote = 0;
    size_t n = 0;
    if (!word) return NULL;
    for (; *at && (quote || !isspace((unsigned char)*at)); at++) {
        if (quote ? *at == quote : *at == '\'' || *at == '"')
            quote = quote ? 0 : *at;
        else if (*at == '\\' && at[1] && quote != '\'')
            word[n++] = *++at;
        else
            word[n++] = *at;
    }
    word[n] = 0;
    *end = at;
    if (quote) n = 0; /* "don't" is a word, not an open quote */
    word[n] = 0;
    return word;
}

/* A word that can only be meant as a file: it ends as pictures, clips and documents do. */
static bool is_media_name(const char *word) {
    static const char *const ends[] = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff",
                                       ".bmp", ".pdf", ".mp4",  ".mkv",  ".mov", ".webm"};
    size_t n = strlen(word);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        size_t m = strlen(ends[i]);
        if (n > m && strcasecmp(word + n - m, ends[i]) == 0) return true;
    }
    return false;
}

limn_status chat_talk_attach_dropped(chat_talk *t, char *line, bool question, limn_err *err) {
    char *to = line;
    const char *at = line;
    limn_status st = LIMN_OK;
    while (*at && st == LIMN_OK) {
        const char *begin = at, *end;
        while (isspace((unsigned char)*at)) at++;
        if (!*at) break;
        char *word = word_read(at, &end), *path = word && word[0] ? path_of(word) : NULL;
        /* a plain name counts when it has a folder or an ending; "a" is more likely a word */
        bool like = path && (strchr(path, '/') || strchr(path, '.'));
        if (like && is_file(path)) {
            st = chat_talk_attach(t, path, err);
        } else {
            if (question && like && is_media_name(path))
                fprintf(stderr, "note: %s is no file, so the model reads its name\n", path);
            if (!word || !word[0]) /* an open quote: the word ends at the next space */
                for (end = at; *end && !isspace((unsigned char)*end);) end++;
            if (to == line) begin = at; /* no space in front */
            memmove(to, begin, (size_t)(end - begin));
            to += end - begin;
        }
        free(word);
        free(path);
        at = end;
    }
    if (st == LIMN_OK) *to = 0;
    return st;
}

/* ---- turns ---- */

limn_status chat_talk_add(chat_talk *t, limn_role role, const char *text, limn_err *err) {
    if (t->n == TURNS_MAX)
        return cli_fail(err, LIMN_E_LIMIT, "more than %d turns; /reset begins anew", TURNS_MAX);
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 16;
        chat_turn *grown = realloc(t->turns, cap * sizeof *grown);
        if (!grown) return cli_fail(err, LIMN_E_NOMEM, "no memory for the conversation");
        t->turns = grown;
        t->cap = cap;
    }
    chat_turn turn = {.role = role, .text = strdup(text)};
    if (!turn.text) return cli_fail(err, LIMN_E_NOMEM, "no memory for the conversation");
    if (role == LIMN_ROLE_USER) {
        turn.files = t->next;
        turn.n_files = t->n_next;
        t->next = NULL;
        t->n_next = 0;
    }
    t->turns[t->n++] = turn;
    return LIMN_OK;
}

void chat_talk_detach(chat_talk *t) {
    files_free(t->next, t->n_next);
    t->next = NULL;
    t->n_next = 0;
}

void chat_talk_drop(chat_talk *t) {
    if (t->n == 0) return;
    chat_turn *last = &t->turns[--t->n];
    if (t->n_next == 0) {
        t->next = last->files;
        t->n_next = last->n_files;
    } else {
        files_free(last->files, last->n_files);
    }
    free(last->text);
}

limn_status chat_talk_make(limn_talk *out, limn_message **messages, limn_message_part **parts,
                           const chat_talk *t, limn_err *err) {
    size_t n = 0, at = 0;
    for (size_t i = 0; i < t->n; i++) n += t->turns[i].n_files + 1;
    *messages = calloc(t->n + 1, sizeof **messages);
    *parts = calloc(n + 1, sizeof **parts);
    if (!*messages || !*parts) return cli_fail(err, LIMN_E_NOMEM, "no memory for the conversation");
    for (size_t i = 0; i < t->n; i++) {
        const chat_turn *turn = &t->turns[i];
        limn_message *m = &(*messages)[i];
        m->role = turn->role;
        m->parts = *parts + at;
        for (size_t k = 0; k < turn->n_files; k++)
            (*parts)[at++] = (limn_message_part){.kind = LIMN_MESSAGE_FILE,
                                                 .path = turn->files[k].path,
                                                 .data = turn->files[k].data,
                                                 .size = turn->files[k].size};
        (*parts)[at++] = (limn_message_part){.kind = LIMN_MESSAGE_TEXT, .text = turn->text};
        m->n_parts = turn->n_files + 1;
    }
    *out = (limn_talk){.messages = *messages, .n_messages = t->n};
    return LIMN_OK;
}

/* ---- files of conversations ---- */

limn_status chat_talk_save(const chat_talk *t, const limn_params *see, const char *path,
                           bool overwrite, limn_err *err) {
    json_t *turns = json_array(), *settings = NULL;
    char *json = NULL;
    limn_status st = limn_params_format_json(&json, see, false, err);
    if (st == LIMN_OK) settings = json_loads(json, 0, NULL);
    limn_text_free(&json);
    for (size_t i = 0; st == LIMN_OK && i < t->n; i++) {
        const chat_turn *turn = &t->turns[i];
        json_t *files = json_array();
        for (size_t k = 0; k < turn->n_files; k++)
            json_array_append_new(files, json_string(turn->files[k].path));
        json_array_append_new(turns, json_pack("{s:s, s:s, s:o}", "role",
                                               turn->role == LIMN_ROLE_USER ? "user" : "assistant",
                                               "text", turn->text, "files", files));
    }
    json_t *root =
        json_pack("{s:o, s:o}", "settings", settings ? settings : json_object(), "turns", turns);
    char *dump = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    if (st == LIMN_OK && !dump) st = cli_fail(err, LIMN_E_NOMEM, "no memory for the conversation");
    FILE *f = st == LIMN_OK ? fopen(path, overwrite ? "wb" : "wbx") : NULL;
    if (st == LIMN_OK && !f)
        st = cli_fail(err, LIMN_E_IO, "%s: %s", path,
                      errno == EEXIST ? "exists already; --overwrite replaces files"
                                      : strerror(errno));
    bool ok = f && fputs(dump, f) >= 0 && fputc('\n', f) != EOF;
    if (f && fclose(f) != 0) ok = false;
    if (f && !ok) st = cli_fail(err, LIMN_E_IO, "%s: cannot be written", path);
    free(dump);
    return st;
}

static limn_status turns_load(chat_talk *t, const json_t *list, const char *path, limn_err *err) {
    limn_status st = LIMN_OK;
    size_t i, k;
    json_t *turn, *file;
    json_array_foreach(list, i, turn) {
        const char *role = json_string_value(json_object_get(turn, "role"));
        const char *text = json_string_value(json_object_get(turn, "text"));
        if (!role || !text || (strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0))
            return cli_fail(err, LIMN_E_FORMAT, "%s: turn %zu has no role or text", path, i + 1);
        json_array_foreach(json_object_get(turn, "files"), k, file) {
            const char *name = json_string_value(file);
            if (st == LIMN_OK && name) st = chat_talk_attach(t, name, err);
        }
        if (st == LIMN_OK)
            st = chat_talk_add(t, role[0] == 'u' ? LIMN_ROLE_USER : LIMN_ROLE_ASSISTANT, text, err);
        if (st != LIMN_OK) return st;
    }
    return st;
}

limn_status chat_talk_load(chat_talk *t, limn_params *see, const char *path, limn_err *err) {
    json_error_t e;
    chat_talk loaded = {0};
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
    if (!json_is_object(root)) {
        json_decref(root);
        return cli_fail(err, LIMN_E_FORMAT, "%s: %s", path, root ? "is no conversation" : e.text);
    }
    limn_status st = turns_load(&loaded, json_object_get(root, "turns"), path, err);
    char *settings = json_dumps(json_object_get(root, "settings"), 0);
    if (st == LIMN_OK && settings)
        st = limn_params_parse_json(see, settings, strlen(settings), LIMN_FROM_FILE, err);
    free(settings);
    json_decref(root);
    if (st == LIMN_OK) {
        chat_talk_clear(t);
        *t = loaded;
    } else {
        chat_talk_clear(&loaded);
    }
    return st;
}
