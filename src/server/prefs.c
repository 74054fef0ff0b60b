/* SPDX-License-Identifier: MIT */
/*
 * What may be changed while the server runs: a few settings, the page's own settings per owner, and
 * the options that other programs' clients store. One JSON file in the data folder, replaced as a
 * whole at each change.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "server/auth_file.h"
#include "server/serve_paths.h"
#include "server/server.h"

enum { FILE_MAX_BYTES = 16 << 20, OBJECTS_MAX = 1000 };

struct limn_prefs {
    limn_server *server;
    char path[LIMN_SERVE_PATH_MAX];
    pthread_mutex_t lock;
    json_t *root; /* {"settings": {...}, "<group>": {"<name>": {...}}} */
    bool paused, log_prompts;
    char *model;
};

/* With the lock. */
static limn_status save(limn_prefs *p, limn_err *err) {
    char *text = json_dumps(p->root, JSON_INDENT(1));
    if (!text) return limn_fail(err, LIMN_E_NOMEM, "no memory for settings");
    limn_status st = limn_private_write(p->path, text, strlen(text), err);
    free(text);
    return st;
}

static json_t *current(limn_prefs *p) {
    limn_queue_limits limits;
    limn_queue_get_limits(p->server->queue, &limits);
    json_int_t hours = limits.trash_ms > 0 ? limits.trash_ms / 3600000 : 0;
    return json_pack("{s:s, s:i, s:i, s:I, s:I, s:b, s:b}", "default_model",
                     p->model ? p->model : "", "queue_depth", limits.max_queued, "history_days",
                     limits.keep_days, "history_jobs", (json_int_t)limits.keep_jobs, "trash_hours",
                     hours, "paused", p->paused, "log_prompts", p->log_prompts);
}

json_t *limn_prefs_get(limn_prefs *p) {
    pthread_mutex_lock(&p->lock);
    json_t *o = current(p);
    pthread_mutex_unlock(&p->lock);
    return o;
}

bool limn_prefs_log_prompts(limn_prefs *p) {
    pthread_mutex_lock(&p->lock);
    bool yes = p->log_prompts;
    pthread_mutex_unlock(&p->lock);
    return yes;
}

static limn_status take_int(int64_t *out, const json_t *v, const char *name, int64_t min,
                            int64_t max, limn_err *err) {
    if (!json_is_integer(v))
        return limn_fail(err, LIMN_E_VALUE, "/%s: must be a whole number", name);
    *out = json_integer_value(v);
    if (*out < min || *out > max)
        return limn_fail(err, LIMN_E_VALUE, "/%s: %lld to %lld", name, (long long)min,
                         (long long)max);
    return LIMN_OK;
}

/* Every member is read before any acts. */
static limn_status read_changes(limn_queue_limits *limits, bool *paused, bool *log_prompts,
                                const char **model, const json_t *changes, limn_err *err) {
    const char *name;
    json_t *v;
    int64_t n = 0;
    json_object_foreach((json_t *)(uintptr_t)changes, name, v) {
        limn_status st = LIMN_OK;
        bool *flag = strcmp(name, "paused") == 0        ? paused
                     : strcmp(name, "log_prompts") == 0 ? log_prompts
                                                        : NULL;
        if (flag) {
            if (!json_is_boolean(v))
                return limn_fail(err, LIMN_E_VALUE, "/%s: must be true or false", name);
            *flag = json_is_true(v);
        } else if (strcmp(name, "default_model") == 0) {
            if (!json_is_string(v))
                return limn_fail(err, LIMN_E_VALUE, "/%s: must be a string", name);
            *model = json_string_value(v);
        } else if (strcmp(name, "queue_depth") == 0) {
            st = take_int(&n, v, name, 1, 100000, err);
            limits->max_queued = (int)n;
        } else if (strcmp(name, "history_days") == 0) {
            st = take_int(&n, v, name, 1, 36500, err);
            limits->keep_days = (int)n;
        } else if (strcmp(name, "history_jobs") == 0) {
            st = take_int(&limits->keep_jobs, v, name, 1, 100000000, err);
        } else if (strcmp(name, "trash_hours") == 0) {
            st = take_int(&n, v, name, 0, 876000, err);
            limits->trash_ms = limn_server_trash_ms(n);
        } else {
            return limn_fail(err, LIMN_E_USAGE, "/%.60s: there is no such setting", name);
        }
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

/* With the lock. */
static limn_status act(limn_prefs *p, const json_t *changes, limn_err *err) {
    limn_server *s = p->server;
    limn_queue_limits limits;
    bool paused = p->paused, log_prompts = p->log_prompts;
    const char *model = NULL;
    limn_queue_get_limits(s->queue, &limits);
    limn_status st = read_changes(&limits, &paused, &log_prompts, &model, changes, err);
    if (st != LIMN_OK) return st;
    if (model) {
        st = limn_shelf_set_default(s->shelf, LIMN_SHELF_DRAW, model, err);
        if (st != LIMN_OK) return st;
        char *copy = limn_mem_strdup(model);
        if (!copy) return limn_fail(err, LIMN_E_NOMEM, "no memory for settings");
        limn_mem_free(p->model);
        p->model = copy;
    }
    st = limn_queue_set_limits(s->queue, &limits, err);
    if (st != LIMN_OK) return st;
    if (paused && !p->paused) limn_queue_pause(s->queue);
    if (!paused && p->paused) limn_queue_resume(s->queue);
    p->paused = paused;
    p->log_prompts = log_prompts;
    return LIMN_OK;
}

limn_status limn_prefs_set(limn_prefs *p, const json_t *changes, limn_err *err) {
    pthread_mutex_lock(&p->lock);
    limn_status st = act(p, changes, err);
    if (st == LIMN_OK) {
        json_t *kept = json_object_get(p->root, "settings");
        if (!json_is_object(kept)) {
            kept = json_object();
            json_object_set_new(p->root, "settings", kept);
        }
        json_object_update(kept, (json_t *)(uintptr_t)changes);
        st = save(p, err);
    }
    pthread_mutex_unlock(&p->lock);
    return st;
}

json_t *limn_prefs_get_object(limn_prefs *p, const char *group, const char *name) {
    pthread_mutex_lock(&p->lock);
    json_t *o = json_deep_copy(json_object_get(json_object_get(p->root, group), name));
    pthread_mutex_unlock(&p->lock);
    return o ? o : json_object();
}

limn_status limn_prefs_set_object(limn_prefs *p, const char *group, const char *name,
                                  const json_t *object, limn_err *err) {
    limn_status st = LIMN_OK;
    pthread_mutex_lock(&p->lock);
    json_t *list = json_object_get(p->root, group);
    if (!json_is_object(list)) {
        list = json_object();
        json_object_set_new(p->root, group, list);
    }
    if (json_object_size(list) >= OBJECTS_MAX && !json_object_get(list, name))
        st = limn_fail(err, LIMN_E_LIMIT, "too many owners have settings");
    else
        json_object_set_new(list, name, json_deep_copy(object));
    if (st == LIMN_OK) st = save(p, err);
    pthread_mutex_unlock(&p->lock);
    return st;
}

limn_status limn_prefs_open(limn_prefs **out, limn_server *s, limn_err *err) {
    limn_prefs *p = *out = limn_mem_calloc(1, sizeof *p);
    void *data = NULL;
    size_t size = 0;
    limn_err why = {0};
    if (!p) return limn_fail(err, LIMN_E_NOMEM, "no memory for settings");
    p->server = s;
    p->log_prompts = s->set->log_prompts;
    pthread_mutex_init(&p->lock, NULL);
    limn_status st = limn_serve_path_in(p->path, s->serve, "settings.json", err);
    if (st != LIMN_OK) goto out;
    st = limn_private_read(&data, &size, p->path, FILE_MAX_BYTES, &why);
    if (st == LIMN_OK) p->root = json_loadb(data, size, JSON_REJECT_DUPLICATES, NULL);
    limn_mem_free(data);
    if (st != LIMN_OK && st != LIMN_E_NOT_FOUND) {
        st = limn_fail(err, st, "%s", why.text);
        goto out;
    }
    LIMN_CHECK(err, st == LIMN_E_NOT_FOUND || json_is_object(p->root), LIMN_E_FORMAT,
               "%s is damaged", p->path);
    st = LIMN_OK;
    if (!p->root) p->root = json_object();
    const json_t *kept = json_object_get(p->root, "settings");
    if (json_is_object(kept) && act(p, kept, &why) != LIMN_OK)
        limn_log(LIMN_LOG_WARN, "settings", "%s: %s", p->path, why.text);
out:
    if (st != LIMN_OK) limn_prefs_free(out);
    return st;
}

void limn_prefs_free(limn_prefs **p) {
    if (!*p) return;
    json_decref((*p)->root);
    limn_mem_free((*p)->model);
    pthread_mutex_destroy(&(*p)->lock);
    limn_mem_free(*p);
    *p = NULL;
}
