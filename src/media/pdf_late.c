/* SPDX-License-Identifier: MIT */
/* The functions of poppler, cairo and fontconfig that media/ calls (base/late.h). */
#include "media/media_late.h"

#define PDF_CALLS(X)                                                                               \
    X(cairo_create)                                                                                \
    X(cairo_destroy)                                                                               \
    X(cairo_image_surface_create)                                                                  \
    X(cairo_image_surface_get_data)                                                                \
    X(cairo_image_surface_get_stride)                                                              \
    X(cairo_paint)                                                                                 \
    X(cairo_scale)                                                                                 \
    X(cairo_set_source_rgb)                                                                        \
    X(cairo_status)                                                                                \
    X(cairo_status_to_string)                                                                      \
    X(cairo_surface_destroy)                                                                       \
    X(cairo_surface_flush)                                                                         \
    X(cairo_surface_status)                                                                        \
    X(poppler_document_get_n_pages)                                                                \
    X(poppler_document_get_page)                                                                   \
    X(poppler_document_new_from_bytes)                                                             \
    X(poppler_error_quark)                                                                         \
    X(poppler_page_get_size)                                                                       \
    X(poppler_page_render)

LIMN_LATE_LIBRARY(limn_late_pdf, "PDF files", PDF_CALLS, "libpoppler-glib.so.8", "libcairo.so.2")

#define FONT_CALLS(X)                                                                              \
    X(FcConfigGetCacheDirs)                                                                        \
    X(FcConfigGetFontDirs)                                                                         \
    X(FcInit)                                                                                      \
    X(FcStrListDone)                                                                               \
    X(FcStrListNext)

LIMN_LATE_LIBRARY(limn_late_fonts, "fonts", FONT_CALLS, "libfontconfig.so.1")
