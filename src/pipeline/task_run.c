/* SPDX-License-Identifier: MIT */
/* Doing a task: pictures one by one, questions, scores; see task.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "image/image.h"
#include "pipeline/task.h"

enum { TEXT_MAX = 1 << 28, LABELS_MAX = 1024, LABEL_BYTES = 512 };
#define THRESHOLD 0.5

/* A category of a policy. */
typedef struct category {
    const char *name, *about; /* about: "" or what belongs to it */
    double threshold;
} category;

typedef struct run {
    limn_seer *seer;
    const limn_task *task;
    limn_task_form form;    /* with what it takes from the one before */
    const limn_params *see; /* what the caller said */
    limn_params *with;      /* the same with the prompt's bounds */
    const limn_seeing *o;   /* = see */
    limn_look_watch watch;  /* the caller's */
    limn_arena arena;
    const char **labels;
    size_t n_labels;
    category *categories; /* moderate: the last is "none" */
    bool reasons;
    limn_sight_box *out;
    /* a stream of text: fences of code blocks around all of it are no part of the result */
    limn_buf held;
    bool begun, fenced;
} run;

/* ---- what is said of the result ---- */

static bool say(run *r, const char *text, size_t len) {
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
static bool stream(run *r, const char *text, size_t len, bool last) {
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
    run *r = user;
    if (s->kind != LIMN_SAID_TEXT) return !r->watch.said || r->watch.said(r->watch.user, s);
    if (r->form.answer != LIMN_ANSWER_TEXT) return true;
    return stream(r, s->text, s->len, false);
}

static void event(void *user, const limn_event *e) {
    const run *r = user;
    if (r->watch.event) r->watch.event(r->watch.user, e);
}

/* ---- prompts ---- */

/* Puts `text` for every `name` of the pattern. */
static const char *fill(run *r, const char *pattern, const char *name, const char *text) {
    limn_buf b;
    const char *at;
    limn_buf_init(&b, 8 << 20);
    while ((at = strstr(pattern, name)) != NULL) {
        limn_buf_add(&b, pattern, (size_t)(at - pattern));
        limn_buf_adds(&b, text);
        pattern = at + strlen(name);
    }
    limn_buf_adds(&b, pattern);
    const char *made = b.failed ? NULL : limn_arena_strdup(&r->arena, limn_buf_text(&b));
    limn_buf_deinit(&b);
    return made;
}

static const char *list_text(run *r, bool about) {
    limn_buf b;
    limn_buf_init(&b, 4 << 20);
    for (size_t i = 0; i < r->n_labels; i++) {
        limn_buf_addf(&b, "%s%s", i ? ", " : "", r->labels[i]);
        if (about && r->categories && r->categories[i].about[0])
            limn_buf_addf(&b, " (%s)", r->categories[i].about);
    }
    const char *made = b.failed ? NULL : limn_arena_strdup(&r->arena, limn_buf_text(&b));
    limn_buf_deinit(&b);
    return made;
}

static const char *prompt_make(run *r) {
    const limn_task *t = r->task;
    const char *words = r->o->prompt, *p = r->form.prompt;
    if (t->words == LIMN_WORDS_NEEDED) return words;
    if (t->words == LIMN_WORDS_MAY && words[0])
        return fill(r, r->form.asked ? r->form.asked : "{question}", "{question}", words);
    if (r->n_labels == 0 && r->form.open) p = r->form.open;
    const char *list = list_text(r, true);
    if (!list) return NULL;
    p = fill(r, p, "{labels}", list);
    p = p ? fill(r, p, "{keys}", list) : NULL;
    if (p && r->reasons) p = fill(r, p, "category and bbox_2d", "category, reason and bbox_2d");
    return p;
}

static limn_status question_run(limn_answer **a, run *r, const limn_message_part *files, size_t n,
                                const char *text, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_message_part *parts = limn_mem_calloc(n + 1, sizeof *parts);
    *a = NULL;
    LIMN_CHECK(err, parts && text, LIMN_E_NOMEM, "no memory for a question");
    if (n > 0) memcpy(parts, files, n * sizeof *parts);
    parts[n] = (limn_message_part){.kind = LIMN_MESSAGE_TEXT, .text = text};
    limn_message m = {.role = LIMN_ROLE_USER, .parts = parts, .n_parts = n + 1};
    limn_talk talk = {.messages = &m, .n_messages = 1};
    limn_look_watch w = {.said = said, .event = event, .user = r, .cancel = r->watch.cancel};
    LIMN_TRY(limn_see(a, r->seer, &talk, r->with, &w, err));
    limn_sight *s = &r->out->sight;
    s->prompt_tokens += (*a)->prompt_tokens;
    s->image_tokens += (*a)->image_tokens;
    s->cached_tokens += (*a)->cached_tokens;
    s->completion_tokens += (*a)->completion_tokens;
    if ((*a)->finish >= LIMN_FINISH_LENGTH) s->finish = (*a)->finish;
    if ((*a)->finish == LIMN_FINISH_LENGTH || (*a)->finish == LIMN_FINISH_CONTEXT)
        r->out->found.cut = true;
out:
    limn_mem_free(parts);
    return st;
}

/* ---- scores ---- */

/* The log-probability that the answer is exactly `text` after `lead`, which is given. */
static limn_status score_one(double *sum, run *r, const limn_message_part *file, const char *prompt,
                             const char *lead, const char *text, bool whole, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_message_part parts[] = {*file, {.kind = LIMN_MESSAGE_TEXT, .text = prompt}};
    limn_message m = {.role = LIMN_ROLE_USER, .parts = parts, .n_parts = 2};
    limn_talk talk = {.messages = &m, .n_messages = 1};
    limn_look_watch w = {.event = event, .user = r, .cancel = r->watch.cancel};
    limn_look *l = NULL;
    LIMN_TRY(limn_look_new(&l, r->seer, &talk, r->with, &w, err));
    LIMN_TRY(limn_look_force(l, lead, text, whole, err));
    while (!limn_look_is_done(l)) LIMN_TRY(limn_seer_step(r->seer, err));
    st = l->st;
    if (st != LIMN_OK && err) *err = l->err;
    *sum = l->forced_sum;
    r->out->sight.prompt_tokens += (int64_t)l->prompt.ids.len;
    r->out->sight.image_tokens += l->prompt.image_tokens;
    r->out->sight.cached_tokens += l->cached;
    r->out->sight.completion_tokens += (int64_t)l->result.ids.len;
out:
    limn_look_free(&l);
    return st;
}

/* p [n] = probabilities of the texts among each other. */
static limn_status scores_make(double *p, run *r, const limn_message_part *file, const char *prompt,
                               const char *lead, const char *const *texts, size_t n, bool whole,
                               limn_err *err) {
    double top = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) {
        limn_status st = score_one(&p[i], r, file, prompt, lead, texts[i], whole, err);
        if (st != LIMN_OK) return st;
        if (p[i] > top) top = p[i];
    }
    for (size_t i = 0; i < n; i++) sum += p[i] = exp(p[i] - top);
    for (size_t i = 0; i < n; i++) p[i] /= sum;
    return LIMN_OK;
}

/* Findings for the labels, best first. */
static limn_status labels_add(run *r, const double *p, size_t n, int picture, bool best_only,
                              limn_err *err) {
    limn_status st = LIMN_OK;
    bool *done = limn_mem_calloc(n + 1, sizeof *done);
    LIMN_CHECK(err, done, LIMN_E_NOMEM, "no memory for scores");
    for (size_t k = 0; k < n; k++) {
        size_t best = n;
        for (size_t i = 0; i < n; i++)
            if (!done[i] && (best == n || p[i] > p[best])) best = i;
        done[best] = true;
        limn_finding f = {.label = r->labels[best], .score = p[best], .picture = picture};
        f.chosen = best_only
                       ? k == 0
                       : p[best] >= (r->categories ? r->categories[best].threshold : THRESHOLD);
        LIMN_TRY(limn_findings_add(&r->out->found, &f, err));
    }
out:
    limn_mem_free(done);
    return st;
}

static limn_status classify(run *r, const limn_message_part *file, int picture, const char *prompt,
                            limn_err *err) {
    limn_status st = LIMN_OK;
    limn_answer *a = NULL;
    double *p = NULL;
    if (r->n_labels == 0) {
        LIMN_TRY(question_run(&a, r, file, 1, prompt, err));
        size_t n = strcspn(a->text, "\r\n");
        while (n > 0 && strchr(" .", a->text[n - 1])) n--;
        char *label = limn_arena_strndup(&r->arena, a->text, n);
        LIMN_CHECK(err, label, LIMN_E_NOMEM, "no memory for a label");
        LIMN_TRY(limn_findings_add(
            &r->out->found,
            &(limn_finding){.label = label, .score = -1, .picture = picture, .chosen = true}, err));
    } else {
        p = limn_mem_calloc(r->n_labels, sizeof *p);
        LIMN_CHECK(err, p, LIMN_E_NOMEM, "no memory for scores");
        LIMN_TRY(scores_make(p, r, file, prompt, "", r->labels, r->n_labels, true, err));
        LIMN_TRY(labels_add(r, p, r->n_labels, picture, true, err));
    }
out:
    limn_mem_free(p);
    limn_answer_free(&a);
    return st;
}

/* "a fox", "an axe"; as it is when it has an article or a number of its own */
static const char *with_article(run *r, const char *label) {
    static const char *const own[] = {"a ", "an ", "the ", "some ", "any ", "two ", "three "};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (strncmp(label, own[i], strlen(own[i])) == 0) return label;
    return limn_arena_printf(&r->arena, "%s %s", strchr("aeiouAEIOU", label[0]) ? "an" : "a",
                             label);
}

static limn_status tag(run *r, const limn_message_part *file, int picture, const char *prompt,
                       limn_err *err) {
    static const char *const answers[] = {"Yes", "No"};
    limn_status st = LIMN_OK;
    limn_answer *a = NULL;
    double *p = NULL;
    if (r->n_labels == 0) {
        LIMN_TRY(question_run(&a, r, file, 1, prompt, err));
        LIMN_TRY(limn_task_tags_parse(&r->out->found, a->text, a->len, picture, err));
        goto out;
    }
    p = limn_mem_calloc(r->n_labels, sizeof *p);
    LIMN_CHECK(err, p, LIMN_E_NOMEM, "no memory for scores");
    for (size_t i = 0; i < r->n_labels; i++) {
        double both[2];
        const char *thing = with_article(r, r->labels[i]);
        const char *asked = thing ? fill(r, r->form.prompt, "{label}", thing) : NULL;
        LIMN_CHECK(err, asked, LIMN_E_NOMEM, "no memory for a question");
        LIMN_TRY(scores_make(both, r, file, asked, "", answers, 2, false, err));
        p[i] = both[0];
    }
    LIMN_TRY(labels_add(r, p, r->n_labels, picture, false, err));
out:
    limn_mem_free(p);
    limn_answer_free(&a);
    return st;
}

/* Scores of all categories, then the answer itself: its box and its reason go to the category that
 * it names. */
static limn_status moderate(run *r, const limn_message_part *file, const limn_task_frame *frame,
                            const char *prompt, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_answer *a = NULL;
    limn_findings said_so;
    size_t before = r->out->found.n;
    double *p = limn_mem_calloc(r->n_labels, sizeof *p);
    limn_findings_init(&said_so);
    LIMN_CHECK(err, p, LIMN_E_NOMEM, "no memory for scores");
    LIMN_TRY(
        scores_make(p, r, file, prompt, "{\"category\": \"", r->labels, r->n_labels, false, err));
    LIMN_TRY(question_run(&a, r, file, 1, prompt, err));
    LIMN_TRY(limn_task_rows_parse(&said_so, a->text, a->len, frame, err));
    LIMN_TRY(labels_add(r, p, r->n_labels, frame->picture, false, err));
    r->out->found.dropped += said_so.dropped;
    for (size_t i = before; i < r->out->found.n; i++)
        for (size_t k = 0; k < said_so.n; k++) {
            limn_finding *to = &r->out->found.list[i];
            const limn_finding *from = &said_so.list[k];
            if (strcmp(to->label, from->label) != 0) continue;
            to->has_box = from->has_box;
            memcpy(to->box, from->box, sizeof to->box);
            to->text = limn_arena_strdup(&r->out->found.arena, from->text);
            LIMN_CHECK(err, to->text, LIMN_E_NOMEM, "no memory for a reason");
        }
out:
    limn_findings_deinit(&said_so);
    limn_mem_free(p);
    limn_answer_free(&a);
    return st;
}

/* ---- one question of the task ---- */

static const char *separator(const run *r) {
    switch (r->form.format) {
    case LIMN_SEEING_FORMAT_MARKDOWN: return "\n\n---\n\n";
    case LIMN_SEEING_FORMAT_HTML: return "\n<hr>\n";
    default: return "\n\n";
    }
}

static limn_status data_add(run *r, const char *text, size_t len, limn_err *err) {
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

static limn_status ask(run *r, const limn_message_part *files, size_t n,
                       const limn_task_frame *frame, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_answer *a = NULL;
    const char *prompt = prompt_make(r);
    LIMN_CHECK(err, prompt, LIMN_E_NOMEM, "no memory for a question");
    if (r->categories) return moderate(r, files, frame, prompt, err);
    if (r->form.answer == LIMN_ANSWER_LABEL) return classify(r, files, frame->picture, prompt, err);
    if (r->form.answer == LIMN_ANSWER_TAGS) return tag(r, files, frame->picture, prompt, err);
    if (r->form.answer == LIMN_ANSWER_TEXT) {
        if (frame->picture > 0 && r->task->scope == LIMN_TASK_EACH) {
            const char *between = separator(r);
            say(r, between, strlen(between));
        }
        r->begun = r->fenced = false;
        limn_buf_clear(&r->held);
    }
    LIMN_TRY(question_run(&a, r, files, n, prompt, err));
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

static limn_status picture_note(limn_task_frame *frame, run *r, const char *file, int page,
                                int width, int height, limn_err *err) {
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
    *frame = (limn_task_frame){(int)n, width, height};
    return LIMN_OK;
}

typedef limn_status picture_fn(run *r, const limn_image *im, const char *file, int page, void *user,
                               limn_err *err);

/* Opens a file of any kind with the rows of "clips and pages". */
static limn_status media_open(limn_media **out, run *r, const limn_message_part *f, limn_err *err) {
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
static limn_status each_picture(run *r, const limn_message_part *files, size_t n, picture_fn *fn,
                                void *user, limn_err *err) {
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

static limn_status ask_picture(run *r, const limn_image *im, const char *file, int page, void *user,
                               limn_err *err) {
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

static limn_status frame_keep(run *r, const limn_image *im, const char *file, int page, void *user,
                              limn_err *err) {
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

static limn_status ask_clip(run *r, const limn_message_part *files, size_t n, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_task_frame frame;
    limn_media *media = NULL;
    frames f = {0};
    if (n == 1 && files[0].kind == LIMN_MESSAGE_VIDEO) {
        const limn_image *first = files[0].n_frames > 0 ? files[0].frames[0] : NULL;
        LIMN_CHECK(err, first, LIMN_E_VALUE, "a video without frames");
        LIMN_TRY(picture_note(&frame, r, files[0].path, 1, first->width, first->height, err));
        LIMN_TRY(ask(r, files, 1, &frame, err));
        goto out;
    }
    if (n == 1 && files[0].kind == LIMN_MESSAGE_FILE) {
        LIMN_TRY(media_open(&media, r, &files[0], err));
        const limn_media_info info = *limn_media_info_of(media);
        limn_media_close(&media);
        if (info.kind == LIMN_MEDIA_VIDEO) {
            LIMN_TRY(picture_note(&frame, r, files[0].path, 1, info.width, info.height, err));
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
    LIMN_TRY(ask(r, &clip, 1, &frame, err));
out:
    limn_media_close(&media);
    for (size_t i = 0; i < f.n; i++) limn_image_free(&f.list[i]);
    limn_mem_free(f.list);
    return st;
}

/* ---- settling the request ---- */

static limn_status form_find(run *r, limn_err *err) {
    const limn_task *t = r->task;
    const limn_task_form *with = &t->forms[0];
    for (int i = 0; i < LIMN_TASK_FORMS; i++) {
        const limn_task_form *f = &t->forms[i];
        if (f->format == LIMN_SEEING_FORMAT_AUTO) break;
        if (f->prompt) with = f;
        if (r->o->format != LIMN_SEEING_FORMAT_AUTO && (int)f->format != r->o->format) continue;
        r->form = *with;
        r->form.format = f->format;
        return LIMN_OK;
    }
    return limn_fail(err, LIMN_E_USAGE, "task %s has no format %s; limn tasks says which it has",
                     t->name, limn_params_text(r->see, "format"));
}

static limn_status label_add(run *r, const char *text, size_t len, limn_err *err) {
    while (len > 0 && *text == ' ') text++, len--;
    while (len > 0 && text[len - 1] == ' ') len--;
    if (len == 0) return LIMN_OK;
    if (r->n_labels == LABELS_MAX || len > LABEL_BYTES)
        return limn_fail(err, LIMN_E_LIMIT, "more than %d categories, or one longer than %d bytes",
                         LABELS_MAX, LABEL_BYTES);
    char *copy = limn_arena_strndup(&r->arena, text, len);
    if (!copy) return limn_fail(err, LIMN_E_NOMEM, "no memory for labels");
    for (size_t i = 0; i < r->n_labels; i++)
        if (strcmp(r->labels[i], copy) == 0) return LIMN_OK;
    r->labels[r->n_labels++] = copy;
    return LIMN_OK;
}

static limn_status labels_read(run *r, limn_err *err) {
    const limn_task *t = r->task;
    const limn_seeing *o = r->o;
    limn_status st = LIMN_OK;
    const limn_texts *given = t->words == LIMN_WORDS_KEYS ? &o->keys : &o->categories;
    bool takes = t->words == LIMN_WORDS_LABELS || t->words == LIMN_WORDS_KEYS;
    LIMN_CHECK(err, takes || (o->categories.count == 0 && o->keys.count == 0), LIMN_E_USAGE,
               "task %s takes no categories or keys", t->name);
    LIMN_CHECK(err, given == &o->keys ? o->categories.count == 0 : o->keys.count == 0, LIMN_E_USAGE,
               "task %s takes %s, not %s", t->name, given == &o->keys ? "keys" : "categories",
               given == &o->keys ? "categories" : "keys");
    r->labels = limn_arena_alloc(&r->arena, LABELS_MAX * sizeof *r->labels);
    LIMN_CHECK(err, r->labels, LIMN_E_NOMEM, "no memory for labels");
    if (!takes) goto out;
    for (int i = 0; i < given->count; i++)
        LIMN_TRY(label_add(r, given->item[i], strlen(given->item[i]), err));
    LIMN_CHECK(err, r->n_labels == 0 || !o->prompt[0], LIMN_E_USAGE,
               "task %s got its %s twice: as options and in words", t->name,
               given == &o->keys ? "keys" : "categories");
    for (const char *p = o->prompt; *p;) {
        size_t n = strcspn(p, ",\n");
        LIMN_TRY(label_add(r, p, n, err));
        p += n + (p[n] != 0);
    }
    LIMN_CHECK(err, r->n_labels > 0 || r->form.open, LIMN_E_USAGE,
               "task %s needs categories: say what to look for", t->name);
out:
    return st;
}

/* {"categories": ["weapon", {"name": ..., "description": ..., "threshold": 0.5}], "reasons": true}
 */
static limn_status policy_read(run *r, limn_err *err) {
    static const char *const own =
        "{\"categories\": [\"weapon\", \"alcohol\", \"tobacco\", \"gambling\", \"medical\"]}";
    const char *text = r->o->policy[0] ? r->o->policy : own, *key;
    json_error_t e;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &e), *v;
    limn_status st = LIMN_OK;
    size_t i;
    LIMN_CHECK(err, json_is_object(root), LIMN_E_VALUE, "policy: line %d: %s", e.line,
               root ? "not an object" : e.text);
    json_object_foreach(root, key, v) {
        LIMN_CHECK(err, strcmp(key, "categories") == 0 || strcmp(key, "reasons") == 0, LIMN_E_VALUE,
                   "policy: there is no \"%.40s\" (categories, reasons)", key);
    }
    json_t *list = json_object_get(root, "categories");
    size_t n = json_array_size(list);
    LIMN_CHECK(err, n >= 1 && n < LABELS_MAX, LIMN_E_VALUE, "policy: needs 1 to %d categories",
               LABELS_MAX - 1);
    r->reasons = json_is_true(json_object_get(root, "reasons"));
    r->categories = limn_arena_alloc(&r->arena, (n + 1) * sizeof *r->categories);
    LIMN_CHECK(err, r->categories, LIMN_E_NOMEM, "no memory for a policy");
    json_array_foreach(list, i, v) {
        const char *name = json_string_value(json_is_object(v) ? json_object_get(v, "name") : v);
        const char *about = json_string_value(json_object_get(v, "description"));
        json_t *at = json_object_get(v, "threshold");
        double threshold = at ? json_number_value(at) : THRESHOLD;
        size_t before = r->n_labels;
        LIMN_CHECK(err, name && strcmp(name, "none") != 0 && threshold > 0 && threshold <= 1,
                   LIMN_E_VALUE,
                   "policy: category %zu needs a name (not \"none\") and a threshold above 0, at "
                   "most 1",
                   i + 1);
        LIMN_TRY(label_add(r, name, strlen(name), err));
        LIMN_CHECK(err, r->n_labels == before + 1, LIMN_E_VALUE, "policy: \"%.40s\" is there twice",
                   name);
        r->categories[before] = (category){
            r->labels[before], limn_arena_strdup(&r->arena, about ? about : ""), threshold};
        LIMN_CHECK(err, r->categories[before].about, LIMN_E_NOMEM, "no memory for a policy");
    }
    LIMN_TRY(label_add(r, "none", 4, err));
    r->categories[n] = (category){"none", "", THRESHOLD};
out:
    json_decref(root);
    return st;
}

static void json_text(limn_buf *out, const char *text) {
    char *dump = NULL;
    json_t *v = json_string(text);
    if (v) dump = json_dumps(v, JSON_ENCODE_ANY);
    limn_buf_adds(out, dump ? dump : "\"\"");
    free(dump);
    json_decref(v);
}

static void enum_write(limn_buf *b, const run *r) {
    limn_buf_adds(b, "{\"enum\":[");
    for (size_t i = 0; i < r->n_labels; i++) {
        if (i) limn_buf_addc(b, ',');
        json_text(b, r->labels[i]);
    }
    limn_buf_adds(b, "]}");
}

/* The schema that bounds the answer; "" for none. */
static limn_status schema_make(const char **out, run *r, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_buf b;
    limn_buf_init(&b, 1 << 20);
    bool free_form = r->form.answer == LIMN_ANSWER_DATA && !r->form.schema;
    LIMN_CHECK(err, !r->o->schema[0] || free_form || strcmp(r->task->name, "ask") == 0,
               LIMN_E_USAGE, "task %s has a schema of its own", r->task->name);
    if (r->o->schema[0]) {
        limn_buf_adds(&b, r->o->schema);
    } else if (r->categories) {
        limn_buf_adds(&b, "{\"type\":\"object\",\"properties\":{\"category\":");
        enum_write(&b, r);
        if (r->reasons) limn_buf_adds(&b, ",\"reason\":{\"type\":\"string\",\"maxLength\":300}");
        limn_buf_addf(&b,
                      ",\"bbox_2d\":{\"type\":\"array\",\"items\":{\"type\":\"integer\","
                      "\"minimum\":0,\"maximum\":1000},\"minItems\":4,\"maxItems\":4}},"
                      "\"required\":[\"category\"%s],\"additionalProperties\":false}",
                      r->reasons ? ",\"reason\"" : "");
    } else if (r->task->words == LIMN_WORDS_KEYS && r->n_labels > 0) {
        limn_buf_adds(&b, "{\"type\":\"object\",\"properties\":{");
        for (size_t i = 0; i < r->n_labels; i++) {
            if (i) limn_buf_addc(&b, ',');
            json_text(&b, r->labels[i]);
            limn_buf_adds(&b, ":{\"anyOf\":[{\"type\":\"string\",\"maxLength\":1000},"
                              "{\"type\":\"number\"},{\"type\":\"null\"}]}");
        }
        limn_buf_adds(&b, "},\"required\":[");
        for (size_t i = 0; i < r->n_labels; i++) {
            if (i) limn_buf_addc(&b, ',');
            json_text(&b, r->labels[i]);
        }
        limn_buf_adds(&b, "],\"additionalProperties\":false}");
    } else if (free_form) {
        LIMN_CHECK(err, r->task->words != LIMN_WORDS_KEYS, LIMN_E_USAGE,
                   "task %s needs keys or a schema: say what to read", r->task->name);
        limn_buf_adds(&b, "{\"type\":[\"object\",\"array\"]}");
    } else if (r->form.schema) {
        limn_buf label;
        limn_buf_init(&label, 1 << 20);
        if (r->n_labels > 0)
            enum_write(&label, r);
        else
            limn_buf_adds(&label, "{\"type\":\"string\",\"maxLength\":100}");
        *out = fill(r, r->form.schema, "{label}", limn_buf_text(&label));
        limn_buf_deinit(&label);
        LIMN_CHECK(err, *out, LIMN_E_NOMEM, "no memory for a schema");
        goto out;
    }
    *out = b.failed ? NULL : limn_arena_strdup(&r->arena, limn_buf_text(&b));
    LIMN_CHECK(err, *out, LIMN_E_LIMIT, "the schema is too long");
out:
    limn_buf_deinit(&b);
    return st;
}

/* The caller's options with what the task wants: length, no chance where facts are read. */
static limn_status options_make(run *r, limn_err *err) {
    limn_status st = LIMN_OK;
    const char *schema;
    char number[24];
    LIMN_TRY(limn_params_copy(&r->with, r->see, err));
    LIMN_TRY(schema_make(&schema, r, err));
    if (schema[0]) LIMN_TRY(limn_params_set(r->with, "schema", schema, LIMN_FROM_SCRIPT, err));
    if (strcmp(r->task->name, "compare") == 0)
        LIMN_TRY(limn_params_set(r->with, "number_pictures", "on", LIMN_FROM_PROFILE, err));
    if (r->task->max_tokens > 0 && !limn_params_is_set(r->with, "max_tokens")) {
        snprintf(number, sizeof number, "%d", r->task->max_tokens);
        LIMN_TRY(limn_params_set(r->with, "max_tokens", number, LIMN_FROM_PROFILE, err));
    }
    if (r->task->words != LIMN_WORDS_NEEDED && !limn_params_is_set(r->with, "temperature"))
        LIMN_TRY(limn_params_set(r->with, "temperature", "0", LIMN_FROM_PROFILE, err));
out:
    return st;
}

static limn_status settle(run *r, size_t n_files, limn_err *err) {
    limn_status st = LIMN_OK;
    const limn_seeing *o = r->o;
    r->task = limn_task_find(o->task);
    LIMN_CHECK(err, r->task, LIMN_E_USAGE, "there is no task \"%.40s\"; limn tasks lists them",
               o->task);
    LIMN_TRY(form_find(r, err));
    LIMN_CHECK(err,
               (int)n_files >= r->task->least_pictures ||
                   (r->task->least_pictures == 2 && n_files == 1),
               LIMN_E_USAGE, "task %s needs a picture", r->task->name);
    LIMN_CHECK(err, r->task->words != LIMN_WORDS_NEEDED || o->prompt[0], LIMN_E_USAGE,
               "task %s needs a question", r->task->name);
    LIMN_CHECK(err, r->task->words != LIMN_WORDS_NONE || !o->prompt[0], LIMN_E_USAGE,
               "task %s takes no question", r->task->name);
    LIMN_CHECK(err, !o->policy[0] || strcmp(r->task->name, "moderate") == 0, LIMN_E_USAGE,
               "task %s takes no policy", r->task->name);
    LIMN_TRY(labels_read(r, err));
    if (strcmp(r->task->name, "moderate") == 0) LIMN_TRY(policy_read(r, err));
    LIMN_TRY(options_make(r, err));
out:
    return st;
}

/* ---- the run ---- */

static const char *const format_names[] = {"auto", "text", "markdown", "html", "json", "csv"};

static limn_status finish(run *r, limn_err *err) {
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
    if (b->found.dropped > 0 && b->found.cut)
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

limn_status limn_task_run(limn_sight **out, limn_seer *seer, const limn_message_part *files,
                          size_t n_files, const limn_params *see, const limn_look_watch *watch,
                          limn_err *err) {
    limn_status st = LIMN_OK;
    double began = limn_clock_now();
    run r = {.seer = seer, .see = see, .o = limn_seeing_of(see)};
    *out = NULL;
    limn_arena_init(&r.arena);
    limn_buf_init(&r.held, TEXT_MAX);
    if (watch) r.watch = *watch;
    r.out = limn_mem_calloc(1, sizeof *r.out);
    LIMN_CHECK(err, r.out, LIMN_E_NOMEM, "no memory for a result");
    limn_findings_init(&r.out->found);
    limn_buf_init(&r.out->text, TEXT_MAX);
    LIMN_TRY(settle(&r, n_files, err));
    if (r.task->scope == LIMN_TASK_EACH)
        LIMN_TRY(each_picture(&r, files, n_files, ask_picture, NULL, err));
    else if (r.task->scope == LIMN_TASK_CLIP)
        LIMN_TRY(ask_clip(&r, files, n_files, err));
    else
        LIMN_TRY(ask(&r, files, n_files, &(limn_task_frame){0, 0, 0}, err));
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
    for (int i = 0; i < LIMN_TASK_FORMS && t->forms[i].format != LIMN_SEEING_FORMAT_AUTO; i++)
        out->formats[i] = format_names[t->forms[i].format];
    return true;
}
