/* SPDX-License-Identifier: MIT */
/* The machine's limits; see machine.h. The loops are written in assembly so that this file needs no
 * instruction-set flags and no compiler can shorten them. */
#include "machine.h"

#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/cpu_features.h"

enum { ACCUMULATORS = 12 };

typedef void burn_fn(long rounds);

/* Twelve independent sums in registers 2..13; the sources are registers 0 and 1. */
#define EACH(OP)                                                                                   \
    OP("2")                                                                                        \
    OP("3") OP("4") OP("5") OP("6") OP("7") OP("8") OP("9") OP("10") OP("11") OP("12") OP("13")
#define CLOBBERS                                                                                   \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc"
#define BURN(NAME, ZERO, OP, END)                                                                  \
    static void NAME(long rounds) {                                                                \
        __asm__ volatile(ZERO "1:\n" EACH(OP) "dec %0\n jnz 1b\n" END : "+r"(rounds)::CLOBBERS);   \
    }

#define ZERO_SSE EACH_ALL(SSE_ZERO)
#define SSE_ZERO(R) "xorps %%xmm" R ", %%xmm" R "\n"
#define AVX_ZERO(R) "vxorps %%xmm" R ", %%xmm" R ", %%xmm" R "\n"
#define EACH_ALL(OP) OP("0") OP("1") EACH(OP)
#define OP_SSE(R) "movaps %%xmm0, %%xmm14\n mulps %%xmm1, %%xmm14\n addps %%xmm14, %%xmm" R "\n"
#define OP_FMA_YMM(R) "vfmadd231ps %%ymm1, %%ymm0, %%ymm" R "\n"
#define OP_FMA_ZMM(R) "vfmadd231ps %%zmm1, %%zmm0, %%zmm" R "\n"
#define OP_BF16_ZMM(R) "vdpbf16ps %%zmm1, %%zmm0, %%zmm" R "\n"
#define OP_VNNI_ZMM(R) "vpdpbusd %%zmm1, %%zmm0, %%zmm" R "\n"
#define OP_MADD_YMM(R) "vpmaddwd %%ymm1, %%ymm0, %%ymm14\n vpaddd %%ymm14, %%ymm" R ", %%ymm" R "\n"

BURN(burn_sse, EACH_ALL(SSE_ZERO), OP_SSE, "")
BURN(burn_fma_ymm, EACH_ALL(AVX_ZERO), OP_FMA_YMM, "vzeroupper\n")
BURN(burn_fma_zmm, EACH_ALL(AVX_ZERO), OP_FMA_ZMM, "vzeroupper\n")
BURN(burn_bf16_zmm, EACH_ALL(AVX_ZERO), OP_BF16_ZMM, "vzeroupper\n")
BURN(burn_vnni_zmm, EACH_ALL(AVX_ZERO), OP_VNNI_ZMM, "vzeroupper\n")
BURN(burn_madd_ymm, EACH_ALL(AVX_ZERO), OP_MADD_YMM, "vzeroupper\n")

static const struct {
    const char *name;
    unsigned flag;
    burn_fn *burn;
    int ops; /* per instruction group */
} units[BENCH_UNIT_COUNT] = {
    [BENCH_FMA_SSE] = {"mulps + addps", 0, burn_sse, 8},
    [BENCH_FMA_YMM] = {"fma ymm", LIMN_CPU_AVX2, burn_fma_ymm, 16},
    [BENCH_FMA_ZMM] = {"fma zmm", LIMN_CPU_AVX512, burn_fma_zmm, 32},
    [BENCH_BF16_ZMM] = {"vdpbf16ps zmm", LIMN_CPU_AVX512BF16, burn_bf16_zmm, 64},
    [BENCH_VNNI_ZMM] = {"vpdpbusd zmm", LIMN_CPU_VNNI, burn_vnni_zmm, 128},
    [BENCH_MADD_YMM] = {"vpmaddwd ymm", LIMN_CPU_AVX2, burn_madd_ymm, 32},
};

double bench_clock(int threads) {
    struct timespec t;
    if (!getenv("LIMN_BENCH_CPU_TIME")) return limn_clock_now();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return ((double)t.tv_sec + 1e-9 * (double)t.tv_nsec) / threads;
}

const char *bench_unit_name(bench_unit u) {
    return units[u].name;
}

bool bench_unit_has(bench_unit u, unsigned cpu_flags) {
    return (cpu_flags & units[u].flag) == units[u].flag;
}

typedef struct burn_job {
    burn_fn *burn;
    long rounds;
} burn_job;

static void burn_task(void *arg, size_t task, int worker) {
    const burn_job *job = arg;
    (void)task;
    (void)worker;
    job->burn(job->rounds);
}

double bench_peak(bench_unit u, limn_pool *pool, double seconds) {
    int threads = limn_pool_threads(pool);
    burn_job job = {units[u].burn, 200000};
    double t = bench_clock(threads);
    limn_pool_run(pool, burn_task, &job, (size_t)threads);
    double first = bench_clock(threads) - t;
    job.rounds = (long)((double)job.rounds * seconds / first) + 1;
    t = bench_clock(threads);
    limn_pool_run(pool, burn_task, &job, (size_t)threads);
    double taken = bench_clock(threads) - t;
    return (double)job.rounds * ACCUMULATORS * units[u].ops * threads / taken * 1e-9;
}

typedef struct read_job {
    const uint64_t *data;
    size_t words; /* per task */
    uint64_t sums[64 * 8];
} read_job;

static void read_task(void *arg, size_t task, int worker) {
    read_job *job = arg;
    const uint64_t *p = job->data + task * job->words;
    uint64_t s[8] = {0};
    (void)worker;
    for (size_t i = 0; i + 8 <= job->words; i += 8)
        for (int j = 0; j < 8; j++) s[j] ^= p[i + (size_t)j];
    for (int j = 0; j < 8; j++) job->sums[task % 64 * 8 + (size_t)j] ^= s[j];
}

double bench_read_speed(limn_pool *pool, size_t bytes, double seconds) {
    int threads = limn_pool_threads(pool);
    uint64_t *data = limn_mem_aligned(bytes * (size_t)threads);
    if (!data) return 0;
    read_job job = {.data = data, .words = bytes / 8};
    for (size_t i = 0; i < bytes / 8 * (size_t)threads; i++) data[i] = i;
    limn_pool_run(pool, read_task, &job, (size_t)threads);
    int rounds = 0;
    double t = bench_clock(threads), taken;
    do {
        limn_pool_run(pool, read_task, &job, (size_t)threads);
        rounds++;
        taken = bench_clock(threads) - t;
    } while (taken < seconds);
    limn_mem_free(data);
    return (double)bytes * (double)threads * rounds / taken * 1e-9;
}
