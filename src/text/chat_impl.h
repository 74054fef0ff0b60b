/* SPDX-License-Identifier: MIT */
/* Shared by chat*.c: printing JSON as the templates' tojson does. */
#ifndef LIMN_TEXT_CHAT_IMPL_H
#define LIMN_TEXT_CHAT_IMPL_H

#include "base/mem.h"
#include "base/status.h"

/* Appends `json` as Python's json.dumps(value, ensure_ascii=False) prints it: ", " and ": ", key
 * order kept, floats by repr. E_VALUE when it does not parse. */
limn_status limn_chat_dump_json(limn_buf *out, const char *json, limn_err *err);

#endif
