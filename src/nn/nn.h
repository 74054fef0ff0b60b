/* SPDX-License-Identifier: MIT */
/*
 * Shared layers, built on the graph: a model file composes these and knows no dtype and no backend.
 *
 * A limn_nn ties a graph to the place where its weights come from. A layer asks for its tensors by
 * canonical name ("<prefix>.weight"); a missing required one latches E_MISSING in the graph. Every
 * function accepts NULL nodes and then returns NULL (see graph.h on latching).
 */
#ifndef LIMN_NN_NN_H
#define LIMN_NN_NN_H

#include "graph/graph.h"

/* The weight of that canonical name, or NULL. What it returns lives as long as the model. */
typedef const limn_weight *limn_nn_find_fn(void *user, const char *name);

/*
 * How the group norms of a graph see a picture that runs in tiles: each measures the window of the
 * tile that is its own ("stats.N" [2, groups] out: means, variances), and with `given` normalises
 * by the statistics of the whole ("shared.N" [2, groups] in: means, 1 / sqrt(var + eps)). Set with
 * limn_graph_set_tiles before the layers are built; it must live until they are.
 */
struct limn_nn_tiles {
    limn_node *window; /* i32 [4]; see limn_g_group_stats */
    int64_t unit_rows; /* rows of a tile in units of the window */
    bool given;
    int count; /* norms so far */
};

typedef struct limn_nn {
    limn_graph *g;
    limn_nn_find_fn *find;
    void *user;
} limn_nn;

/* printf-made names, at most 255 bytes. `need` latches E_MISSING, `find` may return NULL. */
const limn_weight *limn_nn_need(const limn_nn *nn, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
const limn_weight *limn_nn_find(const limn_nn *nn, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* "<p>.weight" and, when present, "<p>.bias" */
limn_node *limn_nn_linear(const limn_nn *nn, limn_node *x, const char *p);
/* symmetric padding of kernel / 2: zeros, or the other side (limn_graph_set_wrap) */
limn_node *limn_nn_conv(const limn_nn *nn, limn_node *x, const char *p, int stride);
limn_node *limn_nn_group_norm(const limn_nn *nn, limn_node *x, const char *p, int groups,
                              float eps);
limn_node *limn_nn_layer_norm(const limn_nn *nn, limn_node *x, const char *p, float eps);

/* Names of the four projections below an attention's prefix. */
typedef struct limn_attention_names {
    const char *q, *k, *v, *out;
} limn_attention_names;
extern const limn_attention_names limn_attention_diffusers; /* to_q to_k to_v to_out.0 */
extern const limn_attention_names limn_attention_clip;      /* q_proj k_proj v_proj out_proj */

/* x [n, len, dim]; ctx [n, len_k, ctx_dim] or NULL for self-attention; returns out(attention) with
 * no residual: the caller adds it, which the planner fuses into the output projection. */
limn_node *limn_nn_attention(const limn_nn *nn, limn_node *x, limn_node *ctx, const char *p,
                             const limn_attention_names *names, int heads, bool causal);

/* ResnetBlock2D of diffusers (models/resnet.py): norm1 silu conv1 (+ time_emb_proj(temb)) norm2
 * silu conv2, plus x or conv_shortcut(x). `temb` is silu(time embedding) [n, dim] or NULL. */
limn_node *limn_nn_resblock(const limn_nn *nn, limn_node *x, limn_node *temb, const char *p,
                            int groups, float eps);

/* [n, h, w, c] <-> [n, h*w, c]; free */
limn_node *limn_nn_to_tokens(const limn_nn *nn, limn_node *x);
limn_node *limn_nn_to_map(const limn_nn *nn, limn_node *tokens, const limn_node *like);

#endif
