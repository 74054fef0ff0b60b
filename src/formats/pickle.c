/* SPDX-License-Identifier: MIT */
/*
 * The pickle machine; see pickle.h. A stack of values, a list of marks (stack heights), a memo.
 * Every opcode checks what it takes from the stack, so a hostile pickle ends in an error; the
 * opcodes that could run code (REDUCE, NEWOBJ, BUILD) only rearrange values.
 */
#include "formats/pickle.h"

#include <string.h>

enum {
    OPS_MAX = 32 << 20,
    STACK_MAX = 1 << 20,
    MARKS_MAX = 1 << 12,
    MEMO_MAX = 4 << 20,
    ARENA_MAX = 256 << 20,
    GLOBAL_MAX = 256
};

struct limn_pickle {
    const char *name;
    limn_arena arena;
    limn_pickle_value **stack, **memo;
    size_t n_stack, cap_stack, n_memo, cap_memo, next_memo;
    size_t marks[MARKS_MAX];
    size_t n_marks;
    const uint8_t *begin, *at, *end;
    limn_err *err;
};

typedef limn_pickle_value value;

limn_status limn_pickle_new(limn_pickle **out, const char *name, limn_err *err) {
    limn_pickle *p = limn_mem_calloc(1, sizeof *p);
    *out = p;
    if (!p) return limn_fail(err, LIMN_E_NOMEM, "%s: no memory to read its pickle", name);
    limn_arena_init(&p->arena);
    p->name = name;
    return LIMN_OK;
}

void limn_pickle_free(limn_pickle **pp) {
    limn_pickle *p = *pp;
    if (!p) return;
    *pp = NULL;
    limn_arena_deinit(&p->arena);
    limn_mem_free(p->stack);
    limn_mem_free(p->memo);
    limn_mem_free(p);
}

/* ---- failing ---- */
static limn_status damaged(limn_pickle *p, const char *what) {
    return limn_fail(p->err, LIMN_E_FORMAT, "%s: its pickle is damaged at byte %td: %s", p->name,
                     p->at - p->begin, what);
}

static limn_status no_memory(limn_pickle *p) {
    if (p->arena.used > ARENA_MAX)
        return limn_fail(p->err, LIMN_E_LIMIT, "%s: its pickle needs more than %d MB", p->name,
                         ARENA_MAX >> 20);
    return limn_fail(p->err, LIMN_E_NOMEM, "%s: no memory to read its pickle", p->name);
}

/* ---- values ---- */
static value *value_new(limn_pickle *p, limn_pickle_type type) {
    if (p->arena.used > ARENA_MAX) return NULL;
    value *v = limn_arena_alloc(&p->arena, sizeof *v);
    if (v) v->type = type;
    return v;
}

static bool item_add(limn_pickle *p, value *v, value *item) {
    if (v->n == v->cap) {
        size_t cap = v->cap ? v->cap * 2 : 4;
        if (p->arena.used > ARENA_MAX) return false;
        value **items = limn_arena_alloc(&p->arena, cap * sizeof *items);
        if (!items) return false;
        if (v->n) memcpy(items, v->items, v->n * sizeof *items);
        v->items = items;
        v->cap = cap;
    }
    v->items[v->n++] = item;
    return true;
}

limn_pickle_value *limn_pickle_get(const limn_pickle_value *dict, const char *key) {
    if (!dict || dict->type != LIMN_PK_DICT) return NULL;
    for (size_t i = dict->n; i >= 2; i -= 2) {
        const value *k = dict->items[i - 2];
        if (k->type == LIMN_PK_STR && strcmp(k->s, key) == 0) return dict->items[i - 1];
    }
    return NULL;
}

/* ---- stack and memo ---- */
static limn_status push(limn_pickle *p, value *v) {
    if (!v) return no_memory(p);
    if (p->n_stack == p->cap_stack) {
        size_t cap = p->cap_stack ? p->cap_stack * 2 : 256;
        if (cap > STACK_MAX) return damaged(p, "it needs too deep a stack");
        value **s = limn_mem_realloc(p->stack, cap * sizeof *s);
        if (!s) return no_memory(p);
        p->stack = s;
        p->cap_stack = cap;
    }
    p->stack[p->n_stack++] = v;
    return LIMN_OK;
}

/* Lowest stack height that an opcode may take from: values under a mark are not its own. */
static size_t floor_of(const limn_pickle *p) {
    return p->n_marks ? p->marks[p->n_marks - 1] : 0;
}

static value *pop(limn_pickle *p) {
    return p->n_stack > floor_of(p) ? p->stack[--p->n_stack] : NULL;
}

static value *top(limn_pickle *p) {
    return p->n_stack > floor_of(p) ? p->stack[p->n_stack - 1] : NULL;
}

static limn_status memo_put(limn_pickle *p, uint64_t index) {
    value *v = top(p);
    if (!v || index >= MEMO_MAX) return damaged(p, "it stores nothing, or too much");
    if (index >= p->cap_memo) {
        size_t cap = p->cap_memo ? p->cap_memo : 256;
        while (cap <= index) cap *= 2;
        value **m = limn_mem_realloc(p->memo, cap * sizeof *m);
        if (!m) return no_memory(p);
        memset(m + p->cap_memo, 0, (cap - p->cap_memo) * sizeof *m);
        p->memo = m;
        p->cap_memo = cap;
    }
    p->memo[index] = v;
    return LIMN_OK;
}

static limn_status memo_get(limn_pickle *p, uint64_t index) {
    if (index >= p->cap_memo || !p->memo[index])
        return damaged(p, "it recalls what it never stored");
    return push(p, p->memo[index]);
}

/* ---- input ---- */
static bool bytes_take(limn_pickle *p, const uint8_t **out, uint64_t n) {
    if ((uint64_t)(p->end - p->at) < n) return false;
    *out = p->at;
    p->at += n;
    return true;
}

static bool number_take(limn_pickle *p, uint64_t *out, size_t n) {
    const uint8_t *b = NULL;
    *out = 0;
    if (!bytes_take(p, &b, n)) return false;
    memcpy(out, b, n);
    return true;
}

/* Pushes a string whose length has `width` bytes. */
static limn_status string_push(limn_pickle *p, size_t width) {
    uint64_t n = 0;
    const uint8_t *b = NULL;
    if (!number_take(p, &n, width) || !bytes_take(p, &b, n)) return damaged(p, "a string is cut");
    if (n > ARENA_MAX - p->arena.used) return no_memory(p);
    value *v = value_new(p, LIMN_PK_STR);
    if (!v) return no_memory(p);
    v->s = limn_arena_strndup(&p->arena, (const char *)b, (size_t)n);
    v->n = (size_t)n;
    return v->s ? push(p, v) : no_memory(p);
}

static limn_status int_push(limn_pickle *p, limn_pickle_type type, int64_t i) {
    value *v = value_new(p, type);
    if (v) v->i = i;
    return push(p, v);
}

/* LONG1, LONG4: a signed little-endian number; more than 8 bytes are kept as a byte string. */
static limn_status long_push(limn_pickle *p, size_t width) {
    uint64_t n = 0, u = 0;
    const uint8_t *b = NULL;
    if (!number_take(p, &n, width)) return damaged(p, "a number is cut");
    if (n > 8) {
        p->at -= width;
        return string_push(p, width);
    }
    if (!bytes_take(p, &b, n)) return damaged(p, "a number is cut");
    for (uint64_t k = 0; k < n; k++) u |= (uint64_t)b[k] << (8 * k);
    if (n > 0 && n < 8 && (b[n - 1] & 0x80)) u |= ~(uint64_t)0 << (8 * n);
    return int_push(p, LIMN_PK_INT, (int64_t)u);
}

static limn_status float_push(limn_pickle *p) {
    const uint8_t *b = NULL;
    uint64_t u = 0;
    if (!bytes_take(p, &b, 8)) return damaged(p, "a number is cut");
    for (int k = 0; k < 8; k++) u = u << 8 | b[k]; /* big-endian */
    value *v = value_new(p, LIMN_PK_FLOAT);
    if (v) memcpy(&v->f, &u, 8);
    return push(p, v);
}

/* ---- containers ---- */
/* Pops down to the last mark; *first = index of its first value. */
static limn_status mark_pop(limn_pickle *p, size_t *first) {
    if (p->n_marks == 0) return damaged(p, "a mark is missing");
    *first = p->marks[--p->n_marks];
    return LIMN_OK;
}

static limn_status collect(limn_pickle *p, limn_pickle_type type, size_t first) {
    value *v = value_new(p, type);
    if (!v) return no_memory(p);
    for (size_t i = first; i < p->n_stack; i++)
        if (!item_add(p, v, p->stack[i])) return no_memory(p);
    if (type == LIMN_PK_DICT && v->n % 2) return damaged(p, "a dictionary has a key without value");
    p->n_stack = first;
    return push(p, v);
}

static limn_status collect_marked(limn_pickle *p, limn_pickle_type type) {
    size_t first = 0;
    limn_status st = mark_pop(p, &first);
    return st == LIMN_OK ? collect(p, type, first) : st;
}

static limn_status collect_tuple(limn_pickle *p, size_t n) {
    if (p->n_stack - floor_of(p) < n) return damaged(p, "a tuple lacks values");
    return collect(p, LIMN_PK_TUPLE, p->n_stack - n);
}

/* Moves the values from `first` on into the container below them. */
static limn_status extend(limn_pickle *p, size_t first, bool pairs) {
    if (first > p->n_stack || first <= floor_of(p)) return damaged(p, "a container is missing");
    value *into = p->stack[first - 1];
    bool fits = pairs ? into->type == LIMN_PK_DICT || into->type == LIMN_PK_OBJECT
                      : into->type == LIMN_PK_LIST || into->type == LIMN_PK_OBJECT;
    if (!fits || (pairs && (p->n_stack - first) % 2))
        return damaged(p, "values go into something that does not hold them");
    if (into->type != LIMN_PK_OBJECT) /* the contents of inert objects are dropped */
        for (size_t i = first; i < p->n_stack; i++)
            if (!item_add(p, into, p->stack[i])) return no_memory(p);
    p->n_stack = first;
    return LIMN_OK;
}

static limn_status extend_marked(limn_pickle *p, bool pairs) {
    size_t first = 0;
    limn_status st = mark_pop(p, &first);
    return st == LIMN_OK ? extend(p, first, pairs) : st;
}

static limn_status extend_last(limn_pickle *p, size_t n, bool pairs) {
    if (p->n_stack - floor_of(p) < n + 1) return damaged(p, "a container is missing");
    return extend(p, p->n_stack - n, pairs);
}

/* ---- torch ---- */
/* ("storage", type, key, place, elements[, view]) */
static limn_status persistent(limn_pickle *p) {
    value *id = pop(p), *v = value_new(p, LIMN_PK_STORAGE);
    if (!v) return no_memory(p);
    if (!id || id->type != LIMN_PK_TUPLE || id->n < 5 || id->items[0]->type != LIMN_PK_STR ||
        strcmp(id->items[0]->s, "storage") != 0 || id->items[1]->type != LIMN_PK_GLOBAL ||
        id->items[1]->global != LIMN_PKG_STORAGE_TYPE || id->items[2]->type != LIMN_PK_STR ||
        id->items[4]->type != LIMN_PK_INT || id->items[4]->i < 0)
        return damaged(p, "a storage is not described as torch does it");
    v->dtype = id->items[1]->dtype;
    v->has_dtype = id->items[1]->has_dtype;
    v->s = id->items[2]->s;
    v->n = id->items[2]->n;
    v->i = id->items[4]->i;
    if (id->n > 5 && id->items[5]->type == LIMN_PK_TUPLE) { /* (key, first element, elements) */
        const value *w = id->items[5];
        if (w->n != 3 || w->items[1]->type != LIMN_PK_INT || w->items[2]->type != LIMN_PK_INT ||
            w->items[1]->i < 0 || w->items[2]->i < 0 || w->items[1]->i > v->i ||
            w->items[2]->i > v->i - w->items[1]->i)
            return damaged(p, "a view of a storage lies outside of it");
        v->view = w->items[1]->i;
        v->i = w->items[2]->i;
    }
    return push(p, v);
}

static bool ints_take(int64_t *out, const value *v, size_t n) {
    if ((v->type != LIMN_PK_TUPLE && v->type != LIMN_PK_LIST) || v->n != n) return false;
    for (size_t i = 0; i < n; i++) {
        if (v->items[i]->type != LIMN_PK_INT || v->items[i]->i < 0) return false;
        out[i] = v->items[i]->i;
    }
    return true;
}

/* (storage, offset, size, stride, ...) */
static limn_status tensor_make(limn_pickle *p, const value *args, value **out) {
    value *v = value_new(p, LIMN_PK_TENSOR);
    limn_pickle_layout *l = limn_arena_alloc(&p->arena, sizeof *l);
    if (!v || !l) return no_memory(p);
    if (args->n < 4 || args->items[0]->type != LIMN_PK_STORAGE ||
        args->items[1]->type != LIMN_PK_INT || args->items[1]->i < 0)
        return damaged(p, "a tensor is not described as torch does it");
    size_t n = args->items[2]->n;
    if (n > LIMN_MAX_DIMS)
        return limn_fail(p->err, LIMN_E_UNSUPPORTED, "%s: has a tensor of %zu dimensions", p->name,
                         n);
    if (!ints_take(l->shape.dim, args->items[2], n) || !ints_take(l->stride, args->items[3], n))
        return damaged(p, "a tensor's size or stride is not a list of numbers");
    l->shape.ndim = (int)n;
    l->offset = args->items[1]->i;
    v->layout = l;
    if (!item_add(p, v, args->items[0])) return no_memory(p);
    *out = v;
    return LIMN_OK;
}

/* OrderedDict([(key, value), ...]), or empty */
static limn_status dict_make(limn_pickle *p, const value *args, value **out) {
    value *v = value_new(p, LIMN_PK_DICT);
    if (!v) return no_memory(p);
    *out = v;
    const value *list = args->n ? args->items[0] : NULL;
    if (!list || list->type != LIMN_PK_LIST) return LIMN_OK;
    for (size_t i = 0; i < list->n; i++) {
        const value *pair = list->items[i];
        if ((pair->type != LIMN_PK_TUPLE && pair->type != LIMN_PK_LIST) || pair->n != 2)
            return damaged(p, "a dictionary is made from something else than pairs");
        if (!item_add(p, v, pair->items[0]) || !item_add(p, v, pair->items[1])) return no_memory(p);
    }
    return LIMN_OK;
}

/* What would be a call: the value that it stands for, from a whitelisted name and its arguments. */
static limn_status reduce(limn_pickle *p) {
    limn_status st = LIMN_OK;
    value *args = pop(p), *what = pop(p), *v = NULL;
    if (!args || !what || args->type != LIMN_PK_TUPLE || what->type != LIMN_PK_GLOBAL)
        return damaged(p, "a call is not made of a name and a tuple");
    switch (what->global) {
    case LIMN_PKG_TENSOR_V2: st = tensor_make(p, args, &v); break;
    case LIMN_PKG_DICT: st = dict_make(p, args, &v); break;
    case LIMN_PKG_PARAMETER:
        if (args->n == 0) return damaged(p, "a parameter without a tensor");
        v = args->items[0];
        break;
    case LIMN_PKG_LIST: {
        /* torch.Size((1, 2)), set([...]): a list of the same items */
        v = value_new(p, LIMN_PK_LIST);
        const value *from = args->n ? args->items[0] : NULL;
        bool has = from && (from->type == LIMN_PK_LIST || from->type == LIMN_PK_TUPLE);
        for (size_t i = 0; v && has && i < from->n; i++)
            if (!item_add(p, v, from->items[i])) return no_memory(p);
        break;
    }
    default:
        v = value_new(p, LIMN_PK_OBJECT);
        if (v) v->s = what->s;
        break;
    }
    return st == LIMN_OK ? push(p, v) : st;
}

/* State for an object: kept by inert ones, dropped by the others (hooks, metadata of a dict). */
static limn_status build(limn_pickle *p) {
    value *state = pop(p), *v = top(p);
    if (!state || !v) return damaged(p, "a state without an object");
    if (v->type != LIMN_PK_OBJECT) return LIMN_OK;
    v->n = 0;
    return item_add(p, v, state) ? LIMN_OK : no_memory(p);
}

static limn_status global_push(limn_pickle *p, const char *module, const char *name) {
    value *v = value_new(p, LIMN_PK_GLOBAL);
    if (!v) return no_memory(p);
    if (!limn_pickle_global_find(v, module, name))
        return limn_fail(p->err, LIMN_E_UNSUPPORTED,
                         "%s: its pickle wants the Python object '%s.%s', which is not weights: "
                         "refused (convert the file to safetensors where it is trusted)",
                         p->name, module, name);
    return push(p, v);
}

static bool line_take(limn_pickle *p, char *out) {
    const uint8_t *nl = memchr(p->at, '\n', (size_t)(p->end - p->at));
    if (!nl || nl - p->at >= GLOBAL_MAX) return false;
    memcpy(out, p->at, (size_t)(nl - p->at));
    out[nl - p->at] = 0;
    p->at = nl + 1;
    return true;
}

static limn_status global_line(limn_pickle *p) {
    char module[GLOBAL_MAX], name[GLOBAL_MAX];
    if (!line_take(p, module) || !line_take(p, name)) return damaged(p, "a name is cut");
    return global_push(p, module, name);
}

static limn_status global_stack(limn_pickle *p) {
    value *name = pop(p), *module = pop(p);
    if (!name || !module || name->type != LIMN_PK_STR || module->type != LIMN_PK_STR)
        return damaged(p, "a name is not a string");
    return global_push(p, module->s, name->s);
}

static limn_status mark_push(limn_pickle *p) {
    if (p->n_marks == MARKS_MAX) return damaged(p, "it is nested too deeply");
    p->marks[p->n_marks++] = p->n_stack;
    return LIMN_OK;
}

static limn_status pop_marked(limn_pickle *p) {
    return mark_pop(p, &p->n_stack);
}

static limn_status arg_op(limn_pickle *p, uint8_t op) {
    uint64_t u = 0;
    size_t width = op == 'K' || op == 'q' || op == 'h' || op == 0x80 ? 1
                   : op == 'M'                                       ? 2
                   : op == 0x95                                      ? 8
                                                                     : 4;
    if (!number_take(p, &u, width)) return damaged(p, "an argument is cut");
    switch (op) {
    case 'K':
    case 'M': return int_push(p, LIMN_PK_INT, (int64_t)u);
    case 'J': return int_push(p, LIMN_PK_INT, (int32_t)(uint32_t)u);
    case 'q':
    case 'r': return memo_put(p, u);
    case 'h':
    case 'j': return memo_get(p, u);
    case 0x80:
        if (u >= 2 && u <= 5) return LIMN_OK;
        return limn_fail(p->err, LIMN_E_UNSUPPORTED, "%s: pickle protocol %d; 2 to 5 are read",
                         p->name, (int)u);
    default: return LIMN_OK; /* FRAME: its length says nothing new */
    }
}

static limn_status step(limn_pickle *p, uint8_t op) {
    switch (op) {
    case 0x80: /* PROTO */
    case 0x95: /* FRAME */
    case 'K':  /* BININT1 */
    case 'M':  /* BININT2 */
    case 'J':  /* BININT */
    case 'q':  /* BINPUT */
    case 'r':  /* LONG_BINPUT */
    case 'h':  /* BINGET */
    case 'j': /* LONG_BINGET */ return arg_op(p, op);
    case 0x94: /* MEMOIZE */ return memo_put(p, p->next_memo++);
    case 'N': return push(p, value_new(p, LIMN_PK_NONE));
    case 0x88: return int_push(p, LIMN_PK_BOOL, 1);
    case 0x89: return int_push(p, LIMN_PK_BOOL, 0);
    case 'G': return float_push(p);
    case 0x8a: return long_push(p, 1);
    case 0x8b: return long_push(p, 4);
    case 'U': /* SHORT_BINSTRING */
    case 'C': /* SHORT_BINBYTES */
    case 0x8c: /* SHORT_BINUNICODE */ return string_push(p, 1);
    case 'T': /* BINSTRING */
    case 'B': /* BINBYTES */
    case 'X': /* BINUNICODE */ return string_push(p, 4);
    case 0x8d: /* BINUNICODE8 */
    case 0x8e: /* BINBYTES8 */
    case 0x96: /* BYTEARRAY8 */ return string_push(p, 8);
    case '(': return mark_push(p);
    case ')': return push(p, value_new(p, LIMN_PK_TUPLE));
    case 0x85:
    case 0x86:
    case 0x87: return collect_tuple(p, op - 0x84u);
    case 't': return collect_marked(p, LIMN_PK_TUPLE);
    case ']': /* EMPTY_LIST */
    case 0x8f: /* EMPTY_SET */ return push(p, value_new(p, LIMN_PK_LIST));
    case 'l':
    case 0x91: /* FROZENSET */ return collect_marked(p, LIMN_PK_LIST);
    case '}': return push(p, value_new(p, LIMN_PK_DICT));
    case 'd': return collect_marked(p, LIMN_PK_DICT);
    case 'a': return extend_last(p, 1, false);
    case 'e': /* APPENDS */
    case 0x90: /* ADDITEMS */ return extend_marked(p, false);
    case 's': return extend_last(p, 2, true);
    case 'u': return extend_marked(p, true);
    case '0': return pop(p) ? LIMN_OK : damaged(p, "it drops what is not there");
    case '1': return pop_marked(p);
    case '2': return top(p) ? push(p, top(p)) : damaged(p, "it doubles what is not there");
    case 'c': return global_line(p);
    case 0x93: return global_stack(p);
    case 'R': /* REDUCE */
    case 0x81: /* NEWOBJ */ return reduce(p);
    case 'b': return build(p);
    case 'Q': return persistent(p);
    default: break;
    }
    p->at--;
    return limn_fail(p->err, LIMN_E_UNSUPPORTED,
                     "%s: its pickle has opcode 0x%02x at byte %td, which weights do not need",
                     p->name, op, p->at - p->begin);
}

limn_status limn_pickle_load(limn_pickle *p, limn_pickle_value **out, const uint8_t *data,
                             size_t size, size_t *used, limn_err *err) {
    *out = NULL;
    p->begin = p->at = data;
    p->end = data + size;
    p->err = err;
    p->n_stack = p->n_marks = p->next_memo = 0;
    if (p->cap_memo) memset(p->memo, 0, p->cap_memo * sizeof(value *));
    for (size_t ops = 0; ops < OPS_MAX; ops++) {
        if (p->at == p->end) return damaged(p, "it has no end");
        uint8_t op = *p->at++;
        if (op == '.') {
            *out = pop(p);
            *used = (size_t)(p->at - p->begin);
            return *out ? LIMN_OK : damaged(p, "it is empty");
        }
        limn_status st = step(p, op);
        if (st != LIMN_OK) return st;
    }
    return limn_fail(err, LIMN_E_LIMIT, "%s: its pickle has more than %d operations", p->name,
                     OPS_MAX);
}
