/* SPDX-License-Identifier: MIT */
/*
 * A loaded drawing model: its networks' parameters, their shapes, tokenizers and noise schedule,
 * whatever the file's form. Loading maps files and reads configs; it copies no weights, so it takes
 * milliseconds. Owned by the engine; one thread at a time.
 */
#ifndef LIMN_PIPELINE_CHECKPOINT_H
#define LIMN_PIPELINE_CHECKPOINT_H

#include "formats/model_config.h"
#include "models/autoencoder.h"
#include "models/clip_text.h"
#include "models/model_weights.h"
#include "models/unet.h"
#include "sample/noising.h"
#include "sample/schedule.h"
#include "text/prompt.h"
#include "text/tokenizer.h"

enum { LIMN_TEXT_ENCODERS = 2 };

typedef struct limn_text_encoder {
    limn_clip_config cfg;
    limn_model_weights *weights;
    limn_tokenizer *tokenizer;
    int slot;     /* which "TEn:" text of a prompt is for it: 0 or 1 */
    int window;   /* tokens per chunk with bos and eos: 77, or the positions of a smaller model */
    int skip;     /* layers left out at the end when the user does not say */
    int skip_min; /* SDXL: never the last layer */
    bool final_norm; /* tapped states pass the final norm */
    bool pooled;     /* its pooled vector is wanted */
    bool pool_largest;
    /* textual inversions for this encoder */
    limn_prompt_embedding *embeddings;
    size_t n_embeddings;
    float *embed_vectors; /* [embed_rows, width] */
    int64_t embed_rows;
    int *embed_first; /* first row of each embedding */
} limn_text_encoder;

typedef struct limn_checkpoint {
    limn_arena arena;
    char *path;
    const char *family; /* "sd1", "sd2", "sdxl", "sdxl-refiner" */
    limn_unet_config unet_cfg;
    limn_model_weights *unet;
    limn_vae_config vae_cfg;
    limn_model_weights *vae; /* NULL: none */
    limn_taesd_config taesd_cfg;
    limn_model_weights *taesd; /* NULL: none */
    limn_text_encoder text[LIMN_TEXT_ENCODERS];
    int n_text;
    int pooled_dim; /* of the pooled text vector; 0: none */
    limn_noising noising;
    const limn_schedule *schedule; /* what "automatic" means for it; NULL: the solver's own */
    int64_t native_size; /* pixels the model was trained at: 512, 768, 1024, or the folder's own */
    int latent_scale;    /* pixels per latent: 8 */
    struct limn_adapters *adapters;         /* lora_stage.h; NULL: none */
    bool ends_noisy;                        /* limn_trained_noise */
    const char *sampler, *sampler_schedule; /* the model's advice, static; "": none */
    char *advice; /* limn.json: recommended parameters as JSON; NULL: none */
} limn_checkpoint;

typedef struct limn_checkpoint_options {
    const char *vae_path;          /* NULL or "": the model's own */
    const char *taesd_path;        /* NULL or "": none */
    int prediction;                /* -1: what the model says, else limn_prediction */
    double shift;                  /* flow shift; 0: the model's */
    const char *const *embeddings; /* textual-inversion files */
    int n_embeddings;
} limn_checkpoint_options;

/* E_NOT_FOUND, E_FORMAT, E_UNSUPPORTED (a known family that limn does not draw with; the text says
 * which), E_MISSING (no text encoder, no autoencoder: the text says what to add). */
limn_status limn_checkpoint_open(limn_checkpoint **out, const char *path,
                                 const limn_checkpoint_options *opt, limn_err *err);
void limn_checkpoint_free(limn_checkpoint **c);
/* Of the weights of its networks, as they lie in their files. */
int64_t limn_checkpoint_bytes(const limn_checkpoint *c);
/* An open model takes up to so many times what its files take: mapped pages and packed forms. */
enum { LIMN_PACKED_SHARE = 2 };

#endif
