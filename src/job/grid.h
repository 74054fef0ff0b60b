/* SPDX-License-Identifier: MIT */
/*
 * Grids: one drawing for every combination of the values of one to three parameters, laid out on a
 * sheet with labels. Any row of the table with LIMN_P_AXIS can be an axis.
 */
#ifndef LIMN_JOB_GRID_H
#define LIMN_JOB_GRID_H

#include "job/runner.h"
#include "param/param.h"

enum { LIMN_GRID_AXES = 3, LIMN_GRID_VALUES = 64, LIMN_GRID_CELLS = 256 };

typedef struct limn_grid_axis {
    const limn_param *param;
    char **values; /* [n] as text */
    int n;
    /* Of "prompt", "search and replace": each value takes the place of this text wherever it stands
     * in the prompt and in the negative prompt. NULL: each value is the whole of the parameter. */
    char *search;
} limn_grid_axis;

typedef struct limn_grid {
    limn_params *base;
    limn_grid_axis axis[LIMN_GRID_AXES];
    int n_axes, cells;
    bool sheet;
} limn_grid;

/* Reads {"params", "axes", "sheet"}; every value is tried. E_VALUE names what is wrong. */
limn_status limn_grid_parse(limn_grid **out, const char *json, size_t len, limn_err *err);
void limn_grid_free(limn_grid **g);
/* The values of a cell; the first axis runs fastest. */
limn_status limn_grid_cell(limn_params **out, const limn_grid *g, int cell, limn_err *err);
/* "steps: 20, cfg_scale: 7"; what replaces a text stands by itself. */
void limn_grid_label(limn_buf *out, const limn_grid *g, int cell);

/* Draws one cell: hands out the picture that goes on the sheet (the caller frees it) after it has
 * given the run its outputs. */
typedef limn_status limn_grid_draw_fn(void *user, limn_run *run, const limn_params *cell, int index,
                                      int cells, limn_image **picture, limn_err *err);
/* The whole job: cells in order, then the sheet, then the result {"columns", "cells": [...]}. */
limn_status limn_grid_run(limn_run *run, limn_grid_draw_fn *draw, void *user, limn_err *err);

#endif
