/* SPDX-License-Identifier: MIT */
/*
 * What a server and its decoding processes say to each other. Both ends are the same program on
 * the same machine, so the records travel as they lie in memory; what comes back from a decoder is
 * nevertheless checked as a stranger's word, since strangers' files may have taken it over.
 *
 *     server --ask + line + data--> (control socket) an idle decoder takes one
 *     decoder --hello--> line, then one reply; for MEDIA steps from the server, a reply to each
 *     decoder --pid--> host: "I am busy", which makes it fork the next one
 *     host --died--> server: how a decoder ended
 *
 * `line` is a stream socket of this one visit, `data` a sealed memfd with the file. Internal.
 */
#ifndef LIMN_MEDIA_DECODE_WIRE_H
#define LIMN_MEDIA_DECODE_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "limn_status.h"

enum {
    LIMN_DECODE_MAGIC = 0x4c494d4e,
    LIMN_DECODE_CONTROL_FD = 3, /* of a host */
    LIMN_DECODE_REPORT_FD = 4,
    LIMN_DECODE_FORMAT_MAX = 16
};

typedef enum limn_decode_op {
    LIMN_DECODE_PICTURE,
    LIMN_DECODE_TEXT,
    LIMN_DECODE_MEDIA,
    LIMN_DECODE_PROBE
} limn_decode_op;

typedef struct limn_decode_ask {
    uint32_t magic, op;
    uint64_t size; /* of the data */
    double dpi;
    int64_t max_pixels;
    int32_t threads;
    int32_t probe; /* limn_decode_probe */
} limn_decode_ask;

typedef struct limn_decode_hello {
    uint32_t magic;
    int32_t pid;
} limn_decode_hello;

typedef struct limn_decode_step {
    uint32_t read; /* 0: measure */
    uint32_t unused;
    int64_t index;
} limn_decode_step;

typedef struct limn_decode_reply {
    uint32_t magic;
    int32_t status; /* limn_status */
    int32_t width, height, channels;
    int32_t kind; /* limn_media_kind */
    char format[LIMN_DECODE_FORMAT_MAX];
    int64_t total;
    double fps;
    uint64_t bytes; /* that follow: pixels or text */
    char text[LIMN_ERR_TEXT_MAX];
} limn_decode_reply;

typedef struct limn_decode_died {
    int32_t pid;
    int32_t status; /* as waitpid says it */
} limn_decode_died;

#endif
