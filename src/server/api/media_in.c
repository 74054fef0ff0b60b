/* SPDX-License-Identifier: MIT */
/*
 * Clips and documents that come in, beside pictures (picture_in.c): what they are is asked of their
 * content; they are opened once, in a process that decodes, so that a damaged one is refused before
 * a job waits for it.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "media/media.h"
#include "server/api/api.h"

enum { PAGES_MAX = 2000 };

static const char *kind_word(limn_media_kind kind) {
    switch (kind) {
    case LIMN_MEDIA_PICTURE: return "picture";
    case LIMN_MEDIA_PAGES: return "document";
    case LIMN_MEDIA_VIDEO: break;
    }
    return "clip";
}

/* The containers that begin with what they are; others are not tried. */
static bool is_container(const unsigned char *p, size_t n) {
    static const struct {
        size_t at, len;
        const char *bytes;
    } known[] = {
        {0, 5, "%PDF-"}, {0, 4, "II*\0"},      {0, 4, "MM\0*"},
        {0, 4, "GIF8"},  {4, 4, "ftyp"},       {0, 4, "\x1a\x45\xdf\xa3"},
        {0, 4, "RIFF"},  {0, 4, "\0\0\1\xba"}, {0, 4, "FLV\1"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (n >= known[i].at + known[i].len &&
            memcmp(p + known[i].at, known[i].bytes, known[i].len) == 0)
            return true;
    return false;
}

static limn_status look_inside(limn_media_facts *out, const void *data, size_t size,
                               limn_err *err) {
    limn_media *media = NULL;
    limn_media_options o = {
        .frames = 1, .first = 1, .last = 1, .dpi = 72, .max_pixels = LIMN_LIMIT_PIXELS};
    limn_status st = limn_media_open_memory(&media, "the file", data, size, &o, err);
    if (st != LIMN_OK) return st;
    const limn_media_info *info = limn_media_info_of(media);
    *out = (limn_media_facts){.kind = kind_word(info->kind),
                              .total = info->total,
                              .width = info->width,
                              .height = info->height,
                              .fps = info->fps,
                              .seconds = info->duration};
    snprintf(out->format, sizeof out->format, "%s", info->format);
    if (info->kind == LIMN_MEDIA_PAGES && info->total > PAGES_MAX)
        st = limn_fail(err, LIMN_E_LIMIT, "a document of %lld pages: at most %d",
                       (long long)info->total, PAGES_MAX);
    limn_media_close(&media);
    return st;
}

static bool can_decode(limn_server *s) {
    limn_decoders_info info = {.state = LIMN_DECODERS_READY};
    if (s->decoders) limn_decoders_look(s->decoders, &info);
    return info.state == LIMN_DECODERS_READY;
}

limn_status limn_media_keep(limn_http_req *rq, limn_artifact *out, limn_media_facts *facts,
                            const void *data, size_t size, limn_err *err) {
    limn_picture_head head;
    *out = (limn_artifact){0};
    if (limn_picture_sniff(&head, data, size, NULL) == LIMN_OK) {
        *facts = (limn_media_facts){
            .kind = "picture", .total = 1, .width = head.width, .height = head.height};
        snprintf(facts->format, sizeof facts->format, "%s", head.mime + strlen("image/"));
        return limn_picture_keep(rq, out, data, size, err);
    }
    if (!is_container(data, size)) {
        limn_status st = limn_picture_sniff(&head, data, size, err);
        if (st == LIMN_E_LIMIT) return st;
        if (size > 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0 && memmem(data, size, "acTL", 4))
            return limn_fail(err, LIMN_E_FORMAT,
                             "an animated PNG: send it as GIF, WebP or a clip, or a picture of it");
        return limn_fail(err, LIMN_E_FORMAT,
                         "neither a picture (PNG, JPEG, WebP, GIF, TIFF), a PDF nor a clip (MP4, "
                         "MOV, WebM, Matroska, AVI, MPEG, FLV)");
    }
    limn_status st = look_inside(facts, data, size, err);
    if (st == LIMN_OK)
        st = limn_queue_upload(rq->server->queue, rq->who.owner, data, size, out, err);
    /* A codec that is not read, a password: the file's fault, unless nothing can be decoded. */
    if (st == LIMN_E_UNSUPPORTED && can_decode(rq->server)) {
        if (err) err->status = LIMN_E_FORMAT;
        st = LIMN_E_FORMAT;
    }
    return st;
}

json_t *limn_media_facts_json(const limn_media_facts *f) {
    bool clip = strcmp(f->kind, "clip") == 0;
    return json_pack("{s:s, s:s, s:I, s:i, s:i, s:o, s:o}", "kind", f->kind, "format", f->format,
                     "total", (json_int_t)f->total, "width", f->width, "height", f->height, "fps",
                     clip ? json_real(f->fps) : json_null(), "seconds",
                     clip ? json_real(f->seconds) : json_null());
}

/* ---- references ---- */

/* The word of a part of a message for what an artifact is. */
static const char *part_word(const char *mime) {
    if (strncmp(mime, "video/", 6) == 0 || strcmp(mime, "image/gif") == 0) return "video";
    if (strcmp(mime, "application/pdf") == 0 || strcmp(mime, "image/tiff") == 0) return "document";
    return strncmp(mime, "image/", 6) == 0 ? "image" : "document";
}

static limn_status take_known(limn_http_req *rq, limn_media_ref *out, const char *sha,
                              const char *where, limn_err *err) {
    limn_artifact a = {0};
    if (!limn_sha_is_valid(sha))
        return limn_fail(err, LIMN_E_VALUE, "%s: an artifact id has 64 hex digits", where);
    limn_status st = limn_queue_artifact(rq->server->queue, limn_http_owner(rq), sha, &a, err);
    if (st == LIMN_E_NOT_FOUND)
        return limn_fail(err, LIMN_E_VALUE, "%s: there is no such artifact", where);
    if (st != LIMN_OK) return st;
    snprintf(out->text, sizeof out->text, "artifact:%s", a.sha);
    out->part = part_word(a.mime);
    limn_artifact_deinit(&a);
    return LIMN_OK;
}

typedef limn_status keep_fn(limn_http_req *rq, limn_artifact *out, const void *data, size_t size,
                            limn_err *err);
/* What a kind of reference takes, and its words in errors, which clients of A1111 look for. */
typedef struct ref_reader {
    keep_fn *keep;
    const char *plural, *invalid; /* "remote ... are disabled"; before the reason, or NULL */
} ref_reader;

static limn_status keep_any(limn_http_req *rq, limn_artifact *out, const void *data, size_t size,
                            limn_err *err) {
    limn_media_facts facts;
    return limn_media_keep(rq, out, &facts, data, size, err);
}

/* The base64 of `ref`, or NULL with an error. */
static const char *base64_of(const ref_reader *r, const char *ref, bool raw, const char *where,
                             limn_err *err) {
    if (strncasecmp(ref, "data:", 5) == 0) {
        const char *comma = strchr(ref, ',');
        size_t n = comma ? (size_t)(comma - ref) : 0;
        if (comma && n <= 256 && n >= 7 && strncasecmp(comma - 7, ";base64", 7) == 0)
            return comma + 1;
        limn_fail(err, LIMN_E_VALUE, "%s: a data: URI must be in base64", where);
    } else if (strstr(ref, "://")) {
        limn_fail(err, LIMN_E_VALUE, "%s: remote %s are disabled", where, r->plural);
    } else if (!raw) {
        limn_fail(err, LIMN_E_VALUE, "%s: must be artifact:<id> or a data: URI", where);
    } else {
        return ref;
    }
    return NULL;
}

static limn_status take(const ref_reader *r, limn_http_req *rq, limn_media_ref *out,
                        const char *ref, bool raw, const char *where, limn_err *err) {
    limn_artifact a = {0};
    limn_err why = {0};
    void *data = NULL;
    size_t size = 0;
    *out = (limn_media_ref){0};
    if (strncmp(ref, "artifact:", 9) == 0) return take_known(rq, out, ref + 9, where, err);
    const char *base64 = base64_of(r, ref, raw, where, err);
    if (!base64) return LIMN_E_VALUE;
    limn_status st = limn_base64_read(&data, &size, base64, strlen(base64), &why);
    if (st == LIMN_OK) st = r->keep(rq, &a, data, size, &why);
    limn_mem_free(data);
    if (st == LIMN_OK) {
        snprintf(out->text, sizeof out->text, "artifact:%s", a.sha);
        out->part = part_word(a.mime);
    }
    limn_artifact_deinit(&a);
    if (st == LIMN_E_FORMAT || st == LIMN_E_LIMIT)
        return r->invalid ? limn_fail(err, LIMN_E_VALUE, "%s: %s (%s)", where, r->invalid, why.text)
                          : limn_fail(err, LIMN_E_VALUE, "%s: %s", where, why.text);
    return st == LIMN_OK ? LIMN_OK : limn_fail(err, st, "%s: %s", where, why.text);
}

limn_status limn_media_take(limn_http_req *rq, limn_media_ref *out, const char *ref, bool raw,
                            const char *where, limn_err *err) {
    static const ref_reader any = {keep_any, "files", NULL};
    return take(&any, rq, out, ref, raw, where, err);
}

limn_status limn_picture_take(limn_http_req *rq, char out[LIMN_PICTURE_REF_MAX], const char *ref,
                              bool raw, const char *where, limn_err *err) {
    static const ref_reader pictures = {limn_picture_keep, "images", "Invalid encoded image"};
    limn_media_ref kept;
    limn_status st = take(&pictures, rq, &kept, ref, raw, where, err);
    memcpy(out, kept.text, sizeof kept.text);
    return st;
}
