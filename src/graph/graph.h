/* SPDX-License-Identifier: MIT */
/*
 * The graph: what a network computes, without dtype, backend or memory decisions.
 *
 * A model file builds nodes through the functions below; each call infers and checks shapes at
 * once, so that a wrong checkpoint fails while the graph is built, with the names and both shapes
 * in the error. The builder latches its first error: after it every call returns NULL, NULL sources
 * are accepted, and limn_graph_check() reports it once at the end.
 *
 * Layouts: pictures and feature maps are channels-last [n, h, w, c]; token sequences [n, len, dim].
 * The two are the same bytes when len = h * w, so limn_g_reshape between them is free.
 *
 * A graph belongs to one thread while it is built; nodes live in the graph's arena until
 * limn_graph_free(). Weights are borrowed and must outlive the graph and every plan made from it.
 *
 * Read next: op_table.h (what each op means), plan.h (fusion, memory), backend/backend.h (running).
 */
#ifndef LIMN_GRAPH_GRAPH_H
#define LIMN_GRAPH_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/status.h"
#include "kernels/act.h"
#include "tensor/tensor.h"

typedef struct limn_graph limn_graph;
typedef struct limn_node limn_node;

/* op_table.c has one row for each. */
typedef enum limn_op {
    LIMN_OP_INPUT,
    LIMN_OP_LINEAR,
    LIMN_OP_CONV2D,
    LIMN_OP_GROUP_NORM,
    LIMN_OP_GROUP_STATS,
    LIMN_OP_LAYER_NORM,
    LIMN_OP_RMS_NORM,
    LIMN_OP_ATTENTION,
    LIMN_OP_UNARY,
    LIMN_OP_GLU,
    LIMN_OP_ADD,
    LIMN_OP_MUL,
    LIMN_OP_AFFINE,
    LIMN_OP_CONCAT,
    LIMN_OP_UPSAMPLE,
    LIMN_OP_RESHAPE,
    LIMN_OP_TIMESTEP,
    LIMN_OP_ROWS,
    LIMN_OP_ROPE,
    LIMN_OP_SLICE,
    LIMN_OP_PRELU,
    LIMN_OP_PIXEL_SHUFFLE,
    LIMN_OP_PIXEL_UNSHUFFLE,
    LIMN_OP_STATE,
    LIMN_OP_STORE,
    LIMN_OP_CACHED_ATTENTION,
    LIMN_OP_ROUTE,
    LIMN_OP_EXPERTS,
    LIMN_OP_MIX,
    LIMN_OP_COUNT
} limn_op;

/* One adapter's contribution to output rows of a weight (LoRA and its kin), added while the backend
 * packs the weight. Adds to rows [row0, row0 + rows) of the f32 matrix [out, in], row-major in `w`.
 */
typedef limn_status limn_weight_delta_fn(void *user, float *w, int64_t row0, int64_t rows,
                                         int64_t in, limn_err *err);

/*
 * A parameter tensor of a model: a borrowed view (usually into a file map), outermost dimension =
 * outputs. `delta` (optional) changes the values at packing time; whoever changes it must bump
 * `version`, which makes backends pack again.
 */
typedef struct limn_weight {
    const char *name; /* canonical name, for messages */
    limn_tensor t;
    limn_weight_delta_fn *delta;
    void *delta_user;
    uint64_t version;
    bool mapped; /* data is a file map: its pages may be dropped once a packed form exists */
    /* Where the data lies on disk, for caches: a hash that names the file and its state (0: not
     * from a file), and the place of the data in it. */
    uint64_t source, source_place;
} limn_weight;

/* Flat attributes; each op reads only its own (op_table.h says which). */
typedef struct limn_attr {
    limn_act act;
    limn_glu glu;
    float eps, slope;
    float mul, add; /* AFFINE: x * mul + add; LINEAR/CONV2D: out * mul before residual */
    int groups;     /* GROUP_NORM, GROUP_STATS */
    int stride, pad_l, pad_r, pad_t, pad_b; /* CONV2D */
    int factor;     /* PIXEL_SHUFFLE, PIXEL_UNSHUFFLE; GROUP_STATS: pixels per unit of the window */
    bool upsample2; /* CONV2D: input is read as if nearest-upsampled by 2 */
    int heads, kv_heads;        /* ATTENTION, CACHED_ATTENTION, ROPE */
    bool causal;                /* ATTENTION */
    float scale;                /* ATTENTION: factor on q.k */
    int64_t offset;             /* SLICE along the last dimension; causal offset of ATTENTION */
    bool flip;                  /* TIMESTEP: cosines first */
    float shift, max_period;    /* TIMESTEP */
    bool rope_pairs;            /* ROPE: adjacent pairs instead of rotate-half */
    int top;                    /* ROUTE: experts of a row */
    bool exact;                 /* LINEAR: f32 at every precision */
    bool input_major;           /* EXPERTS: weights are [experts, inputs, outputs] */
    bool residual, channel_add; /* LINEAR/CONV2D: which optional sources follow, set by fusion */
    bool gated; /* LINEAR: the halves of the product go through glu, set by fusion */
} limn_attr;

enum { LIMN_NODE_SRC = 4 };

struct limn_node {
    limn_op op;
    int id;           /* position in the build order */
    limn_dtype dtype; /* f32 when built (i32 for id inputs); the planner may narrow it */
    limn_shape shape;
    int n_src;
    limn_node *src[LIMN_NODE_SRC];
    const limn_weight *w; /* LINEAR CONV2D EXPERTS: matrix; norms: scale; may be NULL for norms */
    const limn_weight *bias; /* may be NULL */
    limn_attr attr;
    const char *name; /* inputs and outputs; else NULL or a label for printing */
    bool is_output;
};

limn_status limn_graph_new(limn_graph **out, limn_err *err);
void limn_graph_free(limn_graph **g);
/* The latched error, if any; also fails when there is no output. */
limn_status limn_graph_check(const limn_graph *g, limn_err *err);
int limn_graph_count(const limn_graph *g);
/* What the layers that build a tile share (nn.h); borrowed, NULL: the graph sees the whole. */
typedef struct limn_nn_tiles limn_nn_tiles;
void limn_graph_set_tiles(limn_graph *g, limn_nn_tiles *tiles);
limn_nn_tiles *limn_graph_tiles(const limn_graph *g);
/* Convolutions of the layers (limn_nn_conv) see the picture as if it were repeated on all sides,
 * not zeros around it: what is drawn then goes on over its edges. Set before layers are built. */
void limn_graph_set_wrap(limn_graph *g, bool wrap);
bool limn_graph_wraps(const limn_graph *g);
/* What residual blocks add to may be kept in 16 bits where the backend computes in them: for
 * networks whose memory this halves and whose results bear it. */
void limn_graph_set_narrow_sums(limn_graph *g, bool narrow);
bool limn_graph_has_narrow_sums(const limn_graph *g);
limn_node *limn_graph_node(const limn_graph *g, int i); /* build order = a valid execution order */
/* Latches an error from a model builder, for example a missing weight. Returns NULL. */
limn_node *limn_graph_fail(limn_graph *g, limn_status st, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Memory with the graph's lifetime, for builders. */
limn_arena *limn_graph_arena(limn_graph *g);
/* Prefix for node labels in printouts ("down.0.resnets.1"); the string is copied. */
void limn_graph_set_label(limn_graph *g, const char *label);

/* ---- leaves ---- */
limn_node *limn_g_input(limn_graph *g, const char *name, limn_dtype t, limn_shape shape);
/* Marks a node as a result that is kept until the next run; returns it. */
limn_node *limn_g_output(limn_graph *g, limn_node *x, const char *name);

/* Memory that outlives a run and may be shared by programs, such as a KV cache: it has no place in
 * the arena and is bound with limn_program_bind(). f32, f16, bf16 or q8_0, shape [n, rows, c].
 * Only limn_g_store takes it. */
limn_node *limn_g_state(limn_graph *g, const char *name, limn_dtype t, limn_shape shape);

/* ---- ops ---- */
/* x [..., k], w [n, k] (or [n, k, 1, 1]), bias [n] or NULL -> [..., n] */
limn_node *limn_g_linear(limn_graph *g, limn_node *x, const limn_weight *w,
                         const limn_weight *bias);
/* The same linear node, computed in f32 at every precision: for a few outputs that decide
 * something, as which experts a token goes to. NULL stays NULL. */
limn_node *limn_g_exact(limn_node *linear);
/* x [n, h, w, ic], w [oc, ic, kh, kw], zero padding; stride and pads from `a` (stride 0 means 1) */
limn_node *limn_g_conv2d(limn_graph *g, limn_node *x, const limn_weight *w, const limn_weight *bias,
                         const limn_attr *a);
/* x [n, h, w, c] or [n, len, c]; statistics over everything but n within a group of channels */
limn_node *limn_g_group_norm(limn_graph *g, limn_node *x, const limn_weight *w,
                             const limn_weight *bias, int groups, float eps);
/* The same with statistics from elsewhere: stats f32 [2, groups], means and 1 / sqrt(var + eps), of
 * the picture that x [1, h, w, c] is a tile of. */
limn_node *limn_g_group_norm_given(limn_graph *g, limn_node *x, const limn_weight *w,
                                   const limn_weight *bias, int groups, limn_node *stats);
/* Means and variances [2, groups] of a window of x [1, h, w, c]: i32 [4] = first row, first column,
 * row and column behind the last, in units of `factor` pixels. A run with a window that is empty or
 * leaves x ends with E_LIMIT. */
limn_node *limn_g_group_stats(limn_graph *g, limn_node *x, limn_node *window, int groups,
                              int factor);
limn_node *limn_g_layer_norm(limn_graph *g, limn_node *x, const limn_weight *w,
                             const limn_weight *bias, float eps);
/* over the last dimension, or over each head of w's length when that divides it */
limn_node *limn_g_rms_norm(limn_graph *g, limn_node *x, const limn_weight *w, float eps);
/* q [n, lq, heads*d], k [n, lk, kv_heads*d], v likewise -> [n, lq, heads*d];
 * mask NULL or f32 [lq, lk] added to the scaled scores; scale 0 means d^-1/2 */
limn_node *limn_g_attention(limn_graph *g, limn_node *q, limn_node *k, limn_node *v,
                            limn_node *mask, const limn_attr *a);
limn_node *limn_g_unary(limn_graph *g, limn_node *x, limn_act act);
limn_node *limn_g_leaky_relu(limn_graph *g, limn_node *x, float slope);
/* last dimension 2c -> c */
limn_node *limn_g_glu(limn_graph *g, limn_node *x, limn_glu kind);
/* b has x's shape, or is broadcast: each of its dimensions (aligned at the end) is 1 or equal */
limn_node *limn_g_add(limn_graph *g, limn_node *x, limn_node *b);
limn_node *limn_g_mul(limn_graph *g, limn_node *x, limn_node *b);
limn_node *limn_g_affine(limn_graph *g, limn_node *x, float mul, float add);
/* along the last dimension; all others equal */
limn_node *limn_g_concat(limn_graph *g, limn_node *a, limn_node *b);
/* nearest neighbour, [n, h, w, c] -> [n, oh, ow, c], source index floor(i * h / oh) */
limn_node *limn_g_upsample(limn_graph *g, limn_node *x, int64_t oh, int64_t ow);
limn_node *limn_g_reshape(limn_graph *g, limn_node *x, limn_shape shape);
/* t f32 [n] -> [n, dim] sinusoids: freq_i = max_period^(-i / (dim/2 - shift)), [sin | cos] or
 * flipped; diffusers models/embeddings.py get_timestep_embedding */
limn_node *limn_g_timestep(limn_graph *g, limn_node *t, int64_t dim, bool flip, float shift);
/* x [n, len, dim], index i32 [n] -> [n, dim]; one row of each sequence */
limn_node *limn_g_rows(limn_graph *g, limn_node *x, limn_node *index);
/* x [n, len, heads*d], cos and sin f32 [len, d/2] or [n, len, d/2]; rotates each head */
limn_node *limn_g_rope(limn_graph *g, limn_node *x, limn_node *cosines, limn_node *sines,
                       const limn_attr *a);
/* x [..., c], slope [c] or [1]: x < 0 ? x * slope : x */
limn_node *limn_g_prelu(limn_graph *g, limn_node *x, const limn_weight *slope);
/* [n, h, w, c*f*f] -> [n, f*h, f*w, c] in torch's order: input channel c*f*f + i*f + j goes to
 * row offset i, column offset j; and back */
limn_node *limn_g_pixel_shuffle(limn_graph *g, limn_node *x, int factor);
limn_node *limn_g_pixel_unshuffle(limn_graph *g, limn_node *x, int factor);
/* columns [offset, offset + width) of the last dimension */
limn_node *limn_g_slice(limn_graph *g, limn_node *x, int64_t offset, int64_t width);

/* Writing into a state: row first + i of sequence b becomes x[b, i] for i < used, where
 * span i32 [n, 2] holds {first, used} of each sequence, 0 <= used <= len. The result stands for the
 * state from then on, and only limn_g_cached_attention reads it. A run fails with E_LIMIT when the
 * rows do not fit. x [n, len, c] */
limn_node *limn_g_store(limn_graph *g, limn_node *state, limn_node *x, limn_node *span);
/* Causal attention over what a state holds: q [n, len, heads*d], k and v stored states
 * [n, rows, kv_heads*d] with the same span. Query i < used of sequence b sees the rows
 * 0 .. first + i; results from used on are 0. A span [n, 2 + len] goes on with the query at which
 * the branch of each begins, 0 .. i: of the rows behind `first` query i then sees only those from
 * there on, so that several ways a text may go on are computed together. */
limn_node *limn_g_cached_attention(limn_graph *g, limn_node *q, limn_node *k, limn_node *v,
                                   limn_node *span, const limn_attr *a);

/* A mixture of experts. Of each row of logits [n, len, experts] the `top` likeliest experts, best
 * first, then their probabilities (softmax over all) divided by their sum: f32 [n, len, 2 * top].
 * With a span (as above; may be NULL) rows that are not used choose nobody: -1 and 0.
 * transformers models/qwen3_vl_moe, Qwen3VLMoeTextTopKRouter */
limn_node *limn_g_route(limn_graph *g, limn_node *logits, limn_node *span, int top);
/* Products with the chosen experts only: x [n, len, k] for every choice of a row, or
 * [n, len, top * k] with one part for each; w [experts, m, k], or [experts, k, m] when
 * input_major -> [n, len, top * m], 0 where nobody was chosen. */
limn_node *limn_g_experts(limn_graph *g, limn_node *x, limn_node *route, const limn_weight *w,
                          bool input_major);
/* y [n, len, top * m] -> [n, len, m]: the parts of a row times their probabilities, summed */
limn_node *limn_g_mix(limn_graph *g, limn_node *y, limn_node *route);

#endif
