/* SPDX-License-Identifier: MIT */
/*
 * The engine behind include/limn.h: compute backends, the loaded model and where names are looked
 * up. One thread at a time (limn.h); the server serialises its work on it.
 */
#ifndef LIMN_PIPELINE_ENGINE_H
#define LIMN_PIPELINE_ENGINE_H

#include "backend/backend.h"
#include "limn.h"
#include "param/gen.h"
#include "pipeline/checkpoint.h"

struct limn_engine {
    int threads;
    unsigned cpu_flags;
    size_t memory;     /* bytes; 0: no limit */
    char *models_dir;  /* NULL: none */
    bool names_only;   /* requests name models, never paths: set by who serves others */
    char *pack_dir;    /* packed weights on disk; NULL: none */
    char *speed_file;  /* speeds.h; NULL: nothing is kept */
    limn_turns *turns; /* shares the cores with others; NULL: has them for itself. Borrowed */
    limn_backend *backend;
    limn_precision precision; /* of `backend` */
    limn_checkpoint *ckpt;
    char *ckpt_key; /* what `ckpt` was opened with */
    limn_checkpoint *refiner;
    char *refiner_key;
};

/* The backend for a precision; a change of precision frees the model's packed weights. */
limn_status limn_engine_backend(limn_backend **out, limn_engine *e, limn_gen_precision precision,
                                limn_err *err);
/* The checkpoint that `gen` names, opened or kept from the last call. `note` (256 bytes) gets a
 * line for the user when a default was taken, else "". */
limn_status limn_engine_checkpoint(limn_checkpoint **out, limn_engine *e, const limn_gen *gen,
                                   char *note, limn_err *err);

/* The refiner that `gen` names; NULL when it names none. E_SHAPE when its latents are others. */
limn_status limn_engine_refiner(limn_checkpoint **out, limn_engine *e, const limn_gen *gen,
                                limn_err *err);

/* Resolves a name to a path: as it is when it exists (not with names_only); else below models_dir,
 * with and without the usual endings, in `kinds` ('|'-separated subfolders, "" = models_dir
 * itself). The caller frees. E_NOT_FOUND lists where it looked and the nearest names. */
limn_status limn_engine_find(char **path, const limn_engine *e, const char *name, const char *kinds,
                             limn_err *err);
/* Folder of a model that comes with limn ("mini-draw", "mini-upscale", "mini-see"), NULL when it is
 * not there. Looked for in $LIMN_MODELS, beside the program (models/ there and in the two folders
 * above, share/limn/models/ too), in the folder that the build installs to. Caller frees. */
char *limn_engine_bundled(const char *name);

#endif
