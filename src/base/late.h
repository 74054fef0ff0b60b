/* SPDX-License-Identifier: MIT */
/*
 * Shared libraries that are opened when they are first needed. Those that decode pictures, video
 * and documents bring 160 others with them, 60 ms of loading and 30 MB: most commands, and the
 * server itself, never call them.
 *
 * Sources call such a library by its own header, as if they were linked with it. A file of the
 * folder (`*_late.c`) lists the functions that are called:
 *
 *     #define CALLS(X) X(poppler_document_get_page) X(poppler_page_render)
 *     LIMN_LATE_LIBRARY(limn_late_pdf, "PDF files", CALLS, "libpoppler-glib.so.8", "libcairo.so.2")
 *
 * Each name becomes a jump through a pointer, which limn_late_open fills. A function that is called
 * but not listed does not link. Calling one before its library is open ends the program: our bug.
 *
 * Threads: any thread may open at any time; what is open stays open.
 */
#ifndef LIMN_BASE_LATE_H
#define LIMN_BASE_LATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/status.h"

typedef struct limn_late_call {
    const char *name;
    void **slot;
} limn_late_call;

typedef struct limn_late {
    const char *what;            /* it is for, in errors: "PDF files" */
    const char *const *files;    /* names of the libraries, as the loader finds them; up to NULL */
    const limn_late_call *calls; /* up to a NULL name */
    pthread_mutex_t lock;
    atomic_int state; /* 0: not tried; 1: open; 2: it failed, `why` */
    limn_err why;
} limn_late;

/* LIMN_OK at once when it is open. E_UNAVAILABLE names the library that is not there; it is not
 * tried again. */
limn_status limn_late_open(limn_late *l, limn_err *err);

/* What a slot holds before its library is open. */
void limn_late_trap(void);

#define LIMN_LATE_CALL(name) {#name, &limn_late_slot_##name},

#if defined(LIMN_LATE) && defined(__x86_64__)
#define LIMN_LATE_CODE(name)                                                                       \
    "endbr64\n"                                                                                    \
    "jmp *limn_late_slot_" #name "(%rip)\n"
#elif defined(LIMN_LATE) && defined(__aarch64__)
#define LIMN_LATE_CODE(name)                                                                       \
    "hint #34\n" /* bti c */                                                                       \
    "adrp x16, limn_late_slot_" #name "\n"                                                         \
    "ldr x16, [x16, :lo12:limn_late_slot_" #name "]\n"                                             \
    "br x16\n"
#elif defined(LIMN_LATE)
#error "meson.build sets LIMN_LATE for the processors above only; others link as usual"
#endif

/* The slot has no `static`: the code above names it. */
#define LIMN_LATE_JUMP(name)                                                                       \
    extern void *limn_late_slot_##name;                                                            \
    __attribute__((visibility("hidden"))) void *limn_late_slot_##name = (void *)limn_late_trap;    \
    __asm__(".pushsection .text\n"                                                                 \
            ".balign 16\n"                                                                         \
            ".globl " #name "\n"                                                                   \
            ".hidden " #name "\n"                                                                  \
            ".type " #name ", %function\n" #name ":\n" LIMN_LATE_CODE(name) ".size " #name         \
                                                                            ", . - " #name "\n"    \
                                                                            ".popsection\n");

#ifdef LIMN_LATE
#define LIMN_LATE_LIBRARY(library, purpose, CALLS, ...)                                            \
    CALLS(LIMN_LATE_JUMP)                                                                          \
    limn_late library = {.what = purpose,                                                          \
                         .files = (const char *const[]){__VA_ARGS__, NULL},                        \
                         .calls = (const limn_late_call[]){CALLS(LIMN_LATE_CALL){NULL, NULL}},     \
                         .lock = PTHREAD_MUTEX_INITIALIZER};
#else
#define LIMN_LATE_LIBRARY(library, purpose, CALLS, ...)                                            \
    limn_late library = {.what = purpose, .lock = PTHREAD_MUTEX_INITIALIZER, .state = 1};
#endif

#endif
