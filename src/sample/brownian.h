/* SPDX-License-Identifier: MIT */
/*
 * A Brownian path over [t0, t1] whose increments are the same however it is asked.
 *
 * Compatible with torchsde.BrownianTree(t0, zeros(n), t1, entropy=seed) at its default tolerance:
 * times are rounded to six decimals, every interval is halved until the asked end is met, and each
 * split draws torch normals with a seed made by numpy's SeedSequence from (seed, path, depth).
 * Nothing is stored but the seed: an increment walks from the root. One thread at a time.
 * Facts: torchsde/_brownian/brownian_interval.py, numpy/random/bit_generator.pyx.
 */
#ifndef LIMN_SAMPLE_BROWNIAN_H
#define LIMN_SAMPLE_BROWNIAN_H

#include <stdint.h>

#include "base/status.h"
#include "sample/rng.h"

typedef struct limn_brownian limn_brownian;

/* n values per point of the path, n >= 1; t0 < t1. E_VALUE, E_NOMEM. */
limn_status limn_brownian_new(limn_brownian **out, limn_rng_kind kind, uint64_t seed, int64_t n,
                              double t0, double t1, limn_err *err);
void limn_brownian_free(limn_brownian **b);
/* out [n] = W(tb) - W(ta); ta <= tb, both clamped to [t0, t1]. E_NOMEM. */
limn_status limn_brownian_get(limn_brownian *b, float *out, double ta, double tb, limn_err *err);

/* numpy.random.SeedSequence(seed, spawn_key=key, pool_size=24).generate_state(count): the seeds of
 * the splits; keys are appended when key_count > 0. count <= 8. */
void limn_seed_sequence(uint32_t *out, int count, uint64_t seed, const uint64_t *key,
                        int key_count);

#endif
