/* SPDX-License-Identifier: MIT */
/*
 * Counters and the page of them in Prometheus' text format 0.0.4. Labels are route templates,
 * methods, states and kinds: sets that no client can make grow.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/server.h"

enum { ROUTES_MAX = 512, CLASSES = 6, BUCKETS = 10 };

static const double bounds[BUCKETS] = {0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 10, 60};

struct limn_metrics {
    atomic_int_fast64_t requests[ROUTES_MAX][CLASSES]; /* [0]: no route; by status / 100 */
    atomic_int_fast64_t buckets[BUCKETS + 1];
    atomic_int_fast64_t micros;
    atomic_int_fast64_t plain[LIMN_METRICS];
};

limn_status limn_metrics_new(limn_metrics **out, limn_err *err) {
    *out = limn_mem_calloc(1, sizeof **out);
    return *out ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for counters");
}

void limn_metrics_free(limn_metrics **m) {
    limn_mem_free(*m);
    *m = NULL;
}

void limn_metrics_add(limn_metrics *m, limn_metric which) {
    atomic_fetch_add(&m->plain[which], 1);
}

/* Number of a row over all tables, from 1. */
static int route_index(const limn_route *route) {
    const limn_route_table *const *tables = limn_route_tables();
    int base = 1;
    for (int t = 0; route && tables[t]; t++) {
        if (route >= tables[t]->rows && route < tables[t]->rows + tables[t]->count) {
            int i = base + (int)(route - tables[t]->rows);
            return i < ROUTES_MAX ? i : 0;
        }
        base += tables[t]->count;
    }
    return 0;
}

void limn_metrics_request(limn_metrics *m, const limn_route *route, int status, double seconds) {
    int class = status / 100 < CLASSES ? status / 100 : 0;
    int b = 0;
    while (b < BUCKETS && seconds > bounds[b]) b++;
    atomic_fetch_add(&m->requests[route_index(route)][class], 1);
    atomic_fetch_add(&m->buckets[b], 1);
    atomic_fetch_add(&m->micros, (int64_t)(seconds * 1e6));
}

static void head(limn_buf *out, const char *name, const char *type, const char *help) {
    limn_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(limn_buf *out, const char *name, const char *type, const char *help, double value) {
    head(out, name, type, help);
    limn_buf_addf(out, "%s %.17g\n", name, value);
}

static void add_requests(limn_buf *out, limn_metrics *m) {
    const limn_route_table *const *tables = limn_route_tables();
    head(out, "limn_http_requests_total", "counter", "Requests answered, by route and class.");
    int index = 1;
    for (int c = 0; c < CLASSES; c++)
        if (m->requests[0][c])
            limn_buf_addf(out,
                          "limn_http_requests_total{route=\"none\",method=\"any\",code=\"%dxx\"} "
                          "%lld\n",
                          c, (long long)m->requests[0][c]);
    for (int t = 0; tables[t]; t++)
        for (int i = 0; i < tables[t]->count && index < ROUTES_MAX; i++, index++)
            for (int c = 0; c < CLASSES; c++)
                if (m->requests[index][c])
                    limn_buf_addf(
                        out,
                        "limn_http_requests_total{route=\"%s\",method=\"%s\",code=\"%dxx\"} %lld\n",
                        tables[t]->rows[i].path, tables[t]->rows[i].method, c,
                        (long long)m->requests[index][c]);
    head(out, "limn_http_request_duration_seconds", "histogram", "Time to the end of the answer.");
    int64_t sum = 0;
    for (int b = 0; b < BUCKETS; b++) {
        sum += m->buckets[b];
        limn_buf_addf(out, "limn_http_request_duration_seconds_bucket{le=\"%g\"} %lld\n", bounds[b],
                      (long long)sum);
    }
    sum += m->buckets[BUCKETS];
    limn_buf_addf(out,
                  "limn_http_request_duration_seconds_bucket{le=\"+Inf\"} %lld\n"
                  "limn_http_request_duration_seconds_sum %.6f\n"
                  "limn_http_request_duration_seconds_count %lld\n",
                  (long long)sum, (double)m->micros / 1e6, (long long)sum);
}

static void add_queue(limn_buf *out, limn_server *s) {
    limn_queue_stats q;
    limn_queue_get_stats(s->queue, &q);
    head(out, "limn_queue_depth", "gauge", "Jobs that wait, by kind.");
    for (int k = 0; k < LIMN_JOB_KINDS; k++)
        limn_buf_addf(out, "limn_queue_depth{kind=\"%s\"} %lld\n",
                      limn_job_kind_word((limn_job_kind)k), (long long)q.counts.queued_kind[k]);
    head(out, "limn_jobs_ended_total", "counter", "Jobs that ended since the start, by state.");
    for (int i = LIMN_JOB_SUCCEEDED; i < LIMN_JOB_STATES; i++)
        limn_buf_addf(out, "limn_jobs_ended_total{state=\"%s\"} %lld\n",
                      limn_job_state_word((limn_job_state)i), (long long)q.ended[i]);
    double oldest = q.counts.oldest_queued_ms
                        ? (double)(limn_clock_unix_ms() - q.counts.oldest_queued_ms) / 1e3
                        : 0;
    one(out, "limn_queue_oldest_seconds", "gauge", "Age of the job that waits longest.", oldest);
    one(out, "limn_jobs_running", "gauge", "Jobs that run.", q.busy);
    one(out, "limn_workers", "gauge", "Threads that run jobs.", q.workers * LIMN_JOB_LANES);
    one(out, "limn_jobs_submitted_total", "counter", "Jobs accepted.", (double)q.submitted);
    one(out, "limn_jobs_refused_total", "counter", "Jobs refused for want of room.",
        (double)q.refused);
    one(out, "limn_jobs_retries_total", "counter", "Runs begun again.", (double)q.retries);
    one(out, "limn_leases_lost_total", "counter", "Ends refused: another worker had the job.",
        (double)q.leases_lost);
    one(out, "limn_store_commits_total", "counter", "Commits to disk.", (double)q.commits);
    one(out, "limn_store_writes_total", "counter", "Writes that shared them.", (double)q.writes);
    one(out, "limn_store_healthy", "gauge", "The last write reached the disk.", q.healthy);
    one(out, "limn_artifact_bytes", "gauge", "Bytes of all stored pictures.", (double)q.blob_bytes);
    one(out, "limn_event_bytes", "gauge", "Bytes of events kept in memory.",
        (double)q.events.bytes);
    one(out, "limn_events_dropped_total", "counter", "Events that matter lost by slow readers.",
        (double)q.events.dropped);
}

static double resident_bytes(void) {
    FILE *f = fopen("/proc/self/statm", "re");
    long all = 0, resident = 0;
    if (!f) return 0;
    if (fscanf(f, "%ld %ld", &all, &resident) != 2) resident = 0;
    fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

void limn_metrics_format(limn_buf *out, limn_server *s) {
    limn_metrics *m = s->metrics;
    head(out, "limn_build_info", "gauge", "Version of the program.");
    limn_buf_addf(out, "limn_build_info{version=\"%s\"} 1\n", limn_version());
    add_requests(out, m);
    one(out, "limn_http_refused_total", "counter", "Malformed requests refused by the gate.",
        (double)m->plain[LIMN_METRIC_REFUSED]);
    one(out, "limn_rate_limited_total", "counter", "Requests refused by the rate limit.",
        (double)m->plain[LIMN_METRIC_RATE_LIMITED]);
    one(out, "limn_auth_failures_total", "counter", "Requests with a wrong key.",
        (double)m->plain[LIMN_METRIC_AUTH_FAILED]);
    one(out, "limn_http_connections_total", "counter", "Connections accepted.",
        (double)m->plain[LIMN_METRIC_CONNECTIONS]);
    one(out, "limn_sse_clients", "gauge", "Open event streams.", atomic_load(&s->sse_clients));
    one(out, "limn_ws_clients", "gauge", "Open WebSockets.", atomic_load(&s->ws_clients));
    add_queue(out, s);
    one(out, "process_resident_memory_bytes", "gauge", "Resident memory.", resident_bytes());
    one(out, "process_start_time_seconds", "gauge", "Start of the process, Unix time.",
        (double)s->started_ms / 1e3);
}
