/* SPDX-License-Identifier: MIT */
/* The log in memory; see log_ring.h. */
#include "server/log_ring.h"

#include <pthread.h>
#include <string.h>

typedef struct log_line {
    int64_t id;
    limn_log_level level;
    char *text; /* NULL: empty place */
    size_t size;
} log_line;

struct limn_log_ring {
    pthread_mutex_t lock;
    log_line lines[LIMN_LOG_RING_LINES]; /* number n is at n % LINES */
    int64_t first, next;                 /* numbers that are kept: first..next - 1 */
    size_t bytes;
    limn_log_reader *readers;
};

struct limn_log_reader {
    limn_log_ring *ring;
    limn_log_reader *next_reader;
    int64_t next;
    limn_log_level least;
    bool armed;
    void (*wake)(void *user);
    void *user;
};

limn_status limn_log_ring_new(limn_log_ring **out, limn_err *err) {
    limn_log_ring *r = *out = limn_mem_calloc(1, sizeof *r);
    if (!r || pthread_mutex_init(&r->lock, NULL) != 0) {
        limn_mem_free(r);
        *out = NULL;
        return limn_fail(err, LIMN_E_NOMEM, "no memory for the log");
    }
    r->first = r->next = 1;
    return LIMN_OK;
}

void limn_log_ring_free(limn_log_ring **ring) {
    if (!*ring) return;
    for (int i = 0; i < LIMN_LOG_RING_LINES; i++) limn_mem_free((*ring)->lines[i].text);
    pthread_mutex_destroy(&(*ring)->lock);
    limn_mem_free(*ring);
    *ring = NULL;
}

static log_line *line_at(limn_log_ring *r, int64_t id) {
    return &r->lines[id % LIMN_LOG_RING_LINES];
}

/* `lock` held. */
static void drop_first(limn_log_ring *r) {
    log_line *l = line_at(r, r->first++);
    r->bytes -= l->size;
    limn_mem_free(l->text);
    *l = (log_line){.text = NULL};
}

void limn_log_ring_add(limn_log_ring *r, limn_log_level level, int64_t time_ms, const char *rest) {
    limn_buf b;
    limn_buf_init(&b, 1 << 16);
    pthread_mutex_lock(&r->lock);
    limn_buf_addf(&b, "{\"id\":\"%lld\",\"time\":%lld,%s}", (long long)r->next, (long long)time_ms,
                  rest);
    size_t size = b.len;
    char *text = limn_buf_take(&b);
    if (text) {
        while (r->next - r->first >= LIMN_LOG_RING_LINES ||
               (r->first < r->next && r->bytes + size > LIMN_LOG_RING_BYTES))
            drop_first(r);
        *line_at(r, r->next) = (log_line){r->next, level, text, size};
        r->next++;
        r->bytes += size;
        for (limn_log_reader *at = r->readers; at; at = at->next_reader)
            if (at->armed && level >= at->least) {
                at->armed = false;
                at->wake(at->user);
            }
    }
    pthread_mutex_unlock(&r->lock);
    limn_buf_deinit(&b);
}

/* Number of the first line that the query shows. `lock` held. */
static int64_t begin_of(limn_log_ring *r, const limn_log_query *q) {
    int64_t id = q->after + 1 > r->first ? q->after + 1 : r->first;
    int left = q->tail;
    if (q->tail <= 0) return id;
    for (int64_t at = r->next - 1; at >= id; at--)
        if (line_at(r, at)->level >= q->least && --left == 0) return at;
    return id;
}

void limn_log_ring_list(limn_log_ring *r, limn_buf *out, const limn_log_query *q) {
    const char *comma = "";
    limn_buf_addc(out, '[');
    pthread_mutex_lock(&r->lock);
    for (int64_t id = begin_of(r, q); id < r->next; id++) {
        const log_line *l = line_at(r, id);
        if (l->level < q->least) continue;
        limn_buf_adds(out, comma);
        limn_buf_adds(out, l->text);
        comma = ",";
    }
    pthread_mutex_unlock(&r->lock);
    limn_buf_addc(out, ']');
}

limn_status limn_log_reader_open(limn_log_reader **out, limn_log_ring *r, const limn_log_query *q,
                                 void (*wake)(void *user), void *user, limn_err *err) {
    limn_log_reader *reader = *out = limn_mem_calloc(1, sizeof *reader);
    if (!reader) return limn_fail(err, LIMN_E_NOMEM, "no memory to follow the log");
    *reader = (limn_log_reader){.ring = r, .least = q->least, .wake = wake, .user = user};
    pthread_mutex_lock(&r->lock);
    /* who comes back is told when lines in between are gone */
    reader->next = q->after > 0 && q->after < r->next ? q->after + 1 : begin_of(r, q);
    reader->next_reader = r->readers;
    r->readers = reader;
    pthread_mutex_unlock(&r->lock);
    return LIMN_OK;
}

void limn_log_reader_close(limn_log_reader **reader) {
    limn_log_reader *mine = reader ? *reader : NULL;
    if (!mine) return;
    pthread_mutex_lock(&mine->ring->lock);
    for (limn_log_reader **at = &mine->ring->readers; *at; at = &(*at)->next_reader)
        if (*at == mine) {
            *at = mine->next_reader;
            break;
        }
    pthread_mutex_unlock(&mine->ring->lock);
    limn_mem_free(mine);
    *reader = NULL;
}

int64_t limn_log_reader_next(limn_log_reader *reader, limn_buf *out, bool *lost) {
    limn_log_ring *r = reader->ring;
    int64_t id = 0;
    pthread_mutex_lock(&r->lock);
    *lost = reader->next < r->first;
    if (*lost) reader->next = r->first;
    while (reader->next < r->next && id == 0) {
        const log_line *l = line_at(r, reader->next++);
        if (l->level < reader->least) continue;
        id = l->id;
        limn_buf_adds(out, l->text);
    }
    reader->armed = id == 0;
    pthread_mutex_unlock(&r->lock);
    return id;
}
