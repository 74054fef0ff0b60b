/* SPDX-License-Identifier: MIT */
/* Driver and C bodies of the rotary embedding; see rope.h. */
#include "kernels/rope.h"

#include <string.h>

#include "kernels/rope_body.h"
#include "kernels/rowio.h"

void limn_rope_fill_c(limn_rope_kernels *r) {
    rope_fill(r);
}

typedef struct rope_job {
    const limn_kernels *k;
    const limn_rope_args *a;
    int64_t rows_per_task;
} rope_job;

static void rope_task(void *arg, size_t task, int worker) {
    (void)worker;
    const rope_job *j = arg;
    const limn_rope_args *a = j->a;
    _Alignas(64) float in[LIMN_ROW_PIECE], out[LIMN_ROW_PIECE];
    int64_t r0 = (int64_t)task * j->rows_per_task, r1 = r0 + j->rows_per_task;
    if (r1 > a->rows) r1 = a->rows;
    for (int64_t r = r0; r < r1; r++) {
        int64_t table = (a->table_rows > 0 ? r % a->table_rows : r) * a->table_stride;
        for (int64_t h = 0; h < a->heads; h++) {
            int64_t x_at = r * a->x.stride + h * a->dim, y_at = r * a->y.stride + h * a->dim;
            const float *x = limn_rowio_load(j->k, in, a->x.data, a->x.type, x_at, a->dim);
            float *y = limn_rowio_dest(out, a->y.data, a->y.type, y_at);
            j->k->rope.rotate[a->layout](y, x, a->cos + table, a->sin + table, a->rot / 2);
            if (y != x) memcpy(y + a->rot, x + a->rot, (size_t)(a->dim - a->rot) * 4);
            limn_rowio_store(j->k, a->y.data, a->y.type, y_at, y, a->dim);
        }
    }
}

void limn_rope_run(const limn_exec *ex, const limn_rope_args *a) {
    assert(a->dim <= LIMN_ROW_PIECE && a->rot <= a->dim && a->rot % 2 == 0);
    int64_t width = a->heads * a->dim;
    if (a->rows <= 0 || width <= 0) return;
    rope_job j = {ex->k, a, width >= LIMN_TASK_ELEMENTS ? 1 : LIMN_TASK_ELEMENTS / width};
    limn_pool_run(ex->pool, rope_task, &j,
                  (size_t)((a->rows + j.rows_per_task - 1) / j.rows_per_task));
}
