/* SPDX-License-Identifier: MIT */
/* multipart/form-data into members and files; see openai.h. */
#include <string.h>

#include "server/api/openai.h"
#include "server/multipart.h"

enum { FIELD_MAX = 1 << 20 };

/* The file of a part, or a member of form->fields. */
static limn_status keep_part(openai_form *f, const limn_multipart_part *part, limn_err *err) {
    openai_file file = {part->data, part->size};
    if (strcmp(part->name, "mask") == 0) {
        f->mask = file;
    } else if (strcmp(part->name, "image") == 0 || strcmp(part->name, "image[]") == 0) {
        if (f->n_images++ == 0) f->image = file;
    } else {
        if (part->size > FIELD_MAX)
            return limn_fail(err, LIMN_E_VALUE, "/%s: is too long", part->name);
        json_t *text = json_stringn(part->data, part->size);
        if (!text || memchr(part->data, 0, part->size)) {
            json_decref(text);
            return limn_fail(err, LIMN_E_VALUE, "/%s: is no text", part->name);
        }
        if (json_object_set_new(f->fields, part->name, text) != 0)
            return limn_fail(err, LIMN_E_NOMEM, "no memory for the form");
    }
    return LIMN_OK;
}

void openai_form_deinit(openai_form *f) {
    json_decref(f->fields);
}

limn_status openai_form_read(limn_http_req *rq, openai_form *f, limn_err *err) {
    limn_multipart m;
    limn_multipart_part part;
    bool more = true;
    limn_status st = LIMN_OK;
    *f = (openai_form){.fields = json_object()};
    LIMN_CHECK(err, f->fields, LIMN_E_NOMEM, "no memory for the form");
    LIMN_TRY(limn_multipart_open(&m, rq->content_type, rq->body.data, rq->body.len, err));
    while (more) {
        LIMN_TRY(limn_multipart_next(&m, &part, &more, err));
        if (more) LIMN_TRY(keep_part(f, &part, err));
    }
out:
    return st;
}
