/* SPDX-License-Identifier: MIT */
/* The functions of the FFmpeg libraries that media/ calls (base/late.h). */
#include <libavcodec/version.h>
#include <libavformat/version.h>
#include <libavutil/avutil.h>
#include <libswscale/version.h>

#include "media/media_late.h"

#if LIBAVFORMAT_VERSION_MAJOR >= 61
#define SIDE_DATA(X) X(av_packet_side_data_get)
#else
#define SIDE_DATA(X) X(av_stream_get_side_data)
#endif

#define CALLS(X)                                                                                   \
    X(av_calloc)                                                                                   \
    X(av_dict_free)                                                                                \
    X(av_dict_set)                                                                                 \
    X(av_dict_set_int)                                                                             \
    X(av_display_matrix_flip)                                                                      \
    X(av_display_rotation_get)                                                                     \
    X(av_frame_alloc)                                                                              \
    X(av_frame_free)                                                                               \
    X(av_frame_unref)                                                                              \
    X(av_free)                                                                                     \
    X(av_freep)                                                                                    \
    X(av_get_pix_fmt_name)                                                                         \
    X(av_log_set_callback)                                                                         \
    X(av_malloc)                                                                                   \
    X(av_match_list)                                                                               \
    X(av_packet_alloc)                                                                             \
    X(av_packet_free)                                                                              \
    X(av_packet_unref)                                                                             \
    X(av_read_frame)                                                                               \
    X(av_seek_frame)                                                                               \
    X(av_strerror)                                                                                 \
    X(avcodec_alloc_context3)                                                                      \
    X(avcodec_find_decoder)                                                                        \
    X(avcodec_flush_buffers)                                                                       \
    X(avcodec_free_context)                                                                        \
    X(avcodec_get_name)                                                                            \
    X(avcodec_open2)                                                                               \
    X(avcodec_parameters_to_context)                                                               \
    X(avcodec_receive_frame)                                                                       \
    X(avcodec_send_packet)                                                                         \
    X(avformat_alloc_context)                                                                      \
    X(avformat_close_input)                                                                        \
    X(avformat_find_stream_info)                                                                   \
    X(avformat_open_input)                                                                         \
    X(avio_alloc_context)                                                                          \
    X(avio_context_free)                                                                           \
    X(sws_freeContext)                                                                             \
    X(sws_getCachedContext)                                                                        \
    X(sws_getCoefficients)                                                                         \
    X(sws_scale)                                                                                   \
    X(sws_setColorspaceDetails)                                                                    \
    SIDE_DATA(X)

/* These libraries are named by their major versions. */
LIMN_LATE_LIBRARY(limn_late_av, "videos", CALLS,
                  "libavformat.so." AV_STRINGIFY(LIBAVFORMAT_VERSION_MAJOR),
                  "libavcodec.so." AV_STRINGIFY(LIBAVCODEC_VERSION_MAJOR),
                  "libavutil.so." AV_STRINGIFY(LIBAVUTIL_VERSION_MAJOR),
                  "libswscale.so." AV_STRINGIFY(LIBSWSCALE_VERSION_MAJOR))
