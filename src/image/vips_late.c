/* SPDX-License-Identifier: MIT */
/* The functions of libvips that image/ calls; opened by limn_vips_start (base/late.h). */
#include "image/image_vips.h"

#define CALLS(X)                                                                                   \
    X(vips_autorot)                                                                                \
    X(vips_block_untrusted_set)                                                                    \
    X(vips_cache_set_max)                                                                          \
    X(vips_cast_uchar)                                                                             \
    X(vips_colourspace)                                                                            \
    X(vips_crop)                                                                                   \
    X(vips_error)                                                                                  \
    X(vips_error_buffer_copy)                                                                      \
    X(vips_error_clear)                                                                            \
    X(vips_extract_band)                                                                           \
    X(vips_foreign_find_load_buffer)                                                               \
    X(vips_icc_transform)                                                                          \
    X(vips_image_get_array_int)                                                                    \
    X(vips_image_get_int)                                                                          \
    X(vips_image_get_string)                                                                       \
    X(vips_image_get_typeof)                                                                       \
    X(vips_image_new_from_buffer)                                                                  \
    X(vips_image_write_to_memory)                                                                  \
    X(vips_init)                                                                                   \
    X(vips_leak_set)                                                                               \
    X(vips_text)                                                                                   \
    X(vips_version)

LIMN_LATE_LIBRARY(limn_late_vips, "pictures", CALLS, "libvips.so.42")

/* What libvips and poppler hand out are objects of GLib. */
#define OBJECT_CALLS(X) X(g_object_unref)

LIMN_LATE_LIBRARY(limn_late_objects, "pictures", OBJECT_CALLS, "libgobject-2.0.so.0")
