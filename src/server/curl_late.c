/* SPDX-License-Identifier: MIT */
/* The functions of libcurl that remote_fetch.c calls; opened with the first URL (base/late.h). */
#include "base/late.h"
#include "server/remote_fetch.h"

#define CALLS(X)                                                                                   \
    X(curl_easy_cleanup)                                                                           \
    X(curl_easy_getinfo)                                                                           \
    X(curl_easy_init)                                                                              \
    X(curl_easy_perform)                                                                           \
    X(curl_easy_setopt)                                                                            \
    X(curl_free)                                                                                   \
    X(curl_global_init)                                                                            \
    X(curl_slist_append)                                                                           \
    X(curl_slist_free_all)                                                                         \
    X(curl_url)                                                                                    \
    X(curl_url_cleanup)                                                                            \
    X(curl_url_get)                                                                                \
    X(curl_url_set)

LIMN_LATE_LIBRARY(limn_late_curl, "URLs in requests", CALLS, "libcurl.so.4")
