/* SPDX-License-Identifier: MIT */
/*
 * Under which licence a model was given away, as far as its own files say: nothing is guessed from
 * what the model is. Reads small files beside the weights. Any thread.
 */
#ifndef LIMN_FORMATS_LICENSE_H
#define LIMN_FORMATS_LICENSE_H

#include "formats/weights.h"

enum { LIMN_LICENSE_MAX = 79 };

typedef struct limn_license {
    char name[LIMN_LICENSE_MAX + 1]; /* "apache-2.0", as written there; "" not known */
    const char *from;                /* "metadata", "model card", "license file"; static; "" */
} limn_license;

/*
 * In this order: the metadata of the file (safetensors "modelspec.license" or "license", see
 * Stability-AI/ModelSpec; GGUF "general.license"), the head of README.md (huggingface.co/docs/hub/
 * model-cards: "license:", and "license_name:" where that is "other"), the first line of LICENSE,
 * LICENSE.txt or LICENSE.md. The last two belong to the folder of a model that is a folder. What
 * cannot be read says nothing.
 */
void limn_license_find(limn_license *out, const limn_weights *w);
/* The value of the card's head: "---", lines "key: value", "---". For tests. */
void limn_license_of_card(limn_license *out, const char *text, size_t len);

#endif
