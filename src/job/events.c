/* SPDX-License-Identifier: MIT */
/*
 * Rings of events and the feeds that read them; see events.h. One lock guards everything: what is
 * done under it is moving pointers, never copying, encoding or waiting.
 */
#include "job/events.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum { LOOK_BACK = 32 }; /* how far old progress is searched for */

/* One block: the event, then the texts it points at. */
typedef struct event {
    limn_job_event pub;
    atomic_int refs;
    size_t bytes;
    limn_artifact artifact;
    char owner[LIMN_JOB_OWNER_MAX + 1];
    char tail[];
} event;

typedef struct ring {
    struct ring *next;
    char job[LIMN_JOB_ID_LEN + 1]; /* "" for all jobs */
    event **items;                 /* [count], numbers rising */
    int count, cap, max;
    size_t bytes, max_bytes;
    int64_t last; /* highest number given */
    int64_t lost; /* highest number of an event that mattered and is gone */
    int previews;
    bool ended;
    int64_t ended_order;
    limn_feed *feeds;
} ring;

struct limn_feed {
    limn_feed *next;
    limn_hub *hub;
    ring *ring;
    bool all, previews, any_owner, armed, stopped;
    char owner[LIMN_JOB_OWNER_MAX + 1];
    int64_t seen, gap_told;
    void (*wake)(void *user);
    void *user;
    int fd;
    pthread_cond_t cond;
};

struct limn_hub {
    pthread_mutex_t lock;
    limn_hub_options opt;
    ring all;
    ring *rings;
    int n_rings, n_ended;
    size_t ended_bytes;
    int64_t order, feeds, posted, dropped;
};

static const char *const words[] = {
#define X(id, word) word,
    LIMN_JOB_EVENT_LIST(X)
#undef X
};

const char *limn_job_event_word(limn_job_event_kind k) {
    return (unsigned)k < LIMN_JOB_EVENT_KINDS ? words[k] : "unknown";
}

/* ---- events ---- */
static event *event_of(const limn_job_event *e) {
    return (event *)(uintptr_t)e;
}

void limn_job_event_unref(const limn_job_event **e) {
    if (!e || !*e) return;
    if (atomic_fetch_sub(&event_of(*e)->refs, 1) == 1) limn_mem_free(event_of(*e));
    *e = NULL;
}

static const limn_job_event *event_ref(event *e) {
    atomic_fetch_add(&e->refs, 1);
    return &e->pub;
}

static void event_drop(event *e) {
    const limn_job_event *p = &e->pub;
    limn_job_event_unref(&p);
}

static event *event_copy(const limn_job_event *from, const char *owner) {
    size_t text = from->text ? from->text_len : 0, data = from->data ? from->size : 0;
    size_t bytes = sizeof(event) + text + 1 + data;
    event *e = limn_mem_alloc(bytes);
    if (!e) return NULL;
    e->pub = *from;
    e->bytes = bytes;
    atomic_init(&e->refs, 1);
    strncpy(e->owner, owner ? owner : "", LIMN_JOB_OWNER_MAX);
    e->owner[LIMN_JOB_OWNER_MAX] = 0;
    if (text) memcpy(e->tail, from->text, text);
    e->tail[text] = 0;
    e->pub.text = e->tail;
    e->pub.text_len = text;
    if (data) memcpy(e->tail + text + 1, from->data, data);
    e->pub.data = data ? e->tail + text + 1 : NULL;
    e->pub.size = data;
    if (!e->pub.stage) e->pub.stage = "";
    if (from->artifact) {
        e->artifact = *from->artifact;
        e->artifact.recipe = e->artifact.text = NULL;
        e->pub.artifact = &e->artifact;
    }
    return e;
}

/* Losing one of these changes what a reader knows. */
static bool matters(const event *e) {
    return e->pub.kind != LIMN_JOB_EVENT_PREVIEW && e->pub.kind != LIMN_JOB_EVENT_PROGRESS;
}

/* ---- rings; locked ---- */
static int64_t number_in(const ring *r, const event *e) {
    return r->job[0] ? e->pub.number : e->pub.feed_number;
}

static void ring_remove(limn_hub *h, ring *r, int i) {
    event *e = r->items[i];
    if (matters(e)) {
        int64_t n = number_in(r, e);
        if (n > r->lost) r->lost = n;
        if (r->job[0]) h->dropped++;
    }
    if (e->pub.kind == LIMN_JOB_EVENT_PREVIEW) r->previews--;
    r->bytes -= e->bytes;
    memmove(&r->items[i], &r->items[i + 1], (size_t)(r->count - i - 1) * sizeof *r->items);
    r->count--;
    event_drop(e);
}

/* The oldest event of a kind among the last `reach`, of the same job; -1: none. */
static int ring_find(const ring *r, const event *like, limn_job_event_kind kind, int reach) {
    int found = -1, low = r->count > reach ? r->count - reach : 0;
    for (int i = r->count - 1; i >= low; i--)
        if (r->items[i]->pub.kind == kind && strcmp(r->items[i]->pub.job, like->pub.job) == 0)
            found = i;
    return found;
}

/* Makes room for one more: what is out of date first, then previews, then the oldest. */
static void ring_make_room(limn_hub *h, ring *r, const event *e) {
    if (e->pub.kind == LIMN_JOB_EVENT_PROGRESS) {
        int old = ring_find(r, e, LIMN_JOB_EVENT_PROGRESS, LOOK_BACK);
        if (old >= 0) ring_remove(h, r, old);
    }
    if (e->pub.kind == LIMN_JOB_EVENT_PREVIEW && r->previews >= h->opt.previews) {
        int old = ring_find(r, e, LIMN_JOB_EVENT_PREVIEW, r->count);
        if (old >= 0) ring_remove(h, r, old);
    }
    while (r->count > 0 && (r->count >= r->max || r->bytes + e->bytes > r->max_bytes)) {
        int victim = 0;
        for (int i = 0; r->previews > 0 && i < r->count; i++)
            if (r->items[i]->pub.kind == LIMN_JOB_EVENT_PREVIEW) {
                victim = i;
                break;
            }
        ring_remove(h, r, victim);
    }
}

/* Takes a reference of its own. */
static void ring_add(limn_hub *h, ring *r, event *e) {
    ring_make_room(h, r, e);
    if (r->count == r->cap) {
        int cap = r->cap ? r->cap * 2 : 16;
        event **grown = limn_mem_realloc(r->items, (size_t)cap * sizeof(event *));
        if (!grown) {
            if (matters(e)) r->lost = number_in(r, e);
            return;
        }
        r->items = grown;
        r->cap = cap;
    }
    event_ref(e);
    r->items[r->count++] = e;
    r->bytes += e->bytes;
    if (e->pub.kind == LIMN_JOB_EVENT_PREVIEW) r->previews++;
}

static void ring_clear(limn_hub *h, ring *r) {
    for (int i = 0; i < r->count; i++) event_drop(r->items[i]);
    limn_mem_free(r->items);
    r->items = NULL;
    r->count = r->cap = 0;
    r->bytes = 0;
}

static ring *ring_find_job(limn_hub *h, const char *job) {
    for (ring *r = h->rings; r; r = r->next)
        if (memcmp(r->job, job, LIMN_JOB_ID_LEN) == 0) return r;
    return NULL;
}

static ring *ring_get(limn_hub *h, const char *job) {
    ring *r = ring_find_job(h, job);
    if (r) return r;
    r = limn_mem_calloc(1, sizeof *r);
    if (!r) return NULL;
    memcpy(r->job, job, LIMN_JOB_ID_LEN);
    r->max = h->opt.ring_events;
    r->max_bytes = h->opt.ring_bytes;
    r->next = h->rings;
    h->rings = r;
    h->n_rings++;
    return r;
}

static void ring_free(limn_hub *h, ring *r) {
    ring **at = &h->rings;
    while (*at != r) at = &(*at)->next;
    *at = r->next;
    h->n_rings--;
    if (r->ended) {
        h->n_ended--;
        h->ended_bytes -= r->bytes;
    }
    ring_clear(h, r);
    limn_mem_free(r);
}

/* Rings of ended jobs that nobody reads go, the longest ended first. */
static void trim_ended(limn_hub *h) {
    while (h->n_ended > h->opt.ended_jobs || h->ended_bytes > h->opt.ended_bytes) {
        ring *oldest = NULL;
        for (ring *r = h->rings; r; r = r->next)
            if (r->ended && !r->feeds && (!oldest || r->ended_order < oldest->ended_order))
                oldest = r;
        if (!oldest) return;
        ring_free(h, oldest);
    }
}

static void ring_begin(limn_hub *h, ring *r) {
    if (!r->ended) return;
    r->ended = false;
    h->n_ended--;
    h->ended_bytes -= r->bytes;
}

/* Previews of what is finished are of no use any more. */
static void ring_end(limn_hub *h, ring *r) {
    ring_begin(h, r);
    for (int i = r->count - 1; i >= 0; i--)
        if (r->items[i]->pub.kind == LIMN_JOB_EVENT_PREVIEW) ring_remove(h, r, i);
    r->ended = true;
    r->ended_order = ++h->order;
    h->n_ended++;
    h->ended_bytes += r->bytes;
}

/* ---- feeds; locked ---- */
static bool feed_wants(const limn_feed *f, const event *e) {
    if (e->pub.kind == LIMN_JOB_EVENT_PREVIEW && !f->previews) return false;
    return f->any_owner || strcmp(f->owner, e->owner) == 0;
}

static void feed_wake(limn_feed *f) {
    if (!f->armed) return;
    f->armed = false;
    pthread_cond_broadcast(&f->cond);
    if (f->fd >= 0) {
        uint64_t one = 1;
        ssize_t n = write(f->fd, &one, sizeof one);
        (void)n; /* a full counter is readable as well */
    }
    if (f->wake) f->wake(f->user);
}

static void wake_feeds(limn_feed *list, const event *e) {
    for (limn_feed *f = list; f; f = f->next)
        if (feed_wants(f, e)) feed_wake(f);
}

/* First item with a number above `seen`. */
static int first_after(const ring *r, int64_t seen) {
    int lo = 0, hi = r->count;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (number_in(r, r->items[mid]) > seen)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

/* ---- hub ---- */
limn_status limn_hub_new(limn_hub **out, const limn_hub_options *opt, limn_err *err) {
    *out = NULL;
    limn_hub *h = limn_mem_calloc(1, sizeof *h);
    if (!h || pthread_mutex_init(&h->lock, NULL) != 0) {
        limn_mem_free(h);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for events");
    }
    if (opt) h->opt = *opt;
    if (h->opt.ring_events <= 0) h->opt.ring_events = 4096;
    if (h->opt.ring_bytes == 0) h->opt.ring_bytes = 8 << 20;
    if (h->opt.all_events <= 0) h->opt.all_events = 4096;
    if (h->opt.ended_jobs <= 0) h->opt.ended_jobs = 64;
    if (h->opt.ended_bytes == 0) h->opt.ended_bytes = 64 << 20;
    if (h->opt.previews <= 0) h->opt.previews = 2;
    if (h->opt.first_number <= 0) h->opt.first_number = limn_clock_unix_ms() * 1000;
    h->all.max = h->opt.all_events;
    h->all.max_bytes = h->opt.ring_bytes;
    h->all.last = h->opt.first_number;
    h->all.lost = h->opt.first_number; /* whatever the process before had to say */
    *out = h;
    return LIMN_OK;
}

void limn_hub_free(limn_hub **hub) {
    limn_hub *h = hub ? *hub : NULL;
    if (!h) return;
    while (h->rings) ring_free(h, h->rings);
    ring_clear(h, &h->all);
    pthread_mutex_destroy(&h->lock);
    limn_mem_free(h);
    *hub = NULL;
}

static int64_t next_number(ring *r, int64_t epoch) {
    if (r->last >> 32 < epoch) r->last = epoch << 32;
    return ++r->last;
}

void limn_hub_post(limn_hub *h, const limn_job_event *from, const char *owner, int64_t epoch) {
    event *e = event_copy(from, owner);
    pthread_mutex_lock(&h->lock);
    ring *r = ring_get(h, from->job);
    h->posted++;
    if (!e || !r) {
        int64_t lost = r ? next_number(r, epoch) : 0;
        if (r) r->lost = lost;
        h->all.lost = ++h->all.last;
        h->dropped++;
        pthread_mutex_unlock(&h->lock);
        limn_mem_free(e);
        return;
    }
    bool over =
        e->pub.kind == LIMN_JOB_EVENT_STATE ? limn_job_state_is_final(e->pub.state) : r->ended;
    ring_begin(h, r);
    e->pub.number = next_number(r, epoch);
    e->pub.feed_number = ++h->all.last;
    ring_add(h, r, e);
    wake_feeds(r->feeds, e);
    if (e->pub.kind != LIMN_JOB_EVENT_TEXT) {
        ring_add(h, &h->all, e);
        wake_feeds(h->all.feeds, e);
    }
    if (over) {
        ring_end(h, r);
        trim_ended(h);
    }
    pthread_mutex_unlock(&h->lock);
    event_drop(e);
}

void limn_hub_restore(limn_hub *h, const limn_job_event *from, const char *owner, int64_t epoch) {
    event *e = event_copy(from, owner);
    pthread_mutex_lock(&h->lock);
    ring *r = e ? ring_get(h, from->job) : NULL;
    if (r && r->count == 0) {
        e->pub.number = next_number(r, epoch);
        ring_add(h, r, e);
        wake_feeds(r->feeds, e);
        ring_end(h, r);
    }
    pthread_mutex_unlock(&h->lock);
    if (e) event_drop(e);
}

const limn_job_event *limn_hub_last(limn_hub *h, const char *job, limn_job_event_kind kind) {
    const limn_job_event *found = NULL;
    pthread_mutex_lock(&h->lock);
    ring *r = ring_find_job(h, job);
    for (int i = r ? r->count - 1 : -1; i >= 0 && !found; i--)
        if (r->items[i]->pub.kind == kind) found = event_ref(r->items[i]);
    pthread_mutex_unlock(&h->lock);
    return found;
}

/* ---- feeds ---- */
static limn_status feed_new(limn_feed **out, const limn_feed_options *opt, limn_err *err) {
    pthread_condattr_t attr;
    limn_feed *f = limn_mem_calloc(1, sizeof *f);
    if (!f) return limn_fail(err, LIMN_E_NOMEM, "no memory for a feed of events");
    f->fd = -1;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int rc = pthread_cond_init(&f->cond, &attr);
    pthread_condattr_destroy(&attr);
    if (rc == 0 && opt->eventfd) f->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (rc != 0 || (opt->eventfd && f->fd < 0)) {
        if (rc == 0) pthread_cond_destroy(&f->cond);
        limn_mem_free(f);
        return limn_fail(err, LIMN_E_UNAVAILABLE, "a feed of events cannot be made: %s",
                         strerror(rc ? rc : errno));
    }
    *out = f;
    return LIMN_OK;
}

static void feed_free(limn_feed *f) {
    pthread_cond_destroy(&f->cond);
    if (f->fd >= 0) close(f->fd);
    limn_mem_free(f);
}

limn_status limn_feed_open(limn_feed **out, limn_hub *h, const limn_feed_options *opt,
                           limn_err *err) {
    *out = NULL;
    limn_feed *f = NULL;
    if (opt->job && !limn_job_id_is_valid(opt->job))
        return limn_fail(err, LIMN_E_NOT_FOUND, "there is no such job");
    limn_status st = feed_new(&f, opt, err);
    if (st != LIMN_OK) return st;
    f->hub = h;
    f->all = opt->job == NULL;
    f->previews = opt->previews;
    f->any_owner = opt->owner == NULL;
    if (opt->owner) strncpy(f->owner, opt->owner, LIMN_JOB_OWNER_MAX);
    f->wake = opt->wake;
    f->user = opt->user;
    pthread_mutex_lock(&h->lock);
    f->ring = f->all ? &h->all : ring_get(h, opt->job);
    if (f->ring) {
        f->seen = opt->after < 0 ? f->ring->last : opt->after;
        if (f->all && f->seen > f->ring->last) f->seen = 1; /* a clock went back: all of it, gap */
        if (f->all && f->seen == 0) f->gap_told = f->ring->lost;
        f->next = f->ring->feeds;
        f->ring->feeds = f;
        h->feeds++;
    }
    bool ok = f->ring != NULL;
    pthread_mutex_unlock(&h->lock);
    if (!ok) {
        feed_free(f);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for a feed of events");
    }
    *out = f;
    return LIMN_OK;
}

void limn_feed_close(limn_feed **feed) {
    limn_feed *f = feed ? *feed : NULL;
    if (!f) return;
    limn_hub *h = f->hub;
    pthread_mutex_lock(&h->lock);
    limn_feed **at = &f->ring->feeds;
    while (*at != f) at = &(*at)->next;
    *at = f->next;
    h->feeds--;
    if (!f->all && !f->ring->feeds && f->ring->count == 0 && !f->ring->ended) ring_free(h, f->ring);
    trim_ended(h);
    pthread_mutex_unlock(&h->lock);
    feed_free(f);
    *feed = NULL;
}

/* Locked. */
static const limn_job_event *take_next(limn_feed *f, bool *gap) {
    ring *r = f->ring;
    for (int i = first_after(r, f->seen); i < r->count; i++) {
        event *e = r->items[i];
        int64_t before = f->seen;
        f->seen = number_in(r, e);
        if (!feed_wants(f, e)) continue;
        if (r->lost > before && r->lost <= f->seen && r->lost > f->gap_told) {
            f->gap_told = r->lost;
            if (gap) *gap = true;
        }
        return event_ref(e);
    }
    return NULL;
}

static void feed_reset_fd(limn_feed *f) {
    uint64_t count;
    ssize_t n = f->fd >= 0 ? read(f->fd, &count, sizeof count) : 0;
    (void)n; /* nothing was written yet */
}

const limn_job_event *limn_feed_next(limn_feed *f, bool *gap) {
    if (gap) *gap = false;
    pthread_mutex_lock(&f->hub->lock);
    feed_reset_fd(f);
    const limn_job_event *e = take_next(f, gap);
    f->armed = e == NULL;
    pthread_mutex_unlock(&f->hub->lock);
    return e;
}

const limn_job_event *limn_feed_wait(limn_feed *f, int timeout_ms, bool *gap) {
    struct timespec until;
    const limn_job_event *e;
    int rc = 0;
    if (gap) *gap = false;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&f->hub->lock);
    feed_reset_fd(f);
    while (!(e = take_next(f, gap)) && !f->stopped && rc == 0) {
        f->armed = true;
        rc = timeout_ms < 0 ? pthread_cond_wait(&f->cond, &f->hub->lock)
                            : pthread_cond_timedwait(&f->cond, &f->hub->lock, &until);
    }
    f->armed = false;
    pthread_mutex_unlock(&f->hub->lock);
    return e;
}

void limn_feed_stop(limn_feed *f) {
    pthread_mutex_lock(&f->hub->lock);
    f->stopped = true;
    f->armed = true;
    feed_wake(f);
    pthread_mutex_unlock(&f->hub->lock);
}

int limn_feed_fd(const limn_feed *f) {
    return f->fd;
}

void limn_hub_get_stats(limn_hub *h, limn_hub_stats *out) {
    pthread_mutex_lock(&h->lock);
    *out = (limn_hub_stats){.feeds = h->feeds,
                            .rings = h->n_rings,
                            .events = h->all.count,
                            .bytes = (int64_t)h->all.bytes,
                            .posted = h->posted,
                            .dropped = h->dropped};
    for (ring *r = h->rings; r; r = r->next) {
        out->events += r->count;
        out->bytes += (int64_t)r->bytes;
    }
    pthread_mutex_unlock(&h->lock);
}
