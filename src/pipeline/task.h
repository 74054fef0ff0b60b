/* SPDX-License-Identifier: MIT */
/*
 * Tasks: the jobs of Qwen3-VL, each with a documented prompt, a bound of the answer, a parser that
 * survives anything a model writes, and a typed result (limn_sight in limn.h).
 *
 * A task is a row of task_table.c; task_impl.h has the pieces that do it, task_parse.c reads
 * answers into findings, task_format.c writes results. Prompts follow the cookbooks of
 * QwenLM/Qwen3-VL; boxes and points come in 0..1000 of the picture's sides and go out in its
 * pixels.
 */
#ifndef LIMN_PIPELINE_TASK_H
#define LIMN_PIPELINE_TASK_H

#include <jansson.h>

#include "pipeline/see.h"

/* How pictures become questions. */
typedef enum limn_task_scope {
    LIMN_TASK_TOGETHER, /* all in one question */
    LIMN_TASK_EACH,     /* a question for every picture and page */
    LIMN_TASK_CLIP      /* one question about one clip; several pictures count as its frames */
} limn_task_scope;

/* What the words of the user are to the task. */
typedef enum limn_task_words {
    LIMN_WORDS_NEEDED, /* the question itself */
    LIMN_WORDS_MAY,    /* a question in place of the task's own */
    LIMN_WORDS_LABELS, /* labels, separated by commas */
    LIMN_WORDS_KEYS,   /* keys, separated by commas */
    LIMN_WORDS_NONE
} limn_task_words;

typedef enum limn_task_answer {
    LIMN_ANSWER_TEXT, /* the model's text is the result */
    LIMN_ANSWER_ROWS, /* JSON, see limn_task_rows_parse */
    LIMN_ANSWER_DATA, /* a JSON value as it is */
    LIMN_ANSWER_LABEL,
    LIMN_ANSWER_TAGS
} limn_task_answer;

typedef struct limn_task_form {
    limn_seeing_format format;
    const char *prompt; /* {labels}, {keys}; with NULL: the one before */
    const char
        *open; /* the prompt without labels; NULL: labels are needed, or make no difference */
    limn_task_answer answer;
    const char *schema; /* {label}: an enum of the labels, or a text; NULL: none */
    const char *asked; /* with words that MAY come: {question} in the task's form; NULL: as it is */
} limn_task_form;

enum { LIMN_TASK_FORMS = 5 };

typedef struct limn_task {
    const char *name, *help;
    limn_task_scope scope;
    limn_task_words words;
    int least_pictures;
    limn_task_form forms[LIMN_TASK_FORMS]; /* the first is the default; ends with prompt NULL */
    int max_tokens;                        /* unless the caller says; 0: as many as fit */
} limn_task;

extern const limn_task limn_tasks[];
extern const int limn_task_count;

/* A task by name or NULL. */
const limn_task *limn_task_find(const char *name);
/* A list of the engine, see limn_choice_fn. */
bool limn_task_choice(limn_choice *out, int index);

/* ---- answers (task_parse.c) ---- */

/* What is found, with its texts; freed by whoever made it. */
typedef struct limn_findings {
    limn_finding *list;
    size_t n, cap;
    limn_arena arena;
    size_t dropped; /* rows that were not as asked */
    bool cut;       /* the answer ended in the middle of something */
} limn_findings;

void limn_findings_init(limn_findings *f);
void limn_findings_deinit(limn_findings *f);
limn_status limn_findings_add(limn_findings *f, const limn_finding *row, limn_err *err);

/*
 * The JSON value in a model's text: fences and words around it are passed over, one that is cut is
 * closed after its last whole element (*cut). NULL when there is none; the caller decrefs.
 */
json_t *limn_task_json(const char *text, size_t len, bool *cut);

/* Where coordinates of 0..1000 are, and where the clip ends (seconds; 0: unknown, or no clip). */
typedef struct limn_task_frame {
    int picture, width, height;
    double end;
} limn_task_frame;

/* Rows of boxes, points, texts, events or categories, under the names that Qwen models use for
 * them, into findings. What is not a row is counted, also one that begins behind the end of the
 * clip; one that ends there ends with it. E_NOMEM. */
limn_status limn_task_rows_parse(limn_findings *f, const char *text, size_t len,
                                 const limn_task_frame *frame, limn_err *err);
/* A list of tags: JSON, or words between commas, lines, bullets. */
limn_status limn_task_tags_parse(limn_findings *f, const char *text, size_t len, int picture,
                                 limn_err *err);
/* Seconds of "12.5", "01:23.4", "1:02:03"; false when it is no time. */
bool limn_task_time_parse(double *seconds, const char *text);

/* ---- results (task_format.c) ---- */

/* A limn_sight while it is made. */
typedef struct limn_sight_box {
    limn_sight sight; /* first */
    limn_findings found;
    limn_sight_picture *pictures;
    size_t cap_pictures;
    limn_buf text;
    json_t *data; /* of DATA answers: one value, or an array with one for each picture */
    char note[160];
} limn_sight_box;

/* Writes `text` from the findings in the format; for TEXT answers it is there already. */
limn_status limn_sight_write(limn_sight_box *b, limn_seeing_format format, limn_err *err);

#endif
