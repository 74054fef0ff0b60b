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

/* ---- memory ---- */
typedef struct read_job {
    void (*read)(uint64_t sums[8], const uint64_t *p, size_t words);
    const uint64_t *data;
    size_t words; /* per task, a multiple of 16 */
    uint64_t sums[64 * 8];
} read_job;

struct bench_memory {
    limn_pool *pool;
    uint64_t *data;
    read_job job;
};

static void read_plain(uint64_t sums[8], const uint64_t *p, size_t words) {
    uint64_t s[8] = {0};
    for (size_t i = 0; i < words; i += 8)
        for (size_t j = 0; j < 8; j++) s[j] ^= p[i + j];
    for (int j = 0; j < 8; j++) sums[j] ^= s[j];
}

/* Whole lines, a fifth faster than the loop above on a core that reads alone. */
static void read_zmm(uint64_t sums[8], const uint64_t *p, size_t words) {
    size_t rounds = words / 16;
    (void)sums;
    __asm__ volatile("vpxor %%xmm0, %%xmm0, %%xmm0\n vpxor %%xmm1, %%xmm1, %%xmm1\n"
                     "1:\n vpxorq (%0), %%zmm0, %%zmm0\n vpxorq 64(%0), %%zmm1, %%zmm1\n"
                     "add $128, %0\n dec %1\n jnz 1b\n vzeroupper\n"
                     : "+r"(p), "+r"(rounds)::"xmm0", "xmm1", "cc", "memory");
}

static void read_task(void *arg, size_t task, int worker) {
    read_job *job = arg;
    (void)worker;
    job->read(job->sums + task % 64 * 8, job->data + task * job->words, job->words);
}

bench_memory *bench_memory_new(limn_pool *pool, size_t bytes) {
    size_t threads = (size_t)limn_pool_threads(pool), words = bytes / 128 * 16;
    bench_memory *m = calloc(1, sizeof *m);
    if (m) *m = (bench_memory){.pool = pool, .data = limn_mem_aligned(words * threads * 8)};
    if (!m || !m->data) {
        bench_memory_free(&m);
        return NULL;
    }
    for (size_t i = 0; i < words * threads; i++) m->data[i] = i;
    m->job = (read_job){.data = m->data, .words = words};
    return m;
}

void bench_memory_free(bench_memory **m) {
    if (!*m) return;
    limn_mem_free((*m)->data);
    free(*m);
    *m = NULL;
}

double bench_memory_read(bench_memory *m, double seconds) {
    static const struct {
        unsigned flag;
        void (*read)(uint64_t sums[8], const uint64_t *p, size_t words);
    } ways[] = {{0, read_plain}, {LIMN_CPU_AVX512, read_zmm}};
    int threads = limn_pool_threads(m->pool);
    double passes[2] = {0}, taken[2] = {0}, best = 0;
    unsigned cpu = limn_cpu_detect();
    while (taken[0] + taken[1] < seconds)
        for (int i = 0; i < 2; i++) { /* in turn */
            if ((cpu & ways[i].flag) != ways[i].flag) continue;
            m->job.read = ways[i].read;
            double t = bench_clock(threads);
            limn_pool_run(m->pool, read_task, &m->job, (size_t)threads);
            taken[i] += bench_clock(threads) - t;
            passes[i]++;
        }
    for (int i = 0; i < 2; i++)
        if (passes[i] > 0 && passes[i] / taken[i] > best) best = passes[i] / taken[i];
    return best * (double)m->job.words * 8 * threads * 1e-9;
}
