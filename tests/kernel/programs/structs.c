/* Calls with every structure and kind of flag that is common, for the comparison of traces (../test_trace.py). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

int main(void) {
    int s[2];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, s);
    struct iovec v[2] = {{"one", 3}, {"twotwo", 6}};
    struct mmsghdr m[2];
    memset(m, 0, sizeof m);
    m[0].msg_hdr.msg_iov = &v[0];
    m[0].msg_hdr.msg_iovlen = 1;
    m[1].msg_hdr.msg_iov = &v[1];
    m[1].msg_hdr.msg_iovlen = 1;
    sendmmsg(s[0], m, 2, MSG_NOSIGNAL);
    char b[2][20];
    struct iovec r[2] = {{b[0], 20}, {b[1], 20}};
    memset(m, 0, sizeof m);
    m[0].msg_hdr.msg_iov = &r[0];
    m[0].msg_hdr.msg_iovlen = 1;
    m[1].msg_hdr.msg_iov = &r[1];
    m[1].msg_hdr.msg_iovlen = 1;
    struct timespec t = {1, 0};
    recvmmsg(s[1], m, 2, 0, &t);
    recvmmsg(s[1], m, 2, MSG_DONTWAIT, NULL);
    int fl = 1;
    setsockopt(s[0], SOL_SOCKET, SO_PASSCRED, &fl, sizeof fl);
    socklen_t l = sizeof fl;
    getsockopt(s[0], SOL_SOCKET, SO_TYPE, &fl, &l);
    ioctl(s[0], FIONREAD, &fl);
    ioctl(s[0], FIONBIO, &fl);
    int tf = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec its = {{1, 0}, {2, 500}};
    timerfd_settime(tf, 0, &its, NULL);
    timerfd_gettime(tf, &its);
    int ef = eventfd(3, EFD_SEMAPHORE|EFD_CLOEXEC);
    struct flock fk = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
    int f = open("/tmp/ring3-structsf", O_RDWR|O_CREAT|O_TRUNC, 0644);
    fcntl(f, F_SETLK, &fk);
    fcntl(f, F_GETLK, &fk);
    fallocate(f, FALLOC_FL_KEEP_SIZE, 0, 4096);
    ftruncate(f, 100);
    fcntl(f, F_SETFL, O_APPEND|O_NONBLOCK);
    fcntl(f, F_DUPFD_CLOEXEC, 10);
    struct rlimit rl;
    getrlimit(RLIMIT_NOFILE, &rl);
    prlimit(0, RLIMIT_CORE, &rl, NULL);
    prctl(PR_SET_NAME, "hello");
    prctl(PR_GET_DUMPABLE);
    sigset_t ss;
    sigemptyset(&ss);
    sigaddset(&ss, SIGINT);
    int sf = signalfd(-1, &ss, SFD_CLOEXEC);
    sigprocmask(SIG_BLOCK, &ss, 0);
    struct timespec z = {0, 0};
    siginfo_t si;
    raise(SIGINT);
    sigtimedwait(&ss, &si, &z);
    sigpending(&ss);
    struct itimerval iv = {{0, 0}, {5, 0}};
    setitimer(ITIMER_REAL, &iv, 0);
    getitimer(ITIMER_REAL, &iv);
    pid_t p = fork();
    if(!p) _exit(3);
    waitid(P_PID, p, &si, WEXITED);
    timer_t tm;
    struct sigevent se = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    timer_create(CLOCK_REALTIME, &se, &tm);
    timer_settime(tm, 0, &its, NULL);
    timer_delete(tm);
    void *a = mmap(0, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0);
    madvise(a, 4096, MADV_DONTNEED);
    mremap(a, 8192, 16384, MREMAP_MAYMOVE);
    msync(a, 4096, MS_ASYNC);
    mlock(a, 4096);
    cpu_set_t cs;
    sched_getaffinity(0, sizeof cs, &cs);
    struct sched_param sp;
    sched_getparam(0, &sp);
    sched_getscheduler(0);
    off_t o = 0;
    sendfile(ef, f, &o, 10);
    lseek(f, 0, SEEK_END);
    rename("/tmp/ring3-structsf", "/tmp/ring3-structsg");
    link("/tmp/ring3-structsg", "/tmp/ring3-structsh");
    symlink("x", "/tmp/ring3-structss");
    char buf[100];
    readlink("/tmp/ring3-structss", buf, 100);
    unlink("/tmp/ring3-structss");
    unlink("/tmp/ring3-structsh");
    chmod("/tmp/ring3-structsg", 0600);
    chown("/tmp/ring3-structsg", -1, -1);
    utimensat(AT_FDCWD, "/tmp/ring3-structsg", 0, 0);
    access("/tmp/ring3-structsg", R_OK|W_OK);
    mkdir("/tmp/ring3-structsd", 0755);
    rmdir("/tmp/ring3-structsd");
    setxattr("/tmp/ring3-structsg", "user.a", "b", 1, 0);
    getxattr("/tmp/ring3-structsg", "user.a", buf, 100);
    listxattr("/tmp/ring3-structsg", buf, 100);
    unlink("/tmp/ring3-structsg");
    struct pollfd pf = {s[0], POLLIN|POLLOUT, 0};
    poll(&pf, 1, 0);
    umask(022);
    dup2(1, 20);
    dup3(1, 21, O_CLOEXEC);
    pipe2(s, O_NONBLOCK);
    splice(s[0], 0, s[1], 0, 10, SPLICE_F_NONBLOCK);
    struct timeval tv = {0, 1};
    fd_set fs;
    FD_ZERO(&fs);
    FD_SET(1, &fs);
    select(2, 0, &fs, 0, &tv);
    getpriority(PRIO_PROCESS, 0);
    getrandom(buf, 4, 1);
    kill(0, 0);
    setsid();
    getpgid(0);
    setpgid(0, 0);
    syscall(SYS_tgkill, getpid(), getpid(), 0);
    sync();
    flock(f, LOCK_SH|LOCK_NB);
    fdatasync(f);
    close_range(30, 40, 0);
    memfd_create("m", MFD_CLOEXEC);
    return 0;
}
