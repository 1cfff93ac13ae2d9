/* A guest that has got around the core: it makes its calls by the core's own system call instruction, which Syscall User
 * Dispatch lets through. What it may then ask of the host is the filter's affair (kernel/lockdown.py).
 *
 *     host_calls SUPERVISOR_PID ABSTRACT_NAME
 *
 * prints a line for each attack: its name and what came of it, "ended" (SIGSYS), an errno, or "done" with the result.
 * Nothing here may hurt a host whose filter is missing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "gate.h"

/* By an instruction that nobody has seen before. */
static long by_own(long nr) {
    static const unsigned char text[] = {0x48, 0x89, 0xf8, 0x0f, 0x05, 0xc3}; /* mov %rdi, %rax; syscall; ret */
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, text, sizeof text);
    gate(SYS_prctl, 59 /* PR_SET_SYSCALL_USER_DISPATCH */);
    long (*call)(long);
    memcpy(&call, &page, sizeof call);
    return call(nr);
}

static long by_int80(void) {
    long r = 20; /* getpid of i386 */
    gate(SYS_prctl, 59);
    __asm__ volatile("int $0x80" : "+a"(r) : : "r8", "r9", "r10", "r11", "memory");
    return r;
}

struct attack {
    const char *name;
    long nr, args[6];
};

static void make(const struct attack *x) {
    long r = gate6(x->nr, x->args[0], x->args[1], x->args[2], x->args[3], x->args[4], x->args[5]);
    if (r < 0 && r > -4096) printf("%s: %s\n", x->name, strerrorname_np((int)-r));
    else printf("%s: done %ld\n", x->name, r);
    fflush(stdout);
}

/* In a process of its own, which has a second. */
static void alone(const char *name, void (*attack)(const void *), const void *what) {
    int status = 0;
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        alarm(1);
        attack(what);
        fflush(stdout);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status)) printf("%s: %s\n", name, WTERMSIG(status) == SIGSYS ? "ended" : strsignal(WTERMSIG(status)));
    fflush(stdout);
}

static void one(const void *x) { make(x); }

static void without_dispatch(const void *how) {
    long r = *(const char *)how == '8' ? by_int80() : by_own(*(const char *)how == 'x' ? SYS_getpid | 0x40000000 : SYS_getpid);
    printf("done %ld\n", r);
}

static void to_a_name(const void *name) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int pair[2];
    strncpy(to.sun_path + 1, name, sizeof to.sun_path - 2);
    if (gate(SYS_socketpair, AF_UNIX, SOCK_DGRAM, 0, pair)) return;
    long r = gate(SYS_sendto, pair[0], "out", 3, 0, &to, 3 + strlen(name));
    printf("a name of the host's: %s\n", r < 0 ? strerrorname_np((int)-r) : "done");
}

/* Every number, whatever it means. */
static void every_number(const void *unused) {
    (void)unused;
    for (long nr = 0; nr <= 600; nr++) {
        int status;
        pid_t pid = fork();
        if (!pid) {
            alarm(1);
            gate(nr, -1, -1, -1, -1, -1, -1);
            _exit(0);
        }
        waitpid(pid, &status, 0);
    }
    puts("every number: done 0");
}

int main(int argc, char **argv) {
    static char path[] = "/etc/passwd", shell[] = "/bin/sh", room[4096];
    char *const words[] = {shell, NULL};
    static long clone_args[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
    long supervisor = argc > 2 ? atol(argv[1]) : 0, memfd = memfd_create("x", 0);
    if (ftruncate((int)memfd, 4096)) return 1;
    const struct attack attacks[] = {
        {"open", SYS_open, {(long)path}},
        {"openat", SYS_openat, {AT_FDCWD, (long)path}},
        {"openat2", 437, {AT_FDCWD, (long)path, (long)room, 24}},
        {"creat", SYS_creat, {(long)"/tmp/hostile", 0600}},
        {"open_by_handle_at", SYS_open_by_handle_at, {AT_FDCWD, (long)room}},
        {"stat", SYS_stat, {(long)path, (long)room}},
        {"newfstatat", SYS_newfstatat, {AT_FDCWD, (long)path, (long)room}},
        {"statx", SYS_statx, {AT_FDCWD, (long)path, 0, 0x7ff, (long)room}},
        {"readlink", SYS_readlink, {(long)"/proc/self/exe", (long)room, 4096}},
        {"access", SYS_access, {(long)path}},
        {"chdir", SYS_chdir, {(long)"/"}},
        {"getdents64", SYS_getdents64, {0, (long)room, 4096}},
        {"mkdir", SYS_mkdir, {(long)"/tmp/hostile", 0700}},
        {"mknod", SYS_mknod, {(long)"/tmp/hostile", 0600, 0}},
        {"unlink", SYS_unlink, {(long)"/tmp/hostile"}},
        {"rename", SYS_rename, {(long)"/tmp/hostile", (long)"/tmp/hostile2"}},
        {"link", SYS_link, {(long)"/tmp/hostile", (long)"/tmp/hostile2"}},
        {"symlink", SYS_symlink, {(long)"/", (long)"/tmp/hostile"}},
        {"chmod", SYS_chmod, {(long)"/tmp/hostile", 0700}},
        {"chown", SYS_chown, {(long)"/tmp/hostile"}},
        {"fchmod", SYS_fchmod, {memfd, 0700}},
        {"truncate", SYS_truncate, {(long)"/tmp/hostile", 0}},
        {"utimensat", SYS_utimensat, {memfd, 0, 0, 0}},
        {"setxattr", SYS_setxattr, {(long)"/tmp/hostile", (long)"user.a", (long)room, 1}},
        {"inotify_init", SYS_inotify_init, {0}},
        {"fanotify_init", SYS_fanotify_init, {0}},
        {"name_to_handle_at", SYS_name_to_handle_at, {AT_FDCWD, (long)path, (long)room, (long)room}},
        {"socket inet", SYS_socket, {AF_INET, SOCK_STREAM}},
        {"socket unix", SYS_socket, {AF_UNIX, SOCK_STREAM}},
        {"socket netlink", SYS_socket, {AF_NETLINK, SOCK_RAW}},
        {"socket packet", SYS_socket, {AF_PACKET, SOCK_RAW}},
        {"socketpair inet", SYS_socketpair, {AF_INET, SOCK_STREAM, 0, (long)room}},
        {"connect", SYS_connect, {0, (long)room, 16}},
        {"bind", SYS_bind, {0, (long)room, 16}},
        {"listen", SYS_listen, {0, 1}},
        {"execve", SYS_execve, {(long)shell, (long)words}},
        {"execveat path", SYS_execveat, {AT_FDCWD, (long)shell, (long)words}},
        {"execveat memfd", SYS_execveat, {memfd, (long)"", (long)words, 0, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW}},
        {"ptrace", SYS_ptrace, {0 /* TRACEME */}},
        {"process_vm_readv", SYS_process_vm_readv, {supervisor, (long)room, 1, (long)room, 1}},
        {"process_vm_writev", SYS_process_vm_writev, {supervisor, (long)room, 1, (long)room, 1}},
        {"process_madvise", 440, {0, (long)room, 1, MADV_COLD}},
        {"pidfd_getfd", 438, {0, 0}},
        {"kcmp", SYS_kcmp, {supervisor, supervisor}},
        {"move_pages", SYS_move_pages, {supervisor}},
        {"migrate_pages", SYS_migrate_pages, {supervisor}},
        {"prlimit64 of another", SYS_prlimit64, {supervisor, 7, 0, (long)room}},
        {"signal to the supervisor", SYS_kill, {supervisor, 0}},
        {"tgkill to the supervisor", SYS_tgkill, {supervisor, supervisor, 0}},
        {"sigqueue to the supervisor", SYS_rt_sigqueueinfo, {supervisor, 0, (long)room}},
        {"signal to all", SYS_kill, {-1, 0}},
        {"signal to the group", SYS_kill, {0, 0}},
        {"mount", SYS_mount, {(long)"none", (long)"/mnt", (long)"tmpfs"}},
        {"umount2", SYS_umount2, {(long)"/mnt"}},
        {"pivot_root", SYS_pivot_root, {(long)"/", (long)"/"}},
        {"chroot", SYS_chroot, {(long)"/"}},
        {"fsopen", 430, {(long)"tmpfs"}},
        {"fsmount", 432, {0}},
        {"open_tree", 428, {AT_FDCWD, (long)"/", 1}},
        {"move_mount", 429, {AT_FDCWD, (long)"/", AT_FDCWD, (long)"/"}},
        {"mount_setattr", 442, {AT_FDCWD, (long)"/"}},
        {"statmount", 457, {(long)room, (long)room, 4096}},
        {"unshare", SYS_unshare, {CLONE_NEWUSER}},
        {"setns", SYS_setns, {0, 0}},
        {"clone into a namespace", SYS_clone, {CLONE_NEWUSER | SIGCHLD}},
        {"clone traced", SYS_clone, {CLONE_PTRACE | SIGCHLD}},
        {"clone3", SYS_clone3, {(long)clone_args, 64}},
        {"bpf", SYS_bpf, {0, (long)room, 48}},
        {"perf_event_open", SYS_perf_event_open, {(long)room, 0, -1, -1}},
        {"io_uring_setup", 425, {1, (long)room}},
        {"io_setup", SYS_io_setup, {1, (long)room}},
        {"userfaultfd", SYS_userfaultfd, {0}},
        {"keyctl", SYS_keyctl, {0, -3}},
        {"add_key", SYS_add_key, {(long)"user", (long)"x", (long)room, 1, -3}},
        {"request_key", SYS_request_key, {(long)"user", (long)"x"}},
        {"landlock", 444, {0, 0, 1}},
        {"seccomp", SYS_seccomp, {1, 0, 0}},
        {"prctl seccomp", SYS_prctl, {22, 2, 0}},
        {"prctl ambient", SYS_prctl, {47, 2, 1}},
        {"prctl securebits", SYS_prctl, {28, 0}},
        {"prctl dumpable", SYS_prctl, {4, 1}},
        {"capset", SYS_capset, {(long)room, (long)room}},
        {"setuid", SYS_setuid, {0}},
        {"setresuid", SYS_setresuid, {0, 0, 0}},
        {"setgroups", SYS_setgroups, {0, 0}},
        {"setfsuid", SYS_setfsuid, {0}},
        {"iopl", SYS_iopl, {3}},
        {"ioperm", SYS_ioperm, {0, 1, 1}},
        {"modify_ldt", SYS_modify_ldt, {0, (long)room, 16}},
        {"init_module", SYS_init_module, {(long)room, 1, (long)""}},
        {"finit_module", SYS_finit_module, {0, (long)"", 0}},
        {"kexec_load", SYS_kexec_load, {0, 0, 0, -1}},
        {"reboot", SYS_reboot, {0, 0, 0}},
        {"swapon", SYS_swapon, {(long)""}},
        {"acct", SYS_acct, {(long)""}},
        {"quotactl", SYS_quotactl, {0, (long)"", 0, 0}},
        {"syslog", SYS_syslog, {10}},
        {"settimeofday", SYS_settimeofday, {0, 0}},
        {"clock_settime", SYS_clock_settime, {-1, (long)room}},
        {"sethostname", SYS_sethostname, {(long)"x", -1}},
        {"vhangup", SYS_vhangup, {0}},
        {"lookup_dcookie", SYS_lookup_dcookie, {0}},
        {"shmget", SYS_shmget, {1, 4096, 0}},
        {"shmat", SYS_shmat, {0}},
        {"semget", SYS_semget, {1, 1, 0}},
        {"msgget", SYS_msgget, {1, 0}},
        {"mq_open", SYS_mq_open, {(long)"x", 0}},
        {"memfd_secret", 447, {0}},
        {"typing into a terminal", SYS_ioctl, {0, 0x5412, (long)"x"}},
        {"console keys", SYS_ioctl, {0, 0x541c, (long)room}},
        {"line discipline", SYS_ioctl, {0, 0x5423, (long)room}},
        {"interfaces", SYS_ioctl, {0, 0x8912, (long)room}},
        {"loop device", SYS_ioctl, {0, 0x4c00}},
        {"file flags", SYS_ioctl, {memfd, 0x40086602, (long)room}},
        {"lease", SYS_fcntl, {memfd, F_SETLEASE, F_RDLCK}},
        {"dnotify", SYS_fcntl, {memfd, 1026, 1}},
        {"an unknown number", 599, {0}},
        {"x32", SYS_getpid | 0x40000000, {0}},
        {"a negative number", -1, {0}},
    };
    for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++) alone(attacks[i].name, one, &attacks[i]);
    alone("own text without dispatch", without_dispatch, "o");
    alone("x32 without dispatch", without_dispatch, "x");
    alone("int 0x80 without dispatch", without_dispatch, "8");
    if (argc > 2) alone("a name of the host's", to_a_name, argv[2]);
    every_number(NULL);
    return 0;
}
