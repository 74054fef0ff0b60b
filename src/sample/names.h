/* SPDX-License-Identifier: MIT */
/*
 * Looking names up in the tables of this folder (schedules, solvers, guiders, generators).
 *
 * Names are compared folded: letters and digits in lower case, '+' kept as 'p', everything else
 * dropped, so "DPM++ 2M", "dpmpp_2m" and "dpm++2m" are one name. Pure functions, any thread.
 */
#ifndef LIMN_SAMPLE_NAMES_H
#define LIMN_SAMPLE_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

enum { LIMN_NAME_MAX = 96 }; /* longer names are never valid */

typedef struct limn_name_row {
    const char *name;
    const char *label;   /* or NULL */
    const char *aliases; /* further names separated by '|', or NULL */
} limn_name_row;
/* The names of row i of a table. */
typedef limn_name_row limn_name_row_fn(int i);

/* Folded copy; false when the name is empty or too long. */
bool limn_name_fold(char out[LIMN_NAME_MAX], const char *name);
/* Row of that name, label or alias, or -1. */
int limn_name_find(const char *name, int count, limn_name_row_fn *row);
/* E_VALUE: "unknown WHAT "NAME"; did you mean A, B or C?" with the labels of the three nearest.
 */
limn_status limn_name_fail(limn_err *err, const char *what, const char *name, int count,
                           limn_name_row_fn *row);

#endif
