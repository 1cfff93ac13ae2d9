// What is said first, and what of nothing: calls whose arguments are odd, found by tests/callfuzz.
// users: root nobody
#include "check.h"
#include <linux/capability.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif

static char buffer[8192];

/* What failed is of a newer kernel than the native one; ring3 has it on every kernel. */
static int older(void) { return errno == ENOSYS && !under_ring3(); }

static void altstacks(void) {
    stack_t none = {0}, old;
    OK(sigaltstack(&none, &old)); // as small as it is: nothing changes
    none.ss_sp = buffer;
    FAILS(sigaltstack(&none, NULL), ENOMEM);
    none.ss_sp = NULL;
    none.ss_flags = SS_DISABLE;
    OK(sigaltstack(&none, NULL));
    none.ss_flags = 0;
    FAILS(sigaltstack(&none, NULL), ENOMEM);
}

static void queues(void) {
    int fd = (int)OK(inotify_init1(IN_NONBLOCK));
    struct iovec iov = {buffer, 100};
    EQ(lseek(fd, 0, SEEK_SET), 0);
    FAILS(lseek(fd, 5, -1), EINVAL);
    FAILS(lseek(fd, 5, 255), EINVAL);
    FAILS(pread(fd, buffer, 100, 0), ESPIPE);
    FAILS(preadv2(fd, &iov, 0, 5, 0), ESPIPE);
    FAILS(preadv2(fd, &iov, 1, 5, RWF_NOWAIT), ESPIPE);
    FAILS(preadv2(fd, &iov, 1, -1, RWF_DSYNC), EOPNOTSUPP);
    EQ(preadv2(fd, &iov, 0, -1, RWF_DSYNC), 0);
    FAILS(sync_file_range(fd, 0, 5, 0), ESPIPE);
    FAILS(syscall(SYS_mmap, 0, -4096L, PROT_READ, MAP_SHARED, fd, 0), ENOMEM);
    FAILS(syscall(SYS_mmap, 0, 8192, PROT_READ, MAP_SHARED, fd, -4096L), EOVERFLOW);
    FAILS(syscall(SYS_mmap, 0, 0, PROT_READ, MAP_SHARED, fd, 0), EINVAL);
    FAILS(syscall(SYS_mmap, 0, 8192, PROT_READ, MAP_SHARED, fd, 0), ENODEV);
    close(fd);
}

static void generated(void) {
    int fd = (int)OK(open("/proc/self/status", O_RDONLY));
    struct iovec iov = {buffer, 1UL << 62}, none[2] = {{NULL, 0}, {NULL, 0}};
    FAILS(syscall(SYS_pread64, fd, buffer, -1L, 65536L), EFAULT);
    FAILS(syscall(SYS_pread64, fd, buffer, 4L, 0x7fffffffffffffffL), EINVAL);
    EQ(preadv(fd, &iov, 1, 1 << 24), 0);
    OK(sync_file_range(fd, 0, 0, 0));
    OK(syscall(SYS_sync_file_range, fd, 0L, 0L, 1UL << 63)); // of flags, 32 bits count
    FAILS(syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0), EPERM);
    FAILS(readahead(fd, 0, -1UL), EINVAL);
    EQ(vmsplice(fd, none, 2, 0), 0);
    FAILS(vmsplice(fd, none, 2, 64), EINVAL);
    iov.iov_len = 5;
    FAILS(vmsplice(fd, &iov, 1, 0), EBADF);
    close(fd);
    if (geteuid())
        FAILS(truncate("/proc/self/status", 1L << 40), EACCES); // whether one may is asked before how large
    fd = (int)OK(open("/proc", O_RDONLY));
    EQ(lseek(fd, 5, SEEK_END), 5);
    FAILS(lseek(fd, 5, SEEK_DATA), ENXIO);
    FAILS(fremovexattr(fd, "system.posix_acl_access"), EOPNOTSUPP);
    close(fd);
}

static void sockets(void) {
    int udp = (int)OK(socket(AF_INET, SOCK_DGRAM, 0)), tcp = (int)OK(socket(AF_INET, SOCK_STREAM, 0)), p[2], one = 1;
    int local = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0)), s[2];
    struct iovec none[2] = {{NULL, 0}, {NULL, 0}};
    struct mmsghdr messages[1] = {0};
    struct timespec never = {0, 1000}, bad = {0, -1};
    socklen_t size = 4;
    loff_t at = 0;
    OK(pipe(p));
    EQ(readv(udp, none, 2), 0);
    EQ(writev(udp, none, 2), 0);
    EQ(readv(local, none, 2), 0);
    signal(SIGPIPE, SIG_IGN);
    EQ(read(tcp, buffer, 0), 0);
    EQ(read(local, buffer, 0), 0);
    FAILS(syscall(SYS_read, tcp, -1L, 0), EFAULT);
    FAILS(syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, tcp, 0), EPERM);
    // of the number 32 bits count
    FAILS(syscall(SYS_recvmsg, udp | 1L << 32, &messages[0].msg_hdr, MSG_DONTWAIT), EAGAIN);
    int link = (int)OK(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    FAILS(send(link, buffer, 0, 0), ENODATA);
    close(link);
    struct iovec some = {buffer, 5};
    FAILS(pwritev2(tcp, &some, 1, -1, 0), EPIPE);
    FAILS(pwritev2(tcp, &some, 1, -1, 0x800), EOPNOTSUPP);
    FAILS(preadv2(tcp, &some, 1, -1, 0x800), EOPNOTSUPP);
    FAILS(setsockopt(tcp, IPPROTO_TCP, 31 /* TCP_ULP */, "?", 1), ENOENT);
    FAILS(setsockopt(tcp, IPPROTO_TCP, 31, "?", 0), EINVAL);
    OK(getsockopt(tcp, IPPROTO_TCP, 31, buffer, &size));
    EQ(size, 0);
    size = 4;
    FAILS(preadv2(tcp, &some, 1, -1, 0), ENOTCONN);
    FAILS(pwritev2(local, &some, 1, -1, 0), ENOTCONN);
    FAILS(preadv2(local, &some, 1, -1, 0), EINVAL);
    FAILS(preadv2(local, &some, 1, 5, 0), ESPIPE);
    EQ(pwritev2(tcp, none, 2, -1, 0), 0);
    EQ(recvmmsg(tcp, messages, 0, MSG_DONTWAIT, &never), 0);
    EQ(recvmmsg(local, messages, 0, MSG_DONTWAIT, &never), 0);
    FAILS(recvmmsg(local, messages, 0, MSG_DONTWAIT, &bad), EINVAL);
    FAILS(getsockopt(udp, IPPROTO_UDP, 41, &one, &size), ENOPROTOOPT);
    FAILS(getsockopt(tcp, IPPROTO_UDP, 41, &one, &size), EOPNOTSUPP);
    FAILS(setsockopt(tcp, IPPROTO_IP, 3 /* IP_HDRINCL */, &one, 4), ENOPROTOOPT);
    FAILS(setsockopt(udp, IPPROTO_IP, 22 /* IP_NODEFRAG */, &one, 4), ENOPROTOOPT);
    FAILS(sendfile(local, udp, &at, 5), ESPIPE);
    put_file("f", "12345");
    int file = (int)OK(open("f", O_RDONLY));
    EQ(sendfile(local, file, &at, 0), 0);
    at = 5;
    EQ(sendfile(local, file, &at, 5), 0);
    at = -1;
    FAILS(sendfile(local, file, &at, 5), EINVAL);
    at = 0;
    FAILS(sendfile(local, file, &at, 5), ENOTCONN);
    close(file);
    OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    EQ(pwritev2(s[0], &some, 1, -1, 0x20), 5); // RWF_NOAPPEND
    EQ(preadv2(s[1], &some, 1, -1, 0x20), 5);
    close(s[0]), close(s[1]);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof to;
    OK(bind(udp, (void *)&to, sizeof to));
    OK(getsockname(udp, (void *)&to, &length));
    OK(connect(udp, (void *)&to, sizeof to));
    EQ(pwritev2(udp, &some, 1, -1, RWF_HIPRI), 5);
    EQ(preadv2(udp, &some, 1, -1, 0), 5);
    OK(fchmod(udp, 0600));
    OK(fchmodat(AT_FDCWD, "f", 0600, 0));
    CHECK(!syscall(452, udp, "", 0640, AT_EMPTY_PATH) || older()); // fchmodat2(2)
    FAILS(sendfile(local, p[0], &at, 5), ESPIPE);
    FAILS(splice(p[0], &at, local, NULL, 5, 0), ESPIPE);
    FAILS(splice(local, NULL, p[1], &at, 5, 0), ESPIPE);
    EQ(splice(p[0], &at, local, NULL, 0, 0x1234), 0);
    FAILS(socketpair(AF_INET, SOCK_RAW, IPPROTO_TCP, s), geteuid() ? EPERM : EOPNOTSUPP);
    FAILS(socketpair(AF_INET, SOCK_DGRAM, 0, s), EOPNOTSUPP);
    close(udp), close(tcp), close(local), close(p[0]), close(p[1]);
}

// What a message, a vector and their flags are asked for before the socket is.
static void messages(void) {
    int udp = (int)OK(socket(AF_INET, SOCK_DGRAM, 0)), tcp = (int)OK(socket(AF_INET, SOCK_STREAM, 0)), s[2];
    struct sockaddr strange = {.sa_family = 99};
    struct iovec some = {buffer, 5}, none[1] = {{NULL, 0}};
    struct msghdr large = {.msg_control = buffer, .msg_controllen = 1000000000}, to = {.msg_name = &strange, .msg_namelen = 16};
    struct mmsghdr many[1] = {0};
    FAILS(sendmsg(udp, &large, 0), ENOBUFS);
    large.msg_control = NULL, large.msg_controllen = 24;
    FAILS(sendmsg(udp, &large, 0), EFAULT);
    FAILS(sendmsg(udp, &to, MSG_OOB), EOPNOTSUPP);
    FAILS(sendmsg(udp, &to, 0), EAFNOSUPPORT);
    FAILS(syscall(SYS_recvmmsg, udp, many, 0, 0x80000000u, NULL), EINVAL); // MSG_CMSG_COMPAT
    FAILS(syscall(SYS_sendmmsg, udp, many, 0, 0x80000000u), EINVAL);
    EQ(syscall(SYS_readv, udp, none, 0xdeadbeef00000001), 0); // of the number 32 bits count
    OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    EQ(pwritev2(s[0], &some, 1, -1, RWF_NOWAIT), 5);
    EQ(preadv2(s[1], &some, 1, -1, RWF_NOWAIT), 5);
    FAILS(preadv2(s[1], &some, 1, -1, RWF_NOWAIT), EAGAIN);
    FAILS(preadv2(udp, &some, 1, -1, RWF_NOWAIT), EAGAIN);
    close(s[0]), close(s[1]);
    FAILS(syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, tcp, 0), EPERM); // tcp_mmap()
    FAILS(syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, udp, 0), ENODEV);
    int one = 1, tty;
    socklen_t size = 4;
    if (getsockopt(udp, IPPROTO_IP, IP_ROUTER_ALERT, &one, &size) < 0)
        EQ(errno, ENOPROTOOPT); // of an older kernel
    else
        EQ(one, 0);
    FAILS(setsockopt(udp, IPPROTO_IP, IP_ROUTER_ALERT, &one, sizeof one), EINVAL);
    if ((tty = open("/dev/ptmx", O_RDWR | O_NOCTTY)) >= 0) {
        loff_t at = 0;
        FAILS(sendfile(tcp, tty, &at, 5), ESPIPE);
        close(tty);
    }
    close(udp), close(tcp);
}

static void attributes(void) {
    int p[2], s = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(pipe(p));
    for (int i = 0; i < 2; i++) {
        int fd = i ? p[0] : s;
        FAILS(fsetxattr(fd, "user.x", "y", 1, 0), EPERM);
        FAILS(fremovexattr(fd, "user.x"), EPERM);
        if (geteuid())
            FAILS(fsetxattr(fd, "trusted.x", "y", 1, 0), EPERM);
    }
    if (geteuid())
        FAILS(fremovexattr(p[0], "security.x"), EPERM);
    FAILS(fsetxattr(p[0], "what.x", "y", 1, 0), EOPNOTSUPP);
    FAILS(fremovexattr(p[0], "what.x"), EOPNOTSUPP);
    close(s), close(p[0]), close(p[1]);
    static char large[65537], back[65537];
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    OK(munmap(page + 4096, 4096));
    put_file("f", "");
    FAILS(setxattr("f", "user.x", page, 65536, 0), EFAULT);
    FAILS(setxattr("f", "user.x", large, 65537, 0), E2BIG);
    memset(large, 'x', sizeof large);
    large[59999] = 'y';
    if (!setxattr("f", "user.x", large, 60000, 0)) { // some filesystems have no room for it
        EQ(getxattr("f", "user.x", back, sizeof back), 60000);
        EQ(memcmp(large, back, 60000), 0);
    }
}

static void numbers(void) {
    int pidfd = -1, next = (int)OK(dup(0));
    close(next);
    int pid = (int)OK(syscall(SYS_clone, 0x1000 | SIGCHLD, 0, &pidfd, 0, 0)); // CLONE_PIDFD
    if (!pid)
        _exit(0);
    EQ(pidfd, next); // the lowest
    EQ(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
    OK(waitpid(pid, NULL, 0));
    close(pidfd);
}

static void others(void) {
    struct __user_cap_header_struct unknown = {7, 0};
    FAILS(syscall(SYS_capset, &unknown, buffer), EINVAL);
    EQ(unknown.version, _LINUX_CAPABILITY_VERSION_3);
    unknown.version = 7;
    FAILS(syscall(SYS_capget, &unknown, buffer), EINVAL);
    EQ(unknown.version, _LINUX_CAPABILITY_VERSION_3);
    FAILS(syscall(SYS_getrlimit, RLIMIT_NOFILE, NULL), EFAULT);
    FAILS(syscall(SYS_getrlimit, RLIMIT_CORE, NULL), EFAULT);
    struct timex clock = {.modes = 0xa001}; // ADJ_OFFSET_SS_READ
    OK(adjtimex(&clock));
    clock.modes = 0x8000;
    FAILS(adjtimex(&clock), EINVAL);
    int watches = (int)OK(inotify_init());
    FAILS(inotify_add_watch(watches, "/dev/null", IN_ACCESS | 0x10000), EINVAL);
    close(watches);
    OK(prctl(PR_SET_MDWE, 0, 0, 0, 0));
    EQ(prctl(PR_GET_MDWE, 0, 0, 0, 0), 0);
    static const char *const places[] = {"f", "d", ".", "l"};
    put_file("f", "");
    OK(mkdir("d", 0755));
    OK(symlink("x", "l"));
    for (int i = 0; i < 4; i++) {
        int fd = (int)OK(open(places[i], O_PATH | O_NOFOLLOW));
        FAILS(ioctl(fd, FIOCLEX), EBADF);
        FAILS(ioctl(fd, FIONCLEX), EBADF);
        FAILS(fcntl(fd, F_SETOWN, 0), EBADF);
        FAILS(fcntl(fd, F_SETOWN, getpid()), EBADF);
        close(fd);
        fd = (int)OK(open(i == 3 ? "/proc/self/stat" : places[i], O_RDONLY));
        OK(ioctl(fd, FIOCLEX));
        EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
        OK(ioctl(fd, FIONCLEX));
        EQ(fcntl(fd, F_GETFD), 0);
        close(fd);
    }
    for (int i = 0; i < 2; i++) {
        int fd = (int)OK(socket(i ? AF_UNIX : AF_INET, SOCK_DGRAM, 0));
        FAILS(syscall(SYS_mmap, 0, 4096, PROT_READ, MAP_SHARED, fd, 0), ENODEV);
        close(fd);
    }
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_1, 0};
    struct __user_cap_data_struct want[2] = {{0, 0, 0x1a4}};
    if (geteuid())
        FAILS(syscall(SYS_capset, &head, want), EPERM);
    // open_tree_attr(2): the path comes first
    CHECK(syscall(467, AT_FDCWD, "/dev/null/x", 0, buffer, 32) == -1 && (errno == ENOTDIR || older()));
    FAILS(open("..", O_RDONLY | O_DIRECT), EINVAL);
    FAILS(open("/", O_RDONLY | O_DIRECT), EINVAL);
    FAILS(open("/proc/self/stat", O_RDONLY | O_DIRECT), EINVAL);
    int fd = (int)OK(open("/dev/null", O_RDWR)), n;
    FAILS(ioctl(fd, FIONREAD, &n), ENOTTY);
    close(fd);
    int kinds[] = {(int)OK(epoll_create1(0)), (int)OK(socket(AF_INET, SOCK_DGRAM, 0)), (int)OK(open("/", O_RDONLY))};
    for (int i = 0; i < 3; i++) {
        n = 0;
        OK(ioctl(kinds[i], 2 /* FIGETBSZ */, &n));
        CHECK(n > 0);
        close(kinds[i]);
    }
    FAILS(open("/proc/self", O_TMPFILE | O_RDWR, 0600), EPERM); // its inode is immutable
    FAILS(access("/proc/self", W_OK), EPERM);
    if (!fork()) { // a hard limit of nothing stays one
        struct rlimit nothing = {0, 0}, more = {10, 100};
        int bad = setrlimit(RLIMIT_NOFILE, &nothing) || getrlimit(RLIMIT_NOFILE, &nothing) || nothing.rlim_max;
        _exit(bad || (geteuid() && (!setrlimit(RLIMIT_NOFILE, &more) || errno != EPERM)));
    }
    OK(wait(&n));
    EQ(n, 0);
}

MAIN(CASE(altstacks), CASE(queues), CASE(generated), CASE(sockets), CASE(messages), CASE(attributes), CASE(numbers), CASE(others))
