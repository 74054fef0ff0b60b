/* SPDX-License-Identifier: MIT */
/* multipart/form-data into members and files; see openai.h. */
#include <microhttpd.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "server/api/openai.h"

enum { FIELD_MAX = 1 << 20 };

/* The part that is being read. */
typedef struct form_reader {
    openai_form *form;
    char name[64];
    bool file;
    limn_buf *to; /* NULL: a part that is not kept */
    bool failed;
} form_reader;

static bool is_file(const char *name) {
    return strcmp(name, "image") == 0 || strcmp(name, "image[]") == 0 || strcmp(name, "mask") == 0;
}

/* Ends the part before: a text becomes a member of form->fields. */
static void close_part(form_reader *r) {
    if (r->to == &r->form->text && !r->failed) {
        json_t *text = json_stringn(limn_buf_text(r->to), r->to->len);
        if (!text || json_object_set_new(r->form->fields, r->name, text) != 0) r->failed = true;
    }
    r->to = NULL;
}

static void open_part(form_reader *r, const char *name) {
    openai_form *f = r->form;
    close_part(r);
    snprintf(r->name, sizeof r->name, "%s", name);
    if (strcmp(name, "mask") == 0) {
        r->to = &f->mask;
    } else if (is_file(name)) {
        if (f->n_images < OPENAI_FORM_IMAGES) r->to = &f->images[f->n_images];
        f->n_images++;
    } else {
        limn_buf_clear(&f->text);
        r->to = &f->text;
    }
}

static enum MHD_Result take_piece(void *user, enum MHD_ValueKind kind, const char *key,
                                  const char *filename, const char *content_type,
                                  const char *encoding, const char *data, uint64_t at,
                                  size_t size) {
    form_reader *r = user;
    (void)kind, (void)filename, (void)content_type, (void)encoding;
    if (!key || strlen(key) >= sizeof r->name) {
        r->failed = true;
        return MHD_NO;
    }
    if (at == 0) open_part(r, key);
    if (r->to) limn_buf_add(r->to, data, size);
    if (r->to && r->to->failed) r->failed = true;
    return r->failed ? MHD_NO : MHD_YES;
}

void openai_form_deinit(openai_form *f) {
    json_decref(f->fields);
    limn_buf_deinit(&f->text);
    limn_buf_deinit(&f->mask);
    for (int i = 0; i < OPENAI_FORM_IMAGES; i++) limn_buf_deinit(&f->images[i]);
}

limn_status openai_form_read(limn_http_req *rq, openai_form *f, limn_err *err) {
    form_reader r = {.form = f};
    *f = (openai_form){.fields = json_object()};
    limn_buf_init(&f->text, FIELD_MAX);
    limn_buf_init(&f->mask, LIMN_LIMIT_UPLOAD_BYTES);
    for (int i = 0; i < OPENAI_FORM_IMAGES; i++)
        limn_buf_init(&f->images[i], LIMN_LIMIT_UPLOAD_BYTES);
    if (!f->fields) return limn_fail(err, LIMN_E_NOMEM, "no memory for the form");
    if (strncasecmp(rq->content_type, "multipart/form-data", 19) != 0)
        return limn_fail(err, LIMN_E_VALUE, "Content-Type must be multipart/form-data");
    struct MHD_PostProcessor *pp = MHD_create_post_processor(rq->conn, 65536, take_piece, &r);
    if (!pp) return limn_fail(err, LIMN_E_VALUE, "the form has no boundary");
    bool read = MHD_post_process(pp, rq->body.data, rq->body.len) == MHD_YES;
    bool whole = MHD_destroy_post_processor(pp) == MHD_YES;
    close_part(&r);
    if (!read || !whole || r.failed)
        return limn_fail(err, LIMN_E_VALUE, "the form is broken, or a part of it too long");
    return LIMN_OK;
}
