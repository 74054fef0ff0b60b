/* SPDX-License-Identifier: MIT */
/*
 * Decoding in other processes: pictures, clips and documents of strangers are decoded by a child
 * that can neither read nor write anything else (jail.h), lives for one file, and is killed when it
 * takes too long. A child that crashes is an E_FORMAT of that file; one that used up its processor
 * time an E_LIMIT; one that got none from a busy machine E_UNAVAILABLE.
 *
 *     limn_decoders_start(&d, &options, &err);
 *     limn_decoders_use(d);          from now on limn_image_decode, limn_image_decode_text and
 *                                    limn_media_open* of this process go through d
 *     limn_decoders_try(d, &err);    when the rest of the program has started
 *
 * The children are forked from a host: this program, started again as `limn decode-host`, with the
 * libraries loaded and one child waiting, so that a visit does not pay for a start. The host has
 * nothing of the server's memory or files. It is started again when it is gone.
 *
 * What the kernel refuses is never made up for by decoding here: the files are then refused too.
 *
 * Threads: any thread may decode at any time; start, use and stop belong to the thread that owns
 * the process's life, before the others start and after they have ended.
 */
#ifndef LIMN_MEDIA_DECODERS_H
#define LIMN_MEDIA_DECODERS_H

#include "limn.h"

#include "base/status.h"

typedef struct limn_decoders limn_decoders;

typedef struct limn_decoders_options {
    const char *program; /* NULL: the running one */
    int most;            /* files open at once; further ones wait: 4 */
    int seconds;         /* of processor time, for one picture, page or frame: 30 */
    int64_t memory;      /* bytes of address space of a child: 2 GiB */
} limn_decoders_options;

typedef enum limn_decoders_state {
    LIMN_DECODERS_STARTING, /* not tried yet */
    LIMN_DECODERS_READY,
    LIMN_DECODERS_PARTLY, /* ready, without fonts of the machine: PDF files are refused */
    LIMN_DECODERS_REFUSED /* the kernel refuses, or the host does not start: `why` */
} limn_decoders_state;

typedef struct limn_decoders_info {
    limn_decoders_state state;
    char why[LIMN_ERR_TEXT_MAX];
    int64_t files, crashed, late; /* visits begun; ended by a signal; killed for their time */
    int busy;
} limn_decoders_info;

/* The host starts with the first visit. */
limn_status limn_decoders_start(limn_decoders **out, const limn_decoders_options *options,
                                limn_err *err);
/* Tries a child on a thread, so that the host is ready before it is needed and `state` is known.
 * Once, by the thread that called start. */
limn_status limn_decoders_try(limn_decoders *d, limn_err *err);
/* NULL: decode here. */
void limn_decoders_use(limn_decoders *d);
/* Ends the host and its children. NULL-safe. No decoding may be under way. */
void limn_decoders_stop(limn_decoders **d);
void limn_decoders_look(limn_decoders *d, limn_decoders_info *out);

/* Things that a child tries so that the locks are seen to hold. */
typedef enum limn_decode_probe {
    LIMN_PROBE_NOTHING, /* answers */
    LIMN_PROBE_READ,    /* opens a file outside of the fonts' folders: answers when it cannot */
    LIMN_PROBE_MEMORY,  /* asks for more memory than it may have: answers when it gets none */
    LIMN_PROBE_WRITE,   /* each of these ends it: opens a file to write, */
    LIMN_PROBE_SOCKET,  /* makes a socket, */
    LIMN_PROBE_EXEC,    /* starts a program, */
    LIMN_PROBE_CRASH,   /* writes to address 0, */
    LIMN_PROBE_SPIN     /* never answers */
} limn_decode_probe;
/* E_FORMAT: the child died of it; E_LIMIT: it took too long; E_UNSUPPORTED: the kernel refuses. */
limn_status limn_decoders_probe(limn_decoders *d, limn_decode_probe what, limn_err *err);

#endif
