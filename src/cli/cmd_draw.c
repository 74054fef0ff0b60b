/* SPDX-License-Identifier: MIT */
/*
 * limn draw: a prompt becomes pictures. Everything that can be wrong is refused before the first
 * weight is read: values, names of samplers and models, output paths.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

enum { PROMPT_MAX = 1 << 20 };

/* The prompt from stdin, without the last line end. The table's own limit is lower than ours. */
static limn_status read_prompt(cli *c, limn_err *err) {
    char *text = malloc(PROMPT_MAX + 1);
    if (!text) return cli_fail(err, LIMN_E_NOMEM, "no memory for the prompt");
    size_t n = fread(text, 1, PROMPT_MAX, stdin);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r')) n--;
    text[n] = 0;
    limn_status st = strlen(text) == n
                         ? limn_params_set(c->gen, "prompt", text, LIMN_FROM_CLI, err)
                         : cli_fail(err, LIMN_E_VALUE, "prompt: the text has a NUL byte");
    free(text);
    return st;
}

/* The seed is chosen here when nobody did, so that file names are known before the work. */
static limn_status choose_seed(cli *c, limn_err *err) {
    char text[16];
    uint32_t seed;
    if (limn_params_is_set(c->gen, "seed")) return LIMN_OK;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        return cli_fail(err, LIMN_E_IO, "the system has no random numbers");
    snprintf(text, sizeof text, "%u", seed);
    return limn_params_set(c->gen, "seed", text, LIMN_FROM_CLI, err);
}

static int picture_count(const cli *c) {
    return (int)(limn_params_int(c->gen, "count") * limn_params_int(c->gen, "batch_size"));
}

static limn_status check_outputs(const cli *c, limn_err *err) {
    int count = picture_count(c);
    int64_t seed = limn_params_int(c->gen, "seed");
    limn_status st = LIMN_OK;
    for (int i = 0; st == LIMN_OK && i < count; i++) {
        char path[CLI_PATH_MAX];
        st = cli_output_name(path, c, i, count, seed + i, err);
        if (st == LIMN_OK) st = cli_output_check(c, path, err);
    }
    return st;
}

static void print_json(const limn_drawing *d, int index, const char *path) {
    const limn_image *im = limn_drawing_image(d, index);
    const limn_params *p = limn_drawing_params(d, index);
    char *json = NULL;
    printf("%s{\"file\": ", index ? ", " : "");
    cli_print_json_text(path);
    printf(", \"width\": %d, \"height\": %d, \"seed\": %lld, \"parameters\": ",
           limn_image_width(im), limn_image_height(im), (long long)limn_params_int(p, "seed"));
    if (limn_params_format_json(&json, p, false, NULL) == LIMN_OK) fputs(json, stdout);
    limn_text_free(&json);
    printf(", \"text\": ");
    cli_print_json_text(limn_drawing_text(d, index));
    putchar('}');
}

static limn_status save_sheet(const cli *c, const limn_drawing *d, limn_err *err) {
    int count = limn_drawing_count(d), columns = 1;
    const limn_image **images = calloc((size_t)count, sizeof *images);
    const char **labels = calloc((size_t)count, sizeof *labels);
    char(*text)[32] = calloc((size_t)count, sizeof *text);
    limn_image *sheet = NULL;
    limn_status st = LIMN_OK;
    if (!images || !labels || !text) st = cli_fail(err, LIMN_E_NOMEM, "no memory for the sheet");
    for (int i = 0; st == LIMN_OK && i < count; i++) {
        images[i] = limn_drawing_image(d, i);
        snprintf(text[i], sizeof text[i], "seed %lld",
                 (long long)limn_params_int(limn_drawing_params(d, i), "seed"));
        labels[i] = text[i];
    }
    while (columns * columns < count) columns++;
    if (st == LIMN_OK) st = limn_image_sheet(&sheet, images, labels, count, columns, err);
    if (st == LIMN_OK) {
        char path[CLI_PATH_MAX + 16], first[CLI_PATH_MAX];
        st = cli_output_name(first, c, 0, 1, limn_params_int(c->gen, "seed"), err);
        char *dot = strrchr(first, '.');
        if (dot && !strchr(dot, '/')) *dot = 0;
        snprintf(path, sizeof path, "%s-sheet.png", first);
        if (st == LIMN_OK) st = cli_output_save(c, sheet, path, NULL, err);
        if (st == LIMN_OK && !limn_params_int(c->app, "quiet")) fprintf(stderr, "%s\n", path);
    }
    limn_image_free(&sheet);
    free(images);
    free(labels);
    free(text);
    return st;
}

/* How a picture drawn again compares with the old one; said, not judged. */
static void compare(const limn_image *a, const limn_image *b) {
    size_t n =
        (size_t)limn_image_width(a) * (size_t)limn_image_height(a) * (size_t)limn_image_channels(a);
    size_t differing = 0;
    int most = 0;
    if (limn_image_width(a) != limn_image_width(b) ||
        limn_image_height(a) != limn_image_height(b) ||
        limn_image_channels(a) != limn_image_channels(b)) {
        fprintf(stderr, "the new picture has another size than the old one\n");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        int d = abs(limn_image_bytes(a)[i] - limn_image_bytes(b)[i]);
        differing += d != 0;
        if (d > most) most = d;
    }
    if (differing == 0)
        fprintf(stderr, "the same picture, bit for bit\n");
    else
        fprintf(stderr, "differs from the old picture in %zu of %zu samples, by at most %d\n",
                differing, n, most);
}

/* What a run leaves behind: names, saved as the pictures come. */
typedef struct draw_output {
    cli *c;
    cli_progress *progress;
    char (*paths)[CLI_PATH_MAX];
    int count;
} draw_output;

/* A limn_picture_fn: whatever happens later, this picture is safe. */
static limn_status save_picture(void *user, const limn_drawing *d, int i, limn_err *err) {
    draw_output *out = user;
    bool silent = limn_params_int(out->c->app, "json") || limn_params_int(out->c->app, "quiet");
    int64_t seed = limn_params_int(limn_drawing_params(d, i), "seed");
    limn_status st = cli_output_name(out->paths[i], out->c, i, out->count, seed, err);
    if (st == LIMN_OK)
        st = cli_output_save(out->c, limn_drawing_image(d, i), out->paths[i],
                             limn_drawing_text(d, i), err);
    if (st != LIMN_OK || silent || strcmp(out->paths[i], "-") == 0) return st;
    cli_progress_end(out->progress);
    printf("%s\n", out->paths[i]);
    fflush(stdout);
    return LIMN_OK;
}

static void draw_event(void *user, const limn_event *event) {
    cli_progress_event(((draw_output *)user)->progress, event);
}

static limn_status report(const draw_output *out, const limn_drawing *d, double seconds,
                          limn_err *err) {
    limn_status st = LIMN_OK;
    if (limn_params_int(out->c->app, "sheet")) st = save_sheet(out->c, d, err);
    if (st == LIMN_OK && limn_params_int(out->c->app, "json")) {
        printf("{\"images\": [");
        for (int i = 0; i < out->count; i++) print_json(d, i, out->paths[i]);
        printf("], \"seconds\": %.3f}\n", seconds);
    }
    return st;
}

static limn_status draw_and_save(draw_output *out, limn_drawing **drawing, limn_engine *engine,
                                 limn_err *err) {
    cli *c = out->c;
    limn_watch watch = {
        .event = draw_event,
        .user = out,
        .cancel = c->cancel,
        .picture = save_picture,
        .preview_every =
            out->progress->preview >= 0 ? (int)limn_params_int(c->app, "preview_every") : 0,
    };
    limn_status st = limn_draw(drawing, engine, c->gen, &watch, err);
    cli_progress_end(out->progress);
    return st;
}

/* ---- --dry-run ---- */
enum { MEGA = 1000000 };

static void print_forecast_json(const cli *c, const limn_forecast *f, const char *text,
                                const char *values, bool fits) {
    printf("{\"dry_run\": true, \"images\": %d, \"model\": ", f->images);
    cli_print_json_text(f->model);
    printf(", \"family\": \"%s\", \"parameters\": %s, \"text\": ", f->family, values);
    cli_print_json_text(text);
    printf(", \"memory\": {\"model\": %lld, \"work\": %lld, \"free\": %lld, \"fits\": %s}",
           (long long)f->model_bytes, (long long)f->work_bytes, (long long)f->free_bytes,
           fits ? "true" : "false");
    if (f->seconds < 0)
        printf(", \"seconds\": null, \"files\": [");
    else
        printf(", \"seconds\": %.1f, \"files\": [", f->seconds);
    for (int i = 0; i < f->images; i++) {
        char path[CLI_PATH_MAX];
        int64_t seed = limn_params_int(f->params, "seed") + i;
        if (cli_output_name(path, c, i, f->images, seed, NULL) != LIMN_OK) break;
        if (i) printf(", ");
        cli_print_json_text(path);
    }
    printf("]}\n");
}

static void print_forecast(const cli *c, const limn_forecast *f, const char *text, bool fits) {
    char path[CLI_PATH_MAX] = "";
    int64_t seed = limn_params_int(f->params, "seed");
    (void)cli_output_name(path, c, 0, f->images, seed, NULL); /* was checked */
    printf("would draw %d picture%s to %s", f->images, f->images == 1 ? "" : "s", path);
    if (f->images > 1 &&
        cli_output_name(path, c, f->images - 1, f->images, seed + f->images - 1, NULL) == LIMN_OK)
        printf(" ... %s", path);
    printf("\nmodel   %s (%s)\nmemory  %lld MB for the model, %lld MB beside it; ", f->model,
           f->family, (long long)(f->model_bytes + MEGA - 1) / MEGA,
           (long long)(f->work_bytes + MEGA - 1) / MEGA);
    if (f->limit_bytes) printf("--memory %lld MB, ", (long long)f->limit_bytes / MEGA);
    printf("%lld MB are free: %s\n", (long long)f->free_bytes / MEGA,
           fits ? "fits" : "does not fit");
    if (f->seconds < 0)
        printf("time    not known: nothing was drawn with this model yet\n");
    else
        printf("time    about %.*f s\n", f->seconds < 10, f->seconds);
    printf("\n%s\n", text);
}

/* Says what would be done; the text is the recipe of the first picture. */
static limn_status foresee(const cli *c, limn_engine *engine, limn_err *err) {
    limn_forecast f;
    char *text = NULL, *values = NULL;
    limn_status st = limn_draw_forecast(&f, engine, c->gen, err);
    if (st != LIMN_OK) return st;
    int64_t need = f.model_bytes + f.work_bytes;
    bool fits = need <= f.free_bytes && (!f.limit_bytes || need <= f.limit_bytes);
    st = limn_params_format_text(&text, f.params, err);
    if (st == LIMN_OK) st = limn_params_format_json(&values, f.params, false, err);
    if (st == LIMN_OK && limn_params_int(c->app, "json"))
        print_forecast_json(c, &f, text, values, fits);
    else if (st == LIMN_OK)
        print_forecast(c, &f, text, fits);
    limn_text_free(&text);
    limn_text_free(&values);
    limn_forecast_deinit(&f);
    return st;
}

limn_status cli_draw(cli *c, const limn_image *original, limn_err *err) {
    limn_engine *engine = NULL;
    limn_drawing *drawing = NULL;
    cli_progress progress;
    double start = cli_now();
    bool dry = limn_params_int(c->app, "dry_run") != 0;
    draw_output out = {.c = c, .progress = &progress, .count = picture_count(c)};
    out.paths = calloc((size_t)out.count, sizeof *out.paths);
    limn_status st = out.paths ? LIMN_OK : cli_fail(err, LIMN_E_NOMEM, "no memory for the names");
    if (st == LIMN_OK) st = choose_seed(c, err);
    if (st == LIMN_OK) st = cli_progress_init(&progress, c, err);
    if (st == LIMN_OK) st = check_outputs(c, err);
    if (st == LIMN_OK) st = limn_engine_new(&engine, c->app, err);
    if (st == LIMN_OK) st = limn_draw_check(engine, c->gen, err);
    if (st == LIMN_OK && dry) st = foresee(c, engine, err);
    if (st == LIMN_OK && !dry) st = draw_and_save(&out, &drawing, engine, err);
    if (st == LIMN_OK && !dry) st = report(&out, drawing, cli_now() - start, err);
    if (st == LIMN_OK && drawing && original && limn_drawing_count(drawing) > 0 &&
        !limn_params_int(c->app, "quiet"))
        compare(limn_drawing_image(drawing, 0), original);
    free(out.paths);
    limn_drawing_free(&drawing);
    limn_engine_free(&engine);
    return st;
}

limn_status cmd_draw(cli *c, limn_err *err) {
    limn_status st = LIMN_OK;
    if (c->n_args == 1 && limn_params_is_set(c->gen, "prompt"))
        return cli_fail(err, LIMN_E_USAGE,
                        "the prompt is given twice: as an argument and --prompt");
    if (c->n_args == 1 && strcmp(c->args[0], "-") == 0)
        st = read_prompt(c, err);
    else if (c->n_args == 1)
        st = limn_params_set(c->gen, "prompt", c->args[0], LIMN_FROM_CLI, err);
    return st == LIMN_OK ? cli_draw(c, NULL, err) : st;
}
