/* SPDX-License-Identifier: MIT */
/* Vector body of gated units, for any vec_*.h; see elementwise.h. */
#include "kernels/elementwise.h"
#include "kernels/x86/vec_math.h"
#include "kernels/x86/vec_typed.h"

/* Columns [i, i + n), n <= VF, of row r. */
VEC_INLINE void glu_part(const limn_glu_args *a, int64_t r, int64_t i, int64_t n, const bool gelu,
                         const limn_dtype x_type, const limn_dtype y_type) {
    vf v = typed_load(a->value.data, r * a->value.stride + i, n, x_type);
    vf g = typed_load(a->gate.data, r * a->gate.stride + i, n, x_type);
    typed_store(a->y.data, r * a->y.stride + i, vf_mul(v, gelu ? vm_gelu(g) : vm_silu(g)), n,
                y_type);
}

VEC_INLINE void glu_types(const limn_glu_args *args, const bool gelu, const limn_dtype x_type,
                          const limn_dtype y_type) {
    const limn_glu_args a = *args; /* y might be anything, but not these */
    for (int64_t r = 0; r < a.rows; r++) {
        int64_t i = 0;
        for (; i + VF <= a.cols; i += VF) glu_part(&a, r, i, VF, gelu, x_type, y_type);
        if (i < a.cols) glu_part(&a, r, i, a.cols - i, gelu, x_type, y_type);
    }
}

VEC_INLINE void glu_act(const limn_glu_args *a, const limn_dtype x_type, const limn_dtype y_type) {
    if (a->act == LIMN_ACT_GELU)
        glu_types(a, true, x_type, y_type);
    else
        glu_types(a, false, x_type, y_type);
}

VEC_INLINE void glu_from(const limn_glu_args *a, const limn_dtype x_type) {
    WITH_TYPE(a->y.type, glu_act, a, x_type)
}

static void glu_v(const limn_glu_args *a) {
    WITH_TYPE(a->value.type, glu_from, a)
}
