/* SPDX-License-Identifier: MIT */
/*
 * One task while it is done; shared by task_run.c (pictures, questions, the result), task_settle.c
 * (what was asked for, prompts, schemas) and task_score.c (labels by their probabilities). Internal
 * to the pipeline; one thread.
 */
#ifndef LIMN_PIPELINE_TASK_IMPL_H
#define LIMN_PIPELINE_TASK_IMPL_H

#include "pipeline/task.h"

#define LIMN_TASK_THRESHOLD 0.5 /* of a category whose policy says none */

/* A category of a policy. */
typedef struct limn_task_category {
    const char *name, *about; /* about: "" or what belongs to it */
    double threshold;
} limn_task_category;

typedef struct limn_task_job {
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
    limn_task_category *categories; /* moderate: the last is "none" */
    bool reasons;
    limn_sight_box *out;
    /* a stream of text: fences of code blocks around all of it are no part of the result */
    limn_buf held;
    bool begun, fenced;
} limn_task_job;

/* ---- settling (task_settle.c) ---- */

/* Task, form, labels, policy, options of a request with so many files. E_USAGE, E_VALUE. */
limn_status limn_task_settle(limn_task_job *r, size_t n_files, limn_err *err);
/* The question; NULL without memory. In the job's arena, as the next one. */
const char *limn_task_prompt(limn_task_job *r);
/* `text` for every `name` of the pattern; NULL without memory. */
const char *limn_task_fill(limn_task_job *r, const char *pattern, const char *name,
                           const char *text);

/* ---- questions (task_run.c) ---- */

/* One question with these files: tokens, cuts and the end are noted in the result. */
limn_status limn_task_question(limn_answer **a, limn_task_job *r, const limn_message_part *files,
                               size_t n, const char *text, limn_err *err);
void limn_task_event(void *job, const limn_event *e); /* passes an event on */

/* ---- labels (task_score.c) ---- */
/* Each adds findings for one picture. */
limn_status limn_task_classify(limn_task_job *r, const limn_message_part *file, int picture,
                               const char *prompt, limn_err *err);
limn_status limn_task_tag(limn_task_job *r, const limn_message_part *file, int picture,
                          const char *prompt, limn_err *err);
limn_status limn_task_moderate(limn_task_job *r, const limn_message_part *file,
                               const limn_task_frame *frame, const char *prompt, limn_err *err);

#endif
