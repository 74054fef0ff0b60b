/* SPDX-License-Identifier: MIT */
/*
 * The form of a tool call as a JSON Schema: {"name": one of the tools, "arguments": what that tool
 * takes}. An answer that keeps to it is a call whatever the model would have liked to say, which is
 * what tool_choice "required" asks for.
 */
#ifndef LIMN_PIPELINE_CALL_SCHEMA_H
#define LIMN_PIPELINE_CALL_SCHEMA_H

#include <stddef.h>

#include "base/status.h"

/* `tools`: JSON objects {"type": "function", "function": {"name", "parameters"}}. *out from
 * limn_mem_*. E_VALUE: no tools, one without a name, or definitions ($defs) of two tools that share
 * a name and differ. */
limn_status limn_call_schema(char **out, const char *const *tools, size_t n, limn_err *err);

#endif
