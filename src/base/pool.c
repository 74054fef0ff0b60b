/* SPDX-License-Identifier: MIT */
/*
 * Thread pool; see pool.h.
 *
 * Workers spin a short while for the next job before they sleep on a condition variable: a network
 * step is some hundred short operations, and a futex wake for each would cost more than it saves.
 */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { MAX_THREADS = 256, SPIN_ROUNDS = 4000, LINE = 64 };

/* Tasks [next, end) that nobody has taken. */
typedef struct stretch {
    _Alignas(LINE) atomic_size_t next;
    size_t end;
} stretch;

/* What one thread writes while another looks at it has a cache line of its own: a job of 30
 * microseconds would feel each line that travels. */
struct limn_pool {
    int threads;
    int started; /* helper threads running */
    pthread_t handles[MAX_THREADS];
    pthread_mutex_t lock;
    pthread_cond_t wake; /* a job for the workers */
    pthread_cond_t done; /* a job's end for its caller */
    limn_task_fn *fn;
    void *arg;
    int stretches;                         /* of this job */
    _Alignas(LINE) atomic_uint generation; /* odd or even, changes with every job */
    bool stop;
    _Alignas(LINE) atomic_int sleeping;
    atomic_bool waiting;               /* the caller sleeps until pending is 0 */
    _Alignas(LINE) atomic_int pending; /* helper threads that have not finished this job */
    stretch tasks[];                   /* [threads] */
};

typedef struct start_arg {
    limn_pool *pool;
    int worker;
} start_arg;

static inline void cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* A thread begins with its own stretch and goes on with those of others. */
static void take_tasks(limn_pool *p, int worker) {
    for (int i = 0; i < p->stretches; i++) {
        stretch *s = &p->tasks[(worker + i) % p->stretches];
        for (size_t t; (t = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed)) < s->end;)
            p->fn(p->arg, t, worker);
    }
}

/* Waits for a generation other than `seen`; false when the pool stops. */
static bool wait_job(limn_pool *p, unsigned seen) {
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load_explicit(&p->generation, memory_order_acquire) != seen) break;
        cpu_relax();
    }
    if (atomic_load_explicit(&p->generation, memory_order_acquire) == seen) {
        pthread_mutex_lock(&p->lock);
        atomic_fetch_add(&p->sleeping, 1);
        while (atomic_load(&p->generation) == seen && !p->stop)
            pthread_cond_wait(&p->wake, &p->lock);
        atomic_fetch_sub(&p->sleeping, 1);
        pthread_mutex_unlock(&p->lock);
    }
    return !p->stop;
}

/* The last worker wakes the caller if it sleeps. Sequentially consistent on both sides: either the
 * caller sees pending 0 or the worker sees that it waits. */
static void finish_job(limn_pool *p) {
    if (atomic_fetch_sub(&p->pending, 1) != 1 || !atomic_load(&p->waiting)) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_signal(&p->done);
    pthread_mutex_unlock(&p->lock);
}

/* Spins a moment, as jobs are short, then sleeps: a machine with other work gets its core back. */
static void wait_workers(limn_pool *p) {
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load_explicit(&p->pending, memory_order_acquire) == 0) return;
        cpu_relax();
    }
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->waiting, true);
    while (atomic_load(&p->pending) > 0) pthread_cond_wait(&p->done, &p->lock);
    atomic_store(&p->waiting, false);
    pthread_mutex_unlock(&p->lock);
}

static void *worker_main(void *argp) {
    start_arg a = *(start_arg *)argp;
    limn_mem_free(argp);
    limn_pool *p = a.pool;
    unsigned seen = 0;
    for (;;) {
        if (!wait_job(p, seen)) return NULL;
        seen = atomic_load_explicit(&p->generation, memory_order_acquire);
        take_tasks(p, a.worker);
        finish_job(p);
    }
}

/* CPU quota of a cgroup v2 container in whole cores, or 0 when there is none. */
static int cgroup_cores(void) {
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (!f) return 0;
    long long quota = 0, period = 0;
    int n = fscanf(f, "%lld %lld", &quota, &period);
    fclose(f);
    if (n != 2 || quota <= 0 || period <= 0) return 0;
    long long cores = (quota + period - 1) / period;
    return cores > MAX_THREADS ? MAX_THREADS : (int)cores;
}

int limn_cpu_count(void) {
    cpu_set_t set;
    int n = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
    int quota = cgroup_cores();
    if (quota > 0 && quota < n) n = quota;
    if (n < 1) n = 1;
    return n > MAX_THREADS ? MAX_THREADS : n;
}

limn_status limn_pool_new(limn_pool **out, int threads, limn_err *err) {
    *out = NULL;
    if (threads <= 0) threads = limn_cpu_count();
    if (threads > MAX_THREADS)
        return limn_fail(err, LIMN_E_VALUE, "%d threads: at most %d are allowed", threads,
                         MAX_THREADS);
    size_t bytes = sizeof(limn_pool) + (size_t)threads * sizeof(stretch);
    limn_pool *p = limn_mem_aligned(bytes);
    if (!p) return limn_fail(err, LIMN_E_NOMEM, "no memory for the thread pool");
    memset(p, 0, bytes);
    p->threads = threads;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    for (int i = 1; i < threads; i++) {
        start_arg *a = limn_mem_alloc(sizeof *a);
        if (a) *a = (start_arg){p, i};
        if (!a || pthread_create(&p->handles[p->started], NULL, worker_main, a) != 0) {
            limn_mem_free(a);
            limn_pool_free(&p);
            return limn_fail(err, LIMN_E_NOMEM, "cannot start compute thread %d of %d", i + 1,
                             threads);
        }
        p->started++;
    }
    *out = p;
    return LIMN_OK;
}

void limn_pool_free(limn_pool **pool) {
    limn_pool *p = pool ? *pool : NULL;
    if (!p) return;
    *pool = NULL;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    atomic_fetch_add(&p->generation, 1);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->started; i++) pthread_join(p->handles[i], NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    pthread_cond_destroy(&p->done);
    limn_mem_free(p);
}

int limn_pool_threads(const limn_pool *pool) {
    return pool ? pool->threads : 1;
}

/* Stretches of equal length, one after the other. */
static void run_stretches(limn_pool *p, limn_task_fn *fn, void *arg, size_t count, int stretches) {
    if (count == 0) return;
    if (!p || p->started == 0 || count == 1) {
        for (size_t t = 0; t < count; t++) fn(arg, t, 0);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    p->stretches = stretches;
    for (size_t i = 0, n = (size_t)stretches, at = 0; i < n; i++) {
        atomic_store_explicit(&p->tasks[i].next, at, memory_order_relaxed);
        p->tasks[i].end = at += count / n + (i < count % n ? 1 : 0);
    }
    atomic_store_explicit(&p->pending, p->started, memory_order_relaxed);
    atomic_fetch_add(&p->generation, 1);
    if (atomic_load(&p->sleeping) > 0) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
    take_tasks(p, 0);
    wait_workers(p);
}

void limn_pool_run(limn_pool *p, limn_task_fn *fn, void *arg, size_t count) {
    run_stretches(p, fn, arg, count, 1);
}

void limn_pool_run_near(limn_pool *p, limn_task_fn *fn, void *arg, size_t count) {
    run_stretches(p, fn, arg, count, limn_pool_threads(p));
}
