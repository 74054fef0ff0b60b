/* SPDX-License-Identifier: MIT */
/* Findings drawn on a copy of their picture; see limn_sight_draw in limn.h. */
#include <string.h>

#include "image/image.h"
#include "pipeline/task.h"

/* Colours that are told apart on most pictures; one for each label, in turn. */
static const uint8_t colours[][3] = {{220, 38, 38},  {22, 120, 60},  {37, 99, 235}, {180, 83, 9},
                                     {147, 51, 234}, {14, 116, 144}, {190, 24, 93}, {77, 90, 20}};
enum { COLOURS = sizeof colours / sizeof colours[0] };

static const uint8_t *colour_of(const limn_sight *s, const limn_finding *f) {
    size_t n = 0; /* different labels before this one */
    for (const limn_finding *g = s->findings; g < f; g++) {
        bool seen = strcmp(g->label, f->label) == 0;
        if (seen) return colour_of(s, g);
        bool again = false;
        for (const limn_finding *h = s->findings; h < g && !again; h++)
            again = strcmp(h->label, g->label) == 0;
        n += !again;
    }
    return colours[n % COLOURS];
}

limn_status limn_sight_load_picture(limn_image **out, const limn_sight *s, int index,
                                    const limn_params *see, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_media_options o;
    limn_media *media = NULL;
    *out = NULL;
    LIMN_CHECK(err, index >= 0 && (size_t)index < s->n_pictures, LIMN_E_VALUE,
               "there is no picture %d", index);
    const limn_sight_picture *p = &s->pictures[index];
    LIMN_CHECK(err, p->file[0], LIMN_E_UNSUPPORTED, "the picture did not come as a file");
    LIMN_TRY(limn_media_settle(&o, limn_seeing_of(see), err));
    LIMN_TRY(limn_media_open(&media, p->file, &o, err));
    const limn_media_info *info = limn_media_info_of(media);
    LIMN_CHECK(err, info->kind != LIMN_MEDIA_VIDEO, LIMN_E_UNSUPPORTED,
               "%s is a clip: only pictures and pages are drawn on", p->file);
    for (int i = 0; i < info->count; i++) {
        limn_image_free(out);
        LIMN_TRY(limn_media_next(out, media, err));
        if (limn_media_index(media, i) + 1 == p->page) break;
    }
    LIMN_CHECK(err, *out, LIMN_E_FORMAT, "%s: has no page %d", p->file, p->page);
out:
    limn_media_close(&media);
    if (st != LIMN_OK) limn_image_free(out);
    return st;
}

limn_status limn_sight_draw(limn_image **out, const limn_sight *s, const limn_image *picture,
                            int index, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_mark *marks = NULL;
    size_t n = 0;
    *out = NULL;
    LIMN_CHECK(err, index >= 0 && (size_t)index < s->n_pictures, LIMN_E_VALUE,
               "there is no picture %d", index);
    LIMN_CHECK(err,
               picture->width == s->pictures[index].width &&
                   picture->height == s->pictures[index].height,
               LIMN_E_VALUE, "the picture has another size than the one that was looked at");
    marks = limn_mem_calloc(2 * s->n_findings + 1, sizeof *marks);
    LIMN_CHECK(err, marks, LIMN_E_NOMEM, "no memory for marks");
    for (size_t i = 0; i < s->n_findings; i++) {
        const limn_finding *f = &s->findings[i];
        if (f->picture != index) continue;
        limn_mark m = {.label = f->label[0] ? f->label : f->text};
        memcpy(m.colour, colour_of(s, f), 3);
        if (f->has_box) {
            memcpy(m.box, f->box, sizeof m.box);
            marks[n++] = m;
        }
        if (f->has_point) {
            m.box[0] = m.box[2] = f->point[0];
            m.box[1] = m.box[3] = f->point[1];
            marks[n++] = m;
        }
    }
    LIMN_TRY(limn_image_convert(out, picture, 3, err));
    LIMN_TRY(limn_image_annotate(*out, marks, n, err));
out:
    limn_mem_free(marks);
    if (st != LIMN_OK) limn_image_free(out);
    return st;
}
