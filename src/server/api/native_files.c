/* SPDX-License-Identifier: MIT */
/* Native routes about pictures: artifacts, uploads, recipes (docs/API.md, 5). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "image/image.h"
#include "image/resample.h"
#include "media/media.h"
#include "server/api/api.h"

/* The artifact of the path, if the asker may see it; answers when not. */
static bool find_artifact(limn_http_req *rq, limn_artifact *a) {
    limn_err err = {0};
    *a = (limn_artifact){0};
    limn_status st =
        limn_sha_is_valid(rq->args[0])
            ? limn_queue_artifact(rq->server->queue, limn_http_owner(rq), rq->args[0], a, &err)
            : LIMN_E_NOT_FOUND;
    if (st == LIMN_OK) return true;
    if (st == LIMN_E_NOT_FOUND)
        limn_http_fail(rq, LIMN_HTTP_NO_ARTIFACT, NULL, "there is no such artifact");
    else
        limn_api_fail(rq, &err);
    return false;
}

static json_t *recipe_json(const char *recipe) {
    json_t *o = recipe ? json_loads(recipe, 0, NULL) : NULL;
    return o ? o : json_null();
}

void native_artifact(limn_http_req *rq) {
    limn_artifact a;
    if (!find_artifact(rq, &a)) return;
    limn_http_reply_json(rq, 200,
                         json_pack("{s:o, s:o, s:s?}", "artifact", limn_artifact_to_json(&a),
                                   "recipe", recipe_json(a.recipe), "text", a.text));
    limn_artifact_deinit(&a);
}

/* Contents never change under a name. */
static bool answer_unchanged(limn_http_req *rq, const char *etag) {
    if (!limn_http_has_tag(rq, etag)) return false;
    limn_http_reply_empty(rq, 304);
    return true;
}

/* What browsers may show in a page; anything else is offered to be saved. */
typedef struct file_type {
    const char *mime, *ending;
    bool shown;
} file_type;

static const file_type *type_of(const char *mime) {
    static const file_type types[] = {
        {"image/png", "png", true},        {"image/jpeg", "jpg", true},
        {"image/webp", "webp", true},      {"image/gif", "gif", false},
        {"image/tiff", "tif", false},      {"application/pdf", "pdf", false},
        {"video/mp4", "mp4", false},       {"video/quicktime", "mov", false},
        {"video/webm", "webm", false},     {"video/x-matroska", "mkv", false},
        {"video/x-msvideo", "avi", false}, {"video/mpeg", "mpg", false},
        {"video/x-flv", "flv", false},     {"", "bin", false},
    };
    const file_type *t = types;
    while (t->mime[0] && strcmp(t->mime, mime) != 0) t++;
    return t;
}

static void add_file_headers(limn_http_req *rq, const char *etag, bool download,
                             const limn_artifact *a) {
    limn_http_add_header(rq, "ETag", etag);
    limn_http_add_header(rq, "Cache-Control", "private, max-age=31536000, immutable");
    limn_http_add_header(rq, "Content-Security-Policy", "default-src 'none'; sandbox");
    const file_type *type = type_of(a->mime);
    if (!download && type->shown) return;
    limn_http_add_header(
        rq, "Content-Disposition",
        limn_http_printf(rq, "attachment; filename=\"limn-%.12s.%s\"", a->sha, type->ending));
}

void native_artifact_file(limn_http_req *rq) {
    limn_artifact a;
    limn_err err = {0};
    int fd;
    int64_t bytes;
    const char *download = limn_http_query(rq, "download");
    if (!find_artifact(rq, &a)) return;
    const char *etag = limn_http_printf(rq, "\"%s\"", a.sha);
    if (answer_unchanged(rq, etag)) {
        add_file_headers(rq, etag, false, &a);
    } else if (limn_artifacts_open_fd(limn_queue_artifacts(rq->server->queue), &fd, &bytes, a.sha,
                                      &err) == LIMN_OK) {
        bool known = type_of(a.mime)->shown;
        limn_http_reply_file(rq, known ? a.mime : "application/octet-stream", fd, bytes, etag);
        add_file_headers(rq, etag, download && strcmp(download, "1") == 0, &a);
    } else {
        limn_api_fail(rq, &err);
    }
    limn_artifact_deinit(&a);
}

void native_artifact_thumb(limn_http_req *rq) {
    limn_artifact a;
    limn_err err = {0};
    void *data;
    size_t size;
    if (!find_artifact(rq, &a)) return;
    const char *etag = limn_http_printf(rq, "\"%.32s-t\"", a.sha);
    if (answer_unchanged(rq, etag)) {
        limn_http_add_header(rq, "ETag", etag);
    } else if (limn_artifacts_thumb(limn_queue_artifacts(rq->server->queue), &data, &size, a.sha,
                                    &err) == LIMN_OK) {
        limn_http_reply_bytes(rq, 200, "image/webp", data, size);
        limn_http_add_header(rq, "ETag", etag);
        limn_http_add_header(rq, "Cache-Control", "private, max-age=31536000, immutable");
    } else if (err.status == LIMN_E_UNSUPPORTED) {
        limn_http_fail(rq, LIMN_HTTP_NO_ARTIFACT, NULL, "there is no thumbnail of that");
    } else {
        limn_api_fail(rq, &err);
    }
    limn_artifact_deinit(&a);
}

/* ---- pages of documents ---- */
enum { PAGE_SIDE = 1600, PAGE_SIDE_MAX = 4096, PAGE_QUALITY = 85 };

/* Page n alone at `dpi`; E_UNSUPPORTED for what has no pages. */
static limn_status open_page(limn_media **out, const void *data, size_t size, int n, double dpi,
                             limn_err *err) {
    limn_media_options o = {
        .frames = 1, .first = n, .last = n, .dpi = dpi, .max_pixels = LIMN_LIMIT_PIXELS};
    limn_status st = limn_media_open_memory(out, "the file", data, size, &o, err);
    if (st == LIMN_OK && limn_media_info_of(*out)->kind != LIMN_MEDIA_PAGES)
        st = limn_fail(err, LIMN_E_UNSUPPORTED, "the file has no pages");
    return st;
}

/* As WebP, its longer side at most `side`; small letters want a page drawn at that size, not one
 * enlarged. */
static limn_status draw_page(void **out, size_t *out_size, const void *data, size_t size, int n,
                             int side, limn_err *err) {
    enum { FIRST_DPI = 72, LEAST_DPI = 18, MOST_DPI = 600 };
    limn_media *media = NULL;
    limn_image *page = NULL, *fitted = NULL;
    limn_file_options how = LIMN_FILE_OPTIONS;
    limn_status st = LIMN_OK;
    how.format = "webp";
    how.quality = PAGE_QUALITY;
    LIMN_TRY(open_page(&media, data, size, n, FIRST_DPI, err));
    const limn_media_info *info = limn_media_info_of(media);
    int edge = info->width > info->height ? info->width : info->height;
    double dpi = (double)FIRST_DPI * side / (edge > 0 ? edge : 1);
    if (strcmp(info->format, "pdf") == 0 && edge != side) {
        limn_media_close(&media);
        dpi = dpi < LEAST_DPI ? LEAST_DPI : dpi > MOST_DPI ? MOST_DPI : dpi;
        LIMN_TRY(open_page(&media, data, size, n, dpi, err));
    }
    LIMN_TRY(limn_media_next(&page, media, err));
    LIMN_CHECK(err, page, LIMN_E_FORMAT, "the page is empty");
    edge = page->width > page->height ? page->width : page->height;
    if (edge > side) {
        int w = (int)((int64_t)page->width * side / edge);
        int h = (int)((int64_t)page->height * side / edge);
        LIMN_TRY(limn_image_resize(&fitted, page, w > 0 ? w : 1, h > 0 ? h : 1, LIMN_FILTER_LANCZOS,
                                   err));
    }
    LIMN_TRY(limn_image_encode(out, out_size, fitted ? fitted : page, &how, NULL, err));
out:
    limn_media_close(&media);
    limn_image_free(&page);
    limn_image_free(&fitted);
    return st;
}

void native_artifact_page(limn_http_req *rq) {
    limn_artifact a = {0};
    limn_err err = {0};
    void *file = NULL, *page = NULL;
    size_t size = 0, bytes = 0;
    int64_t n, side;
    if (!limn_api_query_int(rq, "n", 1, LIMN_MEDIA_MAX_PAGES, 1, &n) ||
        !limn_api_query_int(rq, "side", 64, PAGE_SIDE_MAX, PAGE_SIDE, &side) ||
        !find_artifact(rq, &a))
        return;
    const char *etag = limn_http_printf(rq, "\"%.32s-p%d-%d\"", a.sha, (int)n, (int)side);
    limn_status st = LIMN_OK;
    if (answer_unchanged(rq, etag)) {
        limn_http_add_header(rq, "ETag", etag);
        limn_artifact_deinit(&a);
        return;
    }
    st = limn_api_load_artifact(rq, &a, &file, &size, &err);
    if (st == LIMN_OK) st = draw_page(&page, &bytes, file, size, (int)n, (int)side, &err);
    if (st == LIMN_OK) {
        limn_http_reply_bytes(rq, 200, "image/webp", page, bytes);
        limn_http_add_header(rq, "ETag", etag);
        limn_http_add_header(rq, "Cache-Control", "private, max-age=31536000, immutable");
    } else if (st == LIMN_E_UNSUPPORTED || st == LIMN_E_VALUE) {
        limn_http_fail(rq, LIMN_HTTP_NO_ARTIFACT, "n", "there is no such page");
    } else {
        limn_api_fail(rq, &err);
    }
    limn_mem_free(file);
    limn_artifact_deinit(&a);
}

/* ---- what comes in ---- */

/* "recipe", "text", "unknown" of a picture's bytes, added to `o`. */
static void add_recipe(json_t *o, const void *data, size_t size) {
    char *text = NULL, *unknown = NULL, *json = NULL;
    limn_params *gen = NULL;
    json_t *recipe = NULL;
    if (limn_image_decode_text(&text, data, size, NULL) == LIMN_OK &&
        limn_params_new(&gen, LIMN_PARAMS_GEN, NULL) == LIMN_OK &&
        limn_params_parse_text(gen, text, strlen(text), LIMN_FROM_FILE, &unknown, NULL) ==
            LIMN_OK &&
        limn_params_format_json(&json, gen, false, NULL) == LIMN_OK)
        recipe = json_loads(json, 0, NULL);
    json_object_set_new(o, "recipe", recipe ? recipe : json_null());
    json_object_set_new(o, "text", text ? json_string(text) : json_null());
    json_object_set_new(o, "unknown", unknown ? json_string(unknown) : json_null());
    limn_params_free(&gen);
    limn_text_free(&text);
    limn_text_free(&unknown);
    limn_text_free(&json);
}

/* files: clips and documents too. */
static bool is_picture_type(limn_http_req *rq, bool files) {
    static const char *const types[] = {"image/", "application/octet-stream", "video/",
                                        "application/pdf"};
    size_t n = files ? 4 : 2;
    for (size_t i = 0; i < n; i++)
        if (strncasecmp(rq->content_type, types[i], strlen(types[i])) == 0) return true;
    limn_http_fail(rq, LIMN_HTTP_MEDIA_TYPE, NULL,
                   files ? "Content-Type must be image/..., video/... or application/pdf"
                         : "Content-Type must be image/...");
    return false;
}

static void fail_picture(limn_http_req *rq, const limn_err *err) {
    if (err->status == LIMN_E_FORMAT || err->status == LIMN_E_LIMIT)
        limn_http_fail(rq, LIMN_HTTP_BAD_IMAGE, NULL, "%s", err->text);
    else
        limn_api_fail(rq, err);
}

void native_upload(limn_http_req *rq) {
    limn_artifact a;
    limn_media_facts facts;
    limn_err err = {0};
    limn_picture_head head;
    if (!is_picture_type(rq, true)) return;
    if (rq->body.len > LIMN_LIMIT_UPLOAD_BYTES &&
        limn_picture_sniff(&head, rq->body.data, rq->body.len, NULL) == LIMN_OK) {
        limn_http_fail(rq, LIMN_HTTP_BODY_TOO_LARGE, NULL, "a picture has at most %d bytes",
                       LIMN_LIMIT_UPLOAD_BYTES);
        return;
    }
    if (limn_media_keep(rq, &a, &facts, rq->body.data, rq->body.len, &err) != LIMN_OK) {
        fail_picture(rq, &err);
        return;
    }
    json_t *o = json_pack("{s:o, s:o}", "artifact", limn_artifact_to_json(&a), "media",
                          limn_media_facts_json(&facts));
    add_recipe(o, rq->body.data, rq->body.len);
    limn_http_reply_json(rq, 201, o);
    limn_artifact_deinit(&a);
}

void native_recipe(limn_http_req *rq) {
    limn_picture_head head;
    limn_err err = {0};
    if (!is_picture_type(rq, false)) return;
    if (limn_picture_sniff(&head, rq->body.data, rq->body.len, &err) != LIMN_OK) {
        fail_picture(rq, &err);
        return;
    }
    json_t *o =
        json_pack("{s:s, s:i, s:i}", "mime", head.mime, "width", head.width, "height", head.height);
    add_recipe(o, rq->body.data, rq->body.len);
    limn_http_reply_json(rq, 200, o);
}
