/* SPDX-License-Identifier: MIT */
/*
 * limn: draw pictures with diffusion models and look at them, on the machine you have.
 *
 *     limn_err err = {0};
 *     limn_params *app, *gen;
 *     limn_engine *engine;
 *     limn_drawing *drawing;
 *     limn_params_new(&app, LIMN_PARAMS_APP, &err);
 *     limn_params_new(&gen, LIMN_PARAMS_GEN, &err);
 *     limn_params_set(gen, "prompt", "a lighthouse at dusk", LIMN_FROM_API, &err);
 *     limn_engine_new(&engine, app, &err);
 *     limn_draw(&drawing, engine, gen, NULL, &err);
 *     limn_image_save(limn_drawing_image(drawing, 0), "out.png", NULL,
 *                     limn_drawing_text(drawing, 0), &err);
 *
 * Rules that hold for every call:
 *   - A fallible function returns a limn_status; LIMN_OK is 0. The one-line reason goes to `err`,
 *     which may be NULL. On failure the output pointer is NULL and nothing needs to be freed.
 *   - Outputs come first. What a function hands out the caller owns, unless the comment says
 *     "borrowed". Free functions take the address of the pointer, accept NULL and null it.
 *   - Strings are UTF-8 and NUL-terminated. char * results are freed with limn_text_free.
 *   - An engine, a params record, a drawing or an image belongs to one thread at a time; different
 *     objects may be used from different threads at once. limn never writes to stdout or stderr
 *     and never ends the process.
 */
#ifndef LIMN_H
#define LIMN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "limn_status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct limn_engine limn_engine;
typedef struct limn_params limn_params;
typedef struct limn_image limn_image;
typedef struct limn_drawing limn_drawing;

/* "0.1.0" */
const char *limn_version(void);
void limn_text_free(char **text);

/* ------------------------------------------------------------------------------------------- */
/* Parameters: records described by a table. docs/PARAMETERS.md lists every row.                 */

/* Which table a record follows. */
typedef enum limn_params_kind {
    LIMN_PARAMS_GEN,   /* what to draw: everything that decides the picture, and its file format */
    LIMN_PARAMS_APP,   /* how the program runs: threads, memory, folders, where results go */
    LIMN_PARAMS_SEE,   /* how to look and to answer: model, task, sampling, format of the answer */
    LIMN_PARAMS_SERVE, /* how limn serve listens, guards and keeps */
    LIMN_PARAMS_KINDS
} limn_params_kind;

/* Who gave a value, weakest first: a weaker source never replaces a stronger one. */
typedef enum limn_source {
    LIMN_FROM_DEFAULT, /* not set */
    LIMN_FROM_MODEL,   /* the model's own recommendation */
    LIMN_FROM_PROFILE, /* a style or preset */
    LIMN_FROM_ENV,
    LIMN_FROM_FILE, /* read back from a picture or a settings file */
    LIMN_FROM_CLI,
    LIMN_FROM_API,
    LIMN_FROM_SCRIPT
} limn_source;

typedef enum limn_param_type {
    LIMN_TYPE_INT,
    LIMN_TYPE_REAL,
    LIMN_TYPE_BOOL,
    LIMN_TYPE_ENUM,  /* one of a fixed list of words */
    LIMN_TYPE_BYTES, /* an amount of memory: 1048576, 512M, 6G */
    LIMN_TYPE_TEXT,
    LIMN_TYPE_LIST /* several texts */
} limn_param_type;

limn_status limn_params_new(limn_params **out, limn_params_kind kind, limn_err *err);
limn_status limn_params_copy(limn_params **out, const limn_params *from, limn_err *err);
void limn_params_free(limn_params **params);

/* One value from its text form ("20", "0.5", "on", "Euler a"; a list takes one more element per
 * call). `name` is the row's name or one of its aliases; '-' and '_' are the same. A value outside
 * the row's range, NaN, infinity, text that is not UTF-8 or too long are E_VALUE and name the
 * range; an unknown name is E_USAGE. */
limn_status limn_params_set(limn_params *params, const char *name, const char *value,
                            limn_source from, limn_err *err);
/* Back to the default. E_USAGE when there is no such name. */
limn_status limn_params_unset(limn_params *params, const char *name, limn_err *err);
/* LIMN_FROM_DEFAULT when the value is not set (or there is no such name). */
limn_source limn_params_source(const limn_params *params, const char *name);
bool limn_params_is_set(const limn_params *params, const char *name);

/* The value, or its default when not set. `name` must be a row of the right type (a mistake is a
 * bug of the caller and gives 0, 0.0 or ""). ENUM reads as text, BYTES and BOOL as int. */
int64_t limn_params_int(const limn_params *params, const char *name);
double limn_params_real(const limn_params *params, const char *name);
const char *limn_params_text(const limn_params *params, const char *name); /* borrowed, not NULL */
int limn_params_list_count(const limn_params *params, const char *name);
const char *limn_params_list_item(const limn_params *params, const char *name, int index);

/* JSON object {"steps": 20, ...} of at most 64 MB. Errors name the place: "/steps: ...".
 * An unknown member is E_VALUE; nothing is ignored. On failure `params` is unchanged. */
limn_status limn_params_parse_json(limn_params *params, const char *text, size_t len,
                                   limn_source from, limn_err *err);
/* The values that are set, or all of them. */
limn_status limn_params_format_json(char **out, const limn_params *params, bool all, limn_err *err);

/* The text that drawing programs put into pictures: "prompt \n Negative prompt: ... \n Steps: 20,
 * Sampler: Euler a, ...". Reads the dialects of A1111, Forge and SD.Next, and the JSON of ComfyUI
 * and InvokeAI; keys that limn does not know are kept out of `params` and reported,
 * comma-separated, in *unknown (may be NULL; NULL text when there are none). What is written reads
 * back to the same values. GEN records only. */
limn_status limn_params_parse_text(limn_params *params, const char *text, size_t len,
                                   limn_source from, char **unknown, limn_err *err);
limn_status limn_params_format_text(char **out, const limn_params *params, limn_err *err);

/* Reads command-line options into up to 4 records: "--steps 20", "--steps=20", "-s 20", "-s20",
 * "--flag", "--no-flag", "--". What is not an option is moved to the front of argv, in order, and
 * counted in *n_rest. E_USAGE names an unknown option and the nearest known one. */
limn_status limn_params_parse_args(limn_params *const *sets, int n_sets, int argc, char **argv,
                                   int *n_rest, limn_err *err);

/* One row as front ends need it; all strings are static. */
typedef struct limn_param_info {
    const char *name;
    limn_param_type type;
    const char *group; /* "sampling" */
    const char *cli;   /* long option without "--"; NULL when there is none */
    char cli_short;    /* 0 when there is none */
    const char *help;  /* one line */
    const char *list;  /* name of the engine's list for a TEXT row ("sampler"), or NULL */
    double min, max;   /* INT, REAL, BYTES */
    double ui_min, ui_max, ui_step;
} limn_param_info;

int limn_params_count(limn_params_kind kind);
/* false when index is out of range */
bool limn_params_info(limn_param_info *out, limn_params_kind kind, int index);

/* Help of the options of some tables, grouped, wrapped at `width` columns. */
limn_status limn_params_help(char **out, const limn_params_kind *kinds, int n_kinds, int width,
                             limn_err *err);

/* One entry of a list of the engine: samplers, schedules, upscalers, model kinds ... */
typedef struct limn_choice {
    const char *name;    /* "DPM++ 2M" */
    const char *aliases; /* "k_dpmpp_2m|dpmpp"; NULL when there are none */
    const char *help;    /* one line; NULL when there is none */
} limn_choice;

/* Answers false when `index` is past the end of `list` or there is no such list. */
typedef bool limn_choice_fn(limn_choice *out, const char *list, int index);
/* The words that an ENUM row takes; false when `word` is past the last one. */
bool limn_params_word(limn_choice *out, limn_params_kind kind, int index, int word);

/* JSON Schema (draft 2020-12) of a table. `choices` fills the enum of list-bound rows; may be NULL.
 */
limn_status limn_params_schema(char **out, limn_params_kind kind, limn_choice_fn *choices,
                               limn_err *err);
/* The reference page docs/PARAMETERS.md. */
limn_status limn_params_markdown(char **out, limn_err *err);

/* ------------------------------------------------------------------------------------------- */
/* Images: 8-bit, interleaved, 1 (grey), 3 (RGB) or 4 (RGBA, not premultiplied) channels, sRGB.  */

limn_status limn_image_new(limn_image **out, int width, int height, int channels, limn_err *err);
void limn_image_free(limn_image **image);
int limn_image_width(const limn_image *image);
int limn_image_height(const limn_image *image);
int limn_image_channels(const limn_image *image);
uint8_t *limn_image_pixels(limn_image *image);            /* [height, width, channels], dense */
const uint8_t *limn_image_bytes(const limn_image *image); /* the same, read-only */

/* Any format of libvips that is safe for untrusted files (PNG, JPEG, WebP, TIFF, GIF, ...); EXIF
 * orientation applied; CMYK, 16-bit, palette and ICC profiles become 8-bit sRGB. At most 256
 * megapixels, checked before decoding. E_NOT_FOUND, E_IO, E_FORMAT, E_LIMIT. */
limn_status limn_image_load(limn_image **out, const char *path, limn_err *err);
limn_status limn_image_decode(limn_image **out, const void *data, size_t size, limn_err *err);

/* How a picture is written. LIMN_FILE_OPTIONS has the defaults. */
typedef struct limn_file_options {
    const char *format; /* "png", "jpeg", "webp"; NULL or "auto": by the name's ending */
    int quality;        /* JPEG and lossy WebP: 1..100 */
    bool lossless;      /* WebP */
    int compression;    /* PNG: 0..9 */
    bool keep_existing; /* fail with E_IO when the file is there already */
} limn_file_options;
#define LIMN_FILE_OPTIONS                                                                          \
    { .format = NULL, .quality = 90, .lossless = false, .compression = 6 }

/* Which of "png", "jpeg", "webp" a file of this name is written as (static); E_USAGE when neither
 * options->format nor the ending says so. */
limn_status limn_image_format_find(const char **out, const limn_file_options *options,
                                   const char *path, limn_err *err);
/* Writes the file all at once: either the complete picture is there afterwards, or what was there
 * before. `options` NULL: defaults. `text` is put inside (PNG "parameters", JPEG and WebP EXIF
 * UserComment; a JPEG holds at most 32,000 characters); NULL: none. A JPEG has no alpha: it is laid
 * over white. E_USAGE: the name's ending is not known. */
limn_status limn_image_save(const limn_image *image, const char *path,
                            const limn_file_options *options, const char *text, limn_err *err);
/* The same into memory; freed with limn_bytes_free. options->format must name the format. */
limn_status limn_image_encode(void **out, size_t *size, const limn_image *image,
                              const limn_file_options *options, const char *text, limn_err *err);
void limn_bytes_free(void **bytes);
/* The text inside a picture; E_NOT_FOUND when there is none. Reads only the header. */
limn_status limn_image_load_text(char **out, const char *path, limn_err *err);
limn_status limn_image_decode_text(char **out, const void *data, size_t size, limn_err *err);

/* A picture as terminal escape codes, at most `columns` x `rows` cells. */
typedef enum limn_terminal {
    LIMN_TERMINAL_KITTY,
    LIMN_TERMINAL_SIXEL,
    LIMN_TERMINAL_BLOCKS
} limn_terminal;
limn_status limn_image_format_terminal(char **out, size_t *len, const limn_image *image,
                                       limn_terminal how, int columns, int rows, limn_err *err);
/* A contact sheet: images in `columns` columns, each with its label below (labels may be NULL). */
limn_status limn_image_sheet(limn_image **out, const limn_image *const *images,
                             const char *const *labels, int count, int columns, limn_err *err);

/* ------------------------------------------------------------------------------------------- */
/* Engine: loaded models and compute threads.                                                    */

/* `app` gives threads, cpu_mask, memory and models_dir. It is read during the call only. */
limn_status limn_engine_new(limn_engine **out, const limn_params *app, limn_err *err);
void limn_engine_free(limn_engine **engine);

/* Everything a run can report. Strings and the preview are borrowed for the call. */
typedef struct limn_event {
    const char *stage;         /* drawing: "load", "encode", "denoise", "decode", "hires", "save";
                                  seeing: "load", "image", "read", "write" */
    int image, images;         /* which of how many pictures, from 0 */
    int step, steps;           /* done and total in this stage; steps 0: not countable */
    double step_seconds;       /* time of the last step; 0: not known yet */
    double left_seconds;       /* estimate for the whole run; < 0: not known yet */
    double rate;               /* of this stage, units per second; 0: not known */
    const char *unit;          /* of rate: "tokens", "patches"; NULL with rate 0 */
    const limn_image *preview; /* picture so far; NULL when there is none in this event */
    const char *note;          /* something to tell the user, for example a value that was adjusted
                                  because the model asks for it; NULL: nothing */
} limn_event;

typedef void limn_event_fn(void *user, const limn_event *event);

/* A flag that stops runs: they end with E_CANCELLED within one operation. limn_cancel_set may be
 * called from any thread and from a signal handler. */
typedef struct limn_cancel limn_cancel;
limn_status limn_cancel_new(limn_cancel **out, limn_err *err);
void limn_cancel_free(limn_cancel **cancel);
void limn_cancel_set(limn_cancel *cancel);
void limn_cancel_clear(limn_cancel *cancel);
bool limn_cancel_is_set(const limn_cancel *cancel);

/* Called as soon as picture `index` of a drawing is finished, in order; it may be read through the
 * limn_drawing_* calls during this call. Anything but LIMN_OK ends the run with that status. */
typedef limn_status limn_picture_fn(void *user, const limn_drawing *drawing, int index,
                                    limn_err *err);

/* How to watch and stop a run; zero-initialise. */
typedef struct limn_watch {
    limn_event_fn *event; /* called on the thread that called limn_draw; NULL: no reports */
    void *user;
    const limn_cancel *cancel; /* polled between and inside operations; NULL: never stops */
    /* Asked when `cancel` was found set while a picture was in work: true when the flag was meant
     * for that picture (with all of its batch) only and is clear again. Those have no image. NULL:
     * the flag stops the whole run. */
    bool (*skip)(void *user);
    limn_picture_fn *picture; /* on the same thread; NULL: results are handed out at the end only */
    int preview_every;        /* a preview each n steps; 0: none */
} limn_watch;

/* Refuses, in milliseconds and without loading weights, what limn_draw would refuse: unknown
 * sampler, schedule or model names, missing files, sizes that do not fit. */
limn_status limn_draw_check(limn_engine *engine, const limn_params *gen, limn_err *err);
/* What limn_draw would do. */
typedef struct limn_forecast {
    limn_params *params; /* complete values as they would be used */
    char *model;         /* its file or folder */
    const char *family;  /* "sd1", "sdxl" ...; static */
    int images;
    int64_t model_bytes;             /* of the models when they are open */
    int64_t work_bytes;              /* beside them; an estimate */
    int64_t free_bytes, limit_bytes; /* free in the machine; the engine's own limit, 0: none */
    double seconds; /* from what drawings with this model took before; < 0: not known */
} limn_forecast;
/* Reads the headers of files, loads no weights, computes nothing; refuses what limn_draw would
 * refuse before its first step. */
limn_status limn_draw_forecast(limn_forecast *out, limn_engine *engine, const limn_params *gen,
                               limn_err *err);
void limn_forecast_deinit(limn_forecast *forecast);
/* Draws batch_size x count pictures. `watch` may be NULL. */
limn_status limn_draw(limn_drawing **out, limn_engine *engine, const limn_params *gen,
                      const limn_watch *watch, limn_err *err);
void limn_drawing_free(limn_drawing **drawing);
int limn_drawing_count(const limn_drawing *drawing);
/* All borrowed; NULL when index is out of range. */
const limn_image *limn_drawing_image(const limn_drawing *drawing, int index);
/* The recipe of one picture: complete values as they were used (seed, model defaults ...). */
const limn_params *limn_drawing_params(const limn_drawing *drawing, int index);
/* The same as text for the picture's file. */
const char *limn_drawing_text(const limn_drawing *drawing, int index);

/* Enlarges a picture by gen's "upscaler" and "upscale". */
limn_status limn_upscale(limn_image **out, limn_engine *engine, const limn_image *image,
                         const limn_params *gen, const limn_watch *watch, limn_err *err);

/* What a model file or folder is: a JSON object, or lines for a reader. */
limn_status limn_info(char **out, limn_engine *engine, const char *path, bool json, limn_err *err);

/* How limn_quantize writes a model; zero-initialise, `type` must be given. */
typedef struct limn_quantize_options {
    const char *type; /* "q8_0", "q4_k_m", "f16" ...: see limn_quantize_choice */
    bool dry_run;     /* only say what would be written */
    bool overwrite;   /* replace files that exist */
    bool json;        /* the report as one JSON object */
    int threads;      /* 0: one per core; the files do not depend on it */
} limn_quantize_options;

/*
 * Writes a model as a GGUF file of another type: a transformers folder (Qwen3-VL, Qwen3, Qwen2,
 * Llama; of Qwen3-VL also "mmproj-<name>" beside it) under llama.cpp's names, a GGUF file or a
 * diffusion checkpoint under its own. *report says for each type how many weights it has and the
 * error: root of (sum of squared differences / sum of squared weights). E_NUMERIC: weights that
 * are NaN or infinite.
 */
limn_status limn_quantize(char **report, const char *in, const char *out,
                          const limn_quantize_options *options, const limn_watch *watch,
                          limn_err *err);
/* The types, index from 0 on; false after the last. Static strings. */
bool limn_quantize_choice(const char **name, const char **help, int index);

/* The engine's lists: "sampler", "schedule", "upscaler", "model" ... (see limn_choice_fn). */
bool limn_engine_choice(limn_choice *out, const char *list, int index);

/* ------------------------------------------------------------------------------------------- */
/* Seeing: Qwen3-VL (or a text model) answers questions about pictures, clips and documents.     */
/*
 *     limn_params_new(&see, LIMN_PARAMS_SEE, &err);
 *     limn_seer_new(&seer, app, see, &err);
 *     limn_message_part parts[] = {{.kind = LIMN_MESSAGE_IMAGE, .path = "photo.jpg"},
 *                          {.kind = LIMN_MESSAGE_TEXT, .text = "How many people wear a helmet?"}};
 *     limn_message message = {.role = LIMN_ROLE_USER, .parts = parts, .n_parts = 2};
 *     limn_talk talk = {.messages = &message, .n_messages = 1};
 *     limn_see(&answer, seer, &talk, see, NULL, &err);
 *     puts(answer->text);
 */

/* An opened model with its caches and compute threads. One thread at a time; independent of every
 * limn_engine and of other seers. */
typedef struct limn_seer limn_seer;
/* One question while it is answered; belongs to its seer. */
typedef struct limn_look limn_look;

typedef enum limn_role {
    LIMN_ROLE_SYSTEM, /* only as the first message; text only */
    LIMN_ROLE_USER,
    LIMN_ROLE_ASSISTANT, /* text only */
    LIMN_ROLE_TOOL
} limn_role;

typedef enum limn_message_part_kind {
    LIMN_MESSAGE_TEXT,
    LIMN_MESSAGE_IMAGE, /* one picture */
    LIMN_MESSAGE_VIDEO, /* frames that the caller has */
    LIMN_MESSAGE_FILE   /* a picture, a video, a PDF or a stack of pages, known by its content */
} limn_message_part_kind;

/* A piece of a message. User text never becomes a control token of the model. Of a FILE the rows
 * of group "clips and pages" say which frames and pages are seen. */
typedef struct limn_message_part {
    limn_message_part_kind kind;
    const char *text;        /* TEXT */
    size_t len;              /* bytes of text; 0: up to its NUL */
    const limn_image *image; /* IMAGE: the picture, or ... */
    const char *path;        /* IMAGE, FILE: ... its file; with `data` its name in errors */
    const void *data;        /* IMAGE, FILE: the file's bytes, in place of reading `path` */
    size_t size;
    const limn_image *const *frames; /* VIDEO: pictures of one size in the order of time, as they
                                        are to be seen (none are dropped), 1 to 2048 */
    size_t n_frames;
    const double *seconds; /* [n_frames] when each frame is shown; NULL: `fps` apart from 0 on */
    double fps;            /* 0: 2 per second */
} limn_message_part;

/* A call of a tool: its arguments as JSON text. */
typedef struct limn_tool_call {
    const char *name;
    const char *arguments;
} limn_tool_call;

typedef struct limn_message {
    limn_role role;
    const limn_message_part *parts;
    size_t n_parts;
    const char *reasoning;       /* assistant: text of its thinking; NULL: none */
    const limn_tool_call *calls; /* assistant */
    size_t n_calls;
} limn_message;

/* A conversation; the last message is the one to answer. Borrowed for the call. */
typedef struct limn_talk {
    const limn_message *messages;
    size_t n_messages;
    const char *const *tools; /* JSON objects, one tool each ({"type": "function", ...}) */
    size_t n_tools;
    bool must_call; /* the answer is a call of one of the tools, in the form that it asks for;
                       schema and grammar of the values are then E_VALUE */
} limn_talk;

/* A token with its natural log-probability, before any sampling option. */
typedef struct limn_logprob {
    int32_t id;
    float logprob;
    const char *text; /* bytes of the token, not always whole characters; borrowed */
    size_t len;
} limn_logprob;

enum { LIMN_LOGPROBS_MAX = 20 };

typedef struct limn_token_logprobs {
    limn_logprob token;
    limn_logprob top[LIMN_LOGPROBS_MAX]; /* likeliest first */
    int n_top;
} limn_token_logprobs;

typedef enum limn_said_kind {
    LIMN_SAID_TEXT,      /* the answer */
    LIMN_SAID_REASONING, /* thinking before it */
    LIMN_SAID_CALL       /* JSON of a tool call as it is written; whole calls are in the answer */
} limn_said_kind;

/* What just became certain of the answer. */
typedef struct limn_said {
    limn_said_kind kind;
    const char *text; /* whole UTF-8 characters, NUL-terminated; may be empty */
    size_t len;
    const limn_token_logprobs *logprobs; /* NULL when not asked for */
} limn_said;

/* false: enough, stop here. */
typedef bool limn_said_fn(void *user, const limn_said *said);

/* How to watch and stop an answer; zero-initialise. Calls come from the thread that works. */
typedef struct limn_look_watch {
    limn_said_fn *said;   /* NULL: the whole answer at the end only */
    limn_event_fn *event; /* NULL: no reports */
    void *user;
    const limn_cancel *cancel; /* polled inside operations; NULL: never stops */
} limn_look_watch;

typedef enum limn_finish {
    LIMN_FINISH_STOP_ID,     /* the model ended the text */
    LIMN_FINISH_STOP_STRING, /* cut before the string, which is not part of the text */
    LIMN_FINISH_LENGTH,      /* max_tokens */
    LIMN_FINISH_CONTEXT,     /* the context is full; nothing was dropped from it */
    LIMN_FINISH_CALLER,      /* limn_said_fn said so */
    LIMN_FINISH_LOOP         /* the text repeated itself over and over (loop_limit) */
} limn_finish;

typedef struct limn_answer {
    const char *text; /* UTF-8, NUL-terminated, without reasoning and tool calls */
    size_t len;
    const char *reasoning; /* NULL: none */
    const limn_tool_call *calls;
    size_t n_calls;
    limn_finish finish;
    const char *stop;          /* the stop string that ended the text, or NULL */
    int64_t prompt_tokens;     /* all of the conversation, pictures and cached ones included */
    int64_t image_tokens;      /* of prompt_tokens: pictures and frames */
    int64_t cached_tokens;     /* of prompt_tokens: were in the KV cache already, not read again */
    int64_t completion_tokens; /* a final stop token included */
    int64_t reasoning_tokens;  /* of completion_tokens: its thinking, with the mark that ends it */
    int64_t guessed_tokens, right_guesses; /* see the option draft_tokens */
    int images, cached_images; /* pictures and frame pairs; of these: found in the picture cache */
    double image_seconds;      /* encoding pictures */
    double read_seconds;       /* reading the prompt */
    double write_seconds;      /* from the first token to the last */
    double first_seconds;      /* from limn_look_new to the first token */
    int64_t seed;              /* that was used */
    int64_t memory_bytes;      /* that were reckoned with before the work began, weights included */
    const limn_token_logprobs *tokens; /* [n_tokens]; NULL unless "logprobs" is set */
    size_t n_tokens;
} limn_answer;

/* Opens the model that `see` names ("model", "vision_model", "context", "sequences" ...): a folder
 * as on the hub, or a GGUF file with its mmproj file beside it; without a name the bundled one.
 * `app` gives threads, cpu_mask, memory, models_dir and cache_dir. Both are read during the call
 * only. E_LIMIT when weights and caches do not fit "memory". */
limn_status limn_seer_new(limn_seer **out, const limn_params *app, const limn_params *see,
                          limn_err *err);
void limn_seer_free(limn_seer **seer);

typedef struct limn_seer_info {
    const char *path; /* borrowed from the seer, as all strings here */
    const char *name; /* last part of the path */
    bool sees;        /* takes pictures and clips; else text only */
    bool thinks;      /* its answers begin with reasoning */
    int64_t context;  /* tokens of each conversation */
    int sequences;    /* questions that can be answered at once */
    /* Of a token embedding of its own, of which only rows are looked up, nothing counts. */
    int64_t weight_bytes, cache_bytes;
    const char *cache_type; /* of the keys and values that are kept: "f16", "f32", ... */
    /* Memory of a question without pictures at most, both included; limn_answer.memory_bytes says
     * the same for one with pictures. Weights that are read where they lie in a file count. */
    int64_t need_bytes;
    const char *note; /* to tell the user: the bundled model was taken; NULL: nothing */
} limn_seer_info;

void limn_seer_get_info(limn_seer_info *out, const limn_seer *seer);

/* Answers one question. What `see` leaves open the model's own advice decides, then the defaults.
 * E_CONTEXT when the conversation does not fit the context, E_LIMIT when it does not fit the
 * memory: it is refused before the work, never shortened. `watch` may be NULL. */
limn_status limn_see(limn_answer **out, limn_seer *seer, const limn_talk *talk,
                     const limn_params *see, const limn_look_watch *watch, limn_err *err);
void limn_answer_free(limn_answer **answer);
/* JSON object {"text": ..., "finish": "stop", "usage": {...}, "seconds": {...}, ...}. */
limn_status limn_answer_format_json(char **out, const limn_answer *answer, limn_err *err);

/*
 * Several questions at once, their tokens computed together:
 *     limn_look_new(&a, ...); limn_look_new(&b, ...);
 *     while (!limn_look_is_done(a) || !limn_look_is_done(b)) limn_seer_step(seer, &err);
 *     limn_look_take(&answer, &a, &err);
 * New looks may come between steps. limn_see is one such loop over a single look.
 */
/* Checks and prepares everything, decodes the picture files, computes nothing yet; `talk` and `see`
 * are not needed afterwards, `watch` is copied. E_LIMIT when all sequences are taken (see
 * limn_seer_has_room). */
limn_status limn_look_new(limn_look **out, limn_seer *seer, const limn_talk *talk,
                          const limn_params *see, const limn_look_watch *watch, limn_err *err);
bool limn_seer_has_room(const limn_seer *seer);
/* One piece of work: a picture, a chunk of a prompt, or one token for every look that is writing.
 * A look that fails or is cancelled is done with its own error (limn_look_take has it); the call
 * fails only when nothing can go on. */
limn_status limn_seer_step(limn_seer *seer, limn_err *err);
bool limn_look_is_done(const limn_look *look);
/* The answer of a look that is done, or its error. Frees the look either way. */
limn_status limn_look_take(limn_answer **out, limn_look **look, limn_err *err);
/* Gives up a look, done or not. Before limn_seer_free. */
void limn_look_free(limn_look **look);

/* ---- tasks: questions with a known form of answer; docs/TASKS.md describes each ---- */

typedef struct limn_task_info {
    const char *name;       /* "boxes" */
    const char *help;       /* one line */
    const char *formats[6]; /* "text", "json" ...; the first is the default; ends with NULL */
    const char *words;      /* what "prompt" is to it: "question", "categories", "keys", or "" */
    int least_pictures;
    bool clip;      /* takes one video; several pictures count as its frames */
    bool places[6]; /* of each format: what is found has boxes or points */
} limn_task_info;

/* false when index is out of range */
bool limn_task_get_info(limn_task_info *out, int index);

/* One thing that was found. */
typedef struct limn_finding {
    const char *label; /* "" when there is none */
    const char *text;  /* what was read, or said about it; "" when there is none */
    double score;      /* 0..1; below 0: none */
    bool chosen;       /* classify: the best label; tag, moderate: above the threshold */
    bool has_box, has_point, has_time;
    int picture;       /* of limn_sight.pictures */
    double box[4];     /* left, top, right, bottom in pixels of that picture */
    double point[2];   /* x, y */
    double start, end; /* seconds of the clip */
} limn_finding;

/* A picture, page or clip that was looked at. */
typedef struct limn_sight_picture {
    const char *file; /* "" when it came as pixels */
    int page;         /* of the file, from 1 on */
    int width, height;
} limn_sight_picture;

typedef struct limn_sight {
    const char *task, *format;
    const char *text; /* the result in that format, UTF-8 */
    size_t len;
    const limn_finding *findings;
    size_t n_findings;
    const limn_sight_picture *pictures;
    size_t n_pictures;
    const char *note;   /* what of the answers was not as asked and left out; NULL: nothing */
    limn_finish finish; /* LENGTH or CONTEXT when one of the answers was cut */
    int64_t prompt_tokens, image_tokens, cached_tokens, completion_tokens; /* of all questions */
    double seconds;
} limn_sight;

/* What limn_task_run would refuse of `see` before it looks at a file, without a model: a task,
 * form, words or policy that do not go together, fewer than the files that it needs. E_USAGE,
 * E_VALUE (policy, schema), E_LIMIT, E_NOMEM. */
limn_status limn_task_check(const limn_params *see, size_t n_files, limn_err *err);

/* Does the task that `see` names with the files (parts of kind IMAGE, VIDEO or FILE). Each picture
 * and page is a question of its own where the task says so, so documents of any length fit.
 * watch->said gets the result as far as it is certain. E_USAGE: an unknown task, a format that it
 * does not have, words that it needs or does not take; E_VALUE: a bad policy or schema. */
limn_status limn_task_run(limn_sight **out, limn_seer *seer, const limn_message_part *files,
                          size_t n_files, const limn_params *see, const limn_look_watch *watch,
                          limn_err *err);
void limn_sight_free(limn_sight **sight);
/* JSON object {"task": "boxes", "findings": [...], "pictures": [...], "usage": {...}, ...}. */
limn_status limn_sight_format_json(char **out, const limn_sight *sight, limn_err *err);
/* Picture or page `index` of a sight once more, from its file; `see` as it was for the task.
 * E_UNSUPPORTED for clips and for what did not come as a file. */
limn_status limn_sight_load_picture(limn_image **out, const limn_sight *sight, int index,
                                    const limn_params *see, limn_err *err);
/* A copy of picture `index`, which must have its size, with its boxes and points drawn on it. */
limn_status limn_sight_draw(limn_image **out, const limn_sight *sight, const limn_image *picture,
                            int index, limn_err *err);

/* ------------------------------------------------------------------------------------------- */
/* Serving: one durable queue behind HTTP (docs/API.md).                                         */

/* Fills a record from variables: PREFIX and the row's name in capitals ("LIMN_SERVE_PORT"); a list
 * is comma-separated. E_VALUE names the variable. */
limn_status limn_params_parse_env(limn_params *params, const char *prefix, limn_err *err);
/* Fills records from a file of lines "name = value"; '#', ';' and '[' begin a comment. E_USAGE: no
 * record has the name. Errors name file and line. */
limn_status limn_params_parse_lines(limn_params *const *sets, int n_sets, const char *path,
                                    limn_err *err);

/* What a serving program hears; zero-initialise. Called from any thread, one call at a time. */
typedef struct limn_serving {
    void (*log)(void *user, const char *line); /* one line without its end; NULL: no log */
    void (*ready)(void *user, const char *address, int port); /* requests are taken from now on */
    void *user;
    bool terminal;           /* log lines go to a terminal: log_format auto means pretty */
    const limn_cancel *stop; /* when set: finish what runs (drain_seconds), then return */
    limn_cancel *reload; /* when set: cleared, keys are read again, and `settings` is asked; NULL */
    /* New values of kind SERVE, taken; what needs a restart is named in the log. NULL: none */
    limn_status (*settings)(void *user, limn_params **out, limn_err *err);
    /* "READY=1", "RELOADING=1", "STOPPING=1", "WATCHDOG=1" as sd_notify(3) has them; the last one
     * every watchdog_seconds while requests are answered. NULL: nobody is told */
    void (*notify)(void *user, const char *state);
    double watchdog_seconds; /* 0: no watchdog */
} limn_serving;

/* Serves until `stop` is set. serve: kind SERVE; app: kind APP; both are read during the call.
 * E_USAGE: an address that others can reach without any key. E_CONFLICT: another process serves
 * this data folder. */
limn_status limn_serve(const limn_params *serve, const limn_params *app,
                       const limn_serving *serving, limn_err *err);
/* The OpenAPI 3.1 document of the server. */
limn_status limn_serve_openapi(char **out, limn_err *err);

/* What a server starts to decode strangers' pictures in (media/decoders.h): reads from descriptors
 * 3 and 4, forks, and returns in every process with the code to end it with, at once and without
 * any handler of exit. Only of use to a program that serves with `decode_apart`: it must answer
 * `PROGRAM decode-host` with it, before it makes a thread. */
int limn_decode_host(void);

/* Jobs of the data folder that `serve` names, whether a server is using it or not; changes nothing.
 * what: NULL or "": counts and the newest jobs; a state ("queued"); an id: that job with its
 * request and results; else jobs with all of these words. Lines, or one JSON object. E_NOT_FOUND.
 */
limn_status limn_jobs_show(char **out, const limn_params *serve, const char *what, bool json,
                           limn_err *err);

/* API keys of the data folder that `serve` names. scope: "read", "infer" or "admin"; days 0: for
 * ever. *out is the key, which is kept nowhere.
 *
 * asker: NULL: whoever owns the folder, who may do everything. Else the id of the key that wants
 * this, "" when none is needed yet: in the same step as the change it is looked up again, and there
 * must be a key with the scope admin afterwards, or nothing changes (E_CONFLICT). */
limn_status limn_key_create(char **out, const limn_params *serve, const char *owner,
                            const char *scope, int days, const char *asker, limn_err *err);
/* JSON array of {"id", "owner", "scope", "created", "expires"} in milliseconds; expires 0: never.
 */
limn_status limn_key_list(char **out, const limn_params *serve, limn_err *err);
/* By its id. E_NOT_FOUND. asker: as above. */
limn_status limn_key_revoke(const limn_params *serve, const char *id, const char *asker,
                            limn_err *err);

#ifdef __cplusplus
}
#endif

#endif
