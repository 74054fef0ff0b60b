/* SPDX-License-Identifier: MIT */
/*
 * WebSocket clients: bytes as they come from the network, frames and the commands inside. With the
 * unit's own statics, so that neither a thread nor a handshake is needed.
 */
#include "server/sockets.c"

#include "fuzz_server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A frame from the server: never masked, whole, of a known kind. Its length, 0: broken. */
static size_t frame(const uint8_t *p, size_t n) {
    static const bool known[16] = {[1] = true, [2] = true, [8] = true, [9] = true, [10] = true};
    if (n < 2 || (p[0] & 0xf0) != 0x80 || !known[p[0] & 15] || (p[1] & 0x80)) return 0;
    size_t len = p[1], head = 2;
    if (len == 126) len = n < 4 ? n : (size_t)p[2] << 8 | p[3], head = 4;
    if (p[1] == 127) len = n, head = 10;
    return head + len <= n ? head + len : 0;
}

static void check_answers(int fd) {
    static uint8_t said[1 << 20];
    size_t n = 0;
    for (ssize_t got;
         n < sizeof said && (got = recv(fd, said + n, sizeof said - n, MSG_DONTWAIT)) > 0;)
        n += (size_t)got;
    for (size_t at = 0, len; at < n && n < 65536; at += len) {
        len = frame(said + at, n - at);
        demand(len > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static limn_sockets all;
    int pair[2];
    if (!all.server) {
        all.server = fuzz_server();
        all.epoll = epoll_create1(EPOLL_CLOEXEC);
        all.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        all.list.prev = all.list.next = &all.list;
        limn_buf_init(&all.text, EVENT_BYTES);
        all.server->sockets = &all;
    }
    limn_http_req rq = {.server = all.server, .who = {.known = true, .scope = LIMN_SCOPE_INFER}};
    client *c = client_new(&rq);
    if (!c || size > 65536 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0) {
        if (c) wslay_event_context_free(c->ws);
        limn_mem_free(c);
        return 0;
    }
    c->fd = pair[0];
    demand(send(pair[1], data, size, MSG_DONTWAIT) == (ssize_t)size);
    for (int i = 0; i < 8 && !c->dead; i++) serve_client(c, true);
    check_answers(pair[1]);
    for (int i = 0; i < LIMN_LIMIT_WS_SUBSCRIPTIONS; i++)
        if (c->subs[i].feed) limn_feed_close(&c->subs[i].feed);
    wslay_event_context_free(c->ws);
    limn_mem_free(c);
    close(pair[0]);
    close(pair[1]);
    return 0;
}
