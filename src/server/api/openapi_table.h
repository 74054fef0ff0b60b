/* SPDX-License-Identifier: MIT */
/* Schemas of the OpenAPI document as JSON text. Immutable. */
#ifndef LIMN_SERVER_API_OPENAPI_TABLE_H
#define LIMN_SERVER_API_OPENAPI_TABLE_H

typedef struct limn_openapi_schema {
    const char *name, *json;
} limn_openapi_schema;

extern const limn_openapi_schema limn_openapi_schemas[]; /* ends with a NULL name */

#endif
