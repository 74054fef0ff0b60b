/* SPDX-License-Identifier: MIT */
/* How the server listens, guards and keeps; see param.h for the columns. */
#include <stddef.h>

#include "param/serve.h"

#define F(field) .offset = offsetof(limn_serve_settings, field)

static const limn_word compat_words[] = {
    {"a1111", NULL, "automatic1111|webui"},
    {"sdnext", NULL, "sd.next|vlad"},
    {NULL, NULL, NULL},
};
static const limn_word log_words[] = {
    {"auto", NULL, NULL},
    {"pretty", NULL, "text"},
    {"json", NULL, NULL},
    {NULL, NULL, NULL},
};
static const limn_word engine_words[] = {
    {"engine", NULL, NULL},
    {"stub", NULL, NULL},
    {NULL, NULL, NULL},
};

/* A table reads better in rows. */
/* clang-format off */
static const limn_param rows[] = {
    {.name = "config", .type = LIMN_TYPE_TEXT, F(config), .max = 4096, .group = "listening",
     .flags = LIMN_P_PATH, .default_note = "$LIMN_SERVE_CONFIG",
     .help = "settings file: lines of \"name = value\" with the names of this table"},
    {.name = "host", .type = LIMN_TYPE_TEXT, F(host), .def.s = "127.0.0.1", .max = 256,
     .group = "listening",
     .help = "address to listen on; one that others can reach needs a key (limn key create)"},
    {.name = "port", .type = LIMN_TYPE_INT, F(port), .def.i = 7860, .max = 65535,
     .group = "listening", .help = "port to listen on (0: any free one)"},
    {.name = "socket", .type = LIMN_TYPE_TEXT, F(socket), .max = 100, .group = "listening",
     .flags = LIMN_P_PATH, .help = "also listen on this unix socket"},
    {.name = "http_threads", .type = LIMN_TYPE_INT, F(http_threads), .def.i = 2, .min = 1, .max = 64,
     .group = "listening", .help = "threads that read requests and write answers"},
    {.name = "max_connections", .type = LIMN_TYPE_INT, F(max_connections), .def.i = 4096, .min = 8,
     .max = 60000, .group = "listening", .help = "open connections at most"},
    {.name = "connections_per_address", .type = LIMN_TYPE_INT, F(connections_per_address),
     .def.i = 64, .min = 1, .max = 60000, .group = "listening",
     .help = "open connections of one address at most; this machine is not counted"},
    {.name = "drain_seconds", .type = LIMN_TYPE_INT, F(drain_seconds), .def.i = 30, .max = 3600,
     .group = "listening", .unit = "seconds",
     .help = "how long running jobs may go on after SIGTERM; then they wait for the next start"},
    {.name = "keys", .type = LIMN_TYPE_TEXT, F(keys), .max = 4096, .group = "guard",
     .flags = LIMN_P_PATH, .default_note = "keys.json in the data folder",
     .help = "file of API keys (limn key); when it has any, every request needs one"},
    {.name = "insecure_no_auth", .type = LIMN_TYPE_BOOL, F(insecure_no_auth), .group = "guard",
     .help = "serve an address that others can reach without any key"},
    {.name = "trust_proxy", .type = LIMN_TYPE_BOOL, F(trust_proxy), .group = "guard",
     .help = "take the client's address from X-Forwarded-For (only behind your own proxy)"},
    {.name = "allow_hosts", .type = LIMN_TYPE_LIST, F(allow_hosts), .max = 256, .cli = "allow-host",
     .group = "guard", .help = "name by which browsers may reach the server; may be repeated"},
    {.name = "rate_limit", .type = LIMN_TYPE_INT, F(rate_limit), .max = 1000000, .group = "guard",
     .unit = "per minute", .default_note = "1200; none on this machine without keys",
     .help = "cost of requests of one key or address at most; a drawing costs 5, a look 1"},
    {.name = "decode_apart", .type = LIMN_TYPE_BOOL, F(decode_apart), .def.i = 1, .group = "guard",
     .help = "decode pictures, clips and documents in processes that can do nothing else"},
    {.name = "decode_files", .type = LIMN_TYPE_INT, F(decode_files), .def.i = 4, .min = 1, .max = 64,
     .group = "guard", .help = "files that are decoded at the same time; more wait"},
    {.name = "decode_seconds", .type = LIMN_TYPE_INT, F(decode_seconds), .def.i = 60, .min = 1,
     .max = 3600, .group = "guard", .unit = "seconds",
     .help = "how long one picture, page or frame may take to decode"},
    {.name = "decode_memory", .type = LIMN_TYPE_INT, F(decode_memory), .def.i = 2048, .min = 512,
     .max = 1 << 20, .group = "guard", .unit = "MB", .help = "memory of a process that decodes"},
    {.name = "data_dir", .type = LIMN_TYPE_TEXT, F(data_dir), .max = 4096, .group = "keeping",
     .flags = LIMN_P_PATH, .default_note = "$XDG_DATA_HOME/limn",
     .help = "folder of jobs, pictures, keys and settings"},
    {.name = "queue_depth", .type = LIMN_TYPE_INT, F(queue_depth), .def.i = 256, .min = 1,
     .max = 100000, .group = "keeping", .help = "jobs that may wait; more are refused"},
    {.name = "history_days", .type = LIMN_TYPE_INT, F(history_days), .def.i = 90, .min = 1,
     .max = 36500, .group = "keeping", .unit = "days", .help = "how long finished jobs are kept"},
    {.name = "history_jobs", .type = LIMN_TYPE_INT, F(history_jobs), .def.i = 10000, .min = 1,
     .max = 100000000, .group = "keeping", .help = "how many finished jobs are kept"},
    {.name = "trash_hours", .type = LIMN_TYPE_INT, F(trash_hours), .def.i = 24, .max = 876000,
     .group = "keeping", .unit = "hours",
     .help = "how long what was deleted can be restored (0: not at all)"},
    {.name = "compat", .type = LIMN_TYPE_ENUM, F(compat), .words = compat_words,
     .group = "interfaces", .help = "whose defaults and answers /sdapi/v1 has"},
    {.name = "default_model", .type = LIMN_TYPE_TEXT, F(default_model), .max = 4096,
     .group = "interfaces", .default_note = "the bundled model",
     .help = "model of drawings that name none"},
    {.name = "studio", .type = LIMN_TYPE_BOOL, F(studio), .def.i = 1, .group = "interfaces",
     .help = "serve the browser page at /"},
    {.name = "engine", .type = LIMN_TYPE_ENUM, F(engine), .words = engine_words,
     .group = "interfaces", .help = "stub: deterministic test pictures at once, no model"},
    {.name = "stub_ms", .type = LIMN_TYPE_INT, F(stub_ms), .max = 60000, .group = "interfaces",
     .unit = "ms", .help = "time that the stub takes for a step"},
    {.name = "log_format", .type = LIMN_TYPE_ENUM, F(log_format), .words = log_words,
     .group = "log", .help = "auto: pretty on a terminal, else one JSON object per line"},
    {.name = "log_requests", .type = LIMN_TYPE_BOOL, F(log_requests), .def.i = 1, .group = "log",
     .help = "one line per request"},
    {.name = "log_prompts", .type = LIMN_TYPE_BOOL, F(log_prompts), .group = "log",
     .help = "prompts go into the log too"},
};
/* clang-format on */

const limn_param_table limn_serve_table = {
    .name = "serving",
    .rows = rows,
    .count = (int)(sizeof rows / sizeof rows[0]),
    .size = sizeof(limn_serve_settings),
};
