/* SPDX-License-Identifier: MIT */
/*
 * One file in one child: handing it over, waiting for answers no longer than is allowed, and
 * knowing what happened when there is none. Nothing that comes back is believed unchecked.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "media/decoders_impl.h"
#include "param/param.h"

enum { SLICE_MS = 50, HELLO_SECONDS = 15, PATIENCE = 30 };
/* MFD_NOEXEC_SEAL of linux/memfd.h, which kernels before 6.3 refuse. */
enum { NOEXEC_SEAL = 0x0008 };

struct limn_decode_visit {
    limn_decoders *decoders;
    int line, process; /* descriptors; -1: none */
    int pid;
    const atomic_bool *cancel;
    double last;     /* when the child is looked at */
    int looks;       /* how often it may still be found at work then */
    double cpu_last; /* processor time that it may have used */
    double cpu_seen; /* that it had used at the last look */
};

/* ---- the line ---- */

static void kill_child(const limn_decode_visit *v) {
    if (v->process >= 0) (void)pidfd_send_signal(v->process, SIGKILL, NULL, 0);
}

/* The child has closed its end without an answer: why, for the log; the client hears one text. */
static limn_status ended(limn_decode_visit *v, limn_err *err) {
    int status = v->pid ? limn_decoders_death(v->decoders, v->pid) : -1;
    char how[64] = "for an unknown reason";
    atomic_fetch_add(&v->decoders->crashed, 1);
    if (status >= 0 && WIFSIGNALED(status))
        snprintf(how, sizeof how, "by signal %d (%s)", WTERMSIG(status),
                 WTERMSIG(status) == SIGSYS    ? "a forbidden system call"
                 : WTERMSIG(status) == SIGXCPU ? "too much processor time"
                                               : strsignal(WTERMSIG(status)));
    else if (status >= 0 && WIFEXITED(status))
        snprintf(how, sizeof how, "with code %d", WEXITSTATUS(status));
    limn_log(LIMN_LOG_WARN, "decode", "a decoder ended %s on a file", how);
    return limn_fail(err, LIMN_E_FORMAT, "the file made its decoder fail");
}

/* Processor time of the child so far; < 0: not known. */
static double cpu_of(const limn_decode_visit *v) {
    clockid_t clock;
    struct timespec t;
    if (!v->pid || clock_getcpuclockid(v->pid, &clock) != 0 || clock_gettime(clock, &t) != 0)
        return -1;
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The file is guilty of the processor time that it takes, a busy machine of the rest: a child that
 * has not used up its time, and gets on, is waited for again. */
static bool may_go_on(limn_decode_visit *v, double used) {
    if (used < 0 || used >= v->cpu_last || used <= v->cpu_seen || v->looks <= 0) return false;
    v->looks--;
    v->cpu_seen = used;
    v->last = limn_clock_now() + v->decoders->seconds;
    return true;
}

static limn_status too_late(limn_decode_visit *v, double used, limn_err *err) {
    kill_child(v);
    atomic_fetch_add(&v->decoders->late, 1);
    if (used < v->cpu_last) {
        if (v->pid)
            limn_log(LIMN_LOG_WARN, "decode", "a decoder was ended: it got no processor time");
        return limn_fail(err, LIMN_E_UNAVAILABLE, "no decoder has time, try later");
    }
    limn_log(LIMN_LOG_WARN, "decode", "a decoder was ended after %d s on one picture",
             v->decoders->seconds);
    return limn_fail(err, LIMN_E_LIMIT, "the file takes longer than %d s to decode",
                     v->decoders->seconds);
}

static limn_status wait_line(limn_decode_visit *v, limn_err *err) {
    struct pollfd on = {v->line, POLLIN, 0};
    for (;;) {
        int n = poll(&on, 1, SLICE_MS);
        if (n > 0) return LIMN_OK;
        if (n < 0 && errno != EINTR) return limn_fail(err, LIMN_E_IO, "a decoder cannot be heard");
        if (v->cancel && atomic_load(v->cancel))
            return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
        if (limn_clock_now() < v->last) continue;
        double used = cpu_of(v);
        if (!may_go_on(v, used)) return too_late(v, used, err);
    }
}

static limn_status receive(limn_decode_visit *v, void *data, size_t size, limn_err *err) {
    char *at = data;
    while (size > 0) {
        limn_status st = wait_line(v, err);
        if (st != LIMN_OK) return st;
        ssize_t n = recv(v->line, at, size, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n <= 0) return ended(v, err);
        at += n;
        size -= (size_t)n;
    }
    return LIMN_OK;
}

static void allow(limn_decode_visit *v, int seconds) {
    double used = cpu_of(v);
    v->cpu_seen = used;
    v->cpu_last = (used > 0 ? used : 0) + seconds;
    v->looks = PATIENCE;
    v->last = limn_clock_now() + seconds;
}

/* ---- beginning ---- */

/* The data in memory that neither side can change any more. */
static int seal(const void *data, size_t size) {
    int fd = memfd_create("limn-media", MFD_CLOEXEC | MFD_ALLOW_SEALING | NOEXEC_SEAL);
    if (fd < 0) fd = memfd_create("limn-media", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    const char *at = data;
    for (size_t left = size; fd >= 0 && left > 0;) {
        ssize_t n = write(fd, at, left);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            close(fd);
            return -1;
        }
        at += n;
        left -= (size_t)n;
    }
    if (fd >= 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static limn_status hand_over(limn_decode_visit *v, limn_decode_ask *ask, const void *data,
                             size_t size, limn_err *err) {
    int pair[2], fd = seal(data, size);
    if (fd < 0) return limn_fail(err, LIMN_E_NOMEM, "no memory to decode a file");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        close(fd);
        return limn_fail(err, LIMN_E_UNAVAILABLE, "no descriptors to decode a file");
    }
    ask->magic = LIMN_DECODE_MAGIC;
    ask->size = size;
    v->line = pair[0];
    limn_status st = limn_decoders_send(v->decoders, ask, pair[1], fd, err);
    close(pair[1]);
    close(fd);
    return st;
}

/* The child says who it is before it has seen the data: its word still counts. */
static limn_status meet(limn_decode_visit *v, limn_err *err) {
    limn_decode_hello hello;
    allow(v, HELLO_SECONDS);
    limn_status st = receive(v, &hello, sizeof hello, err);
    if (st != LIMN_OK)
        return st == LIMN_E_FORMAT
                   ? limn_fail(err, LIMN_E_UNAVAILABLE, "decoding starts again, try later")
                   : st;
    if (hello.magic != LIMN_DECODE_MAGIC || hello.pid <= 1)
        return limn_fail(err, LIMN_E_INTERNAL, "a decoder of another version answered");
    v->pid = hello.pid;
    v->process = pidfd_open(hello.pid, 0);
    allow(v, v->decoders->seconds);
    return LIMN_OK;
}

limn_status limn_decode_visit_begin(limn_decode_visit **out, limn_decoders *d, limn_decode_ask ask,
                                    const void *data, size_t size, const atomic_bool *cancel,
                                    limn_err *err) {
    *out = NULL;
    limn_decode_visit *v = limn_mem_calloc(1, sizeof *v);
    if (!v) return limn_fail(err, LIMN_E_NOMEM, "no memory to decode a file");
    limn_status st = limn_decoders_enter(d, cancel, err);
    if (st != LIMN_OK) {
        limn_mem_free(v);
        return st;
    }
    *v = (limn_decode_visit){.decoders = d, .line = -1, .process = -1, .cancel = cancel};
    st = hand_over(v, &ask, data, size, err);
    if (st == LIMN_OK) st = meet(v, err);
    if (st != LIMN_OK) limn_decode_visit_end(&v);
    *out = v;
    return st;
}

int limn_decode_visit_pid(const limn_decode_visit *v) {
    return v->pid;
}

void limn_decode_visit_end(limn_decode_visit **pv) {
    limn_decode_visit *v = *pv;
    if (!v) return;
    *pv = NULL;
    kill_child(v);
    if (v->process >= 0) close(v->process);
    if (v->line >= 0) close(v->line);
    limn_decoders_leave(v->decoders);
    limn_mem_free(v);
}

/* ---- answers ---- */

/* The status of a child that may lie: only what a file can be guilty of. */
static limn_status failed(const limn_decode_reply *r, limn_err *err) {
    char text[sizeof r->text];
    memcpy(text, r->text, sizeof text);
    text[sizeof text - 1] = 0;
    if (!limn_utf8_is_valid(text, strlen(text)) || !text[0])
        snprintf(text, sizeof text, "cannot be decoded");
    switch (r->status) {
    case LIMN_E_NOMEM:
        return limn_fail(err, LIMN_E_LIMIT, "needs more memory to decode than is allowed");
    case LIMN_E_FORMAT:
    case LIMN_E_UNSUPPORTED:
    case LIMN_E_LIMIT:
    case LIMN_E_VALUE:
    case LIMN_E_NOT_FOUND: return limn_fail(err, (limn_status)r->status, "%s", text);
    default: return limn_fail(err, LIMN_E_FORMAT, "%s", text);
    }
}

limn_status limn_decode_visit_reply(limn_decode_visit *v, limn_decode_reply *r, limn_err *err) {
    limn_status st = receive(v, r, sizeof *r, err);
    if (st != LIMN_OK) return st;
    if (r->magic != LIMN_DECODE_MAGIC) return ended(v, err);
    return r->status == LIMN_OK ? LIMN_OK : failed(r, err);
}

limn_status limn_decode_visit_body(limn_decode_visit *v, void *data, size_t size, limn_err *err) {
    return receive(v, data, size, err);
}

limn_status limn_decode_visit_step(limn_decode_visit *v, bool read, int64_t index, limn_err *err) {
    limn_decode_step step = {.read = read, .index = index};
    allow(v, v->decoders->seconds);
    ssize_t n = send(v->line, &step, sizeof step, MSG_NOSIGNAL);
    return n == sizeof step ? LIMN_OK : ended(v, err);
}
