/* SPDX-License-Identifier: MIT */
/*
 * Chat templates, built in: a conversation -> token ids with places for images and videos.
 *
 * limn does not run Jinja. It knows the templates of the models it is made for and renders them
 * into segments: control tokens by name, text, and media. Text is tokenised without recognising
 * added tokens, so that nothing a user, a tool or a document writes becomes a control token or an
 * image placeholder. Neighbouring text (template words and user text) is tokenised as one run, as
 * the reference does, so the ids equal the reference's for text without control spellings.
 *
 * All functions are pure; any thread may call. A chat is borrowed for the call.
 */
#ifndef LIMN_TEXT_CHAT_H
#define LIMN_TEXT_CHAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "limn.h"
#include "text/tokenizer.h"

typedef enum limn_chat_template {
    LIMN_CHAT_QWEN3VL,          /* Qwen3-VL Instruct */
    LIMN_CHAT_QWEN3VL_THINKING, /* Qwen3-VL Thinking: the answer begins inside <think> */
    LIMN_CHAT_QWEN3, /* Qwen3 text models, hybrid thinking; text encoders of image models */
    LIMN_CHAT_CHATML /* plain ChatML: SmolLM2, Qwen2.5 without tools */
} limn_chat_template;

typedef enum limn_chat_part_kind {
    LIMN_CHAT_TEXT,
    LIMN_CHAT_IMAGE,
    LIMN_CHAT_VIDEO
} limn_chat_part_kind;

typedef struct limn_chat_part {
    limn_chat_part_kind kind;
    const char *text; /* LIMN_CHAT_TEXT: bytes, need not be NUL-terminated */
    size_t len;
} limn_chat_part;

typedef struct limn_chat_message {
    limn_role role;
    const limn_chat_part *parts;
    size_t n_parts;
    const char *reasoning;       /* assistant: text of its thinking, or NULL */
    const limn_tool_call *calls; /* assistant; arguments that are JSON are re-printed as json.dumps
                                    does, other text stays as it is */
    size_t n_calls;
} limn_chat_message;

typedef struct limn_chat {
    const limn_chat_message *messages;
    size_t n_messages;
    const char *const *tools; /* JSON objects, one tool each */
    size_t n_tools;
} limn_chat;

typedef struct limn_chat_options {
    limn_chat_template template_id;
    bool add_generation_prompt; /* end with the opening of the assistant's turn */
    bool add_vision_id;         /* "Picture 1: " before images, "Video 1: " before videos */
    bool no_thinking;           /* LIMN_CHAT_QWEN3: enable_thinking=false */
    bool no_tools;              /* the model was not taught them: refused, but for begin_call */
    bool begin_call;            /* ... and of a tool call in it, without thinking before; with it
                                   LIMN_CHAT_CHATML takes tools too, in the words of the others */
} limn_chat_options;

typedef enum limn_chat_segment_kind {
    LIMN_SEGMENT_CONTROL, /* text is the spelling of one added token: "<|im_start|>" */
    LIMN_SEGMENT_TEXT,    /* never becomes an added token */
    LIMN_SEGMENT_IMAGE,   /* the image_pad placeholder of image number `media` (0-based) */
    LIMN_SEGMENT_VIDEO    /* vision_start, video_pad, vision_end of video number `media`: the caller
                             replaces the whole by timestamps and slices */
} limn_chat_segment_kind;

typedef struct limn_chat_segment {
    limn_chat_segment_kind kind;
    const char *text; /* NUL-terminated; "" for media */
    size_t len;
    uint32_t media;
} limn_chat_segment;

/* Renders into segments owned by `arena`. Neighbouring text segments are already merged. Errors:
 * E_VALUE (no message, a system message that is not the first, media in a system message, tool
 * JSON that does not parse), E_UNSUPPORTED (media for a text template, tools for a model without),
 * E_NOMEM. */
limn_status limn_chat_render(limn_chat_segment **out, size_t *count, limn_arena *arena,
                             const limn_chat *chat, const limn_chat_options *opt, limn_err *err);

/* The rendered prompt as the reference's template prints it (media as their placeholders); for logs
 * and tests, not for tokenising. */
limn_status limn_chat_print(limn_buf *out, const limn_chat_segment *segments, size_t count,
                            limn_err *err);

/* Where a medium's tokens go: `tokens` ids were written at `at` (all image_pad / video_pad). */
typedef struct limn_chat_slot {
    limn_chat_segment_kind kind;
    uint32_t media;
    uint32_t slice; /* temporal slice of a video, 0 for images */
    size_t at, tokens;
} limn_chat_slot;

/* Sizes of the media of a chat, known after preprocessing. */
typedef struct limn_chat_media {
    const uint32_t *image_tokens; /* [n_images] merged tokens of each image */
    size_t n_images;
    const uint32_t *video_slices;     /* [n_videos] temporal slices */
    const uint32_t *video_tokens;     /* [n_videos] merged tokens of one slice */
    const double *const *video_times; /* [n_videos][slices] seconds, mean of the slice's frames */
    size_t n_videos;
} limn_chat_media;

/* Segments -> ids. `slots` is allocated for the caller (limn_mem_free), in order. Errors: E_MISSING
 * (the tokenizer lacks a control token, named), E_VALUE (media counts differ), E_LIMIT, E_NOMEM. */
limn_status limn_chat_encode(limn_ids *ids, limn_chat_slot **slots, size_t *n_slots,
                             const limn_tokenizer *t, const limn_chat_segment *segments,
                             size_t count, const limn_chat_media *media, limn_err *err);

#endif
