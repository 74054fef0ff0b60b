/* SPDX-License-Identifier: MIT */
/*
 * Progress on stderr: a bar that is redrawn on a terminal, plain lines elsewhere (at most one every
 * two seconds, so that log files stay short), and previews above the bar.
 */
#include <locale.h>
#include <langinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

enum { BAR = 24, PREVIEW_COLUMNS = 64, PREVIEW_ROWS = 24, CELL_HEIGHT = 20 };

double cli_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The best way to show a picture here; terminals do not say it, their names do. */
static int best_preview(void) {
    const char *term = getenv("TERM"), *program = getenv("TERM_PROGRAM");
    if (!term) term = "";
    if (!program) program = "";
    if (getenv("KITTY_WINDOW_ID") || strstr(term, "kitty") || strstr(term, "ghostty") ||
        strcmp(program, "WezTerm") == 0 || strcmp(program, "ghostty") == 0)
        return LIMN_TERMINAL_KITTY;
    if (strstr(term, "sixel") || strncmp(term, "foot", 4) == 0 || strcmp(term, "mlterm") == 0)
        return LIMN_TERMINAL_SIXEL;
    return LIMN_TERMINAL_BLOCKS;
}

limn_status cli_progress_init(cli_progress *p, const cli *c, limn_err *err) {
    struct winsize size;
    const char *wish = limn_params_text(c->app, "preview"), *term = getenv("TERM");
    *p = (cli_progress){.columns = 80, .preview = -1};
    p->quiet = limn_params_int(c->app, "quiet") != 0;
    p->verbose = limn_params_int(c->app, "verbose") != 0;
    p->begin = c->begin;
    p->terminal = isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
    setlocale(LC_CTYPE, "");
    p->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) p->columns = size.ws_col;
    if (strcmp(wish, "auto") == 0) p->preview = best_preview();
    if (strcmp(wish, "kitty") == 0) p->preview = LIMN_TERMINAL_KITTY;
    if (strcmp(wish, "sixel") == 0) p->preview = LIMN_TERMINAL_SIXEL;
    if (strcmp(wish, "blocks") == 0) p->preview = LIMN_TERMINAL_BLOCKS;
    if (p->preview >= 0 && !p->terminal)
        return cli_fail(err, LIMN_E_USAGE, "--preview needs a terminal on standard error");
    return LIMN_OK;
}

/* "1.52 s/step" or "870 ms/step" */
static void format_pace(char *out, size_t size, double seconds) {
    if (seconds <= 0)
        out[0] = 0;
    else if (seconds < 1)
        snprintf(out, size, "%.0f ms/step", seconds * 1000);
    else
        snprintf(out, size, "%.2f s/step", seconds);
}

/* "17 s left", "4 min 10 s left" */
static void format_left(char *out, size_t size, double seconds) {
    int s = (int)(seconds + 0.5);
    if (seconds < 0)
        out[0] = 0;
    else if (s < 60)
        snprintf(out, size, "%d s left", s);
    else if (s < 3600)
        snprintf(out, size, "%d min %d s left", s / 60, s % 60);
    else
        snprintf(out, size, "%d h %d min left", s / 3600, s / 60 % 60);
}

/* "5200 patches/s"; drawing gives seconds per step instead */
static void format_rate(char *out, size_t size, const limn_event *e) {
    if (e->rate > 0 && e->unit)
        snprintf(out, size, "%.*f %s/s", e->rate < 10 ? 1 : 0, e->rate, e->unit);
    else
        format_pace(out, size, e->step_seconds);
}

static void draw_bar(cli_progress *p, const limn_event *e, const char *count, const char *pace,
                     const char *left) {
    char line[512], which[48] = "";
    size_t at = 0;
    int full = e->steps > 0 ? e->step * BAR / e->steps : 0;
    if (full > BAR) full = BAR;
    if (e->images > 1) snprintf(which, sizeof which, "%d/%d ", e->image + 1, e->images);
    at += (size_t)snprintf(line, sizeof line, "%s%-8s ", which, e->stage);
    if (p->columns >= 78 && e->steps > 0)
        for (int i = 0; i < BAR; i++)
            at += (size_t)snprintf(line + at, sizeof line - at, "%s",
                                   i < full ? (p->utf8 ? "\xe2\x94\x81" : "=")
                                            : (p->utf8 ? "\xe2\x94\x84" : "."));
    snprintf(line + at, sizeof line - at, " %s  %s  %s", count, pace, left);
    fprintf(stderr, "\r\033[K%s", line);
    fflush(stderr);
    p->open = true;
}

void cli_progress_end(cli_progress *p) {
    if (p->open) fputs("\r\033[K", stderr);
    p->open = false;
    fflush(stderr);
}

/* Rows of cells that the escape text moves the cursor down. */
static int rows_of(int how, const char *text, const limn_image *image) {
    int rows = 0;
    const char *r;
    if (how == LIMN_TERMINAL_KITTY && (r = strstr(text, ",r=")) != NULL) return atoi(r + 3);
    if (how == LIMN_TERMINAL_SIXEL) {
        double sx = PREVIEW_COLUMNS * 10.0 / limn_image_width(image);
        double sy = (double)PREVIEW_ROWS * CELL_HEIGHT / limn_image_height(image);
        double h = limn_image_height(image) * (sx < sy ? sx : sy);
        return (int)(h + CELL_HEIGHT - 1) / CELL_HEIGHT;
    }
    for (; *text; text++) rows += *text == '\n';
    return rows;
}

static void show_preview(cli_progress *p, const limn_image *image) {
    char *text;
    size_t len;
    int columns = p->columns < PREVIEW_COLUMNS ? p->columns : PREVIEW_COLUMNS;
    /* A preview that cannot be made is no reason to stop drawing. */
    if (limn_image_format_terminal(&text, &len, image, (limn_terminal)p->preview, columns,
                                   PREVIEW_ROWS, NULL) != LIMN_OK)
        return;
    cli_progress_end(p);
    if (p->preview_rows > 0) fprintf(stderr, "\033[%dA", p->preview_rows);
    fwrite(text, 1, len, stderr);
    fflush(stderr);
    p->preview_rows = rows_of(p->preview, text, image);
    limn_text_free(&text);
}

/* "denoise begins 0.61 s after the start, 1873 MB at most so far" */
static void show_begin(cli_progress *p, const limn_event *e) {
    struct rusage use;
    if (getrusage(RUSAGE_SELF, &use) != 0) return;
    cli_progress_end(p);
    fprintf(stderr, "%s begins %.2f s after the start, %.0f MB at most so far\n", e->stage,
            cli_now() - p->begin, (double)use.ru_maxrss * 1024 / 1e6);
    p->preview_rows = 0;
}

void cli_progress_event(void *progress, const limn_event *e) {
    cli_progress *p = progress;
    char count[32] = "", pace[48], left[64];
    if (e->note && !p->quiet) {
        cli_progress_end(p);
        fprintf(stderr, "note: %s\n", e->note);
        p->preview_rows = 0;
    }
    if (e->preview && p->preview >= 0) show_preview(p, e->preview);
    if (p->quiet || !e->stage) return;
    bool fresh = strcmp(p->stage, e->stage) != 0;
    snprintf(p->stage, sizeof p->stage, "%s", e->stage);
    if (p->verbose && fresh) show_begin(p, e);
    if (e->steps > 0) snprintf(count, sizeof count, "%d/%d", e->step, e->steps);
    format_rate(pace, sizeof pace, e);
    format_left(left, sizeof left, e->left_seconds);
    if (p->terminal) {
        draw_bar(p, e, count, pace, left);
        return;
    }
    double now = cli_now();
    bool last = e->steps > 0 && e->step == e->steps;
    if (!fresh && !last && now - p->shown < 2) return;
    if (e->images > 1) fprintf(stderr, "picture %d of %d: ", e->image + 1, e->images);
    fprintf(stderr, "%s%s%s%s%s%s%s\n", e->stage, *count ? " " : "", count, *pace ? ", " : "", pace,
            *left ? ", " : "", left);
    p->shown = now;
}
