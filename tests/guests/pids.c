// Numbers of processes, groups and sessions wherever they are told: they agree with each other.
// users: root nobody
#include "check.h"
#include <dirent.h>
#include <sys/socket.h>

/* A field of /proc/self/stat (proc_pid_stat(5)), from the third on. */
static long stat_field(int number) {
    char text[2000] = "";
    int fd = (int)OK(open("/proc/self/stat", O_RDONLY));
    CHECK(read(fd, text, sizeof text - 1) > 0);
    close(fd);
    char *at = strrchr(text, ')') + 2;
    for (int i = 3; i < number; i++) at = strchr(at, ' ') + 1;
    return atol(at);
}

/* The number behind `name` in a file of lines; -1 if there is more than one or none. */
static long line_of(const char *path, const char *name) {
    char line[500];
    long value = -1;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        char *rest;
        if (strncmp(line, name, strlen(name)) || line[strlen(name)] != ':') continue;
        value = strtol(line + strlen(name) + 1, &rest, 10);
        if (*rest != '\n') value = -1;
    }
    if (f) fclose(f);
    return value;
}

static void groups(void) {
    CHECK(getpid() > 0);
    CHECK(getpgrp() > 0);
    CHECK(getsid(0) > 0);
    EQ(getpgid(0), getpgrp());
    EQ(getpgid(getpid()), getpgrp());
    EQ(getsid(getpid()), getsid(0));
    EQ(stat_field(5), getpgrp());
    EQ(stat_field(6), getsid(0));
    EQ(stat_field(4), getppid());
    EQ(line_of("/proc/self/status", "Tgid"), getpid());
    EQ(line_of("/proc/self/status", "NSpid"), getpid());
    EQ(line_of("/proc/self/status", "NStgid"), getpid());
    EQ(line_of("/proc/self/status", "NSpgid"), getpgrp());
    EQ(line_of("/proc/self/status", "NSsid"), getsid(0));
}

static void the_callers_group(void) {
    pid_t group = getpgrp(), session = getsid(0);
    IN_CHILD({
        EQ(getpgrp(), group);
        EQ(getsid(0), session);
        OK(setpgid(0, group)); /* it is in it already */
        OK(kill(-group, 0));
        OK(killpg(group, 0));
        OK(kill(0, 0));
        OK(getpriority(PRIO_PGRP, group));
        EQ(getpriority(PRIO_PGRP, group), getpriority(PRIO_PGRP, 0));
    });
    pid_t pid = fork();
    if (!pid) _exit(3);
    EQ(getpgid(pid), group);
    int status;
    EQ(waitpid(-group, &status, 0), pid);
    EQ(status, 3 << 8);
    pid = fork();
    if (!pid) _exit(4);
    siginfo_t info = {0};
    OK(waitid(P_PGID, (id_t)group, &info, WEXITED));
    EQ(info.si_pid, pid);
    EQ(info.si_status, 4);
    FAILS(waitpid(-group, &status, 0), ECHILD);
}

static volatile sig_atomic_t sender;
static void note(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    sender = info->si_pid;
}

static void a_signal_to_the_group(void) {
    struct sigaction act = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
    OK(sigaction(SIGURG, &act, NULL)); /* who is in the group and not of us ignores it */
    sender = 0;
    OK(kill(-getpgrp(), SIGURG));
    EQ(sender, getpid());
    sender = 0;
    pid_t parent = getpid(), pid = fork();
    if (!pid) _exit(kill(parent, SIGURG) != 0);
    EXITED(pid, 0);
    EQ(sender, pid);
    signal(SIGURG, SIG_DFL);
}

static void nobody(void) {
    const pid_t none = 4194303; /* PID_MAX_LIMIT - 1 */
    FAILS(kill(none, 0), ESRCH);
    FAILS(kill(-none, 0), ESRCH);
    FAILS(getpgid(none), ESRCH);
    FAILS(getsid(none), ESRCH);
    FAILS(setpgid(none, none), ESRCH);
    FAILS(setpgid(0, none), EPERM);
    FAILS(waitpid(none, NULL, 0), ECHILD);
    FAILS(waitpid(-none, NULL, 0), ECHILD);
    FAILS(getpriority(PRIO_PGRP, (id_t)none), ESRCH);
    FAILS(syscall(SYS_pidfd_open, none, 0), ESRCH);
    FAILS(syscall(SYS_tgkill, getpid(), none, 0), ESRCH);
}

static void locks(void) {
    int fd = (int)OK(open("lock", O_RDWR | O_CREAT, 0600)), p[2];
    char c, line[300];
    OK(pipe(p));
    pid_t pid = fork();
    if (!pid) {
        struct flock lock = {.l_type = F_WRLCK, .l_len = 1};
        if (fcntl(fd, F_SETLK, &lock) || write(p[1], "x", 1) != 1) _exit(1);
        pause();
    }
    EQ(read(p[0], &c, 1), 1);
    struct flock lock = {.l_type = F_WRLCK, .l_len = 1};
    OK(fcntl(fd, F_GETLK, &lock));
    EQ(lock.l_type, F_WRLCK);
    EQ(lock.l_pid, pid);
    int found = 0;
    FILE *f = fopen("/proc/locks", "r");
    while (f && fgets(line, sizeof line, f)) {
        long owner = -1;
        sscanf(line, "%*d: POSIX %*s WRITE %ld", &owner);
        found += owner == pid;
    }
    if (f) fclose(f);
    EQ(found, 1);
    OK(kill(pid, SIGKILL));
    OK(waitpid(pid, NULL, 0));
    close(p[0]), close(p[1]), close(fd);
    unlink("lock");
}

static void sockets(void) {
    int s[2], on = 1;
    struct ucred cred = {0};
    socklen_t size = sizeof cred;
    OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    OK(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &cred, &size));
    EQ(cred.pid, getpid());
    OK(setsockopt(s[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    pid_t pid = fork();
    if (!pid) _exit(write(s[1], "x", 1) != 1);
    EXITED(pid, 0);
    char c, control[CMSG_SPACE(sizeof cred)];
    struct iovec iov = {&c, 1};
    struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    EQ(recvmsg(s[0], &hdr, 0), 1);
    struct cmsghdr *head = CMSG_FIRSTHDR(&hdr);
    CHECK(head && head->cmsg_type == SCM_CREDENTIALS);
    if (head) {
        memcpy(&cred, CMSG_DATA(head), sizeof cred);
        EQ(cred.pid, pid);
    }
    OK(fcntl(s[0], F_SETOWN, getpid()));
    EQ(fcntl(s[0], F_GETOWN), getpid());
    close(s[0]), close(s[1]);
}

static void descriptors_of_processes(void) {
    char path[64];
    pid_t pid = fork();
    if (!pid) pause();
    int fd = (int)OK(syscall(SYS_pidfd_open, pid, 0));
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    EQ(line_of(path, "Pid"), pid);
    EQ(line_of(path, "NSpid"), pid);
    OK(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
    siginfo_t info = {0};
    OK(waitid(P_PIDFD, (id_t)fd, &info, WEXITED));
    EQ(info.si_pid, pid);
    close(fd);
}

static void threads_are_numbered(void) {
    DIR *dir = opendir("/proc/self/task");
    struct dirent *entry;
    int others = 0;
    while (dir && (entry = readdir(dir)))
        others += entry->d_name[0] != '.' && atoi(entry->d_name) != getpid();
    if (dir) closedir(dir);
    EQ(others, 0);
    EQ(syscall(SYS_gettid), getpid());
    EQ(syscall(SYS_set_tid_address, &others), getpid());
    char name[64];
    ssize_t n = OK(readlink("/proc/thread-self", name, sizeof name - 1));
    name[n < 0 ? 0 : n] = 0;
    char want[64];
    snprintf(want, sizeof want, "%d/task/%d", getpid(), getpid());
    STREQ(name, want);
}

MAIN(CASE(groups), CASE(the_callers_group), CASE(a_signal_to_the_group), CASE(nobody), CASE(locks), CASE(sockets),
     CASE(descriptors_of_processes), CASE(threads_are_numbered))
