/* SPDX-License-Identifier: MIT */
/* Opening language models; see vl_model.h. */
#include "pipeline/vl_model.h"

#include <ctype.h>
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/fsmap.h"
#include "formats/canon.h"

enum { PATH = 4096, SMALL_FILE = 16 << 20, STOPS_MAX = 64 };

static bool is_folder(const char *path) {
    struct stat sb;
    return stat(path, &sb) == 0 && S_ISDIR(sb.st_mode);
}

/* A small text file beside the weights as a NUL-terminated copy; NULL without an error when it is
 * not there. */
static limn_status text_load(char **out, const char *dir, const char *name, limn_err *err) {
    char path[PATH];
    limn_fsmap *map = NULL;
    *out = NULL;
    snprintf(path, sizeof path, "%.3900s/%s", dir, name);
    limn_status st = limn_fsmap_open(&map, path, err);
    if (st == LIMN_E_NOT_FOUND) return LIMN_OK;
    if (st != LIMN_OK) return st;
    if (map->size > SMALL_FILE) {
        st = limn_fail(err, LIMN_E_LIMIT, "%s: has %zu bytes, at most %d are read", path, map->size,
                       SMALL_FILE);
    } else {
        *out = limn_mem_strndup((const char *)map->data, map->size);
        if (!*out) st = limn_fail(err, LIMN_E_NOMEM, "no memory for %s", path);
    }
    limn_fsmap_unref(&map);
    return st;
}

/* The same as a JSON object; *out NULL when it is not there. */
static limn_status json_load(json_t **out, const char *dir, const char *name, limn_err *err) {
    char *text;
    json_error_t e;
    *out = NULL;
    limn_status st = text_load(&text, dir, name, err);
    if (st != LIMN_OK || !text) return st;
    *out = json_loads(text, 0, &e);
    limn_mem_free(text);
    if (*out && json_is_object(*out)) return LIMN_OK;
    json_decref(*out);
    *out = NULL;
    return limn_fail(err, LIMN_E_FORMAT, "%s/%s: line %d: %s", dir, name, e.line,
                     e.text[0] ? e.text : "not an object");
}

/* ---- weights ---- */

/* Letters of the longest run that two names share. */
static size_t run_shared(const char *a, const char *b) {
    size_t best = 0;
    for (; *a; a++)
        for (const char *q = b; *q; q++) {
            size_t n = 0;
            while (a[n] && tolower((unsigned char)a[n]) == tolower((unsigned char)q[n])) n++;
            if (n > best) best = n;
        }
    return best;
}

static bool mmproj_fits(const limn_vl_model *m, const char *path) {
    limn_vl_config cfg = m->cfg;
    limn_weights *w = NULL;
    bool fits = limn_weights_open(&w, path, NULL) == LIMN_OK &&
                limn_vl_config_read_mmproj(&cfg, w, NULL) == LIMN_OK;
    limn_weights_unref(&w);
    return fits;
}

/* The file beside a GGUF model that looks like its vision tower; false when there is none. Of
 * several: one that fits the model, then the one that is named like it, then the first in the
 * alphabet, whatever order the folder has. */
static bool mmproj_find(char out[PATH], const limn_vl_model *m) {
    char dir[PATH] = ".", path[PATH];
    const char *slash = strrchr(m->path, '/'), *name = slash ? slash + 1 : m->path;
    if (slash) snprintf(dir, sizeof dir, "%.*s", (int)(slash - m->path) + 1, m->path);
    DIR *d = opendir(dir);
    size_t best = 0;
    out[0] = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (!strcasestr(e->d_name, "mmproj") || n < 5 || strcasecmp(e->d_name + n - 5, ".gguf"))
            continue;
        snprintf(path, PATH, "%.3000s/%.1000s", dir, e->d_name);
        size_t rank = 1 + run_shared(e->d_name, name) + (mmproj_fits(m, path) ? PATH : 0);
        if (rank < best || (rank == best && strcmp(path, out) > 0)) continue;
        memcpy(out, path, PATH);
        best = rank;
    }
    if (d) closedir(d);
    return best > 0;
}

static size_t bytes_of(const limn_weights *w) {
    size_t sum = 0, bytes;
    for (size_t i = 0; w && i < limn_weights_count(w); i++) {
        const limn_tensor *t = limn_weights_at(w, i);
        if (limn_dtype_row_bytes(&bytes, t->dtype, limn_shape_count(&t->shape))) sum += bytes;
    }
    return sum;
}

static limn_status vision_open(limn_vl_model *m, const char *mmproj, limn_err *err) {
    limn_status st = LIMN_OK;
    char found[PATH];
    bool gguf = strncmp(limn_weights_format(m->file), "gguf", 4) == 0;
    if (!mmproj && gguf && !is_folder(m->path) && m->cfg.image_token >= 0 && mmproj_find(found, m))
        mmproj = found;
    if (mmproj) {
        LIMN_TRY(limn_weights_open(&m->vision_file, mmproj, err));
        LIMN_TRY(limn_vl_config_read_mmproj(&m->cfg, m->vision_file, err));
    }
    if (!m->cfg.has_vision) return LIMN_OK;
    LIMN_TRY(limn_canon_vision(&m->vision_set, mmproj ? m->vision_file : m->file, err));
    LIMN_TRY(limn_model_weights_new(&m->vision, m->vision_set, err));
out:
    return st;
}

/* ---- what stands beside the weights ---- */

static limn_status limits_read(limn_vl_model *m, limn_err *err) {
    limn_status st = LIMN_OK;
    m->image_limits = limn_vision_image_limits;
    m->video_limits = limn_vision_video_limits;
    if (is_folder(m->path)) {
        LIMN_TRY(limn_vl_pixels_load(&m->image_limits.least, &m->image_limits.most, m->path,
                                     "preprocessor_config.json", err));
        LIMN_TRY(limn_vl_pixels_load(&m->video_limits.least, &m->video_limits.most, m->path,
                                     "video_preprocessor_config.json", err));
    } else if (m->vision_file) {
        limn_pixel_limits *l = &m->image_limits;
        l->least = limn_weights_meta_int(m->vision_file, "clip.vision.image_min_pixels", l->least);
        l->most = limn_weights_meta_int(m->vision_file, "clip.vision.image_max_pixels", l->most);
        LIMN_CHECK(err, l->least > 0 && l->least <= l->most, LIMN_E_FORMAT,
                   "%s: pictures from %lld to %lld pixels", limn_weights_path(m->vision_file),
                   (long long)l->least, (long long)l->most);
    }
out:
    return st;
}

static void stop_add(limn_vl_model *m, int32_t id) {
    if (id < 0 || id >= m->cfg.text.vocab) return;
    for (size_t i = 0; i < m->stops.len; i++)
        if (m->stops.data[i] == id) return;
    limn_ids_add(&m->stops, id);
}

/* One value of generation_config.json as the advice of the model's makers. */
static void advise(limn_vl_model *m, const json_t *tree, const char *key) {
    const json_t *v = json_object_get(tree, key);
    char text[40];
    if (!json_is_number(v)) return;
    snprintf(text, sizeof text, "%.9g", json_number_value(v));
    /* Advice that limn cannot follow (top_k -1 and its like) is no advice. */
    if (limn_params_set(m->advice, key, text, LIMN_FROM_MODEL, NULL) != LIMN_OK) return;
}

static limn_status advice_read(limn_vl_model *m, limn_err *err) {
    limn_status st = LIMN_OK;
    json_t *tree = NULL, *v;
    size_t i;
    static const char *const keys[] = {"temperature", "top_k", "top_p", "min_p"};
    LIMN_TRY(limn_params_new(&m->advice, LIMN_PARAMS_SEE, err));
    for (int k = 0; k < m->cfg.text.n_stop; k++) stop_add(m, m->cfg.text.stop[k]);
    stop_add(m, limn_tokenizer_eos(m->tokenizer));
    stop_add(m, limn_tokenizer_find(m->tokenizer, "<|im_end|>"));
    stop_add(m, limn_tokenizer_find(m->tokenizer, "<|endoftext|>"));
    if (!is_folder(m->path)) goto out;
    LIMN_TRY(json_load(&tree, m->path, "generation_config.json", err));
    v = json_object_get(tree, "eos_token_id");
    if (json_is_integer(v)) stop_add(m, (int32_t)json_integer_value(v));
    json_t *ids = v;
    json_array_foreach(ids, i, v) {
        if (json_is_integer(v) && i < STOPS_MAX) stop_add(m, (int32_t)json_integer_value(v));
    }
    if (json_is_true(json_object_get(tree, "do_sample")))
        for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) advise(m, tree, keys[k]);
    advise(m, tree, "repetition_penalty");
out:
    LIMN_CHECK(err, st != LIMN_OK || !m->stops.failed, LIMN_E_NOMEM, "no memory for stop ids");
    json_decref(tree);
    return st;
}

/* ---- the template ---- */

static limn_status template_of_file(char **out, const limn_weights *file, limn_err *err) {
    const char *s = limn_weights_meta_str(file, "tokenizer.chat_template");
    *out = s ? limn_mem_strdup(s) : NULL;
    return !s || *out ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for a template");
}

static limn_status template_of_folder(char **out, const char *path, limn_err *err) {
    static const char *const files[] = {"chat_template.json", "tokenizer_config.json"};
    limn_status st = LIMN_OK;
    json_t *tree = NULL;
    LIMN_TRY(text_load(out, path, "chat_template.jinja", err));
    for (size_t i = 0; i < 2 && !*out; i++) {
        LIMN_TRY(json_load(&tree, path, files[i], err));
        const char *s = json_string_value(json_object_get(tree, "chat_template"));
        if (s) {
            *out = limn_mem_strdup(s);
            LIMN_CHECK(err, *out, LIMN_E_NOMEM, "no memory for a template");
        }
        json_decref(tree);
        tree = NULL;
    }
out:
    json_decref(tree);
    return st;
}

limn_status limn_vl_template_read(char **out, const char *path, limn_err *err) {
    limn_weights *file = NULL;
    *out = NULL;
    if (is_folder(path)) return template_of_folder(out, path, err);
    limn_status st = limn_weights_open(&file, path, err);
    if (st == LIMN_OK) st = template_of_file(out, file, err);
    limn_weights_unref(&file);
    return st;
}

bool limn_vl_template_has_tools(const char *text) {
    return !text || strstr(text, "tools");
}

/* limn has the templates of the models it knows built in; the file's own text says which. */
static limn_status template_find(limn_vl_model *m, limn_seeing_template wish, limn_err *err) {
    static const limn_chat_template wishes[] = {[LIMN_SEEING_TEMPLATE_QWEN3VL] = LIMN_CHAT_QWEN3VL,
                                                [LIMN_SEEING_TEMPLATE_QWEN3VL_THINKING] =
                                                    LIMN_CHAT_QWEN3VL_THINKING,
                                                [LIMN_SEEING_TEMPLATE_QWEN3] = LIMN_CHAT_QWEN3,
                                                [LIMN_SEEING_TEMPLATE_CHATML] = LIMN_CHAT_CHATML};
    char *text = NULL;
    limn_status st = LIMN_OK;
    LIMN_CHECK(
        err, limn_tokenizer_find(m->tokenizer, "<|im_start|>") >= 0, LIMN_E_UNSUPPORTED,
        "%s: its tokenizer has no <|im_start|>: the chat templates that limn knows (Qwen3-VL, "
        "Qwen3, ChatML) do not fit it",
        m->path);
    LIMN_TRY(is_folder(m->path) ? template_of_folder(&text, m->path, err)
                                : template_of_file(&text, m->file, err));
    bool thinks = text && strstr(text, "<think>"),
         chooses = text && strstr(text, "enable_thinking");
    if (m->vision)
        m->chat_template = thinks && !chooses ? LIMN_CHAT_QWEN3VL_THINKING : LIMN_CHAT_QWEN3VL;
    else
        m->chat_template = thinks ? LIMN_CHAT_QWEN3 : LIMN_CHAT_CHATML;
    if (wish != LIMN_SEEING_TEMPLATE_AUTO) m->chat_template = wishes[wish];
    m->can_choose_thinking = m->chat_template == LIMN_CHAT_QWEN3;
    m->takes_tools = m->chat_template != LIMN_CHAT_CHATML && limn_vl_template_has_tools(text);
out:
    limn_mem_free(text);
    return st;
}

/* ---- all together ---- */

limn_status limn_vl_model_open(limn_vl_model **out, const char *path, const char *mmproj,
                               limn_seeing_template chat_template, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_vl_model *m = limn_mem_calloc(1, sizeof *m);
    *out = NULL;
    LIMN_CHECK(err, m, LIMN_E_NOMEM, "no memory for a model");
    limn_ids_init(&m->stops, STOPS_MAX);
    m->path = limn_mem_strdup(path);
    LIMN_CHECK(err, m->path, LIMN_E_NOMEM, "no memory for a model");
    LIMN_TRY(limn_weights_open(&m->file, path, err));
    st = limn_vl_config_read(&m->cfg, m->file, err);
    if (st == LIMN_E_MISSING)
        limn_fail(err, st, "%s: is no language model (no config.json, no GGUF keys)", path);
    if (st != LIMN_OK) goto out;
    LIMN_TRY(limn_canon_llm(&m->text_set, m->file, err));
    LIMN_TRY(limn_model_weights_new(&m->text, m->text_set, err));
    LIMN_TRY(vision_open(m, mmproj, err));
    if (is_folder(path))
        LIMN_TRY(limn_tokenizer_load_dir(&m->tokenizer, path, err));
    else
        LIMN_TRY(limn_gguf_tokenizer(&m->tokenizer, m->file, err));
    LIMN_TRY(limits_read(m, err));
    LIMN_TRY(advice_read(m, err));
    LIMN_TRY(template_find(m, chat_template, err));
    m->bytes = bytes_of(m->text_set) + bytes_of(m->vision_set);
    *out = m;
    m = NULL;
out:
    limn_vl_model_free(&m);
    return st;
}

void limn_vl_model_free(limn_vl_model **model) {
    limn_vl_model *m = model ? *model : NULL;
    if (!m) return;
    limn_model_weights_free(&m->text);
    limn_model_weights_free(&m->vision);
    limn_weights_unref(&m->text_set);
    limn_weights_unref(&m->vision_set);
    limn_weights_unref(&m->vision_file);
    limn_weights_unref(&m->file);
    limn_tokenizer_free(&m->tokenizer);
    limn_ids_deinit(&m->stops);
    limn_params_free(&m->advice);
    limn_mem_free(m->path);
    limn_mem_free(m);
    *model = NULL;
}
