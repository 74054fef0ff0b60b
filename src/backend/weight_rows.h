/* SPDX-License-Identifier: MIT */
/*
 * Reading weights as f32, adapters included: the one place where a limn_weight becomes numbers.
 * Stateless, any thread.
 */
#ifndef LIMN_BACKEND_WEIGHT_ROWS_H
#define LIMN_BACKEND_WEIGHT_ROWS_H

#include "graph/graph.h"

/* Rows (outermost dimension) and the elements of each; a vector counts as rows of one. */
int64_t limn_weight_rows(const limn_weight *w);
int64_t limn_weight_row_size(const limn_weight *w);
/* out [count, row size] = rows [row0, row0 + count) dequantised, plus the weight's delta. */
limn_status limn_weight_read(float *out, const limn_weight *w, int64_t row0, int64_t count,
                             limn_err *err);

#endif
