/* SPDX-License-Identifier: MIT */
/*
 * Fusion: rewrites nodes so that element-wise tails run inside the op before them (plan.h lists
 * which). The tail node takes over the producer's op, sources and weights, because the tail is the
 * one whose sources are all ready; the producer becomes dead.
 */
#ifndef LIMN_GRAPH_FUSE_H
#define LIMN_GRAPH_FUSE_H

#include "graph/graph.h"

/* uses[id] = live readers of a node, live[id] = reachable; both are updated. */
void limn_graph_fuse(limn_graph *g, int *uses, bool *live);

#endif
