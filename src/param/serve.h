/* SPDX-License-Identifier: MIT */
/*
 * limn_serve_settings: how `limn serve` listens, guards and keeps. Rows are in serve_table.c;
 * flags, LIMN_SERVE_* variables and the settings file all write into this record.
 */
#ifndef LIMN_PARAM_SERVE_H
#define LIMN_PARAM_SERVE_H

#include <assert.h>

#include "param/param.h"

typedef enum limn_compat { LIMN_COMPAT_A1111, LIMN_COMPAT_SDNEXT } limn_compat;
typedef enum limn_log_format {
    LIMN_LOG_FORMAT_AUTO,
    LIMN_LOG_FORMAT_PRETTY,
    LIMN_LOG_FORMAT_JSON
} limn_log_format;
typedef enum limn_serve_engine { LIMN_SERVE_ENGINE, LIMN_SERVE_STUB } limn_serve_engine;

typedef struct limn_serve_settings {
    limn_params head;
    char *config;
    /* listening */
    char *host;
    int64_t port; /* 0: any free one */
    char *socket; /* path of a unix socket; "" = none */
    int64_t http_threads, max_connections, connections_per_address;
    int64_t drain_seconds;
    /* guard */
    char *keys; /* path of the key file; "" = <data_dir>/keys.json */
    bool insecure_no_auth, trust_proxy;
    limn_texts allow_hosts;
    int64_t rate_limit;             /* cost units per minute; 0: none */
    bool remote_media, remote_http; /* URLs in requests (server/remote_fetch.h) */
    limn_texts remote_hosts, remote_private;
    int64_t remote_seconds, remote_size; /* size in MB */
    bool decode_apart;                   /* in locked processes (media/decoders.h) */
    int64_t decode_files, decode_seconds, decode_memory; /* memory in MB */
    /* keeping */
    char *data_dir;
    int64_t queue_depth, history_days, history_jobs, trash_hours;
    /* interfaces */
    int compat; /* limn_compat */
    char *default_model;
    bool studio;
    int engine;      /* limn_serve_engine */
    int64_t stub_ms; /* time of one step of the stub */
    /* log */
    int log_format; /* limn_log_format */
    bool log_requests, log_prompts;
} limn_serve_settings;

static inline const limn_serve_settings *limn_serve_of(const limn_params *params) {
    assert(params->kind == LIMN_PARAMS_SERVE);
    return (const limn_serve_settings *)params;
}

#endif
