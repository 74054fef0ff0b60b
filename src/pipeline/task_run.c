/* SPDX-License-Identifier: MIT */
/* Doing a task: pictures one by one, questions, the result; see task_impl.h. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "image/image.h"
#include "pipeline/task_impl.h"

enum { TEXT_MAX = 1 << 28 };

/* ---- what is said of the result ---- */

static bool say(limn_task_job *r, const char *text, size_t len) {
    limn_buf piece;
    limn_buf_init(&piece, len + 1);
    limn_buf_add(&piece, text, len);
    limn_buf_add(&r->out->text, text, len);
    limn_said said = {.kind = LIMN_SAID_TEXT, .text = limn_buf_text(&piece), .len = len};
    bool more = !r->watch.said || len == 0 || r->watch.said(r->watch.user, &said);
    limn_buf_deinit(&piece);
    return more;
}

/* Passes text on, without "```markdown" in front of and "```" behind all of it. */
static bool stream(limn_task_job *r, const char *text, size_t len, bool last) {
    limn_buf *h = &r->held;
    limn_buf_add(h, text, len);
    const char *all = limn_buf_text(h);
    if (!r->begun) {
        size_t fence = strspn(all, "`");
        const char *line = strchr(all, '\n');
        if (fence == h->len && fence <= 3 && !last) return true; /* may become a fence */
        if (fence == 3 && !line && h->len < 32 && !last) return true;
        r->begun = true;
        r->fenced = fence == 3 && line != NULL && line - all < 32;
        if (r->fenced) {
            size_t n = (size_t)(line - all) + 1;
            memmove(h->data, h->data + n, h->len - n + 1);
            h->len -= n;
        }
    }
    size_t n = h->len;
    if (r->fenced) {
        size_t tail = 0; /* line breaks and the closing fence */
        while (tail < n && strchr("`\r\n", h->data[n - 1 - tail])) tail++;
        n -= tail;
    }
    bool more = say(r, limn_buf_text(h), n);
    if (n > 0) {
        memmove(h->data, h->data + n, h->len - n + 1);
        h->len -= n;
    }
    if (!last || !r->fenced) return more;
    size_t fence = h->len > 0 ? strcspn(h->data, "`") : 0;
    return say(r, limn_buf_text(h), fence) && more; /* line breaks before it stay */
}

static bool said(void *user, const limn_said *s) {
    limn_task_job *r = user;
    if (s->kind != LIMN_SAID_TEXT) return !r->watch.said || r->watch.said(r->watch.user, s);
    if (r->form.answer != LIMN_ANSWER_TEXT) return true;
    return stream(r, s->text, s->len, false);
}

void limn_task_event(void *job, const limn_event *e) {
    const limn_task_job *r = job;
    if (r->watch.event) r->watch.event(r->watch.user, e);
}

/* ---- one question ---- */

limn_status limn_task_question(limn_answer **a, limn_task_job *r, const limn_message_part *files,
                               size_t n, const char *text, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_message_part *parts = limn_mem_calloc(n + 1, sizeof *parts);
    *a = NULL;
    LIMN_CHECK(err, parts && text, LIMN_E_NOMEM, "no memory for a question");
    if (n > 0) memcpy(parts, files, n * sizeof *parts);
    parts[n] = (limn_message_part){.kind = LIMN_MESSAGE_TEXT, .text = text};
    limn_message m = {.role = LIMN_ROLE_USER, .parts = parts, .n_parts = n + 1};
    limn_talk talk = {.messages = &m, .n_messages = 1};
    limn_look_watch w = {
        .said = said, .event = limn_task_event, .user = r, .cancel = r->watch.cancel};
    LIMN_TRY(limn_see(a, r->seer, &talk, r->with, &w, err));
    limn_sight *s = &r->out->sight;
    s->prompt_tokens += (*a)->prompt_tokens;
    s->image_tokens += (*a)->image_tokens;
    s->cached_tokens += (*a)->cached_tokens;
    s->completion_tokens += (*a)->completion_tokens;
    if ((*a)->finish >= LIMN_FINISH_LENGTH) s->finish = (*a)->finish;
    if ((*a)->finish == LIMN_FINISH_LENGTH || (*a)->finish == LIMN_FINISH_CONTEXT ||
        (*a)->finish == LIMN_FINISH_LOOP)
        r->out->found.cut = true;
out:
    limn_mem_free(parts);
    return st;
}

/* ---- one question of the task ---- */

static const char *separator(const limn_task_job *r) {
    switch (r->form.format) {
    case LIMN_SEEING_FORMAT_MARKDOWN: return "\n\n---\n\n";
    case LIMN_SEEING_FORMAT_HTML: return "\n<hr>\n";
    default: return "\n\n";
    }
}

static limn_status data_add(limn_task_job *r, const char *text, size_t len, limn_err *err) {
    bool cut;
    json_t *v = limn_task_json(text, len, &cut);
    limn_sight_box *b = r->out;
    b->found.cut = b->found.cut || cut;
    if (!v) {
        b->found.dropped++;
        v = json_null();
    }
    bool ok = true;
    if (r->task->scope != LIMN_TASK_EACH)
        b->data = v;
    else {
        if (!b->data) b->data = json_array();
        ok = b->data && json_array_append_new(b->data, v) == 0;
    }
    return ok ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for a result");
}

static limn_status ask(limn_task_job *r, const limn_message_part *files, size_t n,
                       const limn_task_frame *frame, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_answer *a = NULL;
    const char *prompt = limn_task_prompt(r);
    LIMN_CHECK(err, prompt, LIMN_E_NOMEM, "no memory for a question");
    if (r->categories) return limn_task_moderate(r, files, frame, prompt, err);
    if (r->form.answer == LIMN_ANSWER_LABEL)
        return limn_task_classify(r, files, frame->picture, prompt, err);
    if (r->form.answer == LIMN_ANSWER_TAGS)
        return limn_task_tag(r, files, frame->picture, prompt, err);
    if (r->form.answer == LIMN_ANSWER_TEXT) {
        if (frame->picture > 0 && r->task->scope == LIMN_TASK_EACH) {
            const char *between = separator(r);
            say(r, between, strlen(between));
        }
        r->begun = r->fenced = false;
        limn_buf_clear(&r->held);
    }
    LIMN_TRY(limn_task_question(&a, r, files, n, prompt, err));
    if (r->form.answer == LIMN_ANSWER_TEXT)
        stream(r, "", 0, true);
    else if (r->form.answer == LIMN_ANSWER_ROWS)
        LIMN_TRY(limn_task_rows_parse(&r->out->found, a->text, a->len, frame, err));
    else
        LIMN_TRY(data_add(r, a->text, a->len, err));
out:
    limn_answer_free(&a);
    return st;
}

/* ---- pictures ---- */

static limn_status picture_note(limn_task_frame *frame, limn_task_job *r, const char *file,
                                int page, int width, int height, limn_err *err) {
    limn_sight_box *b = r->out;
    size_t n = b->sight.n_pictures;
    if (n == b->cap_pictures) {
        size_t cap = n ? n * 2 : 16;
        limn_sight_picture *grown = limn_mem_realloc(b->pictures, cap * sizeof *grown);
        if (!grown) return limn_fail(err, LIMN_E_NOMEM, "no memory for pictures");
        b->pictures = grown;
        b->cap_pictures = cap;
    }
    char *name = limn_arena_strdup(&b->found.arena, file ? file : "");
    if (!name) return limn_fail(err, LIMN_E_NOMEM, "no memory for pictures");
    b->pictures[n] = (limn_sight_picture){name, page, width, height};
    b->sight.n_pictures = n + 1;
    *frame = (limn_task_frame){.picture = (int)n, .width = width, .height = height};
    return LIMN_OK;
}

typedef limn_status picture_fn(limn_task_job *r, const limn_image *im, const char *file, int page,
                               void *user, limn_err *err);

/* Opens a file of any kind with the rows of "clips and pages". */
static limn_status media_open(limn_media **out, limn_task_job *r, const limn_message_part *f,
                              limn_err *err) {
    limn_media_options o;
    limn_status st = limn_media_settle(&o, r->o, err);
    o.cancel = r->watch.cancel;
    if (st != LIMN_OK) return st;
    if (f->data)
        return limn_media_open_memory(out, f->path ? f->path : "the file", f->data, f->size, &o,
                                      err);
    if (!f->path) return limn_fail(err, LIMN_E_VALUE, "a file part without a file");
    return limn_media_open(out, f->path, &o, err);
}

/* Every picture and page of the files, one at a time. */
static limn_status each_picture(limn_task_job *r, const limn_message_part *files, size_t n,
                                picture_fn *fn, void *user, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_media *media = NULL;
    limn_image *image = NULL;
    for (size_t i = 0; i < n; i++) {
        const limn_message_part *f = &files[i];
        LIMN_CHECK(err, f->kind == LIMN_MESSAGE_IMAGE || f->kind == LIMN_MESSAGE_FILE, LIMN_E_USAGE,
                   "task %s takes pictures and documents", r->task->name);
        if (f->image) {
            LIMN_TRY(fn(r, f->image, f->path, 1, user, err));
            continue;
        }
        LIMN_TRY(media_open(&media, r, f, err));
        LIMN_CHECK(
            err, limn_media_info_of(media)->kind != LIMN_MEDIA_VIDEO, LIMN_E_USAGE,
            "%s is a video: task %s takes pictures; video, events, follow and ask take clips",
            f->path ? f->path : "the file", r->task->name);
        for (int page = 0;; page++) {
            LIMN_TRY(limn_media_next(&image, media, err));
            if (!image) break;
            LIMN_TRY(fn(r, image, f->path, (int)limn_media_index(media, page) + 1, user, err));
            limn_image_free(&image);
        }
        limn_media_close(&media);
    }
out:
    limn_image_free(&image);
    limn_media_close(&media);
    return st;
}

static limn_status ask_picture(limn_task_job *r, const limn_image *im, const char *file, int page,
                               void *user, limn_err *err) {
    limn_task_frame frame;
    limn_message_part part = {.kind = LIMN_MESSAGE_IMAGE, .image = im};
    (void)user;
    limn_status st = picture_note(&frame, r, file, page, im->width, im->height, err);
    return st == LIMN_OK ? ask(r, &part, 1, &frame, err) : st;
}

/* Pictures that are the frames of a clip. */
typedef struct frames {
    limn_image **list;
    size_t n, cap;
} frames;

static limn_status frame_keep(limn_task_job *r, const limn_image *im, const char *file, int page,
                              void *user, limn_err *err) {
    frames *f = user;
    (void)r, (void)file, (void)page;
    if (f->n == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 16;
        limn_image **grown = limn_mem_realloc(f->list, cap * sizeof *grown);
        if (!grown) return limn_fail(err, LIMN_E_NOMEM, "no memory for frames");
        f->list = grown;
        f->cap = cap;
    }
    limn_status st = limn_image_copy(&f->list[f->n], im, err);
    if (st == LIMN_OK) f->n++;
    return st;
}

static limn_status ask_clip(limn_task_job *r, const limn_message_part *files, size_t n,
                            limn_err *err) {
    limn_status st = LIMN_OK;
    limn_task_frame frame;
    limn_media *media = NULL;
    frames f = {0};
    if (n == 1 && files[0].kind == LIMN_MESSAGE_VIDEO) {
        const limn_image *first = files[0].n_frames > 0 ? files[0].frames[0] : NULL;
        LIMN_CHECK(err, first, LIMN_E_VALUE, "a video without frames");
        LIMN_TRY(picture_note(&frame, r, files[0].path, 1, first->width, first->height, err));
        frame.end = (double)files[0].n_frames / (files[0].fps > 0 ? files[0].fps : 2);
        LIMN_TRY(ask(r, files, 1, &frame, err));
        goto out;
    }
    if (n == 1 && files[0].kind == LIMN_MESSAGE_FILE) {
        LIMN_TRY(media_open(&media, r, &files[0], err));
        const limn_media_info info = *limn_media_info_of(media);
        limn_media_close(&media);
        if (info.kind == LIMN_MEDIA_VIDEO) {
            LIMN_TRY(picture_note(&frame, r, files[0].path, 1, info.width, info.height, err));
            frame.end = info.duration;
            LIMN_TRY(ask(r, files, 1, &frame, err));
            goto out;
        }
    }
    LIMN_TRY(each_picture(r, files, n, frame_keep, &f, err));
    limn_message_part clip = {.kind = LIMN_MESSAGE_VIDEO,
                              .frames = (const limn_image *const *)f.list,
                              .n_frames = f.n,
                              .fps = r->o->fps};
    LIMN_TRY(picture_note(&frame, r, files[0].path, 1, f.list[0]->width, f.list[0]->height, err));
    if (clip.fps > 0) frame.end = (double)f.n / clip.fps;
    LIMN_TRY(ask(r, &clip, 1, &frame, err));
out:
    limn_media_close(&media);
    for (size_t i = 0; i < f.n; i++) limn_image_free(&f.list[i]);
    limn_mem_free(f.list);
    return st;
}

/* ---- the run ---- */

static const char *const format_names[] = {"auto", "text", "markdown", "html", "json", "csv"};

static limn_status finish(limn_task_job *r, limn_err *err) {
    limn_sight_box *b = r->out;
    limn_sight *s = &b->sight;
    if (r->form.answer != LIMN_ANSWER_TEXT) {
        limn_buf_clear(&b->text);
        limn_status st = limn_sight_write(b, r->form.format, err);
        if (st != LIMN_OK) return st;
        limn_said whole = {
            .kind = LIMN_SAID_TEXT, .text = limn_buf_text(&b->text), .len = b->text.len};
        if (r->watch.said && whole.len > 0) r->watch.said(r->watch.user, &whole);
    }
    if (b->text.failed) return limn_fail(err, LIMN_E_LIMIT, "the result is too long");
    if (s->finish == LIMN_FINISH_LOOP)
        snprintf(b->note, sizeof b->note,
                 "an answer repeated itself and was ended: what it had until then is kept");
    else if (b->found.dropped > 0 && b->found.cut)
        snprintf(b->note, sizeof b->note,
                 "the answer was cut, and %zu parts of it were not as asked and left out",
                 b->found.dropped);
    else if (b->found.dropped > 0)
        snprintf(b->note, sizeof b->note, "%zu parts of the answer were not as asked and left out",
                 b->found.dropped);
    else if (b->found.cut)
        snprintf(b->note, sizeof b->note, "the answer was cut: what it had until then is kept");
    s->task = r->task->name;
    s->format = format_names[r->form.format];
    s->text = limn_buf_text(&b->text);
    s->len = b->text.len;
    s->findings = b->found.list;
    s->n_findings = b->found.n;
    s->pictures = b->pictures;
    s->note = b->note[0] ? b->note : NULL;
    return LIMN_OK;
}

limn_status limn_task_check(const limn_params *see, size_t n_files, limn_err *err) {
    limn_task_job r = {.see = see, .o = limn_seeing_of(see)};
    limn_arena_init(&r.arena);
    limn_status st = limn_task_settle(&r, n_files, err);
    limn_params_free(&r.with);
    limn_arena_deinit(&r.arena);
    return st;
}

limn_status limn_task_run(limn_sight **out, limn_seer *seer, const limn_message_part *files,
                          size_t n_files, const limn_params *see, const limn_look_watch *watch,
                          limn_err *err) {
    limn_status st = LIMN_OK;
    double began = limn_clock_now();
    limn_task_job r = {.seer = seer, .see = see, .o = limn_seeing_of(see)};
    *out = NULL;
    limn_arena_init(&r.arena);
    limn_buf_init(&r.held, TEXT_MAX);
    if (watch) r.watch = *watch;
    r.out = limn_mem_calloc(1, sizeof *r.out);
    LIMN_CHECK(err, r.out, LIMN_E_NOMEM, "no memory for a result");
    limn_findings_init(&r.out->found);
    limn_buf_init(&r.out->text, TEXT_MAX);
    LIMN_TRY(limn_task_settle(&r, n_files, err));
    if (r.task->scope == LIMN_TASK_EACH)
        LIMN_TRY(each_picture(&r, files, n_files, ask_picture, NULL, err));
    else if (r.task->scope == LIMN_TASK_CLIP)
        LIMN_TRY(ask_clip(&r, files, n_files, err));
    else
        LIMN_TRY(ask(&r, files, n_files, &(limn_task_frame){0}, err));
    LIMN_TRY(finish(&r, err));
    r.out->sight.seconds = limn_clock_now() - began;
    *out = &r.out->sight;
    r.out = NULL;
out:
    if (r.out) {
        limn_sight *s = &r.out->sight;
        limn_sight_free(&s);
    }
    limn_params_free(&r.with);
    limn_buf_deinit(&r.held);
    limn_arena_deinit(&r.arena);
    return st;
}

void limn_sight_free(limn_sight **sight) {
    if (!sight || !*sight) return;
    limn_sight_box *b = (limn_sight_box *)(void *)*sight;
    limn_findings_deinit(&b->found);
    limn_buf_deinit(&b->text);
    limn_mem_free(b->pictures);
    json_decref(b->data);
    limn_mem_free(b);
    *sight = NULL;
}

/* Rows with a box or a point; those of moderate are described by its policy (task_settle.c). */
static bool has_places(const limn_task_form *f) {
    return f->answer == LIMN_ANSWER_ROWS &&
           (!f->schema || strstr(f->schema, "bbox_2d") || strstr(f->schema, "point_2d"));
}

bool limn_task_get_info(limn_task_info *out, int index) {
    static const char *const words[] = {[LIMN_WORDS_NEEDED] = "question",
                                        [LIMN_WORDS_MAY] = "question",
                                        [LIMN_WORDS_LABELS] = "categories",
                                        [LIMN_WORDS_KEYS] = "keys",
                                        [LIMN_WORDS_NONE] = ""};
    if (index < 0 || index >= limn_task_count) return false;
    const limn_task *t = &limn_tasks[index];
    *out = (limn_task_info){.name = t->name,
                            .help = t->help,
                            .words = words[t->words],
                            .least_pictures = t->least_pictures,
                            .clip = t->scope == LIMN_TASK_CLIP};
    const limn_task_form *with = t->forms; /* a form without a prompt is asked as the one before */
    for (int i = 0; i < LIMN_TASK_FORMS && t->forms[i].format != LIMN_SEEING_FORMAT_AUTO; i++) {
        if (t->forms[i].prompt) with = &t->forms[i];
        out->formats[i] = format_names[t->forms[i].format];
        out->places[i] = has_places(with);
    }
    return true;
}
