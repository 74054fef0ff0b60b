/* SPDX-License-Identifier: MIT */
/* Jobs, artifacts and events as JSON; see event_json.h. */
#include "server/event_json.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

static json_t *time_or_null(int64_t ms) {
    return ms > 0 ? json_integer(ms) : json_null();
}

static json_t *text_or_null(const char *text) {
    return text && *text ? json_string(text) : json_null();
}

static json_t *left_ms(double seconds) {
    return seconds < 0 ? json_null() : json_integer((json_int_t)(seconds * 1e3));
}

json_t *limn_artifact_to_json(const limn_artifact *a) {
    char url[128], thumb[128];
    snprintf(url, sizeof url, "/v1/artifacts/%s/file", a->sha);
    snprintf(thumb, sizeof thumb, "/v1/artifacts/%s/thumbnail", a->sha);
    json_t *recipe = a->recipe ? json_loads(a->recipe, 0, NULL) : NULL;
    const json_t *seed = json_object_get(recipe, "seed");
    json_t *o =
        json_pack("{s:s, s:s, s:i, s:s, s:i, s:i, s:I, s:o, s:s, s:s}", "id", a->sha, "role",
                  limn_artifact_role_word(a->role), "index", a->index, "mime", a->mime, "width",
                  a->width, "height", a->height, "bytes", (json_int_t)a->bytes, "seed",
                  json_is_integer(seed) ? json_integer(json_integer_value(seed)) : json_null(),
                  "url", url, "thumbnail", thumb);
    json_decref(recipe);
    return o;
}

static json_t *artifacts_json(const limn_job *job) {
    json_t *list = json_array();
    for (int i = 0; i < job->n_artifacts; i++)
        json_array_append_new(list, limn_artifact_to_json(&job->artifacts[i]));
    return list;
}

static json_t *progress_json(const char *stage, int image, int images, int step, int steps,
                             double fraction, double left) {
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:f, s:o}", "stage", stage, "image", image,
                     "images", images, "step", step, "steps", steps, "fraction",
                     fraction < 0 ? 0.0 : fraction, "left_ms", left_ms(left));
}

/* Where an unfinished job stands. */
static void add_standing(json_t *o, limn_server *s, const limn_job *job) {
    limn_standing at;
    bool live = !limn_job_state_is_final(job->state) &&
                limn_queue_standing(s->queue, NULL, job->id, &at, NULL) == LIMN_OK &&
                at.position >= 0;
    bool runs = live && at.state == LIMN_JOB_RUNNING;
    json_object_set_new(o, "position", live && !runs ? json_integer(at.position) : json_null());
    json_object_set_new(o, "left_ms", live ? left_ms(at.left_seconds) : json_null());
    json_object_set_new(o, "progress",
                        runs ? progress_json(at.stage, at.image, at.images, at.step, at.steps,
                                             at.progress, at.left_seconds)
                             : json_null());
}

static json_t *job_error(const limn_job *job) {
    if (job->error == LIMN_OK) return json_null();
    return limn_http_error_json(
        limn_http_error_find(job->error), NULL,
        job->error_text && *job->error_text ? job->error_text : limn_status_text(job->error), NULL);
}

json_t *limn_job_to_json(limn_server *s, const limn_job *job, bool with_params) {
    json_t *o = json_object(), *tags = json_array();
    if (!o || !tags) return NULL;
    for (int i = 0; i < job->n_tags; i++) json_array_append_new(tags, json_string(job->tags[i]));
    json_object_set_new(o, "id", json_string(job->id));
    json_object_set_new(o, "kind", json_string(limn_job_kind_word(job->kind)));
    json_object_set_new(o, "state", json_string(limn_job_state_word(job->state)));
    json_object_set_new(o, "title", json_string(job->title));
    json_object_set_new(o, "tags", tags);
    json_object_set_new(o, "owner", json_string(job->owner));
    json_object_set_new(o, "source", json_string(job->source));
    json_object_set_new(o, "parent", text_or_null(job->parent));
    json_object_set_new(o, "priority", json_integer(job->priority));
    json_object_set_new(o, "lane", json_string(limn_job_lane_word(job->lane)));
    json_object_set_new(o, "trace", text_or_null(job->trace));
    json_object_set_new(o, "deleted", time_or_null(job->deleted_ms));
    json_object_set_new(o, "attempt", json_integer(job->attempt));
    json_object_set_new(o, "model", json_string(job->model));
    json_object_set_new(o, "seed", job->has_seed ? json_integer(job->seed) : json_null());
    json_object_set_new(o, "images", json_integer(job->images));
    json_object_set_new(o, "created", time_or_null(job->created_ms));
    json_object_set_new(o, "started", time_or_null(job->started_ms));
    json_object_set_new(o, "finished", time_or_null(job->finished_ms));
    add_standing(o, s, job);
    json_t *params = with_params && job->request ? json_loads(job->request, 0, NULL) : NULL;
    json_object_set_new(o, "params", params ? params : json_null());
    json_object_set_new(o, "artifacts", artifacts_json(job));
    json_t *result = job->result ? json_loads(job->result, 0, NULL) : NULL;
    json_object_set_new(o, "result", result ? result : json_null());
    json_object_set_new(o, "error", job_error(job));
    return o;
}

/* ---- events ---- */

const char *limn_event_type(const limn_job_event *e) {
    switch (e->kind) {
    case LIMN_JOB_EVENT_STATE:
        return e->state == LIMN_JOB_QUEUED    ? "queued"
               : e->state == LIMN_JOB_RUNNING ? "started"
                                              : "done";
    case LIMN_JOB_EVENT_PROGRESS: return "progress";
    case LIMN_JOB_EVENT_PREVIEW: return "preview";
    case LIMN_JOB_EVENT_TEXT: return "token";
    case LIMN_JOB_EVENT_NOTE: return "note";
    case LIMN_JOB_EVENT_OUTPUT: return "artifact";
    case LIMN_JOB_EVENT_KINDS: break;
    }
    return NULL;
}

static void add_preview(json_t *o, const limn_job_event *e) {
    size_t room = sodium_base64_ENCODED_LEN(e->size, sodium_base64_VARIANT_ORIGINAL);
    char *text = limn_mem_alloc(room);
    if (!text) return;
    sodium_bin2base64(text, room, e->data, e->size, sodium_base64_VARIANT_ORIGINAL);
    json_object_set_new(o, "image", json_integer(e->image));
    json_object_set_new(o, "step", json_integer(e->step));
    json_object_set_new(o, "mime", json_string(e->mime));
    json_object_set_new(o, "width", json_integer(e->width));
    json_object_set_new(o, "height", json_integer(e->height));
    json_object_set_new(o, "data", json_string(text));
    limn_mem_free(text);
}

/* ---- states: the job as it is then, once for all readers ---- */

limn_status limn_state_cache_new(limn_state_cache **out, limn_err *err) {
    *out = limn_mem_calloc(1, sizeof **out);
    if (!*out) return limn_fail(err, LIMN_E_NOMEM, "no memory for events");
    pthread_mutex_init(&(*out)->lock, NULL);
    return LIMN_OK;
}

void limn_state_cache_free(limn_state_cache **cache) {
    if (!*cache) return;
    for (int i = 0; i < LIMN_STATE_CACHE; i++) limn_mem_free((*cache)->rows[i].text);
    pthread_mutex_destroy(&(*cache)->lock);
    limn_mem_free(*cache);
    *cache = NULL;
}

/* Adds the cached text; false when there is none. */
static bool add_cached(limn_buf *out, limn_state_cache *c, const limn_job_event *e) {
    bool found = false;
    pthread_mutex_lock(&c->lock);
    for (int i = 0; i < LIMN_STATE_CACHE && !found; i++) {
        found = c->rows[i].text && c->rows[i].state == e->state &&
                c->rows[i].time_ms == e->time_ms && strcmp(c->rows[i].job, e->job) == 0;
        if (found) limn_buf_adds(out, c->rows[i].text);
    }
    pthread_mutex_unlock(&c->lock);
    return found;
}

static void keep_text(limn_state_cache *c, const limn_job_event *e, const char *text) {
    char *copy = limn_mem_strdup(text);
    if (!copy) return;
    pthread_mutex_lock(&c->lock);
    int i = c->next;
    c->next = (c->next + 1) % LIMN_STATE_CACHE;
    limn_mem_free(c->rows[i].text);
    snprintf(c->rows[i].job, sizeof c->rows[i].job, "%s", e->job);
    c->rows[i].state = e->state;
    c->rows[i].time_ms = e->time_ms;
    c->rows[i].text = copy;
    pthread_mutex_unlock(&c->lock);
}

static void add_state(limn_buf *out, limn_server *s, const limn_job_event *e) {
    limn_job *job = NULL;
    limn_buf_adds(out, ",\"state\":");
    if (add_cached(out, s->states, e)) return;
    json_t *state = NULL;
    if (limn_queue_get(s->queue, NULL, e->job, &job, NULL) == LIMN_OK)
        state = limn_job_to_json(s, job, true);
    limn_job_free(&job);
    char *text = state ? json_dumps(state, JSON_COMPACT) : NULL;
    json_decref(state);
    limn_buf_adds(out, text ? text : "null");
    if (text) keep_text(s->states, e, text);
    free(text);
}

/* What the kinds have besides a state. */
static json_t *event_members(const limn_job_event *e) {
    json_t *o = json_object();
    switch (e->kind) {
    case LIMN_JOB_EVENT_PROGRESS:
        json_object_set_new(o, "progress",
                            progress_json(e->stage, e->image, e->images, e->step, e->steps,
                                          e->progress, e->left_seconds));
        break;
    case LIMN_JOB_EVENT_PREVIEW: add_preview(o, e); break;
    case LIMN_JOB_EVENT_TEXT:
    case LIMN_JOB_EVENT_NOTE: json_object_set_new(o, "text", json_string(e->text)); break;
    case LIMN_JOB_EVENT_OUTPUT:
        json_object_set_new(o, "artifact",
                            e->artifact ? limn_artifact_to_json(e->artifact) : json_null());
        break;
    case LIMN_JOB_EVENT_STATE:
    case LIMN_JOB_EVENT_KINDS: break;
    }
    return o;
}

void limn_event_write(limn_buf *out, limn_server *s, const limn_job_event *e, bool *last) {
    const char *type = limn_event_type(e);
    *last = e->kind == LIMN_JOB_EVENT_STATE && limn_job_state_is_final(e->state);
    if (!type) return;
    limn_buf_addf(out, "{\"id\":\"%lld\",\"type\":\"%s\",\"job\":\"%s\",\"time\":%lld",
                  (long long)e->number, type, e->job, (long long)e->time_ms);
    if (e->kind == LIMN_JOB_EVENT_STATE) {
        add_state(out, s, e);
        limn_buf_addc(out, '}');
        return;
    }
    json_t *o = event_members(e);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (text && text[0] == '{' && text[1] != '}') {
        limn_buf_addc(out, ',');
        limn_buf_adds(out, text + 1);
    } else {
        limn_buf_addc(out, '}');
    }
    free(text);
}

json_t *limn_event_plain_json(const char *type, const char *job) {
    return json_pack("{s:s, s:s?, s:I}", "type", type, "job", job && *job ? job : NULL, "time",
                     (json_int_t)limn_clock_unix_ms());
}
