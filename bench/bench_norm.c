/* SPDX-License-Identifier: MIT */
/* Norms, softmax and elementwise work at the shapes of the models: time, GB/s read and written, and
 * their share of what a plain copy reaches (shapes that fit the caches may exceed it). */
#include "bench.h"
#include "kernels/exec.h"

typedef enum kind { GROUP_NORM, LAYER_NORM, RMS_NORM, SOFTMAX, SILU, GELU, GEGLU, ADD, ROPE } kind;

typedef struct shape {
    const char *name;
    kind kind;
    int64_t rows, cols; /* group norm: pixels, channels; rope: tokens, heads x 128 */
    limn_dtype out;
} shape;

static const shape shapes[] = {
    {"group norm + silu 64x64x320", GROUP_NORM, 4096, 320, LIMN_F32},
    {"group norm + silu, bf16 out", GROUP_NORM, 4096, 320, LIMN_BF16},
    {"group norm + silu 512x512x128", GROUP_NORM, 262144, 128, LIMN_F32},
    {"layer norm 4096x320", LAYER_NORM, 4096, 320, LIMN_F32},
    {"layer norm 4096x3072 bf16 out", LAYER_NORM, 4096, 3072, LIMN_BF16},
    {"rms norm 1024x2048", RMS_NORM, 1024, 2048, LIMN_F32},
    {"softmax 4096x4096", SOFTMAX, 4096, 4096, LIMN_F32},
    {"silu 4096x1280", SILU, 4096, 1280, LIMN_F32},
    {"gelu 4096x3072", GELU, 4096, 3072, LIMN_F32},
    {"geglu 4096x1280", GEGLU, 4096, 1280, LIMN_F32},
    {"add 4096x1280", ADD, 4096, 1280, LIMN_F32},
    {"rope 4096x24x128", ROPE, 4096, 24 * 128, LIMN_F32},
};

typedef struct job {
    limn_exec ex;
    const shape *s;
    void *y;
    float *x, *table;
} job;

static void run(void *arg) {
    const job *j = arg;
    const shape *s = j->s;
    int64_t r = s->rows, c = s->cols;
    limn_rows y = {j->y, s->out, c};
    limn_rows_in x = {j->x, LIMN_F32, c, 1, false}, half = {j->x, LIMN_F32, 2 * c, 1, false};
    limn_rows_in gate = {j->x + c, LIMN_F32, 2 * c, 1, false};
    switch (s->kind) {
    case GROUP_NORM:
        limn_group_norm_run(&j->ex, &(limn_group_norm_args){.y = y,
                                                            .x = x,
                                                            .n = 1,
                                                            .pixels = r,
                                                            .channels = c,
                                                            .groups = 32,
                                                            .weight = j->table,
                                                            .bias = j->table,
                                                            .eps = 1e-5f,
                                                            .silu = true});
        break;
    case LAYER_NORM:
    case RMS_NORM:
        limn_row_norm_run(&j->ex, &(limn_row_norm_args){.y = y,
                                                        .x = x,
                                                        .rows = r,
                                                        .dim = c,
                                                        .weight = j->table,
                                                        .eps = 1e-5f,
                                                        .rms = s->kind == RMS_NORM});
        break;
    case SOFTMAX:
        limn_softmax_run(&j->ex,
                         &(limn_softmax_args){.y = y, .x = x, .rows = r, .cols = c, .scale = 1});
        break;
    case SILU:
    case GELU:
        limn_act_run(&j->ex,
                     &(limn_act_args){.y = y,
                                      .x = x,
                                      .rows = r,
                                      .cols = c,
                                      .act = s->kind == SILU ? LIMN_ACT_SILU : LIMN_ACT_GELU});
        break;
    case GEGLU:
        limn_glu_run(
            &j->ex,
            &(limn_glu_args){
                .y = y, .value = half, .gate = gate, .rows = r, .cols = c, .act = LIMN_ACT_GELU});
        break;
    case ADD:
        limn_binary_run(&j->ex, &(limn_binary_args){.y = y,
                                                    .a = x,
                                                    .b = {j->x + r * c, LIMN_F32, c, 1, false},
                                                    .rows = r,
                                                    .cols = c,
                                                    .op = LIMN_BINARY_ADD});
        break;
    case ROPE:
        limn_rope_run(&j->ex, &(limn_rope_args){.y = y,
                                                .x = x,
                                                .rows = r,
                                                .heads = c / 128,
                                                .dim = 128,
                                                .rot = 128,
                                                .cos = j->table,
                                                .sin = j->table + 64,
                                                .table_stride = 0});
        break;
    }
}

static void measure(const shape *s, const limn_kernels *k, limn_pool *pool, bench_limits m) {
    int64_t n = s->rows * s->cols;
    bool two = s->kind == GEGLU || s->kind == ADD;
    job j = {.ex = {.k = k, .pool = pool}, .s = s};
    limn_group_norm_args g = {.n = 1, .pixels = s->rows, .channels = s->cols, .groups = 32};
    j.ex.scratch_bytes = limn_group_norm_scratch_bytes(&g);
    j.ex.scratch = limn_mem_aligned(j.ex.scratch_bytes);
    j.x = limn_mem_aligned((size_t)n * 8);
    j.y = limn_mem_aligned((size_t)n * 4);
    j.table = limn_mem_aligned((size_t)(s->cols + 128) * 4);
    if (!j.x || !j.y || !j.table || !j.ex.scratch) exit(1);
    uint32_t seed = 1;
    for (int64_t i = 0; i < 2 * n; i++) {
        seed = seed * 1664525u + 1013904223u;
        j.x[i] = (float)(int32_t)seed * 1e-9f;
    }
    for (int64_t i = 0; i < s->cols + 128; i++) j.table[i] = 0.7f;
    double t = bench_best(run, &j), reads = two || s->kind == GROUP_NORM ? 2 : 1;
    double bytes = (double)n * (4 * reads + limn_dtype_get(s->out)->bytes);
    printf("%-30s %9.3f ms %7.1f GB/s %5.0f%% of copy\n", s->name, t * 1e3, bytes / t / 1e9,
           100 * bytes / t / 1e9 / m.gbytes);
    void *all[] = {j.x, j.y, j.table, j.ex.scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) limn_mem_free(all[i]);
}

int main(int argc, char **argv) {
    int threads;
    unsigned cpu;
    limn_pool *pool = NULL;
    limn_kernels k;
    char words[64];
    if (bench_options(argc, argv, &threads, &cpu) != 0) return 2;
    if (limn_pool_new(&pool, threads, NULL) != LIMN_OK) return 1;
    limn_kernels_init(&k, cpu);
    bench_limits m = bench_measure(pool, cpu, BENCH_COPY_BYTES);
    printf("%s, %d threads: %.1f GFLOP/s f32, %.1f GB/s copy\n",
           limn_cpu_describe(cpu, words, sizeof words), limn_pool_threads(pool), m.gflops,
           m.gbytes);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) measure(&shapes[i], &k, pool, m);
    limn_pool_free(&pool);
    return 0;
}
