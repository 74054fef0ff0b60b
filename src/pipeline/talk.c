/* SPDX-License-Identifier: MIT */
/* Conversations -> prompts; see talk.h. */
#include "pipeline/talk.h"

#include <string.h>

#include "image/image.h"
#include "image/resample.h"

enum { IDS_MAX = 1 << 24, FRAMES_MAX = 2048, PARTS_MAX = 65536, MESSAGES_MAX = 65536 };

/* Media in the order in which they stand, before their places are known. */
typedef struct medium {
    bool video;
    int height, width; /* after resizing */
    uint32_t slices;   /* 1 for pictures */
    uint32_t tokens;   /* of one slice */
    double *times;     /* [slices] */
    uint8_t **frames;  /* [n_frames], in the prompt's blocks */
    size_t n_frames;
} medium;

typedef struct maker {
    limn_talk_prompt *out;
    const limn_vl_model *model;
    const limn_talk_options *opt;
    limn_arena arena;
    medium *media;
    size_t n_media, cap_media;
    limn_chat_part *parts; /* of all messages, one after the other */
    size_t n_parts, cap_parts;
    int64_t tokens;
} maker;

/* ---- pictures ---- */

static int factor_of(const maker *k) {
    return k->model->cfg.vision.patch * k->model->cfg.vision.merge;
}

static limn_status limits_of(limn_pixel_limits *l, const maker *k, limn_err *err) {
    int64_t token = (int64_t)factor_of(k) * factor_of(k);
    const limn_talk_options *o = k->opt;
    *l = k->model->image_limits;
    if (o->min_tokens > 0 && o->max_tokens > 0 && o->min_tokens > o->max_tokens)
        return limn_fail(err, LIMN_E_VALUE, "image_min_tokens %lld is above image_max_tokens %lld",
                         (long long)o->min_tokens, (long long)o->max_tokens);
    if (o->max_tokens > 0) l->most = o->max_tokens * token;
    if (o->min_tokens > 0) l->least = o->min_tokens * token;
    if (l->least > l->most) { /* the one that was asked for holds */
        if (o->max_tokens > 0)
            l->least = l->most;
        else
            l->most = l->least;
    }
    return LIMN_OK;
}

/* A block of pixels that lives as long as the prompt. */
static uint8_t *pixels_new(maker *k, size_t bytes) {
    limn_talk_prompt *p = k->out;
    if (p->n_pixels == p->cap_pixels) {
        size_t cap = p->cap_pixels ? p->cap_pixels * 2 : 16;
        uint8_t **grown = limn_mem_realloc(p->pixels, cap * sizeof *grown);
        if (!grown) return NULL;
        p->pixels = grown;
        p->cap_pixels = cap;
    }
    uint8_t *block = limn_mem_alloc(bytes);
    if (block) p->pixels[p->n_pixels++] = block;
    return block;
}

/* RGB at the medium's size, resized as the model was trained: bicubic with Pillow's bits. */
static limn_status frame_add(maker *k, medium *m, const limn_image *image, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_image *rgb = NULL;
    size_t bytes = (size_t)m->height * (size_t)m->width * 3;
    uint8_t *to = pixels_new(k, bytes);
    LIMN_CHECK(err, to, LIMN_E_NOMEM, "no memory for a picture");
    LIMN_TRY(limn_image_convert(&rgb, image, 3, err));
    limn_resample how = {.src_width = rgb->width,
                         .src_height = rgb->height,
                         .dst_width = m->width,
                         .dst_height = m->height,
                         .channels = 3,
                         .filter = LIMN_FILTER_BICUBIC};
    if (rgb->width == m->width && rgb->height == m->height)
        memcpy(to, rgb->data, bytes);
    else
        LIMN_TRY(limn_resample_u8(to, rgb->data, &how, err));
    m->frames[m->n_frames++] = to;
out:
    limn_image_free(&rgb);
    return st;
}

/* What is read so far must fit: refused before more files are decoded. */
static limn_status tokens_add(maker *k, const medium *m, limn_err *err) {
    int factor = factor_of(k);
    k->tokens += (int64_t)m->slices * (m->height / factor) * (m->width / factor);
    k->out->image_tokens = k->tokens;
    if (k->opt->context <= 0 || k->tokens <= k->opt->context) return LIMN_OK;
    return limn_fail(
        err, LIMN_E_CONTEXT,
        "the pictures alone are %lld tokens, the context holds %lld: make them smaller "
        "(image_max_tokens) or the context larger (context)",
        (long long)k->tokens, (long long)k->opt->context);
}

static medium *medium_new(maker *k, size_t frames) {
    if (k->n_media == k->cap_media) {
        size_t cap = k->cap_media ? k->cap_media * 2 : 16;
        medium *grown = limn_mem_realloc(k->media, cap * sizeof *grown);
        if (!grown) return NULL;
        k->media = grown;
        k->cap_media = cap;
    }
    medium *m = &k->media[k->n_media];
    *m = (medium){.slices = 1};
    m->frames = limn_arena_alloc(&k->arena, frames * sizeof *m->frames);
    if (!m->frames) return NULL;
    k->n_media++;
    return m;
}

/* The next part of the message that is being made. */
static limn_status chat_part(maker *k, const limn_chat_part *part, limn_err *err) {
    if (k->n_parts == PARTS_MAX)
        return limn_fail(err, LIMN_E_LIMIT, "a conversation of more than %d parts", PARTS_MAX);
    if (k->n_parts == k->cap_parts) {
        size_t cap = k->cap_parts ? k->cap_parts * 2 : 64;
        limn_chat_part *grown = limn_mem_realloc(k->parts, cap * sizeof *grown);
        if (!grown) return limn_fail(err, LIMN_E_NOMEM, "no memory for a conversation");
        k->parts = grown;
        k->cap_parts = cap;
    }
    k->parts[k->n_parts++] = *part;
    return LIMN_OK;
}

static limn_status media_part(maker *k, limn_chat_part_kind kind, limn_err *err) {
    return chat_part(k, &(limn_chat_part){.kind = kind}, err);
}

static limn_status image_put(maker *k, const limn_image *image, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_pixel_limits limits;
    medium *m = medium_new(k, 1);
    LIMN_CHECK(err, m, LIMN_E_NOMEM, "no memory for a picture");
    LIMN_TRY(limits_of(&limits, k, err));
    LIMN_TRY(limn_vision_fit(&m->height, &m->width, image->height, image->width, factor_of(k),
                             &limits, err));
    LIMN_TRY(tokens_add(k, m, err));
    LIMN_TRY(frame_add(k, m, image, err));
    LIMN_TRY(media_part(k, LIMN_CHAT_IMAGE, err));
out:
    return st;
}

static const char *name_of(const limn_message_part *part) {
    return part->path ? part->path : "the picture";
}

static limn_status image_add(maker *k, const limn_message_part *part, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_image *loaded = NULL;
    const limn_image *image = part->image;
    LIMN_CHECK(err, image || part->data || part->path, LIMN_E_VALUE,
               "a picture without pixels or a file");
    if (!image) {
        if (part->data)
            LIMN_TRY(limn_image_decode(&loaded, part->data, part->size, err));
        else
            LIMN_TRY(limn_image_load(&loaded, part->path, err));
        image = loaded;
    }
    LIMN_TRY(image_put(k, image, err));
out:
    if (st != LIMN_OK && !part->image && err && !strstr(err->text, name_of(part)))
        limn_err_prefix(err, "%s", name_of(part));
    limn_image_free(&loaded);
    return st;
}

/* ---- files of any kind ---- */

static limn_status clip_put(maker *k, limn_media *media, limn_err *err) {
    limn_status st = LIMN_OK;
    const limn_media_info *info = limn_media_info_of(media);
    limn_image *image = NULL;
    int n = info->count;
    LIMN_CHECK(err, n >= 1 && n <= FRAMES_MAX, LIMN_E_VALUE, "a video of %d frames", n);
    medium *m = medium_new(k, (size_t)n);
    LIMN_CHECK(err, m, LIMN_E_NOMEM, "no memory for a video");
    m->video = true;
    m->slices = (uint32_t)limn_media_slice_count(media);
    m->times = limn_arena_alloc(&k->arena, (m->slices + 1) * sizeof *m->times);
    LIMN_CHECK(err, m->times, LIMN_E_NOMEM, "no memory for a video");
    for (uint32_t i = 0; i < m->slices; i++) m->times[i] = limn_media_slice_time(media, (int)i);
    LIMN_TRY(limn_vision_fit_video(&m->height, &m->width, n < 2 ? 2 : n, info->height, info->width,
                                   factor_of(k), &k->model->video_limits, true, err));
    LIMN_TRY(tokens_add(k, m, err));
    for (int i = 0; i < n; i++) {
        LIMN_TRY(limn_media_next(&image, media, err));
        LIMN_CHECK(err, image, LIMN_E_FORMAT, "the video ends after %d of %d frames", i, n);
        LIMN_TRY(frame_add(k, m, image, err));
        limn_image_free(&image);
    }
    LIMN_TRY(media_part(k, LIMN_CHAT_VIDEO, err));
out:
    limn_image_free(&image);
    return st;
}

static limn_status file_add(maker *k, const limn_message_part *part, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_media *media = NULL;
    limn_image *image = NULL;
    LIMN_CHECK(err, part->data || part->path, LIMN_E_VALUE, "a file part without a file");
    if (part->data)
        LIMN_TRY(limn_media_open_memory(&media, name_of(part), part->data, part->size,
                                        &k->opt->media, err));
    else
        LIMN_TRY(limn_media_open(&media, part->path, &k->opt->media, err));
    if (limn_media_info_of(media)->kind == LIMN_MEDIA_VIDEO) {
        LIMN_TRY(clip_put(k, media, err));
        goto out;
    }
    for (;;) {
        LIMN_TRY(limn_media_next(&image, media, err));
        if (!image) break;
        LIMN_TRY(image_put(k, image, err));
        limn_image_free(&image);
    }
out:
    if (st != LIMN_OK && err && !strstr(err->text, name_of(part)))
        limn_err_prefix(err, "%s", name_of(part));
    limn_image_free(&image);
    limn_media_close(&media);
    return st;
}

static limn_status video_add(maker *k, const limn_message_part *part, limn_err *err) {
    limn_status st = LIMN_OK;
    size_t n = part->n_frames;
    double fps = part->fps > 0 ? part->fps : 2;
    LIMN_CHECK(err, part->frames && n >= 1 && n <= FRAMES_MAX, LIMN_E_VALUE,
               "a video of %zu frames: 1 to %d", n, FRAMES_MAX);
    medium *m = medium_new(k, n);
    LIMN_CHECK(err, m, LIMN_E_NOMEM, "no memory for a video");
    m->video = true;
    m->slices = (uint32_t)((n + 1) / 2);
    m->times = limn_arena_alloc(&k->arena, m->slices * sizeof *m->times);
    LIMN_CHECK(err, m->times, LIMN_E_NOMEM, "no memory for a video");
    for (size_t i = 0; i < n; i++) {
        const limn_image *f = part->frames[i], *first = part->frames[0];
        LIMN_CHECK(err, f && f->width == first->width && f->height == first->height, LIMN_E_VALUE,
                   "frame %zu of a video differs in size from the first", i);
    }
    for (uint32_t i = 0; i < m->slices; i++) { /* mean of the pair; an odd last frame is doubled */
        size_t a = 2 * (size_t)i, b = a + 1 < n ? a + 1 : a;
        double ta = part->seconds ? part->seconds[a] : (double)a / fps;
        double tb = part->seconds ? part->seconds[b] : (double)b / fps;
        LIMN_CHECK(err, ta >= 0 && tb >= ta && tb < 1e7, LIMN_E_VALUE,
                   "frames of a video at %g and %g seconds", ta, tb);
        m->times[i] = (ta + tb) / 2;
    }
    LIMN_TRY(limn_vision_fit_video(&m->height, &m->width, (int)(n < 2 ? 2 : n),
                                   part->frames[0]->height, part->frames[0]->width, factor_of(k),
                                   &k->model->video_limits, true, err));
    LIMN_TRY(tokens_add(k, m, err));
    for (size_t i = 0; i < n; i++) LIMN_TRY(frame_add(k, m, part->frames[i], err));
    LIMN_TRY(media_part(k, LIMN_CHAT_VIDEO, err));
out:
    return st;
}

/* ---- messages ---- */

static limn_status part_add(maker *k, const limn_message_part *from, limn_err *err) {
    if (from->kind == LIMN_MESSAGE_TEXT) {
        if (!from->text) return limn_fail(err, LIMN_E_VALUE, "a text part without text");
        size_t len = from->len ? from->len : strlen(from->text);
        return chat_part(k, &(limn_chat_part){LIMN_CHAT_TEXT, from->text, len}, err);
    }
    if (!k->model->vision)
        return limn_fail(err, LIMN_E_UNSUPPORTED,
                         "%s takes no pictures: it is a text model, or its vision tower (mmproj) "
                         "is missing",
                         k->model->path);
    switch (from->kind) {
    case LIMN_MESSAGE_IMAGE: return image_add(k, from, err);
    case LIMN_MESSAGE_VIDEO: return video_add(k, from, err);
    case LIMN_MESSAGE_FILE: return file_add(k, from, err);
    default: return limn_fail(err, LIMN_E_VALUE, "a message part of kind %d", (int)from->kind);
    }
}

static limn_status messages_make(limn_chat *chat, maker *k, const limn_talk *talk, limn_err *err) {
    limn_status st = LIMN_OK;
    const char *system = k->opt->system;
    size_t extra = system && system[0] ? 1 : 0, n = talk->n_messages + extra;
    LIMN_CHECK(err, talk->n_messages > 0, LIMN_E_VALUE, "a conversation without a message");
    LIMN_CHECK(err, n <= MESSAGES_MAX, LIMN_E_LIMIT, "a conversation of %zu messages", n);
    LIMN_CHECK(err, !extra || talk->messages[0].role != LIMN_ROLE_SYSTEM, LIMN_E_VALUE,
               "the system text is given twice: as an option and as the first message");
    limn_chat_message *m = limn_arena_alloc(&k->arena, n * sizeof *m);
    LIMN_CHECK(err, m, LIMN_E_NOMEM, "no memory for a conversation");
    if (extra) {
        LIMN_TRY(chat_part(k, &(limn_chat_part){LIMN_CHAT_TEXT, system, strlen(system)}, err));
        m[0] = (limn_chat_message){.role = LIMN_ROLE_SYSTEM, .n_parts = 1};
    }
    for (size_t i = 0; i < talk->n_messages; i++) {
        const limn_message *from = &talk->messages[i];
        size_t before = k->n_parts;
        for (size_t j = 0; j < from->n_parts; j++) LIMN_TRY(part_add(k, &from->parts[j], err));
        m[i + extra] = (limn_chat_message){.role = from->role,
                                           .n_parts = k->n_parts - before,
                                           .reasoning = from->reasoning,
                                           .calls = from->calls,
                                           .n_calls = from->n_calls};
    }
    size_t at = 0; /* the list has stopped to move */
    for (size_t i = 0; i < n; at += m[i++].n_parts) m[i].parts = k->parts + at;
    *chat = (limn_chat){m, n, talk->tools, talk->n_tools};
out:
    return st;
}

/* ---- ids ---- */

/* Media numbers count pictures and videos apart; both tables follow the order of the messages. */
static limn_status sizes_make(limn_chat_media *out, const medium ***images, const medium ***videos,
                              maker *k, limn_err *err) {
    size_t n = k->n_media + 1, factor = (size_t)factor_of(k);
    uint32_t *image_tokens = limn_arena_alloc(&k->arena, n * sizeof *image_tokens);
    uint32_t *slices = limn_arena_alloc(&k->arena, n * sizeof *slices);
    uint32_t *tokens = limn_arena_alloc(&k->arena, n * sizeof *tokens);
    const double **times = limn_arena_alloc(&k->arena, n * sizeof *times);
    *images = limn_arena_alloc(&k->arena, n * sizeof **images);
    *videos = limn_arena_alloc(&k->arena, n * sizeof **videos);
    if (k->arena.failed) return limn_fail(err, LIMN_E_NOMEM, "no memory for a conversation");
    *out = (limn_chat_media){.image_tokens = image_tokens,
                             .video_slices = slices,
                             .video_tokens = tokens,
                             .video_times = times};
    for (size_t i = 0; i < k->n_media; i++) {
        medium *m = &k->media[i];
        m->tokens = (uint32_t)((size_t)m->height / factor * ((size_t)m->width / factor));
        if (m->video) {
            size_t v = out->n_videos++;
            slices[v] = m->slices;
            tokens[v] = m->tokens;
            times[v] = m->times;
            (*videos)[v] = m;
        } else {
            (*images)[out->n_images] = m;
            image_tokens[out->n_images++] = m->tokens;
        }
    }
    return LIMN_OK;
}

static void picture_set(limn_talk_picture *to, const maker *k, const limn_chat_slot *slot,
                        const medium *m) {
    int factor = factor_of(k);
    size_t a = m->video ? 2 * (size_t)slot->slice : 0, b = a + 1 < m->n_frames ? a + 1 : a;
    to->place = (limn_vision_place){(int64_t)slot->at, m->height / factor, m->width / factor};
    to->pixels = (limn_picture_pixels){m->frames[a], m->frames[b], m->height, m->width};
    limn_picture_key_make(&to->key, &to->pixels);
}

static limn_status encode(maker *k, const limn_chat_segment *segments, size_t n, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_chat_media media = {0};
    limn_chat_slot *slots = NULL;
    const medium **images = NULL, **videos = NULL;
    limn_talk_prompt *p = k->out;
    if (k->n_media > 0) LIMN_TRY(sizes_make(&media, &images, &videos, k, err));
    LIMN_TRY(limn_chat_encode(&p->ids, &slots, &p->n_pictures, k->model->tokenizer, segments, n,
                              &media, err));
    p->pictures = limn_mem_calloc(p->n_pictures + 1, sizeof *p->pictures);
    LIMN_CHECK(err, p->pictures, LIMN_E_NOMEM, "no memory for a conversation");
    for (size_t i = 0; i < p->n_pictures; i++)
        picture_set(&p->pictures[i], k, &slots[i],
                    (slots[i].kind == LIMN_SEGMENT_VIDEO ? videos : images)[slots[i].media]);
out:
    limn_mem_free(slots);
    return st;
}

limn_status limn_talk_prompt_make(limn_talk_prompt *out, const limn_vl_model *m,
                                  const limn_talk *talk, const limn_talk_options *opt,
                                  limn_err *err) {
    limn_status st = LIMN_OK;
    maker k = {.out = out, .model = m, .opt = opt};
    limn_chat chat;
    limn_chat_segment *segments;
    size_t n;
    *out = (limn_talk_prompt){0};
    limn_ids_init(&out->ids, IDS_MAX);
    limn_arena_init(&k.arena);
    LIMN_TRY(messages_make(&chat, &k, talk, err));
    limn_chat_options o = {.template_id = m->chat_template,
                           .add_generation_prompt = true,
                           .add_vision_id = opt->number_pictures,
                           .no_thinking = opt->no_thinking,
                           .no_tools = !m->takes_tools,
                           .begin_call = talk->must_call};
    LIMN_TRY(limn_chat_render(&segments, &n, &k.arena, &chat, &o, err));
    LIMN_TRY(encode(&k, segments, n, err));
    LIMN_CHECK(err, opt->context <= 0 || (int64_t)out->ids.len <= opt->context, LIMN_E_CONTEXT,
               "the conversation has %zu tokens (%lld of them pictures), the context holds %lld: "
               "give a larger context, or smaller pictures (image_max_tokens)",
               out->ids.len, (long long)out->image_tokens, (long long)opt->context);
out:
    if (st != LIMN_OK) limn_talk_prompt_deinit(out);
    limn_mem_free(k.media);
    limn_mem_free(k.parts);
    limn_arena_deinit(&k.arena);
    return st;
}

void limn_talk_prompt_deinit(limn_talk_prompt *p) {
    limn_ids_deinit(&p->ids);
    for (size_t i = 0; i < p->n_pixels; i++) limn_mem_free(p->pixels[i]);
    limn_mem_free(p->pixels);
    limn_mem_free(p->pictures);
    *p = (limn_talk_prompt){0};
}
