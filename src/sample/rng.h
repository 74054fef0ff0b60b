/* SPDX-License-Identifier: MIT */
/*
 * Normal random numbers that reproduce the generators people's seeds were made with.
 *
 * torch        torch.randn(float32) on an x86 CPU with AVX2: MT19937 seeded by the low 32 bits of
 *              the seed, 24-bit uniforms, Cephes single-precision log/sin/cos with fused steps.
 * torch-libm   the same stream through plain libm floats: what torch computes with
 *              ATEN_CPU_CAPABILITY=default and on other processors.
 * philox       Philox 4x32-10 as torch's CUDA generator uses it (A1111 "NV", stable-diffusion.cpp
 *              "cuda").
 *
 * A limn_rng is a plain value owned by the caller; it is drawn from repeatedly, and splitting a
 * request in two is NOT the same as one request (torch works in blocks of 16 and recomputes the
 * tail). One thread at a time. Bits are pinned by tests/test_rng.c.
 */
#ifndef LIMN_SAMPLE_RNG_H
#define LIMN_SAMPLE_RNG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef enum limn_rng_kind {
    LIMN_RNG_TORCH,
    LIMN_RNG_TORCH_LIBM,
    LIMN_RNG_PHILOX,
    LIMN_RNG_KIND_COUNT
} limn_rng_kind;

typedef struct limn_rng {
    limn_rng_kind kind;
    uint64_t seed;
    /* MT19937 */
    uint32_t word[624];
    int at;         /* next word; 624 = refill first */
    bool has_spare; /* second normal of a pair, kept between draws of fewer than 16 */
    double spare;
    /* Philox */
    uint64_t offset;  /* calls (times rounds) already made with this key */
    int64_t capacity; /* threads resident on the imitated GPU; 0 = unlimited */
} limn_rng;

/* "torch", "torch-libm", "philox" and aliases ("cpu", "nv", "cuda", "gpu"); E_VALUE lists the valid
 * names. */
limn_status limn_rng_kind_parse(limn_rng_kind *out, const char *name, limn_err *err);
const char *limn_rng_kind_name(limn_rng_kind kind);

void limn_rng_init(limn_rng *rng, limn_rng_kind kind, uint64_t seed);
/* n standard normal values; n >= 0. */
void limn_rng_normal(limn_rng *rng, float *out, int64_t n);
/* One 32-bit word of the MT19937 stream; only for the torch kinds. */
uint32_t limn_rng_word(limn_rng *rng);

#endif
