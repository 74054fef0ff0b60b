/* SPDX-License-Identifier: MIT */
/*
 * How long drawings took on this machine, in a small file of the cache folder: what `--dry-run`
 * tells a time from. A line for each way of drawing (model, precision, threads, instruction sets),
 * newest first, replaced whole by rename. A file that is damaged or not there knows nothing.
 */
#ifndef LIMN_PIPELINE_SPEEDS_H
#define LIMN_PIPELINE_SPEEDS_H

#include <stdbool.h>

#include "base/status.h"

typedef struct limn_speed {
    double load;      /* seconds until the first step */
    double per_work;  /* seconds for a unit of limn_draw_plan_work */
    double per_pixel; /* seconds of decoding and saving for a pixel of the result */
} limn_speed;

/* `key`: all that decides the speed, as one text. False: not known. */
bool limn_speeds_find(limn_speed *out, const char *path, const char *key);
/* The newest drawing tells. Makes the folder. E_IO: the file was left as it was. */
limn_status limn_speeds_note(const char *path, const char *key, const limn_speed *speed,
                             limn_err *err);

#endif
