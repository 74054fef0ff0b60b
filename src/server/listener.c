/* SPDX-License-Identifier: MIT */
/*
 * Accepting connections. One thread waits for new sockets and for the first request's head of each;
 * the head is looked at without taking it (MSG_PEEK), goes through the gate, and only then does the
 * socket reach libmicrohttpd. A head that is refused is answered here and the connection closed, so
 * nothing behind it is ever read. Connections are counted per address, and a head that takes longer
 * than HEAD_SECONDS ends with 408.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/http_gate.h"
#include "server/server.h"

enum { LISTEN_MAX = 4, EVENTS = 64, ADDRESSES = 8192, BACKLOG = 1024 };

/* A connection whose head is not complete yet. */
typedef struct pending {
    struct pending *prev, *next;
    int fd;
    double since;
    struct sockaddr_storage address;
    socklen_t address_len;
} pending;

typedef struct counted {
    unsigned char key[16];
    int open;
} counted;

struct limn_listener {
    limn_server *server;
    pthread_t thread;
    int epoll, wake;
    int listen[LISTEN_MAX], n_listen;
    char socket_path[108];
    int port;
    pending list;         /* ring; the oldest first */
    int spare;            /* a descriptor to close when none is left */
    char *peek;           /* [HEAD_BYTES + 1] */
    pthread_mutex_t lock; /* below */
    int open;
    counted rows[ADDRESSES]; /* open addressing; rows with open 0 may be taken */
};

/* ---- counting ---- */

/* 16 bytes that stand for an address; IPv6 counts by /64. false: this machine. */
static bool address_key(unsigned char key[16], const struct sockaddr *a) {
    memset(key, 0, 16);
    if (a->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)a;
        memcpy(key, &in->sin_addr, 4);
        key[15] = 4;
        return key[0] != 127;
    }
    if (a->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const void *)a;
        if (IN6_IS_ADDR_LOOPBACK(&in->sin6_addr)) return false;
        if (IN6_IS_ADDR_V4MAPPED(&in->sin6_addr)) {
            memcpy(key, (const unsigned char *)&in->sin6_addr + 12, 4);
            key[15] = 4;
            return key[0] != 127;
        }
        memcpy(key, &in->sin6_addr, 8);
        key[15] = 6;
        return true;
    }
    return false;
}

static counted *find_counted(limn_listener *l, const unsigned char key[16], bool make) {
    uint32_t h = 2166136261u;
    for (int i = 0; i < 16; i++) h = (h ^ key[i]) * 16777619u;
    counted *free_row = NULL;
    for (int i = 0; i < 64; i++) {
        counted *row = &l->rows[(h + (uint32_t)i) % ADDRESSES];
        if (row->open > 0 && memcmp(row->key, key, 16) == 0) return row;
        if (row->open == 0 && !free_row) free_row = row;
    }
    if (!make || !free_row) return NULL;
    memcpy(free_row->key, key, 16);
    return free_row;
}

static bool count_in(limn_listener *l, const struct sockaddr *a) {
    unsigned char key[16];
    const limn_serve_settings *set = l->server->set;
    bool ok = true;
    pthread_mutex_lock(&l->lock);
    if (l->open >= set->max_connections) ok = false;
    if (ok && address_key(key, a)) {
        counted *row = find_counted(l, key, true);
        ok = row && row->open < set->connections_per_address;
        if (ok) row->open++;
    }
    if (ok) l->open++;
    pthread_mutex_unlock(&l->lock);
    return ok;
}

void limn_listener_release(limn_listener *l, const void *address) {
    unsigned char key[16];
    pthread_mutex_lock(&l->lock);
    l->open--;
    if (address_key(key, address)) {
        counted *row = find_counted(l, key, false);
        if (row) row->open--;
    }
    pthread_mutex_unlock(&l->lock);
}

/* ---- heads ---- */

static void forget(limn_listener *l, pending *p) {
    epoll_ctl(l->epoll, EPOLL_CTL_DEL, p->fd, NULL);
    p->prev->next = p->next;
    p->next->prev = p->prev;
    limn_mem_free(p);
}

static void drop(limn_listener *l, pending *p) {
    close(p->fd);
    limn_listener_release(l, &p->address);
    forget(l, p);
}

/* Answers without libmicrohttpd. What the client has sent is read away, so that closing does not
 * reset the connection before the answer is through. */
static void answer(int fd, int status, const char *reason) {
    char text[512], body[256], waste[4096];
    const limn_http_error_row *row = limn_http_error_get(limn_http_error_of(status));
    int n = snprintf(body, sizeof body,
                     "{\"error\": {\"type\": \"%s\", \"code\": \"%s\", \"param\": null, "
                     "\"message\": \"%s\"}}\n",
                     row->type, row->code, reason);
    n = snprintf(text, sizeof text,
                 "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
                 "Connection: close\r\n\r\n%s",
                 status, reason, n, body);
    if (send(fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return;
    shutdown(fd, SHUT_WR);
    for (int i = 0; i < 64; i++)
        if (recv(fd, waste, sizeof waste, MSG_DONTWAIT) <= 0) break;
}

/* More of the head is there, or the client has gone. */
static void look(limn_listener *l, pending *p) {
    ssize_t n = recv(p->fd, l->peek, LIMN_LIMIT_HEAD_BYTES + 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        drop(l, p);
        return;
    }
    limn_http_gate gate;
    limn_gate_verdict verdict = limn_http_gate_head(&gate, l->peek, (size_t)n, NULL);
    if (verdict == LIMN_GATE_MORE && n <= LIMN_LIMIT_HEAD_BYTES) return;
    if (verdict == LIMN_GATE_PASS) {
        int fd = p->fd;
        struct sockaddr_storage address = p->address;
        socklen_t len = p->address_len;
        forget(l, p);
        limn_http_take(l->server, fd, &address, len);
        return;
    }
    limn_metrics_add(l->server->metrics, LIMN_METRIC_REFUSED);
    answer(p->fd, gate.status ? gate.status : 431,
           gate.status ? gate.reason : "headers are too long");
    drop(l, p);
}

static void expire(limn_listener *l, double now) {
    while (l->list.next != &l->list) {
        pending *p = l->list.next;
        if (now - p->since < LIMN_LIMIT_HEAD_SECONDS) break;
        char byte;
        if (recv(p->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
            answer(p->fd, 408, "the request took too long");
        drop(l, p);
    }
}

/* ---- accepting ---- */

static void admit(limn_listener *l, int fd, const struct sockaddr_storage *address, socklen_t len) {
    if (!count_in(l, (const struct sockaddr *)address)) {
        answer(fd, 503, "too many connections");
        close(fd);
        return;
    }
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    limn_metrics_add(l->server->metrics, LIMN_METRIC_CONNECTIONS);
    pending *p = limn_mem_calloc(1, sizeof *p);
    if (!p) {
        close(fd);
        limn_listener_release(l, address);
        return;
    }
    *p = (pending){.fd = fd, .since = limn_clock_now(), .address = *address, .address_len = len};
    p->prev = l->list.prev;
    p->next = &l->list;
    p->prev->next = p->next->prev = p;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET | EPOLLRDHUP, .data.ptr = p};
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev) != 0) {
        drop(l, p);
        return;
    }
    look(l, p); /* most heads are there already */
}

static void accept_all(limn_listener *l, int listen_fd) {
    for (int i = 0; i < 64; i++) {
        struct sockaddr_storage address;
        socklen_t len = sizeof address;
        memset(&address, 0, sizeof address);
        int fd =
            accept4(listen_fd, (struct sockaddr *)&address, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            admit(l, fd, &address, len);
            continue;
        }
        if (errno != EMFILE && errno != ENFILE) return;
        /* no descriptor left: use the spare one to tell the client to come back */
        if (l->spare < 0) return;
        close(l->spare);
        fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) close(fd);
        l->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
        return;
    }
}

static void *run(void *user) {
    limn_listener *l = user;
    struct epoll_event events[EVENTS];
    while (!atomic_load(&l->server->stopping)) {
        int n = epoll_wait(l->epoll, events, EVENTS, 500);
        for (int i = 0; i < n; i++) {
            uintptr_t tag = (uintptr_t)events[i].data.ptr;
            if (tag == 0) continue; /* woken to stop */
            if (tag <= LISTEN_MAX)
                accept_all(l, l->listen[tag - 1]);
            else
                look(l, events[i].data.ptr);
        }
        expire(l, limn_clock_now());
    }
    while (l->list.next != &l->list) drop(l, l->list.next);
    return NULL;
}

/* ---- opening ---- */

static limn_status add_listen(limn_listener *l, int fd, limn_err *err) {
    struct epoll_event ev = {.events = EPOLLIN};
    ev.data.ptr = (void *)(uintptr_t)(l->n_listen + 1);
    if (listen(fd, BACKLOG) != 0 || epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev) != 0) {
        int why = errno;
        close(fd);
        return limn_fail(err, LIMN_E_IO, "cannot listen: %s", strerror(why));
    }
    l->listen[l->n_listen++] = fd;
    return LIMN_OK;
}

static limn_status open_tcp(limn_listener *l, limn_err *err) {
    const limn_serve_settings *set = l->server->set;
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char port[16];
    snprintf(port, sizeof port, "%d", (int)set->port);
    int bad = getaddrinfo(set->host, port, &hints, &list);
    if (bad) return limn_fail(err, LIMN_E_VALUE, "--host %s: %s", set->host, gai_strerror(bad));
    int fd = -1, one = 1;
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    limn_status st = LIMN_OK;
    fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, list->ai_addr, list->ai_addrlen) != 0) {
        st = limn_fail(err, LIMN_E_IO, "cannot listen on %s port %s: %s", set->host, port,
                       strerror(errno));
        if (fd >= 0) close(fd);
    } else {
        getsockname(fd, (struct sockaddr *)&address, &len);
        l->port = ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                                      : ((struct sockaddr_in *)&address)->sin_port);
        st = add_listen(l, fd, err);
    }
    freeaddrinfo(list);
    return st;
}

static limn_status open_unix(limn_listener *l, const char *path, limn_err *err) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof address.sun_path)
        return limn_fail(err, LIMN_E_LIMIT, "--socket: the path is too long");
    memcpy(address.sun_path, path, length + 1);
    struct stat info;
    if (lstat(path, &info) == 0 && S_ISSOCK(info.st_mode)) unlink(path); /* of a process before */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        chmod(path, 0660) != 0) {
        int why = errno;
        if (fd >= 0) close(fd);
        return limn_fail(err, LIMN_E_IO, "--socket %s: %s", path, strerror(why));
    }
    snprintf(l->socket_path, sizeof l->socket_path, "%s", path);
    return add_listen(l, fd, err);
}

static void close_all(limn_listener *l) {
    for (int i = 0; i < l->n_listen; i++) close(l->listen[i]);
    l->n_listen = 0;
    if (l->socket_path[0]) unlink(l->socket_path);
    l->socket_path[0] = 0;
    int *const fds[] = {&l->epoll, &l->wake, &l->spare};
    for (int i = 0; i < 3; i++) {
        if (*fds[i] >= 0) close(*fds[i]);
        *fds[i] = -1;
    }
    limn_mem_free(l->peek);
    l->peek = NULL;
}

void limn_listener_free(limn_listener **l) {
    if (!*l) return;
    pthread_mutex_destroy(&(*l)->lock);
    limn_mem_free(*l);
    *l = NULL;
}

limn_status limn_listener_start(limn_listener **out, limn_server *s, limn_err *err) {
    limn_listener *l = limn_mem_calloc(1, sizeof *l);
    limn_status st = LIMN_OK;
    *out = NULL;
    if (!l) return limn_fail(err, LIMN_E_NOMEM, "no memory to listen");
    l->server = s;
    l->list.prev = l->list.next = &l->list;
    pthread_mutex_init(&l->lock, NULL);
    l->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->peek = limn_mem_alloc(LIMN_LIMIT_HEAD_BYTES + 1);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    LIMN_CHECK(err, l->epoll >= 0 && l->wake >= 0 && l->peek, LIMN_E_NOMEM, "cannot listen");
    epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->wake, &ev);
    LIMN_TRY(open_tcp(l, err));
    if (s->set->socket[0]) LIMN_TRY(open_unix(l, s->set->socket, err));
    *out = l;
    LIMN_CHECK(err, pthread_create(&l->thread, NULL, run, l) == 0, LIMN_E_NOMEM,
               "no thread to listen");
out:
    if (st != LIMN_OK) {
        close_all(l);
        limn_listener_free(&l);
        *out = NULL;
    }
    return st;
}

void limn_listener_stop(limn_listener *l) {
    if (!l || l->n_listen == 0) return;
    uint64_t one = 1;
    ssize_t woken = write(l->wake, &one, sizeof one);
    (void)woken; /* the thread also wakes by itself, twice a second */
    pthread_join(l->thread, NULL);
    close_all(l);
}

int limn_listener_port(const limn_listener *l) {
    return l->port;
}
