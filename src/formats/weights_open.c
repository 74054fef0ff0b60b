/* SPDX-License-Identifier: MIT */
/*
 * limn_weights_open: which loader a file or folder needs, by its content; sharded files; folders
 * of transformers and diffusers. See weights.h.
 */
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "formats/ckpt.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"

enum { JSON_MAX = 16 << 20, SHARDS_MAX = 4096, COMPONENTS_MAX = 32 };

static limn_status json_open(json_t **out, const limn_fsmap *map, limn_err *err) {
    json_error_t e;
    *out = NULL;
    if (map->size > JSON_MAX)
        return limn_fail(err, LIMN_E_LIMIT, "%s: has %zu bytes; at most %d are read", map->path,
                         map->size, JSON_MAX);
    *out = json_loadb((const char *)map->data, map->size, JSON_REJECT_DUPLICATES, &e);
    if (*out && json_is_object(*out)) return LIMN_OK;
    limn_status st =
        *out ? limn_fail(err, LIMN_E_FORMAT, "%s: is not a JSON object", map->path)
             : limn_fail(err, LIMN_E_FORMAT, "%s: line %d: %s", map->path, e.line, e.text);
    json_decref(*out);
    *out = NULL;
    return st;
}

/* ---- files that are something else ---- */
typedef struct stranger {
    const char *bytes;
    size_t n;
    const char *what;
} stranger;

static const stranger strangers[] = {
    {"<!DOCTYPE", 9, "a web page, not a model: the download was answered by a page"},
    {"<!doctype", 9, "a web page, not a model: the download was answered by a page"},
    {"<html", 5, "a web page, not a model: the download was answered by a page"},
    {"version https://git-lfs", 23, "a Git LFS pointer: fetch the real file with 'git lfs pull'"},
    {"\x89PNG", 4, "a PNG picture, not a model"},
    {"\xff\xd8\xff", 3, "a JPEG picture, not a model"},
    {"RIFF", 4, "a RIFF file (WebP, WAV), not a model"},
    {"\x89HDF", 4, "an HDF5 (Keras) file, which limn does not read: convert it to safetensors"},
    {"tjgg", 4, "a GGJT file from before GGUF, which limn does not read: convert it to GGUF"},
    {"lmgg", 4, "a GGML file from before GGUF, which limn does not read: convert it to GGUF"},
    {"\x08\x03\x12", 3, "probably an ONNX file, which is no weight file of limn"},
    {"\x1f\x8b", 2, "gzip-compressed: unpack it first"},
    {"7z\xbc\xaf", 4, "a 7-Zip archive: unpack it first"},
    {"\x80\x02", 2, "a pickle that torch did not write: refused"},
    {"\x80\x03", 2, "a pickle that torch did not write: refused"},
    {"\x80\x04", 2, "a pickle that torch did not write: refused"},
};

static limn_status unknown(const limn_fsmap *map, limn_err *err) {
    if (map->size == 0) return limn_fail(err, LIMN_E_FORMAT, "%s: is empty", map->path);
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++)
        if (map->size >= strangers[i].n &&
            memcmp(map->data, strangers[i].bytes, strangers[i].n) == 0)
            return limn_fail(err, LIMN_E_UNSUPPORTED, "%s: is %s", map->path, strangers[i].what);
    return limn_fail(err, LIMN_E_FORMAT,
                     "%s: is no weight file that limn knows (safetensors, GGUF, torch .ckpt / "
                     ".pth), or its first bytes are damaged",
                     map->path);
}

/* ---- shards ---- */
static bool is_plain_name(const char *s) {
    return s[0] && s[0] != '.' && !strchr(s, '/') && strlen(s) < 256;
}

static limn_status path_join(limn_buf *b, const char *folder, const char *name, limn_err *err) {
    limn_buf_clear(b);
    limn_buf_addf(b, "%s/%s", folder, name);
    return b->failed ? limn_fail(err, LIMN_E_VALUE, "%.200s: the path is too long", folder)
                     : LIMN_OK;
}

static bool is_json(const limn_fsmap *map) {
    size_t i = 0;
    while (i < map->size && i < 64 && map->data[i] && strchr(" \t\r\n", map->data[i])) i++;
    return i < map->size && map->data[i] == '{';
}

static limn_status tensors_load(limn_weights **out, limn_fsmap *map, limn_err *err) {
    if (limn_gguf_is(map->data, map->size)) return limn_gguf_load_split(out, map, err);
    if (limn_safetensors_is(map->data, map->size)) return limn_safetensors_load(out, map, err);
    if (limn_ckpt_is_zip(map->data, map->size) || limn_ckpt_is_legacy(map->data, map->size))
        return limn_ckpt_load(out, map, err);
    return unknown(map, err);
}

typedef struct shards {
    limn_buf folder, path;
    const char *file[SHARDS_MAX]; /* owned by the JSON tree */
    limn_weights *set[SHARDS_MAX];
    size_t count;
} shards;

static size_t shard_find(const shards *s, const char *file) {
    for (size_t i = s->count; i > 0; i--) /* names of a shard follow each other */
        if (strcmp(s->file[i - 1], file) == 0) return i - 1;
    return SIZE_MAX;
}

/* Opens the shard of one weight_map entry when it is new, and looks the tensor up. */
static limn_status shard_need(shards *s, const char *index, const char *tensor, json_t *value,
                              limn_err *err) {
    const char *file = json_string_value(value);
    if (!file || !is_plain_name(file))
        return limn_fail(err, LIMN_E_FORMAT, "%s: tensor '%s' is not given a plain file name",
                         index, tensor);
    size_t i = shard_find(s, file);
    if (i == SIZE_MAX) {
        if (s->count == SHARDS_MAX)
            return limn_fail(err, LIMN_E_LIMIT, "%s: names more than %d files", index, SHARDS_MAX);
        limn_fsmap *map = NULL;
        i = s->count;
        limn_status st = path_join(&s->path, limn_buf_text(&s->folder), file, err);
        if (st == LIMN_OK) st = limn_fsmap_open(&map, limn_buf_text(&s->path), err);
        if (st == LIMN_OK) st = tensors_load(&s->set[i], map, err); /* never another index */
        limn_fsmap_unref(&map);
        if (st != LIMN_OK) {
            limn_err_prefix(err, "%s names a shard", index);
            return st;
        }
        s->file[s->count++] = file;
    }
    if (limn_weights_find(s->set[i], tensor)) return LIMN_OK;
    return limn_fail(err, LIMN_E_FORMAT, "%s: tensor '%s' should be in %s and is not", index,
                     tensor, file);
}

static limn_status index_load(limn_weights **out, const limn_fsmap *map, limn_err *err) {
    limn_status st;
    json_t *tree = NULL, *value;
    const char *name;
    shards *s = limn_mem_calloc(1, sizeof *s);
    if (!s) return limn_fail(err, LIMN_E_NOMEM, "%s: no memory to open it", map->path);
    limn_buf_init(&s->folder, 1 << 16);
    limn_buf_init(&s->path, 1 << 16);
    const char *slash = strrchr(map->path, '/');
    if (slash == map->path)
        limn_buf_adds(&s->folder, "/");
    else if (slash)
        limn_buf_add(&s->folder, map->path, (size_t)(slash - map->path));
    else
        limn_buf_adds(&s->folder, ".");
    LIMN_TRY(json_open(&tree, map, err));
    json_t *list = json_object_get(tree, "weight_map");
    LIMN_CHECK(err, json_is_object(list) && json_object_size(list) > 0, LIMN_E_FORMAT,
               "%s: is JSON, but no index of weight files (no \"weight_map\")", map->path);
    json_object_foreach(list, name, value) LIMN_TRY(shard_need(s, map->path, name, value, err));
    LIMN_TRY(limn_weights_merge(out, (const limn_weights *const *)s->set, NULL, s->count, map->path,
                                limn_weights_format(s->set[0]), err));
out:
    for (size_t i = 0; i < s->count; i++) limn_weights_unref(&s->set[i]);
    limn_buf_deinit(&s->folder);
    limn_buf_deinit(&s->path);
    limn_mem_free(s);
    json_decref(tree);
    return st;
}

limn_status limn_weights_open_map(limn_weights **out, limn_fsmap *map, limn_err *err) {
    *out = NULL;
    return is_json(map) ? index_load(out, map, err) : tensors_load(out, map, err);
}

/* ---- folders ---- */
static bool file_is(limn_buf *path, const char *folder, const char *name) {
    struct stat sb;
    return path_join(path, folder, name, NULL) == LIMN_OK && stat(limn_buf_text(path), &sb) == 0 &&
           S_ISREG(sb.st_mode);
}

/* The usual names, best first: safetensors before pickles, full names before variants. */
static bool usual_find(limn_buf *path, const char *folder) {
    static const char *const ends[] = {".safetensors", ".bin"};
    static const char *const variants[] = {"", ".fp16", ".bf16", ".non_ema"};
    static const char *const stems[] = {"diffusion_pytorch_model", "model", "pytorch_model",
                                        "adapter_model", "pytorch_lora_weights"};
    char name[128];
    for (size_t e = 0; e < 2; e++)
        for (size_t v = 0; v < 4; v++)
            for (size_t s = 0; s < 5; s++) {
                snprintf(name, sizeof name, "%s%s.index%s.json", stems[s], ends[e], variants[v]);
                if (file_is(path, folder, name)) return true;
                snprintf(name, sizeof name, "%s%s%s", stems[s], variants[v], ends[e]);
                if (file_is(path, folder, name)) return true;
            }
    return false;
}

/* Otherwise the only file with a usual ending. */
static limn_status only_find(limn_buf *path, const char *folder, limn_err *err) {
    static const char *const ends[] = {".safetensors", ".gguf", ".ckpt", ".pth", ".pt"};
    char found[256] = "";
    DIR *dir = opendir(folder);
    if (!dir) return limn_fail(err, LIMN_E_IO, "%s: cannot be listed: %s", folder, strerror(errno));
    struct dirent *d;
    limn_status st = LIMN_OK;
    while (st == LIMN_OK && (d = readdir(dir)) != NULL) {
        size_t n = strlen(d->d_name);
        for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
            size_t m = strlen(ends[i]);
            if (n <= m || n >= sizeof found || strcmp(d->d_name + n - m, ends[i]) != 0) continue;
            if (found[0])
                st = limn_fail(err, LIMN_E_VALUE,
                               "%s: holds several weight files ('%s', '%s'): name one of them",
                               folder, found, d->d_name);
            memcpy(found, d->d_name, n + 1);
        }
    }
    closedir(dir);
    if (st == LIMN_OK && !found[0])
        st = limn_fail(err, LIMN_E_NOT_FOUND,
                       "%s: holds no weights (model_index.json, *.safetensors, *.gguf)", folder);
    return st == LIMN_OK ? path_join(path, folder, found, err) : st;
}

/* Adds the text of folder/name as metadata `key`; nothing when there is no such file. */
static limn_status text_add(limn_weights *w, limn_buf *path, const char *folder, const char *name,
                            const char *key, limn_err *err) {
    if (!file_is(path, folder, name)) return LIMN_OK;
    limn_fsmap *map = NULL;
    json_t *tree = NULL;
    limn_status st = limn_fsmap_open(&map, limn_buf_text(path), err);
    if (st == LIMN_OK) st = json_open(&tree, map, err);
    if (st == LIMN_OK)
        st = limn_weights_set_meta_str(w, key, (const char *)map->data, map->size, err);
    json_decref(tree);
    limn_fsmap_unref(&map);
    return st;
}

/* A folder with one network. `key` is where its config.json goes. */
static limn_status part_load(limn_weights **out, const char *folder, const char *key,
                             limn_err *err) {
    limn_status st = LIMN_OK;
    limn_weights *file = NULL, *made = NULL;
    limn_buf path;
    limn_buf_init(&path, 1 << 16);
    if (!usual_find(&path, folder)) LIMN_TRY(only_find(&path, folder, err));
    LIMN_TRY(limn_weights_open(&file, limn_buf_text(&path), err));
    LIMN_TRY(limn_weights_new(&made, folder, limn_weights_format(file), err));
    LIMN_TRY(text_add(made, &path, folder, "config.json", key, err));
    LIMN_TRY(limn_weights_keep_parent(made, file, err));
    for (size_t i = 0; i < limn_weights_count(file); i++)
        LIMN_TRY(limn_weights_add(made, limn_weights_name(file, i), limn_weights_at(file, i), err));
    for (size_t i = 0; i < limn_weights_meta_count(file); i++)
        if (!limn_weights_meta_find(made, limn_weights_meta_at(file, i)->key))
            LIMN_TRY(limn_weights_set_meta(made, limn_weights_meta_at(file, i), err));
    *out = made;
    made = NULL;
out:
    limn_weights_unref(&made);
    limn_weights_unref(&file);
    limn_buf_deinit(&path);
    return st;
}

typedef struct pipeline {
    limn_weights *set[COMPONENTS_MAX + 1];
    char prefix[COMPONENTS_MAX + 1][72];
    const char *prefixes[COMPONENTS_MAX + 1];
    size_t count;
} pipeline;

/* Components that hold no weights limn would use. */
static bool is_skipped(const char *name, json_t *value) {
    static const char *const skipped[] = {"scheduler", "tokenizer", "feature_extractor",
                                          "safety_checker", "image_processor"};
    if (!json_is_array(value) || !json_is_string(json_array_get(value, 1)) ||
        !is_plain_name(name) || strlen(name) > 64)
        return true;
    for (size_t i = 0; i < sizeof skipped / sizeof skipped[0]; i++)
        if (strncmp(name, skipped[i], strlen(skipped[i])) == 0) return true;
    return false;
}

static limn_status component_add(pipeline *p, limn_buf *path, const char *folder, const char *name,
                                 limn_err *err) {
    struct stat sb;
    char key[96];
    limn_status st = path_join(path, folder, name, err);
    if (st != LIMN_OK) return st;
    if (stat(limn_buf_text(path), &sb) != 0 || !S_ISDIR(sb.st_mode)) {
        limn_log(LIMN_LOG_WARN, "load", "%s: component '%s' has no folder", folder, name);
        return LIMN_OK;
    }
    if (p->count == COMPONENTS_MAX)
        return limn_fail(err, LIMN_E_LIMIT, "%s: has more than %d components", folder,
                         COMPONENTS_MAX);
    snprintf(key, sizeof key, "limn.config.%s", name);
    snprintf(p->prefix[p->count], sizeof p->prefix[0], "%s.", name);
    p->prefixes[p->count] = p->prefix[p->count];
    st = part_load(&p->set[p->count], limn_buf_text(path), key, err);
    if (st == LIMN_OK) p->count++;
    return st;
}

static limn_status pipeline_load(limn_weights **out, const char *folder, limn_err *err) {
    limn_status st;
    limn_fsmap *map = NULL;
    json_t *tree = NULL, *value;
    const char *name;
    limn_buf path;
    limn_weights *texts = NULL;
    limn_buf_init(&path, 1 << 16);
    pipeline *p = limn_mem_calloc(1, sizeof *p);
    LIMN_CHECK(err, p, LIMN_E_NOMEM, "%s: no memory to open it", folder);
    LIMN_TRY(path_join(&path, folder, "model_index.json", err));
    LIMN_TRY(limn_fsmap_open(&map, limn_buf_text(&path), err));
    LIMN_TRY(json_open(&tree, map, err));
    json_object_foreach(tree, name, value) if (name[0] != '_' && !is_skipped(name, value))
        LIMN_TRY(component_add(p, &path, folder, name, err));
    LIMN_CHECK(err, p->count > 0, LIMN_E_MISSING, "%s: none of its components is there", folder);
    LIMN_TRY(limn_weights_new(&texts, folder, "diffusers folder", err));
    LIMN_TRY(text_add(texts, &path, folder, "model_index.json", "limn.model_index", err));
    LIMN_TRY(text_add(texts, &path, folder, "scheduler/scheduler_config.json",
                      "limn.config.scheduler", err));
    LIMN_TRY(text_add(texts, &path, folder, "limn.json", "limn.advice", err));
    p->set[p->count] = texts; /* metadata only, merged last */
    p->prefixes[p->count] = "";
    texts = NULL;
    st = limn_weights_merge(out, (const limn_weights *const *)p->set, p->prefixes, p->count + 1,
                            folder, "diffusers folder", err);
    limn_weights_unref(&p->set[p->count]);
out:
    for (size_t i = 0; p && i < p->count; i++) limn_weights_unref(&p->set[i]);
    limn_weights_unref(&texts);
    limn_mem_free(p);
    limn_buf_deinit(&path);
    json_decref(tree);
    limn_fsmap_unref(&map);
    return st;
}

limn_status limn_weights_open(limn_weights **out, const char *path, limn_err *err) {
    struct stat sb;
    limn_fsmap *map = NULL;
    *out = NULL;
    if (stat(path, &sb) == 0 && S_ISDIR(sb.st_mode)) {
        limn_buf index;
        limn_buf_init(&index, 1 << 16);
        bool whole = file_is(&index, path, "model_index.json");
        limn_buf_deinit(&index);
        return whole ? pipeline_load(out, path, err) : part_load(out, path, "limn.config", err);
    }
    limn_status st = limn_fsmap_open(&map, path, err);
    if (st != LIMN_OK) return st;
    st = limn_weights_open_map(out, map, err);
    limn_fsmap_unref(&map);
    return st;
}
