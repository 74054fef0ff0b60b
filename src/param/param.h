/* SPDX-License-Identifier: MIT */
/*
 * The parameter table: what a row says, and the record that a table describes.
 *
 * A parameter exists in exactly one row (gen_table.c: what to draw; app_table.c: how the program
 * runs). Every reader walks rows and knows no parameter by name: command line (param_args.c), help
 * and reference page (param_docs.c), JSON and its schema (param_json.c, param_schema.c), picture
 * text (param_meta.c). "Unset" is the source LIMN_FROM_DEFAULT, never a magic value.
 *
 * A record is a C struct whose first member is `limn_params`; fields are int64_t (INT, BYTES),
 * double, bool, int (ENUM), char * (TEXT, never NULL after limn_params_new) or limn_texts (LIST).
 * Tables are constant; a record belongs to one thread at a time.
 * Read next: gen.h (the struct that the pipeline works with).
 */
#ifndef LIMN_PARAM_PARAM_H
#define LIMN_PARAM_PARAM_H

#include "limn.h"

#include "base/mem.h"
#include "base/status.h"

enum { LIMN_PARAM_MAX = 112, LIMN_LIST_MAX = 64 };

struct limn_params {
    limn_params_kind kind;
    uint8_t source[LIMN_PARAM_MAX]; /* limn_source of each row */
};

typedef struct limn_texts {
    char **item; /* owned */
    int count;
} limn_texts;

typedef enum limn_param_flag {
    LIMN_P_META = 1 << 0,          /* written into pictures */
    LIMN_P_ALWAYS = 1 << 1,        /* written even when it is the default */
    LIMN_P_MODEL_DEFAULT = 1 << 2, /* a model may recommend another default */
    LIMN_P_PATH = 1 << 3,          /* names a file or folder */
    LIMN_P_AXIS = 1 << 4,          /* makes sense as the axis of a grid */
    LIMN_P_RANDOM = 1 << 5         /* "random" and -1 mean: unset */
} limn_param_flag;

/* Which stages a changed value makes run again; the stage cache keeps the others. */
typedef enum limn_param_stage {
    LIMN_ST_LOAD = 1 << 0,
    LIMN_ST_ENCODE = 1 << 1,
    LIMN_ST_NOISE = 1 << 2,
    LIMN_ST_DENOISE = 1 << 3,
    LIMN_ST_DECODE = 1 << 4,
    LIMN_ST_FINISH = 1 << 5
} limn_param_stage;

/* One word of an ENUM row. */
typedef struct limn_word {
    const char *name;    /* command line and JSON */
    const char *text;    /* how pictures spell it; NULL: like name */
    const char *aliases; /* '|'-separated; NULL: none */
} limn_word;

typedef struct limn_param {
    const char *name;
    limn_param_type type;
    size_t offset; /* of the field in the record */
    union {
        int64_t i; /* INT, BYTES, BOOL, ENUM (index) */
        double r;
        const char *s; /* TEXT; NULL: "" */
    } def;
    double min, max;        /* INT, REAL, BYTES: inclusive; TEXT, LIST: max = most bytes */
    int multiple;           /* INT: the value is a multiple of this; 0: any */
    const limn_word *words; /* ENUM: ends with a NULL name */
    const char *list;       /* TEXT: the engine's list that has the valid names */
    const char *cli;        /* long option; NULL: same as name with '-' */
    char cli_short;
    const char *png;     /* key in pictures; NULL: not written */
    const char *png_too; /* other keys that are read; '|'-separated */
    const char *aliases; /* other names in JSON and on the command line; '|'-separated */
    const char *group;
    const char *unit;         /* for help and forms: "pixels" */
    const char *default_note; /* what "unset" means when it is more than `def` */
    unsigned flags;           /* limn_param_flag */
    unsigned stages;          /* limn_param_stage */
    double ui_min, ui_max, ui_step;
    const char *help;
} limn_param;

typedef struct limn_param_table {
    const char *name; /* "generation" */
    const limn_param *rows;
    int count;
    size_t size; /* of the record */
} limn_param_table;

const limn_param_table *limn_param_table_get(limn_params_kind kind);
extern const limn_param_table limn_gen_table, limn_app_table, limn_seeing_table, limn_serve_table;

/* NULL when no row has this name or alias; '-', '_' and case do not matter. */
const limn_param *limn_param_find(const limn_param_table *table, const char *name);
/* True when `word` is one of the '|'-separated `words`; same rules; words may be NULL. */
bool limn_param_word_is(const char *words, const char *word, size_t len);
/* The known name nearest to `name`, for "did you mean"; NULL when none is near. */
const char *limn_param_nearest(const limn_param_table *table, const char *name, int *distance);

/* The field of row `p` in record `r`. */
static inline void *limn_param_field(const limn_params *r, const limn_param *p) {
    return (char *)(uintptr_t)r + p->offset;
}
static inline int limn_param_index(const limn_param_table *t, const limn_param *p) {
    return (int)(p - t->rows);
}

/* One value into / out of text form. `set_value` checks everything that limn_params_set promises;
 * a LIST row gets one more element. `where` is how errors call the value: "--steps", "/steps". */
limn_status limn_param_parse(limn_params *r, const limn_param *p, const char *value,
                             const char *where, limn_source from, limn_err *err);
limn_status limn_param_parse_int(limn_params *r, const limn_param *p, int64_t value,
                                 const char *where, limn_source from, limn_err *err);
limn_status limn_param_parse_real(limn_params *r, const limn_param *p, double value,
                                  const char *where, limn_source from, limn_err *err);
/* The value as text; a LIST as its element `index`. `pretty` picks the pictures' spelling of words.
 */
void limn_param_format(limn_buf *out, const limn_params *r, const limn_param *p, bool pretty,
                       int index);
/* Same value (of rows of any type) in two records of one kind. */
bool limn_param_equal(const limn_params *a, const limn_params *b, const limn_param *p);
/* Row back to its default. */
limn_status limn_param_reset(limn_params *r, const limn_param *p, limn_err *err);
/* `value` may be written: its present source is not stronger than `from`. */
bool limn_param_may_set(const limn_params *r, const limn_param *p, limn_source from);

/* Shortest decimal text that reads back to the same double; independent of the locale. */
void limn_real_format(limn_buf *out, double value);
/* The whole text is one finite number; independent of the locale. */
bool limn_real_parse(double *out, const char *text);
bool limn_int_parse(int64_t *out, const char *text);

/* NUL-free, well-formed UTF-8 without control characters other than \t \n \r. */
bool limn_utf8_is_valid(const char *s, size_t len);

#endif
