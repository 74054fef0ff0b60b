/* SPDX-License-Identifier: MIT */
/* SentencePiece model files; used by limn_tokenizer_load_dir, tests and fuzzing. */
#ifndef LIMN_TEXT_TOKENIZER_SPM_H
#define LIMN_TEXT_TOKENIZER_SPM_H

#include "text/tokenizer.h"

/* From memory, borrowed for the call. E_FORMAT, E_UNSUPPORTED (word and char models), E_NOMEM. */
limn_status limn_tokenizer_parse_spm(limn_tokenizer **out, const void *data, size_t n,
                                     limn_err *err);

#endif
