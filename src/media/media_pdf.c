/* SPDX-License-Identifier: MIT */
/*
 * PDF pages through poppler, painted on white by cairo. A page keeps the wished DPI unless it
 * would pass the pixel limits; then it is drawn as large as they allow. How long a page takes is
 * poppler's: it cannot be stopped in the middle.
 */
#include <math.h>
#include <poppler.h>

#include "base/log.h"
#include "base/mem.h"
#include "image/image.h"
#include "media/media_impl.h"
#include "media/media_late.h"

typedef struct pdf_reader {
    PopplerDocument *doc;
    double dpi;
    int64_t max_pixels;
} pdf_reader;

static void close_pdf(void *self) {
    pdf_reader *r = self;
    if (r->doc) g_object_unref(r->doc);
    limn_mem_free(r);
}

typedef struct page_size {
    int width, height;
    double scale; /* pixels per point */
} page_size;

static limn_status fit_page(page_size *out, const pdf_reader *r, PopplerPage *page, limn_err *err) {
    double w, h, scale = r->dpi / 72;
    poppler_page_get_size(page, &w, &h);
    if (!isfinite(w) || !isfinite(h) || !(w > 0) || !(h > 0))
        return limn_fail(err, LIMN_E_FORMAT, "a page of %g x %g points", w, h);
    double most = sqrt((double)r->max_pixels / (w * h));
    if (scale > most) scale = most;
    if (scale * fmax(w, h) > LIMN_MEDIA_SIDE) scale = LIMN_MEDIA_SIDE / fmax(w, h);
    double pw = fmax(1, floor(w * scale + 0.5)), ph = fmax(1, floor(h * scale + 0.5));
    if (pw * ph > (double)r->max_pixels) { /* rounding went up on both sides */
        pw = fmax(1, floor(w * scale));
        ph = fmax(1, floor(h * scale));
    }
    *out = (page_size){(int)pw, (int)ph, scale};
    return limn_media_check_size("a page", pw, ph, r->max_pixels, err);
}

static limn_status get_page(PopplerPage **out, const pdf_reader *r, int64_t index, limn_err *err) {
    *out = poppler_document_get_page(r->doc, (int)index);
    return *out ? LIMN_OK : limn_fail(err, LIMN_E_FORMAT, "the page is damaged");
}

static limn_status measure_pdf(int *width, int *height, void *self, int64_t index, limn_err *err) {
    PopplerPage *page;
    limn_status st = get_page(&page, self, index, err);
    if (st != LIMN_OK) return st;
    page_size size = {0};
    st = fit_page(&size, self, page, err);
    *width = size.width;
    *height = size.height;
    g_object_unref(page);
    return st;
}

static limn_status render(cairo_surface_t *surface, PopplerPage *page, const page_size *size,
                          limn_err *err) {
    cairo_t *cr = cairo_create(surface);
    cairo_set_source_rgb(cr, 1, 1, 1);
    cairo_paint(cr);
    cairo_scale(cr, size->scale, size->scale);
    poppler_page_render(page, cr);
    cairo_status_t cs = cairo_status(cr);
    cairo_destroy(cr);
    cairo_surface_flush(surface);
    if (cs == CAIRO_STATUS_SUCCESS) cs = cairo_surface_status(surface);
    if (cs == CAIRO_STATUS_NO_MEMORY)
        return limn_fail(err, LIMN_E_NOMEM, "no memory for a page of %d x %d pixels", size->width,
                         size->height);
    if (cs != CAIRO_STATUS_SUCCESS)
        return limn_fail(err, LIMN_E_FORMAT, "the page cannot be drawn: %s",
                         cairo_status_to_string(cs));
    return LIMN_OK;
}

static void copy_rgb(limn_image *im, cairo_surface_t *surface) {
    const unsigned char *rows = cairo_image_surface_get_data(surface);
    size_t stride = (size_t)cairo_image_surface_get_stride(surface);
    uint8_t *to = im->data;
    for (int y = 0; y < im->height; y++) {
        const uint32_t *px = (const uint32_t *)(const void *)(rows + (size_t)y * stride);
        for (int x = 0; x < im->width; x++, to += 3) {
            to[0] = (uint8_t)(px[x] >> 16);
            to[1] = (uint8_t)(px[x] >> 8);
            to[2] = (uint8_t)px[x];
        }
    }
}

static limn_status read_pdf(limn_image **out, void *self, int64_t index, limn_err *err) {
    pdf_reader *r = self;
    PopplerPage *page;
    limn_status st = get_page(&page, r, index, err);
    if (st != LIMN_OK) return st;
    cairo_surface_t *surface = NULL;
    page_size size;
    LIMN_TRY(fit_page(&size, r, page, err));
    surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, size.width, size.height);
    LIMN_TRY(render(surface, page, &size, err));
    LIMN_TRY(limn_image_new(out, size.width, size.height, 3, err));
    copy_rgb(*out, surface);
out:
    if (surface) cairo_surface_destroy(surface);
    g_object_unref(page);
    return st;
}

limn_status limn_media_open_pdf(limn_media_reader *out, const limn_media_input *in, limn_err *err) {
    limn_status st = limn_late_open(&limn_late_pdf, err);
    if (st == LIMN_OK) st = limn_late_open(&limn_late_objects, err);
    if (st != LIMN_OK) return st;
    pdf_reader *r = limn_mem_calloc(1, sizeof *r);
    if (!r) return limn_fail(err, LIMN_E_NOMEM, "no memory for a document");
    *r = (pdf_reader){.dpi = in->dpi, .max_pixels = in->max_pixels};
    GError *why = NULL;
    GBytes *bytes = g_bytes_new_static(in->data, in->size);
    r->doc = poppler_document_new_from_bytes(bytes, NULL, &why);
    g_bytes_unref(bytes);
    int pages = r->doc ? poppler_document_get_n_pages(r->doc) : 0;
    if (!r->doc) {
        bool locked = g_error_matches(why, POPPLER_ERROR, POPPLER_ERROR_ENCRYPTED);
        st = locked ? limn_fail(err, LIMN_E_UNSUPPORTED, "the document needs a password")
                    : limn_fail(err, LIMN_E_FORMAT, "the document is damaged");
    } else if (pages < 1) {
        st = limn_fail(err, LIMN_E_FORMAT, "the document has no pages");
    }
    g_clear_error(&why);
    if (st != LIMN_OK) {
        close_pdf(r);
        return st;
    }
    *out = (limn_media_reader){.self = r,
                               .kind = LIMN_MEDIA_PAGES,
                               .format = "pdf",
                               .total = pages,
                               .measure = measure_pdf,
                               .read = read_pdf,
                               .close = close_pdf};
    return LIMN_OK;
}
