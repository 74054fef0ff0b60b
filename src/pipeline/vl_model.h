/* SPDX-License-Identifier: MIT */
/*
 * A language model as its files describe it, with or without a vision tower: shapes, weights,
 * tokenizer, template, bounds of pictures and what its makers advise. Opened by content: a folder
 * as on the hub (config.json, safetensors, tokenizer.json, preprocessor_config.json), or a GGUF
 * file and its mmproj file. Immutable once open; freed after everything that was built from it.
 */
#ifndef LIMN_PIPELINE_VL_MODEL_H
#define LIMN_PIPELINE_VL_MODEL_H

#include "formats/llm_config.h"
#include "models/model_weights.h"
#include "models/qwen3vl_host.h"
#include "param/seeing.h"
#include "text/chat.h"
#include "text/ids.h"

typedef struct limn_vl_model {
    char *path;
    limn_weights *file, *vision_file; /* vision_file: an mmproj, else NULL */
    limn_weights *text_set, *vision_set;
    limn_model_weights *text, *vision; /* vision: NULL for text models */
    limn_vl_config cfg;
    limn_tokenizer *tokenizer;
    limn_chat_template chat_template;
    bool can_choose_thinking; /* its template knows both ways */
    bool takes_tools;         /* it was taught to call them, as its template says */
    limn_ids stops;           /* ids that end a turn or a text */
    limn_pixel_limits image_limits, video_limits;
    size_t bytes;        /* of all weights as stored */
    limn_params *advice; /* LIMN_PARAMS_SEE: what generation_config.json says, LIMN_FROM_MODEL */
} limn_vl_model;

/* `mmproj` NULL: looked for beside a GGUF file. E_NOT_FOUND, E_IO, E_FORMAT, E_MISSING (tokenizer,
 * tensors), E_UNSUPPORTED (architecture, chat template), E_SHAPE (tower of another model). */
limn_status limn_vl_model_open(limn_vl_model **out, const char *path, const char *mmproj,
                               limn_seeing_template chat_template, limn_err *err);
void limn_vl_model_free(limn_vl_model **m);

/* The text of the Jinja template of the model at `path`, without opening the rest of it; NULL when
 * it has none. The caller frees. limn does not run it: it says which of those built in it is. */
limn_status limn_vl_template_read(char **out, const char *path, limn_err *err);
/* Whether a template has a place for tools; one that is not there (NULL) is that of the family. */
bool limn_vl_template_has_tools(const char *text);

/* The tokenizer inside a GGUF file. E_MISSING when it has none. */
limn_status limn_gguf_tokenizer(limn_tokenizer **out, const limn_weights *w, limn_err *err);

#endif
