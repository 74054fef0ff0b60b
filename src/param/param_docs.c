/* SPDX-License-Identifier: MIT */
/* Help of the command line and the reference page docs/PARAMETERS.md, both from the tables. */
#include <stdio.h>
#include <string.h>

#include "param/param.h"

enum { DOC_MAX = 1 << 20, HELP_COLUMN = 30 };

/* "--negative-prompt": the long option of a row. */
static void add_option_name(limn_buf *out, const limn_param *p) {
    limn_buf_adds(out, "--");
    for (const char *c = p->cli ? p->cli : p->name; *c; c++)
        limn_buf_addc(out, *c == '_' ? '-' : *c);
}

static const char *placeholder(const limn_param *p) {
    switch (p->type) {
    case LIMN_TYPE_INT: return " N";
    case LIMN_TYPE_REAL: return " X";
    case LIMN_TYPE_BYTES: return " SIZE";
    case LIMN_TYPE_ENUM: return " WORD";
    case LIMN_TYPE_TEXT:
    case LIMN_TYPE_LIST: return p->flags & LIMN_P_PATH ? " FILE" : p->list ? " NAME" : " TEXT";
    case LIMN_TYPE_BOOL: break;
    }
    return "";
}

static void add_words(limn_buf *out, const limn_param *p) {
    for (const limn_word *w = p->words; w->name; w++)
        limn_buf_addf(out, "%s%s", w == p->words ? "" : ", ", w->name);
}

static void add_default(limn_buf *out, const limn_params *defaults, const limn_param *p) {
    limn_buf value;
    limn_buf_init(&value, 4096);
    limn_param_format(&value, defaults, p, false, 0);
    limn_buf_adds(out, p->default_note ? p->default_note : limn_buf_text(&value));
    limn_buf_deinit(&value);
}

/* Help, its choices and its default as one sentence. */
static void add_sentence(limn_buf *out, const limn_params *defaults, const limn_param *p) {
    limn_buf_adds(out, p->help);
    if (p->type == LIMN_TYPE_ENUM) {
        limn_buf_adds(out, " (");
        add_words(out, p);
        limn_buf_addc(out, ')');
    }
    limn_buf note;
    limn_buf_init(&note, 4096);
    add_default(&note, defaults, p);
    if (note.len && p->type != LIMN_TYPE_BOOL)
        limn_buf_addf(out, " [default: %s]", limn_buf_text(&note));
    if (p->type == LIMN_TYPE_BOOL && p->def.i) limn_buf_adds(out, " [default: on]");
    limn_buf_deinit(&note);
}

/* Words of `text` in lines of `width` columns, later lines moved in. */
static void add_wrapped(limn_buf *out, const char *text, int width, int column) {
    int at = column;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (at > column && at + 1 + (int)n > width) {
            limn_buf_addf(out, "\n%*s", column, "");
            at = column;
        }
        if (at > column) {
            limn_buf_addc(out, ' ');
            at++;
        }
        limn_buf_add(out, text, n);
        at += (int)n;
        text += n;
        text += strspn(text, " ");
    }
    limn_buf_addc(out, '\n');
}

static void add_help_row(limn_buf *out, const limn_params *defaults, const limn_param *p,
                         int width) {
    limn_buf name, text;
    limn_buf_init(&name, 256);
    limn_buf_init(&text, 4096);
    if (p->cli_short)
        limn_buf_addf(&name, "  -%c, ", p->cli_short);
    else
        limn_buf_adds(&name, "      ");
    add_option_name(&name, p);
    limn_buf_adds(&name, placeholder(p));
    add_sentence(&text, defaults, p);
    if (name.len + 2 <= HELP_COLUMN)
        limn_buf_addf(out, "%-*s", HELP_COLUMN, limn_buf_text(&name));
    else
        limn_buf_addf(out, "%s\n%*s", limn_buf_text(&name), HELP_COLUMN, "");
    add_wrapped(out, limn_buf_text(&text), width, HELP_COLUMN);
    limn_buf_deinit(&name);
    limn_buf_deinit(&text);
}

limn_status limn_params_help(char **out, const limn_params_kind *kinds, int n_kinds, int width,
                             limn_err *err) {
    limn_buf b;
    limn_status st = LIMN_OK;
    limn_buf_init(&b, DOC_MAX);
    *out = NULL;
    if (width < 60) width = 60;
    for (int k = 0; k < n_kinds && st == LIMN_OK; k++) {
        const limn_param_table *t = limn_param_table_get(kinds[k]);
        limn_params *defaults;
        const char *group = "";
        st = limn_params_new(&defaults, kinds[k], err);
        for (int i = 0; st == LIMN_OK && i < t->count; i++) {
            if (strcmp(group, t->rows[i].group) != 0)
                limn_buf_addf(&b, "%s%s:\n", b.len ? "\n" : "", t->rows[i].group);
            group = t->rows[i].group;
            add_help_row(&b, defaults, &t->rows[i], width);
        }
        limn_params_free(&defaults);
    }
    if (st == LIMN_OK) {
        *out = limn_buf_take(&b);
        if (!*out) st = limn_fail(err, LIMN_E_NOMEM, "no memory for the help text");
    }
    limn_buf_deinit(&b);
    return st;
}

/* ---- docs/PARAMETERS.md ---- */

static void add_range(limn_buf *out, const limn_param *p) {
    switch (p->type) {
    case LIMN_TYPE_INT:
    case LIMN_TYPE_REAL:
        limn_real_format(out, p->min);
        limn_buf_adds(out, " to ");
        if (p->max > 1e15)
            limn_buf_adds(out, "2^53 - 1");
        else
            limn_real_format(out, p->max);
        if (p->multiple > 1) limn_buf_addf(out, ", multiple of %d", p->multiple);
        break;
    case LIMN_TYPE_BOOL: limn_buf_adds(out, "on, off"); break;
    case LIMN_TYPE_ENUM: add_words(out, p); break;
    case LIMN_TYPE_BYTES: limn_buf_adds(out, "512M, 6G ..."); break;
    case LIMN_TYPE_TEXT:
    case LIMN_TYPE_LIST:
        limn_buf_addf(out, "%s%s", p->type == LIMN_TYPE_LIST ? "texts" : "text",
                      p->list ? " (limn samplers)" : "");
        break;
    }
}

static void add_page_row(limn_buf *out, const limn_params *defaults, const limn_param *p) {
    limn_buf_addf(out, "| `%s` | `", p->name);
    if (p->cli_short) limn_buf_addf(out, "-%c ", p->cli_short);
    add_option_name(out, p);
    limn_buf_adds(out, "` | ");
    add_range(out, p);
    limn_buf_adds(out, " | ");
    add_default(out, defaults, p);
    limn_buf_addf(out, " | %s | ", p->png ? p->png : "");
    for (const char *c = p->aliases ? p->aliases : ""; *c; c++)
        limn_buf_adds(out, *c == '|' ? ", " : (char[2]){*c, 0});
    limn_buf_addf(out, " | %s |\n", p->help);
}

static void add_page_table(limn_buf *out, const limn_params *defaults) {
    const limn_param_table *t = limn_param_table_get(defaults->kind);
    const char *group = "";
    for (int i = 0; i < t->count; i++) {
        if (strcmp(group, t->rows[i].group) != 0)
            limn_buf_addf(out,
                          "\n### %s\n\n| name (JSON) | option | values | default | in pictures | "
                          "also called | meaning |\n|---|---|---|---|---|---|---|\n",
                          t->rows[i].group);
        group = t->rows[i].group;
        add_page_row(out, defaults, &t->rows[i]);
    }
}

limn_status limn_params_markdown(char **out, limn_err *err) {
    limn_buf b;
    limn_params *gen = NULL, *app = NULL, *see = NULL, *serve = NULL;
    limn_status st = LIMN_OK;
    *out = NULL;
    limn_buf_init(&b, DOC_MAX);
    LIMN_TRY(limn_params_new(&gen, LIMN_PARAMS_GEN, err));
    LIMN_TRY(limn_params_new(&app, LIMN_PARAMS_APP, err));
    LIMN_TRY(limn_params_new(&see, LIMN_PARAMS_SEE, err));
    LIMN_TRY(limn_params_new(&serve, LIMN_PARAMS_SERVE, err));
    limn_buf_adds(&b,
                  "# Parameters\n\nWritten by `make docs` from the tables in `src/param`; a test "
                  "fails when it is stale.\nIn JSON and on the command line `-` and `_` are the "
                  "same; an unknown name or a value outside its\nrange is an error.\n\n"
                  "## What to draw\n");
    add_page_table(&b, gen);
    limn_buf_adds(&b, "\n## How to look and to answer\n");
    add_page_table(&b, see);
    limn_buf_adds(&b, "\n## How the program runs\n");
    add_page_table(&b, app);
    limn_buf_adds(&b, "\n## How the server listens, guards and keeps\n");
    add_page_table(&b, serve);
    *out = limn_buf_take(&b);
    LIMN_CHECK(err, *out, LIMN_E_NOMEM, "no memory for the reference page");
out:
    limn_params_free(&gen);
    limn_params_free(&app);
    limn_params_free(&see);
    limn_params_free(&serve);
    limn_buf_deinit(&b);
    return st;
}
