/* SPDX-License-Identifier: MIT */
/*
 * The shelf: which models there are, by name, as found in the models folder and among those that
 * come with limn. What a file is, its contents decide (formats/detect.h); where it lies, only its
 * name: the path below the folder of its kind, without the ending ("sdxl/juggernaut").
 *
 * Files in pickle form are left out unless the models folder has a file "allow-pickle", put there
 * by whoever runs the server.
 *
 * The shelf holds no weights; what is loaded belongs to the engine runner. Any thread may call;
 * a scan reads headers only, and remembers files that have not changed.
 */
#ifndef LIMN_JOB_SHELF_H
#define LIMN_JOB_SHELF_H

#include "base/mem.h"
#include "formats/license.h"
#include "limn.h"

/* X(id, word, folders below the models folder that are not part of a name: those in which the
 * pipeline looks names up) */
#define LIMN_SHELF_LIST(X)                                                                         \
    X(DRAW, "draw", "checkpoints|Stable-diffusion")                                                \
    X(SEE, "see", "text|vision|LLM|llm|VLM|vlm")                                                   \
    X(LORA, "lora", "Lora|loras|lora")                                                             \
    X(VAE, "vae", "vae|VAE|vae_approx")                                                            \
    X(EMBEDDING, "embedding", "embeddings")                                                        \
    X(UPSCALER, "upscaler", "upscale_models|ESRGAN|RealESRGAN")

typedef enum limn_shelf_kind {
#define X(id, word, folders) LIMN_SHELF_##id,
    LIMN_SHELF_LIST(X)
#undef X
        LIMN_SHELF_KINDS
} limn_shelf_kind;

const char *limn_shelf_kind_word(limn_shelf_kind k);

typedef struct limn_shelf_item {
    limn_shelf_kind kind;
    char *name;         /* what requests call it */
    char *path;         /* for the server's own use, never for clients */
    const char *family; /* "sd1", "sdxl", "qwen3vl" ...; "" not known. Static */
    const char *title;  /* "Stable Diffusion 1.x". Static */
    limn_license license;
    bool supported;  /* limn can use it */
    bool bundled;    /* comes with limn */
    bool is_default; /* used when a request names none */
    bool loaded;     /* filled by the engine runner */
    int64_t memory;  /* bytes that it holds while loaded */
    int64_t bytes;   /* on disk */
    int64_t modified_ms;
} limn_shelf_item;

typedef struct limn_shelf_page {
    limn_shelf_item *items; /* [count], by kind, then name */
    int count;
} limn_shelf_page;
void limn_shelf_page_deinit(limn_shelf_page *page);
void limn_shelf_item_deinit(limn_shelf_item *item);

typedef struct limn_shelf limn_shelf;

/* models_dir NULL or "": only what comes with limn. Scans once. A folder that cannot be read is an
 * empty one, and logged. */
limn_status limn_shelf_new(limn_shelf **out, const char *models_dir, limn_err *err);
void limn_shelf_free(limn_shelf **shelf);
/* Looks again. */
limn_status limn_shelf_refresh(limn_shelf *shelf, limn_err *err);
/* kinds: bits 1u << limn_shelf_kind; 0: all. */
limn_status limn_shelf_list(limn_shelf *shelf, limn_shelf_page *out, unsigned kinds, limn_err *err);
/* By name (with or without its ending; case does not matter; "name [hash]" is taken as A1111 writes
 * it), or "" for the default. E_NOT_FOUND names near ones; E_UNSUPPORTED: known, but not usable. */
limn_status limn_shelf_find(limn_shelf *shelf, limn_shelf_item *out, limn_shelf_kind kind,
                            const char *name, limn_err *err);
/* The default of a kind (DRAW, SEE); "" takes it back to the bundled one. E_NOT_FOUND. */
limn_status limn_shelf_set_default(limn_shelf *shelf, limn_shelf_kind kind, const char *name,
                                   limn_err *err);
/* What is inside: the object of `limn info --json`, with the name in place of the path. */
limn_status limn_shelf_info(limn_shelf *shelf, char **out, limn_shelf_kind kind, const char *name,
                            limn_err *err);

#endif
