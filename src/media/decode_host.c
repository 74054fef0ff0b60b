/* SPDX-License-Identifier: MIT */
/*
 * The host of the decoding processes, and what such a process does (decoders.h, decode_wire.h).
 *
 * The host has one thread, loads the libraries, and keeps some children ready: locked in, waiting
 * for a file at the control socket. A child that takes a file says so, and the next one is forked.
 * All end when the server's end of the control socket is closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <fontconfig/fontconfig.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "image/image.h"
#include "media/decode_wire.h"
#include "media/decoders.h"
#include "media/jail.h"
#include "media/media_impl.h"
#include "media/media_late.h"

enum {
    CHILDREN_MAX = 256,
    PATHS_MAX = 64,
    CPU_SECONDS = 900,
    BACKOFF_MS = 100,
    IDLE = 2,
    LATER_MS = 4
};

/* ---- a visit, in the child ---- */

typedef struct visit {
    int line;
    limn_decode_ask ask;
    const void *data;
    bool reads; /* fonts of the machine can be read */
} visit;

static bool send_all(int fd, const void *data, size_t size) {
    const char *at = data;
    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static bool receive_all(int fd, void *data, size_t size) {
    char *at = data;
    while (size > 0) {
        ssize_t n = read(fd, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static bool answer(const visit *v, limn_decode_reply *r, limn_status st, const limn_err *err,
                   const void *body, size_t bytes) {
    r->magic = LIMN_DECODE_MAGIC;
    r->status = st;
    r->bytes = st == LIMN_OK ? bytes : 0;
    if (st != LIMN_OK) memcpy(r->text, err->text, sizeof r->text);
    return send_all(v->line, r, sizeof *r) && (r->bytes == 0 || send_all(v->line, body, bytes));
}

static bool answer_image(const visit *v, limn_status st, limn_image *image, const limn_err *err) {
    limn_decode_reply r = {0};
    size_t bytes = 0;
    if (st == LIMN_OK) {
        r.width = image->width;
        r.height = image->height;
        r.channels = image->channels;
        bytes = (size_t)image->width * (size_t)image->height * (size_t)image->channels;
    }
    bool ok = answer(v, &r, st, err, st == LIMN_OK ? image->data : NULL, bytes);
    limn_image_free(&image);
    return ok;
}

static void do_picture(const visit *v) {
    limn_image *image = NULL;
    limn_err err = {0};
    limn_status st = limn_image_decode(&image, v->data, (size_t)v->ask.size, &err);
    answer_image(v, st, image, &err);
}

static void do_text(const visit *v) {
    limn_decode_reply r = {0};
    limn_err err = {0};
    char *text = NULL;
    limn_status st = limn_image_decode_text(&text, v->data, (size_t)v->ask.size, &err);
    answer(v, &r, st, &err, text, text ? strlen(text) : 0);
    limn_mem_free(text);
}

static bool do_step(const visit *v, const limn_media_reader *reader, const limn_decode_step *s) {
    limn_decode_reply r = {0};
    limn_image *image = NULL;
    limn_err err = {0};
    int w = 0, h = 0;
    if (s->index < 0 || s->index >= reader->total) return false;
    if (s->read) {
        limn_status st = reader->read(&image, reader->self, s->index, &err);
        return answer_image(v, st, image, &err);
    }
    limn_status st = reader->measure(&w, &h, reader->self, s->index, &err);
    r.width = w;
    r.height = h;
    return answer(v, &r, st, &err, NULL, 0);
}

static void do_media(const visit *v) {
    limn_media_input in = {.data = v->data,
                           .size = (size_t)v->ask.size,
                           .dpi = v->ask.dpi,
                           .max_pixels = v->ask.max_pixels,
                           .threads = v->ask.threads};
    limn_media_reader reader = {0};
    limn_decode_reply r = {0};
    limn_decode_step step;
    limn_err err = {0};
    limn_status st = limn_media_open_reader(&reader, &in, &err);
    if (st == LIMN_OK && !v->reads && strcmp(reader.format, "pdf") == 0)
        st = limn_fail(&err, LIMN_E_UNSUPPORTED,
                       "PDF files need fonts, which a decoder cannot reach on this kernel");
    if (st == LIMN_OK) {
        r.kind = (int32_t)reader.kind;
        r.total = reader.total;
        r.fps = reader.fps;
        memcpy(r.format, reader.format, strnlen(reader.format, sizeof r.format - 1));
    }
    bool go = answer(v, &r, st, &err, NULL, 0) && st == LIMN_OK;
    while (go && receive_all(v->line, &step, sizeof step)) go = do_step(v, &reader, &step);
}

/* ---- trying the locks ---- */

static limn_status try_memory(const visit *v, limn_err *err) {
    size_t size = (size_t)v->ask.max_pixels;
    void *p = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
    return p == MAP_FAILED ? LIMN_OK : limn_fail(err, LIMN_E_INTERNAL, "a decoder got too much");
}

static void do_probe(const visit *v) {
    limn_decode_reply r = {.kind = v->reads};
    limn_err err = {0};
    limn_status st = LIMN_OK;
    char *const args[] = {(char[]){"true"}, NULL};
    volatile int *volatile nowhere = NULL;
    switch (v->ask.probe) {
    case LIMN_PROBE_READ:
        if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES)
            st = limn_fail(&err, LIMN_E_INTERNAL, "a decoder could open a file");
        break;
    case LIMN_PROBE_MEMORY: st = try_memory(v, &err); break;
    case LIMN_PROBE_WRITE: (void)!open("/tmp", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600); break;
    case LIMN_PROBE_SOCKET: (void)!socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); break;
    case LIMN_PROBE_EXEC: (void)!execv("/bin/true", args); break;
    case LIMN_PROBE_CRASH: *nowhere = 1; break;
    case LIMN_PROBE_SPIN:
        for (volatile bool on = true; on;) continue;
        break;
    default: break;
    }
    answer(v, &r, st, &err, NULL, 0);
}

/* ---- the life of a child ---- */

/* Waits for a file. False: the server has gone. */
static bool receive_ask(visit *v, int *data, int control) {
    char room[CMSG_SPACE(2 * sizeof(int))] __attribute__((aligned(_Alignof(struct cmsghdr))));
    struct iovec part = {&v->ask, sizeof v->ask};
    struct msghdr m = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    int fds[2];
    ssize_t n;
    do n = recvmsg(control, &m, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    struct cmsghdr *c = n == sizeof v->ask ? CMSG_FIRSTHDR(&m) : NULL;
    if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
        c->cmsg_len != CMSG_LEN(sizeof fds) || v->ask.magic != LIMN_DECODE_MAGIC)
        return false;
    memcpy(fds, CMSG_DATA(c), sizeof fds);
    v->line = fds[0];
    *data = fds[1];
    return true;
}

static void do_ask(visit *v, int data) {
    limn_decode_reply r = {0};
    limn_err err = {0};
    if (v->ask.size > 0) v->data = mmap(NULL, (size_t)v->ask.size, PROT_READ, MAP_PRIVATE, data, 0);
    if (v->ask.size > 0 && v->data == MAP_FAILED) {
        limn_fail(&err, LIMN_E_NOMEM, "no memory for the file");
        answer(v, &r, LIMN_E_NOMEM, &err, NULL, 0);
        return;
    }
    switch (v->ask.op) {
    case LIMN_DECODE_PICTURE: do_picture(v); break;
    case LIMN_DECODE_TEXT: do_text(v); break;
    case LIMN_DECODE_MEDIA: do_media(v); break;
    case LIMN_DECODE_PROBE: do_probe(v); break;
    default: break;
    }
}

typedef struct host {
    int control, report, taken[2], signals;
    pid_t children[CHILDREN_MAX];
    int n_children;
    pid_t idle[IDLE]; /* wait for a file; 0: none */
    limn_jail *jail;  /* NULL: refused, `why` */
    limn_err why;
    const char *paths[PATHS_MAX + 1];
} host;

/* Locks itself in before it waits, so that the wait is not part of a visit. */
static void live(const host *h) {
    visit v = {.data = ""};
    limn_err err = {0};
    limn_decode_reply r = {0};
    limn_decode_hello hello = {LIMN_DECODE_MAGIC, (int32_t)getpid()};
    sigset_t none;
    int data = -1;
    close(h->report);
    close(h->taken[0]);
    close(h->signals);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    limn_status st = LIMN_E_UNSUPPORTED;
    if (h->jail) {
        v.reads = limn_jail_reads(h->jail);
        st = limn_jail_enter(h->jail, &err);
    } else {
        err = h->why;
    }
    if (!receive_ask(&v, &data, h->control)) return;
    if (!send_all(h->taken[1], &hello.pid, sizeof hello.pid)) return;
    close(h->taken[1]);
    close(h->control);
    if (!send_all(v.line, &hello, sizeof hello)) return;
    if (st != LIMN_OK)
        answer(&v, &r, st, &err, NULL, 0);
    else
        do_ask(&v, data);
}

/* ---- the host ---- */

static void nap(int ms) {
    nanosleep(&(struct timespec){ms / 1000, (long)(ms % 1000) * 1000000}, NULL);
}

/* Whose number it was. */
static bool not_idle(host *h, pid_t pid) {
    for (int i = 0; i < IDLE; i++)
        if (h->idle[i] == pid) {
            h->idle[i] = 0;
            return true;
        }
    return false;
}

static bool any_idle(const host *h) {
    for (int i = 0; i < IDLE; i++)
        if (h->idle[i] != 0) return true;
    return false;
}

/* True in the child, which has lived its life. */
static bool fork_child(host *h, pid_t *idle) {
    pid_t self = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == self) live(h);
        return true;
    }
    if (pid < 0) {
        nap(BACKOFF_MS);
        return false;
    }
    *idle = pid;
    h->children[h->n_children++] = pid;
    return false;
}

static void forget_child(host *h, pid_t pid) {
    for (int i = 0; i < h->n_children; i++)
        if (h->children[i] == pid) h->children[i--] = h->children[--h->n_children];
}

/* Dead children are told of; one that died while it was idle must not be replaced in a rush. */
static void reap(host *h) {
    struct signalfd_siginfo info;
    int status;
    pid_t pid;
    (void)!read(h->signals, &info, sizeof info);
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        limn_decode_died died = {(int32_t)pid, status};
        (void)!write(h->report, &died, sizeof died); /* nobody listens: not worth waiting for */
        forget_child(h, pid);
        if (not_idle(h, pid)) nap(BACKOFF_MS);
    }
}

/* Folders that poppler and fontconfig read from. */
static void list_fonts(host *h) {
    static const char *const fixed[] = {"/etc/fonts", "/usr/share/fontconfig", "/usr/share/fonts",
                                        "/usr/share/poppler"};
    int n = 0;
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) h->paths[n++] = fixed[i];
    if (limn_late_open(&limn_late_fonts, NULL) != LIMN_OK || !FcInit()) return;
    FcStrList *lists[] = {FcConfigGetFontDirs(NULL), FcConfigGetCacheDirs(NULL)};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        for (FcChar8 *dir; lists[i] && n < PATHS_MAX && (dir = FcStrListNext(lists[i]));) {
            char *copy = limn_mem_strdup((const char *)dir); /* for the life of the host */
            if (copy) h->paths[n++] = copy;
        }
        if (lists[i]) FcStrListDone(lists[i]);
    }
}

static bool host_open(host *h) {
    sigset_t child;
    int64_t memory = 0;
    const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGXFSZ};
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) signal(ignored[i], SIG_IGN);
    close_range(LIMN_DECODE_REPORT_FD + 1, ~0U, 0);
    h->control = LIMN_DECODE_CONTROL_FD;
    h->report = LIMN_DECODE_REPORT_FD;
    /* The first record is the size of a child. */
    if (read(h->control, &memory, sizeof memory) != sizeof memory) return false;
    list_fonts(h);
    limn_jail_options jail = {.memory = memory, .cpu_seconds = CPU_SECONDS, .paths = h->paths};
    (void)limn_jail_build(&h->jail, &jail, &h->why); /* the children tell */
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    /* The children inherit what is open and cannot open more; they say what is missing. */
    (void)limn_vips_start(NULL);
    (void)limn_late_open(&limn_late_av, NULL);
    (void)limn_late_open(&limn_late_pdf, NULL);
    h->signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    fcntl(h->report, F_SETFL, O_NONBLOCK);
    return h->signals >= 0 && pipe2(h->taken, O_CLOEXEC) == 0 &&
           fcntl(h->taken[0], F_SETFL, O_NONBLOCK) == 0;
}

int limn_decode_host(void) {
    host h = {0};
    int32_t pid;
    if (!host_open(&h)) return 1;
    for (;;) {
        for (int i = 0; i < IDLE; i++)
            if (h.idle[i] == 0 && h.n_children < CHILDREN_MAX && fork_child(&h, &h.idle[i]))
                return 0;
        struct pollfd on[] = {{h.control, 0, 0}, {h.taken[0], POLLIN, 0}, {h.signals, POLLIN, 0}};
        if (poll(on, 3, -1) < 0 && errno != EINTR) break;
        while (read(h.taken[0], &pid, sizeof pid) == sizeof pid) not_idle(&h, pid);
        /* A fork costs as much as a small picture: on a full machine the picture goes first. */
        if (on[1].revents && any_idle(&h)) nap(LATER_MS);
        if (on[2].revents) reap(&h);
        if (on[0].revents & (POLLHUP | POLLERR)) break;
    }
    for (int i = 0; i < h.n_children; i++) kill(h.children[i], SIGKILL);
    while (waitpid(-1, NULL, 0) > 0) continue;
    limn_jail_free(&h.jail);
    return 0;
}
