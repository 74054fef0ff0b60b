/* SPDX-License-Identifier: MIT */
/* The locks of a decoding process, from the outer to the inner one; see jail.h. */
#include "media/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

enum { FILES_MAX = 64, CPU_GRACE = 2, FILTER_MAX = 4096 };

struct limn_jail {
    int64_t memory;
    int cpu_seconds;
    int rules; /* of Landlock; -1: there is none */
    unsigned short n_filter;
    struct sock_filter filter[FILTER_MAX];
};

/* ---- limits ---- */

static bool limit(int what, int64_t soft, int64_t hard) {
    return setrlimit((__rlimit_resource_t)what,
                     &(struct rlimit){.rlim_cur = (rlim_t)soft, .rlim_max = (rlim_t)hard}) == 0;
}

static limn_status set_limits(const limn_jail *o, limn_err *err) {
    bool ok = limit(RLIMIT_CORE, 0, 0) && limit(RLIMIT_FSIZE, 0, 0) &&
              limit(RLIMIT_NOFILE, FILES_MAX, FILES_MAX) &&
              limit(RLIMIT_CPU, o->cpu_seconds, o->cpu_seconds + CPU_GRACE);
    if (ok && o->memory > 0 && !LIMN_SANITIZED) ok = limit(RLIMIT_AS, o->memory, o->memory);
    if (ok) return LIMN_OK;
    return limn_fail(err, LIMN_E_UNSUPPORTED, "the limits of a decoder cannot be set: %s",
                     strerror(errno));
}

static limn_status drop_rights(limn_err *err) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_capset, &head, none) == 0 &&
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
        return LIMN_OK;
    return limn_fail(err, LIMN_E_UNSUPPORTED, "a decoder's rights cannot be given up: %s",
                     strerror(errno));
}

/* ---- Landlock ---- */

static void allow_path(int rules, const char *path) {
    int fd = open(path, O_PATH | O_CLOEXEC);
    struct landlock_path_beneath_attr rule = {.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE |
                                                                LANDLOCK_ACCESS_FS_READ_DIR,
                                              .parent_fd = fd};
    struct stat sb;
    if (fd < 0) return;
    if (fstat(fd, &sb) == 0 && S_ISDIR(sb.st_mode))
        (void)syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    close(fd);
}

/* Every right of the first version is handled, so what no rule allows is refused. -1: the kernel
 * has no Landlock. */
static int make_rules(const char *const *paths) {
    struct landlock_ruleset_attr all = {
        .handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                             LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
                             LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                             LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |
                             LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |
                             LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
                             LANDLOCK_ACCESS_FS_MAKE_SYM};
    int rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
    for (int i = 0; rules >= 0 && paths && paths[i]; i++) allow_path(rules, paths[i]);
    return rules;
}

/* ---- seccomp ---- */

typedef scmp_filter_ctx filter;

/* What decoders do: memory, threads, time, and the descriptors that they have. */
static const int plain[] = {
    SCMP_SYS(read),         SCMP_SYS(readv),          SCMP_SYS(pread64),
    SCMP_SYS(write),        SCMP_SYS(writev),         SCMP_SYS(close),
    SCMP_SYS(lseek),        SCMP_SYS(fstat),          SCMP_SYS(munmap),
    SCMP_SYS(mremap),       SCMP_SYS(madvise),        SCMP_SYS(brk),
    SCMP_SYS(futex),        SCMP_SYS(exit),           SCMP_SYS(exit_group),
    SCMP_SYS(poll),         SCMP_SYS(ppoll),          SCMP_SYS(recvmsg),
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),  SCMP_SYS(sched_yield),    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(getpid),       SCMP_SYS(gettid),         SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres), SCMP_SYS(gettimeofday),   SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),    SCMP_SYS(getrandom),      SCMP_SYS(getrusage),
    SCMP_SYS(sysinfo),      SCMP_SYS(uname),          SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),         SCMP_SYS(membarrier),     SCMP_SYS(restart_syscall),
    SCMP_SYS(getuid),       SCMP_SYS(geteuid),        SCMP_SYS(getgid),
    SCMP_SYS(getegid),      SCMP_SYS(time),           SCMP_SYS(times),
};

/* Asked by libraries on the way; they go on without. */
static const struct {
    int call, error;
} refused[] = {
    {SCMP_SYS(ioctl), ENOTTY},
    {SCMP_SYS(clone3), ENOSYS},
    {SCMP_SYS(sched_getattr), ENOSYS},
    {SCMP_SYS(sched_setattr), ENOSYS},
    {SCMP_SYS(get_mempolicy), ENOSYS},
    {SCMP_SYS(getcwd), EACCES},
    {SCMP_SYS(readlink), EACCES},
    {SCMP_SYS(tgkill), EPERM},
    /* abort() then ends otherwise */ {SCMP_SYS(readlinkat), EACCES},
};

/* Names of files are of use only where files can be opened. */
static const int by_name[] = {
    SCMP_SYS(stat),       SCMP_SYS(lstat),     SCMP_SYS(statx),
    SCMP_SYS(access),     SCMP_SYS(faccessat), SCMP_SYS(faccessat2),
    SCMP_SYS(getdents64), SCMP_SYS(statfs),    SCMP_SYS(fstatfs),
};

static int add_plain(filter f) {
    int bad = 0;
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        bad |= seccomp_rule_add(f, SCMP_ACT_ALLOW, plain[i], 0);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        bad |= seccomp_rule_add(f, SCMP_ACT_ERRNO((uint32_t)refused[i].error), refused[i].call, 0);
    return bad;
}

/* Threads yes, processes no; memory that can be executed never. */
static int add_memory(filter f) {
    const uint64_t thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
    int bad = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                               SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread));
    bad |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                            SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    bad |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                            SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    bad |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, SCMP_A2(SCMP_CMP_EQ, 0, 0));
    bad |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                            SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0));
    for (int cmd = F_DUPFD; cmd <= F_SETFL; cmd++)
        bad |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
                                SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)cmd, 0));
    bad |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
                            SCMP_A1(SCMP_CMP_EQ, F_DUPFD_CLOEXEC, 0));
    return bad;
}

/* Opening to write is death; opening to read is refused, or Landlock decides. */
static int add_files(filter f, bool reads) {
    const uint64_t writes = O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY);
    uint32_t act = reads ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EACCES);
    int bad = seccomp_rule_add(f, act, SCMP_SYS(openat), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, writes, 0));
    bad |= seccomp_rule_add(f, act, SCMP_SYS(open), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, writes, 0));
    for (size_t i = 0; i < sizeof by_name / sizeof by_name[0]; i++)
        bad |= seccomp_rule_add(f, act, by_name[i], 0);
    /* fstat() of newer C libraries is the second kind. */
    if (reads) return bad | seccomp_rule_add(f, act, SCMP_SYS(newfstatat), 0);
    bad |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
                            SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));
    return bad | seccomp_rule_add(f, act, SCMP_SYS(newfstatat), 1,
                                  SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, 0));
}

/* The filter as the kernel takes it. */
static limn_status export_filter(limn_jail *j, filter f, limn_err *err) {
    int fd = memfd_create("limn-filter", MFD_CLOEXEC);
    ssize_t n = -1;
    if (fd >= 0 && seccomp_export_bpf(f, fd) == 0) n = pread(fd, j->filter, sizeof j->filter, 0);
    if (fd >= 0) close(fd);
    if (n <= 0 || n == sizeof j->filter)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "the filter of system calls cannot be made");
    j->n_filter = (unsigned short)((size_t)n / sizeof j->filter[0]);
    return LIMN_OK;
}

static limn_status make_filter(limn_jail *j, limn_err *err) {
    filter f = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!f) return limn_fail(err, LIMN_E_NOMEM, "no memory for a filter of system calls");
    int bad = add_plain(f) | add_memory(f) | add_files(f, j->rules >= 0);
    if (!bad) bad = seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (!bad) bad = seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    limn_status st =
        bad ? limn_fail(err, LIMN_E_UNSUPPORTED, "the filter of system calls cannot be made")
            : export_filter(j, f, err);
    seccomp_release(f);
    return st;
}

/* ---- all of them ---- */

limn_status limn_jail_build(limn_jail **out, const limn_jail_options *options, limn_err *err) {
    limn_jail *j = limn_mem_calloc(1, sizeof *j);
    *out = NULL;
    if (!j) return limn_fail(err, LIMN_E_NOMEM, "no memory for the locks of decoders");
    j->memory = options->memory;
    j->cpu_seconds = options->cpu_seconds;
    j->rules = make_rules(options->paths);
    limn_status st = make_filter(j, err);
    if (st != LIMN_OK) limn_jail_free(&j);
    *out = j;
    return st;
}

void limn_jail_free(limn_jail **j) {
    if (!*j) return;
    if ((*j)->rules >= 0) close((*j)->rules);
    limn_mem_free(*j);
    *j = NULL;
}

bool limn_jail_reads(const limn_jail *j) {
    return j->rules >= 0;
}

limn_status limn_jail_enter(const limn_jail *j, limn_err *err) {
    struct sock_fprog program = {j->n_filter, (struct sock_filter *)(uintptr_t)j->filter};
    limn_status st = set_limits(j, err);
    if (st == LIMN_OK) st = drop_rights(err);
    if (st != LIMN_OK) return st;
    if (j->rules >= 0 && syscall(SYS_landlock_restrict_self, j->rules, 0) != 0)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "the kernel refuses Landlock: %s",
                         strerror(errno));
    if (j->rules >= 0) close(j->rules);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "the kernel refuses a filter of system calls: %s",
                         strerror(errno));
    return LIMN_OK;
}
