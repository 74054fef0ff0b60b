/* SPDX-License-Identifier: MIT */
/* Native routes about the server itself: facts, settings, sessions (docs/API.md, 1 and 7). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/folder.h"
#include "base/pool.h"
#include "kernels/cpu_features.h"
#include "server/api/api.h"

json_t *limn_api_memory(limn_server *s) {
    int64_t limit = limn_params_int(s->app, "memory");
    limn_model_memory models = {0};
    limn_runner_engine_memory(limn_queue_runner(s->queue), &models);
    return json_pack("{s:I, s:I, s:I, s:o, s:I, s:I}", "total",
                     (json_int_t)limn_proc_bytes("/proc/meminfo", "MemTotal"), "available",
                     (json_int_t)limn_proc_bytes("/proc/meminfo", "MemAvailable"), "rss",
                     (json_int_t)limn_proc_bytes("/proc/self/status", "VmRSS"), "limit",
                     limit > 0 ? json_integer(limit) : json_null(), "models",
                     (json_int_t)models.used, "budget", (json_int_t)models.budget);
}

/* What a prepared job will take. Memory fits when it is free, or would be with all models closed.
 */
json_t *limn_api_cost(limn_server *s, const limn_job *job) {
    limn_runner *runner = limn_queue_runner(s->queue);
    limn_draw_cost cost;
    limn_model_memory models = {0};
    json_t *memory = json_null();
    double seconds = limn_queue_estimate(s->queue, job);
    if (limn_runner_engine_cost(runner, &cost, job, NULL) == LIMN_OK) {
        limn_runner_engine_memory(runner, &models);
        int64_t room = limn_proc_bytes("/proc/meminfo", "MemAvailable") + models.used;
        bool fits =
            cost.model + cost.work <= room && (models.budget == 0 || cost.model <= models.budget);
        memory = json_pack("{s:I, s:I, s:b}", "model", (json_int_t)cost.model, "work",
                           (json_int_t)cost.work, "fits", fits);
    }
    return json_pack("{s:o, s:o}", "seconds", seconds < 0 ? json_null() : json_real(seconds),
                     "memory", memory);
}

static json_t *limits_json(limn_server *s) {
    json_t *o = json_object();
    static const struct {
        const char *word;
        long long value;
    } rows[] = {
#define X(id, value, word, about) {word, value},
        LIMN_HTTP_LIMIT_LIST(X)
#undef X
    };
    (void)s;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        json_object_set_new(o, rows[i].word, json_integer(rows[i].value));
    return o;
}

static json_t *queue_json(limn_server *s) {
    limn_queue_stats q;
    limn_queue_limits limits;
    limn_queue_get_stats(s->queue, &q);
    limn_queue_get_limits(s->queue, &limits);
    return json_pack("{s:I, s:I, s:i, s:b}", "queued", (json_int_t)q.counts.state[LIMN_JOB_QUEUED],
                     "running", (json_int_t)q.counts.state[LIMN_JOB_RUNNING], "depth_limit",
                     limits.max_queued, "paused", q.paused);
}

/* What the last hour has made, by lane. */
static json_t *throughput_json(limn_server *s) {
    enum { MINUTES = 60 };
    limn_job_done done[LIMN_JOB_LANES];
    int64_t since = limn_clock_unix_ms() - (int64_t)MINUTES * 60 * 1000;
    if (limn_queue_done_since(s->queue, done, since, NULL) != LIMN_OK) return json_null();
    json_t *o = json_pack("{s:i}", "minutes", MINUTES);
    for (int i = 0; i < LIMN_JOB_LANES; i++)
        json_object_set_new(o, limn_job_lane_word((limn_job_lane)i),
                            json_pack("{s:I, s:I, s:I}", "jobs", (json_int_t)done[i].jobs, "images",
                                      (json_int_t)done[i].images, "busy_ms",
                                      (json_int_t)done[i].busy_ms));
    return o;
}

static json_t *isa_json(void) {
    json_t *list = json_array();
    char words[64];
    limn_cpu_describe(limn_cpu_detect(), words, sizeof words);
    for (char *at = words; *at;) {
        size_t n = strcspn(at, " ,");
        if (n) json_array_append_new(list, json_stringn(at, n));
        at += n;
        while (*at == ' ' || *at == ',') at++;
    }
    return list;
}

static json_t *model_json(limn_server *s) {
    limn_runner *r = limn_queue_runner(s->queue);
    char name[512] = "";
    if (r->ops->ready_model) r->ops->ready_model(r, LIMN_JOB_LANES, name, sizeof name);
    return *name ? json_pack("{s:s}", "id", name) : json_null();
}

static json_int_t to_ms(unsigned long long ticks) {
    long hz = sysconf(_SC_CLK_TCK);
    return (json_int_t)(ticks * 1000 / (unsigned long long)(hz > 0 ? hz : 100));
}

/* Busy and whole time of each core since the machine began, as pairs of milliseconds; two answers
 * make a load. Null where /proc/stat (proc(5)) says nothing. */
static json_t *cores_json(void) {
    FILE *f = fopen("/proc/stat", "re");
    json_t *list = json_array();
    char line[512];
    while (f && fgets(line, sizeof line, f)) {
        unsigned long long v, all = 0, idle = 0;
        char *at = line + 3, *end;
        if (strncmp(line, "cpu", 3) != 0 || line[3] < '0' || line[3] > '9') continue;
        strtoull(at, &at, 10); /* the number of the core */
        /* user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user */
        for (int i = 0; i < 8; i++, at = end) {
            v = strtoull(at, &end, 10);
            if (end == at) break;
            all += v;
            if (i == 3 || i == 4) idle += v;
        }
        json_array_append_new(list, json_pack("[I, I]", to_ms(all - idle), to_ms(all)));
    }
    if (f) fclose(f);
    if (json_array_size(list)) return list;
    json_decref(list);
    return json_null();
}

static json_t *cpu_json(void) {
    struct rusage used = {0};
    getrusage(RUSAGE_SELF, &used);
    json_int_t ms = (json_int_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
                    (json_int_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000;
    return json_pack("{s:I, s:o}", "used_ms", ms, "cores", cores_json());
}

/* Who decodes what strangers send. */
static json_t *decoding_json(limn_server *s) {
    static const char *const words[] = {"starting", "ready", "partly", "refused"};
    limn_decoders_info info = {0};
    if (s->decoders) limn_decoders_look(s->decoders, &info);
    return json_pack("{s:b, s:s, s:o, s:I, s:I, s:I, s:i}", "apart", s->decoders != NULL, "state",
                     s->decoders ? words[info.state] : "off", "why",
                     info.why[0] ? json_string(info.why) : json_null(), "files",
                     (json_int_t)info.files, "crashed", (json_int_t)info.crashed, "late",
                     (json_int_t)info.late, "busy", info.busy);
}

void native_system(limn_http_req *rq) {
    limn_server *s = rq->server;
    limn_err err = {0};
    bool ready = limn_queue_ready(s->queue, &err) == LIMN_OK;
    json_t *o =
        json_pack("{s:s, s:I, s:I, s:s, s:s, s:i}", "version", limn_version(), "time",
                  (json_int_t)limn_clock_unix_ms(), "started", (json_int_t)s->started_ms, "state",
                  atomic_load(&s->draining) ? "draining"
                  : ready                   ? "ready"
                                            : "starting",
                  "backend", s->engine ? "cpu" : "stub", "cores", limn_cpu_count());
    json_object_set_new(o, "isa", isa_json());
    json_object_set_new(o, "memory", limn_api_memory(s));
    json_object_set_new(o, "cpu", cpu_json());
    json_object_set_new(o, "queue", queue_json(s));
    json_object_set_new(o, "throughput", throughput_json(s));
    json_object_set_new(o, "model", model_json(s));
    json_object_set_new(o, "clients",
                        json_pack("{s:i, s:i}", "sse", atomic_load(&s->sse_clients), "ws",
                                  atomic_load(&s->ws_clients)));
    json_object_set_new(o, "decoding", decoding_json(s));
    json_object_set_new(o, "limits", limits_json(s));
    limn_http_reply_json(rq, 200, o);
}

/* ---- the log ---- */

static bool read_level(limn_http_req *rq, limn_log_level *out) {
    static const char *const words[] = {"debug", "info", "warn", "error"};
    const char *word = limn_http_query(rq, "level");
    *out = LIMN_LOG_DEBUG;
    if (!word || !*word) return true;
    for (int i = 0; i < 4; i++)
        if (strcmp(words[i], word) == 0) {
            *out = (limn_log_level)i;
            return true;
        }
    limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, "level", "?level= is debug, info, warn or error");
    return false;
}

void native_logs(limn_http_req *rq) {
    limn_log_query q = {0};
    const char *accept = limn_http_header(rq, "Accept");
    const char *last = limn_http_header(rq, "Last-Event-ID");
    int64_t tail;
    if (!limn_api_query_int(rq, "tail", 1, 1000, 200, &tail) ||
        !limn_api_query_int(rq, "after", 0, INT64_MAX, 0, &q.after) || !read_level(rq, &q.least))
        return;
    if (last && *last && (!limn_int_parse(&q.after, last) || q.after < 0)) {
        limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, "after", "that is no line's id");
        return;
    }
    q.tail = (int)tail;
    if (accept && strstr(accept, "text/event-stream")) {
        limn_http_stream_log(rq, &q);
        return;
    }
    limn_buf b;
    limn_buf_init(&b, LIMN_LOG_RING_BYTES + 65536);
    limn_buf_adds(&b, "{\"data\":");
    limn_log_ring_list(rq->server->log, &b, &q);
    limn_buf_adds(&b, ",\"next\":null}");
    size_t n = b.len;
    char *text = limn_buf_take(&b);
    if (text)
        limn_http_reply_bytes(rq, 200, "application/json", text, n);
    else
        limn_http_fail(rq, LIMN_HTTP_NO_MEMORY, NULL, "no memory for the log");
    limn_buf_deinit(&b);
}

/* ---- settings ---- */

static const char *studio_name(const limn_http_req *rq) {
    return rq->who.owner[0] ? rq->who.owner : "-";
}

static void reply_settings(limn_http_req *rq) {
    limn_prefs *p = rq->server->prefs;
    limn_http_reply_json(rq, 200,
                         json_pack("{s:o, s:o}", "settings", limn_prefs_get(p), "studio",
                                   limn_prefs_get_object(p, "studio", studio_name(rq))));
}

void native_settings(limn_http_req *rq) {
    reply_settings(rq);
}

void native_settings_set(limn_http_req *rq) {
    limn_err err = {0};
    if (limn_prefs_set(rq->server->prefs, rq->json, &err) == LIMN_OK)
        reply_settings(rq);
    else
        limn_api_fail(rq, &err);
}

void native_studio_set(limn_http_req *rq) {
    limn_err err = {0};
    if (limn_prefs_set_object(rq->server->prefs, "studio", studio_name(rq), rq->json, &err) ==
        LIMN_OK)
        limn_http_reply_empty(rq, 204);
    else
        limn_api_fail(rq, &err);
}

/* ---- sessions ---- */

static void reply_session(limn_http_req *rq, const limn_principal *who) {
    static const char *const words[] = {"read", "infer", "admin"};
    json_t *scopes = json_array();
    for (int i = LIMN_SCOPE_READ; who->known && i <= (int)who->scope; i++)
        json_array_append_new(scopes, json_string(words[i - LIMN_SCOPE_READ]));
    limn_http_reply_json(rq, 200,
                         json_pack("{s:s, s:b, s:s, s:o, s:s}", "auth",
                                   limn_keyring_has_keys(rq->server->keys) ? "key" : "off",
                                   "signed_in", who->known, "owner", who->owner, "scopes", scopes,
                                   "version", limn_version()));
}

void native_session(limn_http_req *rq) {
    reply_session(rq, &rq->who);
}

void native_session_make(limn_http_req *rq) {
    limn_server *s = rq->server;
    const char *key = json_string_value(json_object_get(rq->json, "key"));
    limn_principal who = {0};
    limn_err err = {0};
    char cookie[LIMN_COOKIE_MAX];
    double retry;
    if (!limn_keyring_has_keys(s->keys)) {
        reply_session(rq, &rq->who);
        return;
    }
    if (!key || !limn_keyring_check(s->keys, &who, key)) {
        limn_metrics_add(s->metrics, LIMN_METRIC_AUTH_FAILED);
        if (!limn_buckets_take(s->bad_keys, rq->address, 1, &retry)) {
            limn_http_fail(rq, LIMN_HTTP_RATE_LIMITED, NULL, "too many wrong keys");
            limn_http_add_header(rq, "Retry-After", limn_http_printf(rq, "%d", (int)retry + 1));
        } else {
            limn_http_fail(rq, LIMN_HTTP_INVALID_KEY, "key", "the key is not valid");
        }
        return;
    }
    if (limn_keyring_make_cookie(s->keys, cookie, &who, &err) != LIMN_OK) {
        limn_api_fail(rq, &err);
        return;
    }
    reply_session(rq, &who);
    bool secure = strncmp(limn_http_origin(rq), "https:", 6) == 0;
    limn_http_add_header(rq, "Set-Cookie",
                         limn_http_printf(rq,
                                          "limn_session=%s; Path=/; Max-Age=2592000; HttpOnly; "
                                          "SameSite=Strict%s",
                                          cookie, secure ? "; Secure" : ""));
}

void native_session_end(limn_http_req *rq) {
    limn_http_reply_empty(rq, 204);
    limn_http_add_header(rq, "Set-Cookie",
                         "limn_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
}
