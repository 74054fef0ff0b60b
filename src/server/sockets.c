/* SPDX-License-Identifier: MIT */
/*
 * WebSockets: events of jobs for clients that also want to speak. One thread serves all of them
 * with epoll; wslay reads and writes the frames (masks, fragments, UTF-8, close codes). A client
 * follows up to WS_SUBSCRIPTIONS feeds; a feed is read only while less than WS_BUFFER_BYTES wait
 * to be sent, so a slow reader loses old previews and progress in the feed, not the server memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <microhttpd.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wslay/wslay.h>

#include "base/clock.h"
#include "server/event_json.h"

enum {
    PING_SECONDS = 20,
    SILENCE_SECONDS = 60,
    STOP_SECONDS = 2,
    EVENTS = 64,
    EVENT_BYTES = 32 << 20
};

typedef struct client client;

typedef struct subscription {
    client *owner;
    limn_feed *feed;               /* NULL: free */
    char job[LIMN_JOB_ID_LEN + 1]; /* "*": all */
} subscription;

struct client {
    client *prev, *next;
    limn_sockets *all;
    int fd;
    struct MHD_UpgradeResponseHandle *handle;
    wslay_event_context_ptr ws;
    limn_principal who;
    char *first; /* bytes that came with the handshake */
    size_t first_len, first_at;
    atomic_bool ready; /* a feed has something */
    double heard, pinged;
    bool closing, dead, wants_write;
    bool left; /* the socket ended or failed */
    subscription subs[LIMN_LIMIT_WS_SUBSCRIPTIONS];
};

struct limn_sockets {
    limn_server *server;
    pthread_t thread;
    int epoll, wake;
    client list;   /* ring; the thread's own */
    limn_buf text; /* ... of the event in work */
    pthread_mutex_t lock;
    client fresh; /* ring of those that have just come */
    atomic_bool stopping;
};

static void ring_add(client *ring, client *c) {
    c->prev = ring->prev;
    c->next = ring;
    c->prev->next = c->next->prev = c;
}

static void ring_remove(client *c) {
    c->prev->next = c->next;
    c->next->prev = c->prev;
}

static void wake_thread(limn_sockets *all) {
    uint64_t one = 1;
    ssize_t n = write(all->wake, &one, sizeof one);
    (void)n; /* a full counter is awake already */
}

/* Called with the hub's lock held. */
static void feed_ready(void *user) {
    subscription *sub = user;
    atomic_store(&sub->owner->ready, true);
    wake_thread(sub->owner->all);
}

/* ---- frames ---- */

static ssize_t on_recv(wslay_event_context_ptr ws, uint8_t *buf, size_t len, int flags,
                       void *user) {
    client *c = user;
    (void)flags;
    if (c->first_at < c->first_len) {
        size_t n = c->first_len - c->first_at < len ? c->first_len - c->first_at : len;
        memcpy(buf, c->first + c->first_at, n);
        c->first_at += n;
        return (ssize_t)n;
    }
    ssize_t n = recv(c->fd, buf, len, MSG_DONTWAIT);
    if (n > 0) {
        c->heard = limn_clock_now();
        return n;
    }
    bool later = n < 0 && (errno == EAGAIN || errno == EINTR);
    if (!later) c->left = true;
    wslay_event_set_error(ws, later ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static ssize_t on_send(wslay_event_context_ptr ws, const uint8_t *data, size_t len, int flags,
                       void *user) {
    client *c = user;
    (void)flags;
    ssize_t n = send(c->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) return n;
    bool later = errno == EAGAIN || errno == EINTR;
    wslay_event_set_error(ws, later ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static void say_event(client *c, const limn_job_event *e, bool *last) {
    limn_buf *b = &c->all->text;
    limn_buf_clear(b);
    limn_event_write(b, c->all->server, e, last);
    if (b->failed || b->len == 0) return;
    struct wslay_event_msg msg = {WSLAY_TEXT_FRAME, (const uint8_t *)b->data, b->len};
    wslay_event_queue_msg(c->ws, &msg);
}

/* Takes the object. */
static void say(client *c, json_t *o) {
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (!text) return;
    struct wslay_event_msg msg = {WSLAY_TEXT_FRAME, (const uint8_t *)text, strlen(text)};
    wslay_event_queue_msg(c->ws, &msg);
    free(text);
}

static void say_error(client *c, limn_http_code code, const char *text) {
    say(c, json_pack("{s:s, s:o}", "type", "error", "error",
                     limn_http_error_json(code, NULL, text, NULL)));
}

static void say_err(client *c, const limn_err *err) {
    say_error(c, limn_http_error_find(err->status),
              err->text[0] ? err->text : limn_status_text(err->status));
}

/* ---- what clients say ---- */

static const char *owner_of(const client *c) {
    return c->who.scope == LIMN_SCOPE_ADMIN ? NULL : c->who.owner;
}

static subscription *find_subscription(client *c, const char *job) {
    for (int i = 0; i < LIMN_LIMIT_WS_SUBSCRIPTIONS; i++)
        if (c->subs[i].feed && strcmp(c->subs[i].job, job) == 0) return &c->subs[i];
    return NULL;
}

static bool is_job(const char *job) {
    return job && (strcmp(job, "*") == 0 || limn_job_id_is_valid(job));
}

static void subscribe(client *c, const json_t *o, const char *job) {
    limn_err err = {0};
    const char *after = json_string_value(json_object_get(o, "after"));
    const json_t *previews = json_object_get(o, "previews");
    bool all = strcmp(job, "*") == 0;
    subscription *sub = find_subscription(c, job);
    if (sub) limn_feed_close(&sub->feed);
    for (int i = 0; !sub && i < LIMN_LIMIT_WS_SUBSCRIPTIONS; i++)
        if (!c->subs[i].feed) sub = &c->subs[i];
    if (!sub) {
        say_error(c, LIMN_HTTP_BAD_VALUE, "too many subscriptions");
        return;
    }
    *sub = (subscription){.owner = c};
    snprintf(sub->job, sizeof sub->job, "%s", job);
    limn_feed_options opt = {.job = all ? NULL : job,
                             .owner = owner_of(c),
                             .after = after ? strtoll(after, NULL, 10)
                                      : all ? -1
                                            : 0,
                             .previews = !json_is_false(previews),
                             .wake = feed_ready,
                             .user = sub};
    if (limn_queue_subscribe(c->all->server->queue, &opt, &sub->feed, &err) != LIMN_OK) {
        say_err(c, &err);
        return;
    }
    say(c, json_pack("{s:s, s:s}", "type", "subscribed", "job", job));
    atomic_store(&c->ready, true);
}

static void cancel_job(client *c, const char *job) {
    limn_err err = {0};
    limn_job_state was;
    if (c->who.scope < LIMN_SCOPE_INFER)
        say_error(c, LIMN_HTTP_MISSING_SCOPE, "this needs a key with the scope infer");
    else if (limn_queue_cancel(c->all->server->queue, owner_of(c), job, &was, &err) != LIMN_OK)
        say_err(c, &err);
}

static void obey(client *c, const char *text, size_t len) {
    limn_err err = {0};
    json_t *o;
    if (limn_json_read(&o, text, len, &err) != LIMN_OK) {
        say_error(c, LIMN_HTTP_BAD_JSON, err.text);
        return;
    }
    const char *op = json_string_value(json_object_get(o, "op"));
    const char *job = json_string_value(json_object_get(o, "job"));
    if (!op) {
        say_error(c, LIMN_HTTP_BAD_REQUEST, "\"op\" is missing");
    } else if (strcmp(op, "ping") == 0) {
        say(c, limn_event_plain_json("pong", NULL));
    } else if (strcmp(op, "subscribe") != 0 && strcmp(op, "unsubscribe") != 0 &&
               strcmp(op, "cancel") != 0) {
        say_error(c, LIMN_HTTP_BAD_REQUEST, "\"op\" is subscribe, unsubscribe, cancel or ping");
    } else if (!is_job(job)) {
        say_error(c, LIMN_HTTP_BAD_VALUE, "\"job\" is an id, or *");
    } else if (op[0] == 's') {
        subscribe(c, o, job);
    } else if (op[0] == 'c') {
        cancel_job(c, job);
    } else {
        subscription *sub = find_subscription(c, job);
        if (sub) limn_feed_close(&sub->feed);
        say(c, json_pack("{s:s, s:s}", "type", "unsubscribed", "job", job));
    }
    json_decref(o);
}

static void on_message(wslay_event_context_ptr ws, const struct wslay_event_on_msg_recv_arg *arg,
                       void *user) {
    client *c = user;
    if (arg->opcode == WSLAY_TEXT_FRAME)
        obey(c, (const char *)arg->msg, arg->msg_length);
    else if (!wslay_is_ctrl_frame(arg->opcode))
        wslay_event_queue_close(ws, WSLAY_CODE_UNSUPPORTED_DATA, NULL, 0);
}

/* ---- events out ---- */

static void pump(client *c) {
    atomic_store(&c->ready, false);
    for (int i = 0; i < LIMN_LIMIT_WS_SUBSCRIPTIONS; i++) {
        subscription *sub = &c->subs[i];
        bool last = false;
        while (sub->feed && !last) {
            if (wslay_event_get_queued_msg_length(c->ws) > LIMN_LIMIT_WS_BUFFER_BYTES) {
                atomic_store(&c->ready, true); /* goes on when something was sent */
                return;
            }
            bool lost = false;
            const limn_job_event *e = limn_feed_next(sub->feed, &lost);
            if (!e) break;
            if (lost) say(c, limn_event_plain_json("lost", e->job));
            say_event(c, e, &last);
            last = last && sub->job[0] != '*';
            limn_job_event_unref(&e);
        }
        if (last) limn_feed_close(&sub->feed);
    }
}

static void set_interest(client *c) {
    bool want = wslay_event_want_write(c->ws) != 0;
    if (want == c->wants_write) return;
    c->wants_write = want;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | (want ? EPOLLOUT : 0u),
                             .data.ptr = c};
    epoll_ctl(c->all->epoll, EPOLL_CTL_MOD, c->fd, &ev);
}

/* wslay answers a broken frame head with a close that gives no reason; this one does. */
static void refuse_frame(client *c) {
    static const unsigned char close_1002[] = {0x88, 0x02, 0x03, 0xea};
    c->dead = true;
    if (!c->left) send(c->fd, close_1002, sizeof close_1002, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void serve_client(client *c, bool readable) {
    if (c->dead) return;
    if (readable || c->first_at < c->first_len)
        if (wslay_event_recv(c->ws) != 0) refuse_frame(c);
    if (!c->dead) pump(c);
    if (!c->dead && wslay_event_want_write(c->ws) && wslay_event_send(c->ws) != 0) c->dead = true;
    if (!wslay_event_want_read(c->ws) && !wslay_event_want_write(c->ws)) c->dead = true;
    if (!c->dead) set_interest(c);
}

static void drop(client *c) {
    limn_sockets *all = c->all;
    for (int i = 0; i < LIMN_LIMIT_WS_SUBSCRIPTIONS; i++)
        if (c->subs[i].feed) limn_feed_close(&c->subs[i].feed);
    ring_remove(c);
    epoll_ctl(all->epoll, EPOLL_CTL_DEL, c->fd, NULL);
    shutdown(c->fd, SHUT_RDWR);
    MHD_upgrade_action(c->handle, MHD_UPGRADE_ACTION_CLOSE);
    wslay_event_context_free(c->ws);
    limn_mem_free(c->first);
    limn_mem_free(c);
    atomic_fetch_sub(&all->server->ws_clients, 1);
}

static void keep_alive(client *c, double now) {
    if (now - c->heard > SILENCE_SECONDS) {
        c->dead = true;
    } else if (now - c->heard > PING_SECONDS && now - c->pinged > PING_SECONDS) {
        struct wslay_event_msg ping = {WSLAY_PING, NULL, 0};
        wslay_event_queue_msg(c->ws, &ping);
        c->pinged = now;
    }
}

/* ---- the thread ---- */

static void welcome(limn_sockets *all) {
    pthread_mutex_lock(&all->lock);
    while (all->fresh.next != &all->fresh) {
        client *c = all->fresh.next;
        ring_remove(c);
        ring_add(&all->list, c);
        struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
        if (epoll_ctl(all->epoll, EPOLL_CTL_ADD, c->fd, &ev) != 0) c->dead = true;
        atomic_store(&c->ready, true);
    }
    pthread_mutex_unlock(&all->lock);
}

static void say_bye(limn_sockets *all) {
    for (client *c = all->list.next; c != &all->list; c = c->next) {
        if (c->closing) continue;
        c->closing = true;
        say(c, limn_event_plain_json("bye", NULL));
        if (wslay_event_send(c->ws) != 0) c->dead = true; /* a close overtakes what waits */
        wslay_event_queue_close(c->ws, WSLAY_CODE_GOING_AWAY, NULL, 0);
        atomic_store(&c->ready, true);
    }
}

static void *run(void *user) {
    limn_sockets *all = user;
    struct epoll_event events[EVENTS];
    double stop_at = 0;
    for (;;) {
        int n = epoll_wait(all->epoll, events, EVENTS, 500);
        for (int i = 0; i < n; i++) {
            client *c = events[i].data.ptr;
            uint64_t count;
            if (c)
                serve_client(c, (events[i].events & ~(uint32_t)EPOLLOUT) != 0);
            else if (read(all->wake, &count, sizeof count) < 0)
                continue;
        }
        welcome(all);
        double now = limn_clock_now();
        if (atomic_load(&all->stopping)) {
            if (stop_at == 0) stop_at = now + STOP_SECONDS;
            say_bye(all);
        }
        for (client *c = all->list.next, *next; c != &all->list; c = next) {
            next = c->next;
            keep_alive(c, now);
            if (!c->dead && (atomic_load(&c->ready) || wslay_event_want_write(c->ws)))
                serve_client(c, false);
            if (c->dead || (stop_at > 0 && now >= stop_at)) drop(c);
        }
        if (stop_at > 0 && all->list.next == &all->list) return NULL;
    }
}

/* ---- handshake ---- */

static void accept_key(char out[32], const char *key) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455, 4.2.2 */
    unsigned char digest[20];
    gsize n = sizeof digest;
    GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA1);
    g_checksum_update(sum, (const guchar *)key, (gssize)strlen(key));
    g_checksum_update(sum, (const guchar *)guid, sizeof guid - 1);
    g_checksum_get_digest(sum, digest, &n);
    g_checksum_free(sum);
    sodium_bin2base64(out, 32, digest, sizeof digest, sodium_base64_VARIANT_ORIGINAL);
}

static bool lists_word(const char *list, const char *word) {
    size_t n = strlen(word);
    while (list && *list) {
        while (*list == ' ' || *list == ',') list++;
        size_t len = strcspn(list, ", ");
        if (len == n && strncasecmp(list, word, n) == 0) return true;
        list += len;
    }
    return false;
}

static void taken_over(void *user, struct MHD_Connection *conn, void *con_cls, const char *extra,
                       size_t extra_size, MHD_socket sock,
                       struct MHD_UpgradeResponseHandle *handle) {
    client *c = user;
    (void)conn;
    ((limn_http_req *)con_cls)->data = NULL; /* no longer the request's to free */
    c->fd = sock;
    c->handle = handle;
    fcntl(sock, F_SETFL, fcntl(sock, F_GETFL) | O_NONBLOCK);
    if (extra_size && (c->first = limn_mem_alloc(extra_size))) {
        memcpy(c->first, extra, extra_size);
        c->first_len = extra_size;
    }
    c->heard = limn_clock_now();
    pthread_mutex_lock(&c->all->lock);
    ring_add(&c->all->fresh, c);
    pthread_mutex_unlock(&c->all->lock);
    wake_thread(c->all);
}

/* The handshake's answer never got out. */
static void abandon(void *data) {
    client *c = data;
    atomic_fetch_sub(&c->all->server->ws_clients, 1);
    wslay_event_context_free(c->ws);
    limn_mem_free(c);
}

static client *client_new(limn_http_req *rq) {
    static const struct wslay_event_callbacks calls = {
        .recv_callback = on_recv, .send_callback = on_send, .on_msg_recv_callback = on_message};
    client *c = limn_mem_calloc(1, sizeof *c);
    if (!c) return NULL;
    c->all = rq->server->sockets;
    c->who = rq->who;
    if (wslay_event_context_server_init(&c->ws, &calls, c) != 0) {
        limn_mem_free(c);
        return NULL;
    }
    wslay_event_config_set_max_recv_msg_length(c->ws, LIMN_LIMIT_WS_MESSAGE_BYTES);
    return c;
}

void limn_sockets_upgrade(limn_http_req *rq) {
    limn_server *s = rq->server;
    const char *key = limn_http_header(rq, "Sec-WebSocket-Key");
    const char *version = limn_http_header(rq, "Sec-WebSocket-Version");
    unsigned char nonce[16];
    size_t n = 0;
    char accept[32];
    if (!lists_word(limn_http_header(rq, "Upgrade"), "websocket") ||
        !lists_word(limn_http_header(rq, "Connection"), "upgrade") || !version ||
        strcmp(version, "13") != 0) {
        limn_http_fail(rq, LIMN_HTTP_UPGRADE, NULL, "this is a WebSocket, version 13");
        limn_http_add_header(rq, "Upgrade", "websocket");
        limn_http_add_header(rq, "Sec-WebSocket-Version", "13");
        return;
    }
    if (!key ||
        sodium_base642bin(nonce, sizeof nonce, key, strlen(key), NULL, &n, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        n != sizeof nonce) {
        limn_http_fail(rq, LIMN_HTTP_BAD_REQUEST, NULL, "bad Sec-WebSocket-Key");
        return;
    }
    client *c = NULL;
    struct MHD_Response *r = NULL;
    if (atomic_fetch_add(&s->ws_clients, 1) < LIMN_LIMIT_WS_CLIENTS) c = client_new(rq);
    if (c) r = MHD_create_response_for_upgrade(taken_over, c);
    if (!r) {
        if (c) {
            wslay_event_context_free(c->ws);
            limn_mem_free(c);
        }
        atomic_fetch_sub(&s->ws_clients, 1);
        limn_http_fail(rq, LIMN_HTTP_UNAVAILABLE, NULL, "too many WebSockets are open");
        return;
    }
    accept_key(accept, key);
    rq->data = c;
    rq->free_data = abandon;
    rq->response = r;
    rq->status = 101;
    rq->upgrade = true;
    limn_http_add_header(rq, "Upgrade", "websocket");
    limn_http_add_header(rq, "Sec-WebSocket-Accept", accept);
}

limn_status limn_sockets_start(limn_sockets **out, limn_server *s, limn_err *err) {
    limn_sockets *all = *out = limn_mem_calloc(1, sizeof *all);
    limn_status st = LIMN_OK;
    if (!all) return limn_fail(err, LIMN_E_NOMEM, "no memory for WebSockets");
    all->server = s;
    all->list.prev = all->list.next = &all->list;
    all->fresh.prev = all->fresh.next = &all->fresh;
    pthread_mutex_init(&all->lock, NULL);
    limn_buf_init(&all->text, EVENT_BYTES);
    all->epoll = epoll_create1(EPOLL_CLOEXEC);
    all->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    LIMN_CHECK(err, all->epoll >= 0 && all->wake >= 0, LIMN_E_NOMEM, "no WebSockets: %s",
               strerror(errno));
    epoll_ctl(all->epoll, EPOLL_CTL_ADD, all->wake, &ev);
    LIMN_CHECK(err, pthread_create(&all->thread, NULL, run, all) == 0, LIMN_E_NOMEM,
               "no thread for WebSockets");
out:
    if (st != LIMN_OK) {
        if (all->epoll >= 0) close(all->epoll);
        if (all->wake >= 0) close(all->wake);
        limn_mem_free(all);
        *out = NULL;
    }
    return st;
}

void limn_sockets_stop(limn_sockets **w) {
    limn_sockets *all = *w;
    if (!all) return;
    atomic_store(&all->stopping, true);
    wake_thread(all);
    pthread_join(all->thread, NULL);
    close(all->epoll);
    close(all->wake);
    pthread_mutex_destroy(&all->lock);
    limn_buf_deinit(&all->text);
    limn_mem_free(all);
    *w = NULL;
}
