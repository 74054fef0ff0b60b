/* SPDX-License-Identifier: MIT */
/* The host of the decoding processes, seen from the server: started, fed, watched; see decoders.h.
 */
#include "media/decoders.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "media/decoders_impl.h"
#include "media/jail.h"

enum { TURN_SECONDS = 60, RESTART_MS = 1000, STOP_MS = 300, DEATH_MS = 300, ENV_MAX = 24 };

/* ---- the host process ---- */

/* Only what libraries need to find fonts and words: a server's environment may hold secrets. */
static void choose_env(char **out) {
    static const char *const names[] = {"PATH=",
                                        "HOME=",
                                        "LANG=",
                                        "LC_ALL=",
                                        "LC_CTYPE=",
                                        "LD_LIBRARY_PATH=",
                                        "TMPDIR=",
                                        "XDG_CACHE_HOME=",
                                        "XDG_DATA_HOME=",
                                        "FONTCONFIG_FILE=",
                                        "FONTCONFIG_PATH=",
                                        "ASAN_OPTIONS=",
                                        "UBSAN_OPTIONS=",
                                        "LSAN_OPTIONS="};
    static char one_thread[] = "VIPS_CONCURRENCY=1";
    static char no_files[] = "VIPS_DISC_THRESHOLD=64g"; /* or large pictures go through /tmp */
    int n = 0;
    for (char **e = environ; *e && n < ENV_MAX - 3; e++)
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
            if (strncmp(*e, names[i], strlen(names[i])) == 0) out[n++] = *e;
    out[n++] = one_thread;
    out[n++] = no_files;
    out[n] = NULL;
}

/* Descriptors far from those that the host has them under, so that moving one overwrites none. */
static int move_up(int fd) {
    int up = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 16) : -1;
    if (fd >= 0) close(fd);
    return up;
}

static int spawn(limn_decoders *d, int control, int report) {
    char *env[ENV_MAX], name[] = "limn", word[] = "decode-host";
    char *const args[] = {name, word, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    choose_env(env);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&how);
    posix_spawn_file_actions_adddup2(&files, control, LIMN_DECODE_CONTROL_FD);
    posix_spawn_file_actions_adddup2(&files, report, LIMN_DECODE_REPORT_FD);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    /* What libraries say about strangers' files has no place in the server's log. */
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    if (!LIMN_SANITIZED) posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_setsigmask(&how, &none);
    posix_spawnattr_setsigdefault(&how, &all);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    int bad = posix_spawn(&d->host, d->program, &files, &how, args, env);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&how);
    if (bad) d->host = 0;
    return bad;
}

/* Under the lock, or before there are threads. */
static limn_status start_host(limn_decoders *d, limn_err *err) {
    int control[2] = {-1, -1}, report[2] = {-1, -1};
    int bad =
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) || pipe2(report, O_CLOEXEC);
    for (int i = 0; i < 2; i++) {
        control[i] = move_up(control[i]);
        report[i] = move_up(report[i]);
        if (control[i] < 0 || report[i] < 0) bad = 1;
    }
    d->started = limn_clock_now();
    if (!bad) {
        errno = spawn(d, control[1], report[1]);
        bad = errno != 0 || send(control[0], &d->memory, sizeof d->memory, MSG_NOSIGNAL) < 0;
    }
    limn_status st = bad ? limn_fail(err, LIMN_E_IO, "the process for decoding cannot start: %s",
                                     strerror(errno))
                         : LIMN_OK;
    if (control[1] >= 0) close(control[1]);
    if (report[1] >= 0) close(report[1]);
    d->control = control[0];
    d->report = report[0];
    if (report[0] >= 0) fcntl(report[0], F_SETFL, O_NONBLOCK);
    return st;
}

/* Under the lock, or after the threads. A host that is still starting does not hear that its line
 * is closed: it is killed, and its children with it (PR_SET_PDEATHSIG). */
static void stop_host(limn_decoders *d) {
    if (d->control >= 0) close(d->control);
    d->control = -1;
    for (int waited = 0; d->host > 0; waited += 5) {
        if (waitpid(d->host, NULL, waited < STOP_MS ? WNOHANG : 0) != 0) d->host = 0;
        if (d->host > 0) nanosleep(&(struct timespec){0, 5000000}, NULL);
        if (d->host > 0 && waited == STOP_MS - 5) kill(d->host, SIGKILL);
    }
    if (d->report >= 0) close(d->report);
    d->report = -1;
}

/* News of the dead. False: the host has closed its end. Under the lock. */
static bool read_report(limn_decoders *d) {
    limn_decode_died died;
    ssize_t n;
    while ((n = read(d->report, &died, sizeof died)) == sizeof died)
        d->deaths[d->n_deaths++ % LIMN_DEATHS_KEPT] = died;
    return n != 0;
}

/* Under the lock. */
static limn_status need_host(limn_decoders *d, limn_err *err) {
    if (d->report >= 0 && read_report(d)) return LIMN_OK;
    if (d->started < 0) return start_host(d, err);
    if ((limn_clock_now() - d->started) * 1e3 < RESTART_MS)
        return limn_fail(err, LIMN_E_UNAVAILABLE, "decoding starts again, try later");
    limn_log(LIMN_LOG_WARN, "decode", "the process for decoding has gone and is started again");
    stop_host(d);
    return start_host(d, err);
}

/* ---- for a visit ---- */

limn_status limn_decoders_enter(limn_decoders *d, const atomic_bool *cancel, limn_err *err) {
    struct timespec until;
    double last = limn_clock_now() + TURN_SECONDS;
    limn_status st = LIMN_OK;
    pthread_mutex_lock(&d->lock);
    while (st == LIMN_OK && d->busy >= d->most) {
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&d->freed, &d->lock, &until);
        if (cancel && atomic_load(cancel)) st = limn_fail(err, LIMN_E_CANCELLED, "cancelled");
        if (st == LIMN_OK && limn_clock_now() > last)
            st = limn_fail(err, LIMN_E_UNAVAILABLE, "too many files are being decoded, try later");
    }
    if (st == LIMN_OK) st = need_host(d, err);
    if (st == LIMN_OK) d->busy++;
    pthread_mutex_unlock(&d->lock);
    if (st == LIMN_OK) atomic_fetch_add(&d->files, 1);
    return st;
}

void limn_decoders_leave(limn_decoders *d) {
    pthread_mutex_lock(&d->lock);
    d->busy--;
    pthread_cond_signal(&d->freed);
    pthread_mutex_unlock(&d->lock);
}

limn_status limn_decoders_send(limn_decoders *d, const limn_decode_ask *ask, int line, int data,
                               limn_err *err) {
    char room[CMSG_SPACE(2 * sizeof(int))] __attribute__((aligned(_Alignof(struct cmsghdr)))) = {0};
    struct iovec part = {(void *)(uintptr_t)ask, sizeof *ask};
    struct msghdr m = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    const int fds[2] = {line, data};
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(c), fds, sizeof fds);
    pthread_mutex_lock(&d->lock);
    ssize_t n;
    do n = sendmsg(d->control, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    pthread_mutex_unlock(&d->lock);
    return n == sizeof *ask ? LIMN_OK
                            : limn_fail(err, LIMN_E_UNAVAILABLE, "decoding is busy, try later");
}

int limn_decoders_death(limn_decoders *d, int pid) {
    double last = limn_clock_now() + DEATH_MS / 1e3;
    for (;;) {
        pthread_mutex_lock(&d->lock);
        bool more = d->report >= 0 && read_report(d);
        int status = -1;
        for (int i = 0; i < LIMN_DEATHS_KEPT; i++)
            if (d->deaths[i].pid == pid) status = d->deaths[i].status;
        pthread_mutex_unlock(&d->lock);
        if (status >= 0 || !more || limn_clock_now() > last) return status;
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
}

/* ---- trying ---- */

static void set_state(limn_decoders *d, limn_decoders_state state, const char *why) {
    pthread_mutex_lock(&d->lock);
    d->state = state;
    snprintf(d->why, sizeof d->why, "%s", why);
    pthread_mutex_unlock(&d->lock);
}

limn_status limn_decoders_probe(limn_decoders *d, limn_decode_probe what, limn_err *err) {
    limn_decode_visit *v;
    limn_decode_reply r;
    limn_decode_ask ask = {
        .op = LIMN_DECODE_PROBE, .probe = (int32_t)what, .max_pixels = d->memory};
    limn_status st = limn_decode_visit_begin(&v, d, ask, "", 0, &d->stopping, err);
    if (st != LIMN_OK) return st;
    st = limn_decode_visit_reply(v, &r, err);
    limn_decode_visit_end(&v);
    if (st == LIMN_OK)
        set_state(d, r.kind ? LIMN_DECODERS_READY : LIMN_DECODERS_PARTLY,
                  r.kind ? "" : "the kernel has no Landlock: PDF files are refused");
    else if (st == LIMN_E_UNSUPPORTED)
        set_state(d, LIMN_DECODERS_REFUSED, err ? err->text : "");
    return st;
}

/* A child must answer, and must not get at a file. */
static void *try_first(void *self) {
    limn_decoders *d = self;
    limn_err err = {0};
    limn_status st = limn_decoders_probe(d, LIMN_PROBE_NOTHING, &err);
    if (st == LIMN_OK) st = limn_decoders_probe(d, LIMN_PROBE_READ, &err);
    if (st == LIMN_OK) {
        limn_decoders_info info;
        limn_decoders_look(d, &info);
        limn_log(info.state == LIMN_DECODERS_READY ? LIMN_LOG_DEBUG : LIMN_LOG_WARN, "decode",
                 "pictures are decoded in locked processes%s%s", info.why[0] ? ": " : "", info.why);
        return NULL;
    }
    if (st == LIMN_E_CANCELLED) return NULL; /* stopped before it was known */
    set_state(d, LIMN_DECODERS_REFUSED, err.text);
    limn_log(LIMN_LOG_ERROR, "decode",
             "no picture can be taken in: %s (decode_apart off decodes in the server itself)",
             err.text);
    return NULL;
}

/* ---- life ---- */

limn_status limn_decoders_start(limn_decoders **out, const limn_decoders_options *options,
                                limn_err *err) {
    const limn_decoders_options none = {0}, *o = options ? options : &none;
    limn_decoders *d = limn_mem_calloc(1, sizeof *d);
    *out = NULL;
    if (!d) return limn_fail(err, LIMN_E_NOMEM, "no memory for decoders");
    *d = (limn_decoders){.program = limn_mem_strdup(o->program ? o->program : "/proc/self/exe"),
                         .most = o->most > 0 ? o->most : 4,
                         .seconds = o->seconds > 0 ? o->seconds : 30,
                         .memory = o->memory > 0 ? o->memory : (int64_t)2 << 30,
                         .control = -1,
                         .report = -1,
                         .started = -1};
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->freed, NULL);
    limn_status st = d->program ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for decoders");
    if (st != LIMN_OK) limn_decoders_stop(&d);
    *out = d;
    return st;
}

limn_status limn_decoders_try(limn_decoders *d, limn_err *err) {
    d->trying = pthread_create(&d->first_try, NULL, try_first, d) == 0;
    return d->trying ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no thread for decoders");
}

void limn_decoders_stop(limn_decoders **pd) {
    limn_decoders *d = *pd;
    if (!d) return;
    *pd = NULL;
    atomic_store(&d->stopping, true); /* a machine that is busy may not have started a child yet */
    if (d->trying) pthread_join(d->first_try, NULL);
    if (limn_decoders_used() == d) limn_decoders_use(NULL);
    stop_host(d);
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->freed);
    limn_mem_free(d->program);
    limn_mem_free(d);
}

void limn_decoders_look(limn_decoders *d, limn_decoders_info *out) {
    pthread_mutex_lock(&d->lock);
    *out = (limn_decoders_info){.state = d->state,
                                .files = atomic_load(&d->files),
                                .crashed = atomic_load(&d->crashed),
                                .late = atomic_load(&d->late),
                                .busy = d->busy};
    snprintf(out->why, sizeof out->why, "%s", d->why);
    pthread_mutex_unlock(&d->lock);
}
