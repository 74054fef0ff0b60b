/* SPDX-License-Identifier: MIT */
/* Serving the studio's files, in the coding that the browser takes; see static_files.h. */
#include "server/static_files.h"

#include <string.h>

#include "server/server.h"

static const char policy[] =
    "default-src 'self'; img-src 'self' blob: data:; connect-src 'self'; style-src 'self'; "
    "script-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'";

static const char plain_page[] =
    "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>limn</title>\n"
    "<h1>limn is running</h1>\n<p>This build has no studio. The interface is described in "
    "<a href=\"/docs\">/docs</a>.\n";

static const limn_static_file *find_file(const char *path) {
    for (const limn_static_file *f = limn_static_files; f->path; f++)
        if (strcmp(f->path, path) == 0) return f;
    return NULL;
}

/* `coding` is in the list of Accept-Encoding and not refused by q=0. */
static bool accepts(const char *list, const char *coding) {
    size_t n = strlen(coding);
    while (list && *list) {
        while (*list == ' ' || *list == ',') list++;
        size_t word = strcspn(list, " ,;");
        if (word == n && strncmp(list, coding, n) == 0) {
            const char *q = list + word;
            while (*q == ' ' || *q == ';') q++;
            return !(strncmp(q, "q=0", 3) == 0 && (q[3] == 0 || q[3] == ',' || q[3] == ' '));
        }
        list += strcspn(list, ",");
    }
    return false;
}

static void reply_file(limn_http_req *rq, const limn_static_file *f) {
    const char *codings = limn_http_header(rq, "Accept-Encoding"), *used = NULL;
    const limn_static_part *part = &f->plain;
    if (f->brotli.size && accepts(codings, "br"))
        part = &f->brotli, used = "br";
    else if (f->gzip.size && accepts(codings, "gzip"))
        part = &f->gzip, used = "gzip";
    if (limn_http_has_tag(rq, f->etag))
        limn_http_reply_empty(rq, 304);
    else
        limn_http_reply_static(rq, 200, f->mime, limn_static_bytes + part->at, part->size);
    if (used && rq->status == 200) limn_http_add_header(rq, "Content-Encoding", used);
    limn_http_add_header(rq, "ETag", f->etag);
    limn_http_add_header(rq, "Vary", "Accept-Encoding");
    limn_http_add_header(rq, "Cache-Control",
                         f->immutable ? "public, max-age=31536000, immutable" : "no-cache");
    limn_http_add_header(rq, "Content-Security-Policy", policy);
}

bool limn_static_reply(limn_http_req *rq, const char *path) {
    if (!rq->server->set->studio) return false;
    const limn_static_file *f = find_file(strcmp(path, "/") == 0 ? "/index.html" : path);
    if (f) {
        reply_file(rq, f);
        return true;
    }
    /* a page's own route: what a browser navigates to, not what a page asks for */
    const char *accept = limn_http_header(rq, "Accept");
    bool page = strcmp(path, "/") == 0 || (accept && strstr(accept, "text/html"));
    if (!page || strchr(strrchr(path, '/') + 1, '.')) return false;
    f = find_file("/index.html");
    if (f) {
        reply_file(rq, f);
    } else {
        limn_http_reply_static(rq, 200, "text/html; charset=utf-8", plain_page,
                               sizeof plain_page - 1);
        limn_http_add_header(rq, "Content-Security-Policy", policy);
    }
    return true;
}
