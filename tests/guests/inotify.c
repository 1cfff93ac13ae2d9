// inotify(7): which events come, in which order, and how the descriptor behaves.
// variants: dynamic
// users: root nobody
// places: cow tmpfs
#include "check.h"
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

static int ifd, seen_cookie;
static char text[8192];

/* What is queued, as "wd:events[:name] ..."; wd numbers are those of this descriptor. */
static const char *events(void) {
    static const struct { uint32_t bit; const char *name; } names[] = {
        {IN_ACCESS, "ACCESS"}, {IN_MODIFY, "MODIFY"}, {IN_ATTRIB, "ATTRIB"}, {IN_CLOSE_WRITE, "CLOSE_WRITE"},
        {IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"}, {IN_OPEN, "OPEN"}, {IN_MOVED_FROM, "FROM"}, {IN_MOVED_TO, "TO"},
        {IN_CREATE, "CREATE"}, {IN_DELETE, "DELETE"}, {IN_DELETE_SELF, "DELETE_SELF"}, {IN_MOVE_SELF, "MOVE_SELF"},
        {IN_UNMOUNT, "UNMOUNT"}, {IN_Q_OVERFLOW, "OVERFLOW"}, {IN_IGNORED, "IGNORED"}, {IN_ISDIR, "DIR"},
    };
    static char buf[16384] __attribute__((aligned(8)));
    char *out = text;
    *out = 0;
    ssize_t n;
    while ((n = read(ifd, buf, sizeof buf)) > 0)
        for (char *p = buf; p < buf + n;) {
            struct inotify_event *e = (struct inotify_event *)p;
            out += sprintf(out, "%s%d:", out == text ? "" : " ", e->wd);
            int first = 1;
            for (size_t i = 0; i < sizeof names / sizeof *names; i++)
                if (e->mask & names[i].bit) out += sprintf(out, "%s%s", first ? "" : "+", names[i].name), first = 0;
            if (e->len) out += sprintf(out, ":%s", e->name);
            if (e->cookie) seen_cookie = e->cookie;
            p += sizeof *e + e->len;
            if (out - text > 7000) break;
        }
    return text;
}

static void fresh(const char *dir) {
    mkdir(dir, 0755);
    if (ifd > 0) close(ifd);
    ifd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    CHECK(ifd >= 0);
}

static int watch(const char *path, uint32_t mask) {
    int wd = inotify_add_watch(ifd, path, mask);
    if (wd < 0) COMPLAIN("watch %s: errno %d", path, errno);
    return wd;
}

static void names(void) {
    fresh("d");
    EQ(watch("d", IN_ALL_EVENTS & ~(IN_OPEN | IN_CLOSE | IN_ACCESS)), 1);
    put_file("d/a", "text");
    STREQ(events(), "1:CREATE:a 1:MODIFY:a");
    OK(mkdir("d/sub", 0755));
    OK(symlink("x", "d/ln"));
    OK(mkfifo("d/ff", 0600));
    STREQ(events(), "1:CREATE+DIR:sub 1:CREATE:ln 1:CREATE:ff");
    OK(link("d/a", "d/b"));
    STREQ(events(), "1:CREATE:b");
    OK(rename("d/a", "d/c"));
    STREQ(events(), "1:FROM:a 1:TO:c");
    CHECK(seen_cookie != 0);
    OK(rename("d/c", "outside"));
    STREQ(events(), "1:FROM:c");
    OK(rename("outside", "d/in"));
    STREQ(events(), "1:TO:in");
    OK(syscall(SYS_renameat2, AT_FDCWD, "d/in", AT_FDCWD, "d/sub", 2 /* RENAME_EXCHANGE */));
    STREQ(events(), "1:FROM:in 1:TO:sub 1:FROM+DIR:sub 1:TO+DIR:in");
    OK(unlink("d/b"));
    OK(rmdir("d/in"));
    OK(unlink("d/sub"));
    STREQ(events(), "1:DELETE:b 1:DELETE+DIR:in 1:DELETE:sub");
    OK(unlink("d/ln")); OK(unlink("d/ff"));
    events();
    OK(rmdir("d"));
    STREQ(events(), "1:DELETE_SELF 1:IGNORED");
    FAILS(inotify_rm_watch(ifd, 1), EINVAL);
}

static void attributes(void) {
    fresh("d");
    put_file("d/f", "1234");
    watch("d", IN_ATTRIB | IN_MODIFY);
    OK(chmod("d/f", 0600));
    OK(chown("d/f", -1, getgid()));
    STREQ(events(), "1:ATTRIB:f");  /* the same twice */
    OK(truncate("d/f", 2));
    STREQ(events(), "1:MODIFY:f");
    OK(utimensat(AT_FDCWD, "d/f", NULL, 0));
    STREQ(events(), "1:ATTRIB:f");
    OK(setxattr("d/f", "user.x", "y", 1, 0));
    OK(mkdir("d/sub", 0700));
    OK(chmod("d/sub", 0755));
    STREQ(events(), "1:ATTRIB:f 1:ATTRIB+DIR:sub");
    OK(chmod("d", 0700));
    STREQ(events(), "1:ATTRIB+DIR");
    OK(rmdir("d/sub")); OK(unlink("d/f")); OK(rmdir("d"));
}

static void bytes(void) {
    char c[8];
    fresh("d");
    int fd = OK(open("d/f", O_CREAT | O_RDWR, 0600)); /* open before it is watched */
    watch("d", IN_ALL_EVENTS);
    EQ(write(fd, "text", 4), 4);
    STREQ(events(), "1:MODIFY:f");
    EQ(pread(fd, c, 2, 0), 2);
    STREQ(events(), "1:ACCESS:f");
    OK(ftruncate(fd, 1));
    STREQ(events(), "1:MODIFY:f");
    int other = OK(dup(fd));
    close(fd);
    STREQ(events(), "");
    close(other);
    STREQ(events(), "1:CLOSE_WRITE:f");
    fd = OK(open("d/f", O_RDONLY));
    STREQ(events(), "1:OPEN:f");
    close(fd);
    STREQ(events(), "1:CLOSE_NOWRITE:f");
    close(OK(open("d/f", O_WRONLY | O_TRUNC)));
    STREQ(events(), "1:OPEN:f 1:MODIFY:f 1:CLOSE_WRITE:f");
    close(OK(open("d/f", O_PATH)));
    STREQ(events(), "");
    fd = OK(open("d", O_RDONLY | O_DIRECTORY));
    close(fd);
    STREQ(events(), "1:OPEN+DIR 1:CLOSE_NOWRITE+DIR");
    close(OK(open("d/new", O_CREAT | O_WRONLY, 0600)));
    STREQ(events(), "1:CREATE:new 1:OPEN:new 1:CLOSE_WRITE:new");
    IN_CHILD({
        int w = open("d/f", O_WRONLY);
        if (write(w, "x", 1) != 1) COMPLAIN("write");
    });
    STREQ(events(), "1:OPEN:f 1:MODIFY:f 1:CLOSE_WRITE:f");
    OK(unlink("d/f")); OK(unlink("d/new")); OK(rmdir("d"));
}

static void self(void) {
    fresh("d");
    put_file("d/f", "x");
    EQ(watch("d/f", IN_ALL_EVENTS), 1);
    EQ(watch("d", IN_DELETE | IN_MOVE), 2);
    OK(link("d/f", "d/g"));
    STREQ(events(), "1:ATTRIB");
    OK(rename("d/f", "d/h"));
    STREQ(events(), "2:FROM:f 2:TO:h 1:MOVE_SELF");
    OK(unlink("d/g"));
    STREQ(events(), "1:ATTRIB 2:DELETE:g");
    put_file("d/other", "");
    OK(rename("d/other", "d/h")); /* replaces it */
    STREQ(events(), "2:FROM:other 2:TO:h 1:ATTRIB 1:DELETE_SELF 1:IGNORED");
    EQ(watch("d/h", IN_ALL_EVENTS), 3);
    int fd = OK(open("d/h", O_RDONLY));
    OK(unlink("d/h"));
    STREQ(events(), "3:OPEN 3:ATTRIB 2:DELETE:h");
    close(fd);
    STREQ(events(), "3:CLOSE_NOWRITE 3:DELETE_SELF 3:IGNORED");
    OK(rmdir("d"));
}

static void masks(void) {
    fresh("d");
    put_file("d/f", "");
    FAILS(inotify_add_watch(ifd, "d", 0), EINVAL);
    FAILS(inotify_add_watch(ifd, "d", IN_MASK_ADD | IN_MASK_CREATE | IN_OPEN), EINVAL);
    FAILS(inotify_add_watch(ifd, "d/f", IN_ONLYDIR | IN_OPEN), ENOTDIR);
    FAILS(inotify_add_watch(ifd, "missing", IN_OPEN), ENOENT);
    FAILS(inotify_add_watch(0, "d", IN_OPEN), EINVAL);
    FAILS(inotify_add_watch(999, "d", IN_OPEN), EBADF);
    FAILS(inotify_rm_watch(ifd, 5), EINVAL);
    FAILS(inotify_rm_watch(0, 1), EINVAL);
    FAILS(inotify_init1(1), EINVAL);
    EQ(watch("d/f", IN_ATTRIB), 1);
    EQ(watch("d/f", IN_OPEN | IN_MASK_ADD), 1);
    FAILS(inotify_add_watch(ifd, "d/f", IN_MASK_CREATE | IN_OPEN), EEXIST);
    OK(chmod("d/f", 0600));
    close(OK(open("d/f", O_RDONLY)));
    STREQ(events(), "1:ATTRIB 1:OPEN");
    EQ(watch("d/f", IN_ATTRIB | IN_ONESHOT), 1);
    OK(chmod("d/f", 0644));
    OK(chmod("d/f", 0600));
    STREQ(events(), "1:ATTRIB 1:IGNORED");
    EQ(watch("d/f", IN_ATTRIB), 2);
    OK(inotify_rm_watch(ifd, 2));
    OK(chmod("d/f", 0644));
    STREQ(events(), "2:IGNORED");
    OK(symlink("f", "d/ln"));
    EQ(watch("d/ln", IN_ATTRIB | IN_DONT_FOLLOW), 3);
    EQ(watch("d/ln", IN_ATTRIB), 4);
    OK(unlink("d/ln"));
    STREQ(events(), "3:ATTRIB 3:IGNORED");
    int fd = OK(open("d/f", O_RDWR));
    EQ(watch("d", IN_MODIFY | IN_EXCL_UNLINK), 5);
    OK(unlink("d/f"));
    events();
    EQ(write(fd, "x", 1), 1);
    STREQ(events(), "");
    close(fd);
    events();
    if (getuid() != 0) {
        OK(mkdir("d/no", 0300));
        FAILS(inotify_add_watch(ifd, "d/no", IN_OPEN), EACCES);
        OK(rmdir("d/no"));
    }
    OK(rmdir("d"));
}

static void descriptor(void) {
    char buf[4096];
    int n;
    struct stat sb;
    fresh("d");
    EQ(fcntl(ifd, F_GETFL) & (O_NONBLOCK | O_ACCMODE), O_NONBLOCK | O_RDONLY);
    EQ(fcntl(ifd, F_GETFD), FD_CLOEXEC);
    FAILS(read(ifd, buf, sizeof buf), EAGAIN);
    FAILS(write(ifd, buf, 1), EBADF);
    OK(fstat(ifd, &sb));
    EQ(sb.st_mode, 0600);
    OK(readlink("/proc/self/fd/0", buf, 10));
    snprintf(buf, sizeof buf, "/proc/self/fd/%d", ifd);
    memset(buf + 100, 0, 100);
    OK(readlink(buf, buf + 100, 99));
    STREQ(buf + 100, "anon_inode:inotify");
    watch("d", IN_CREATE);
    struct pollfd p = {ifd, POLLIN | POLLOUT, 0};
    EQ(poll(&p, 1, 0), 0);
    int ep = OK(epoll_create1(0));
    struct epoll_event ev = {EPOLLIN, {.u32 = 7}}, got;
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, ifd, &ev));
    EQ(epoll_wait(ep, &got, 1, 0), 0);
    OK(mkdir("d/one", 0700));
    OK(mkdir("d/a-name-that-is-longer-than-sixteen", 0700));
    EQ(poll(&p, 1, 1000), 1);
    EQ(p.revents, POLLIN);
    EQ(epoll_wait(ep, &got, 1, 1000), 1);
    OK(ioctl(ifd, FIONREAD, &n));
    EQ(n, 16 + 16 + 16 + 48);
    FAILS(read(ifd, buf, 8), EINVAL);
    FAILS(read(ifd, buf, 31), EINVAL);
    EQ(read(ifd, buf, 40), 32); /* whole events only */
    EQ(poll(&p, 1, 1000), 1);
    EQ(read(ifd, buf, sizeof buf), 64);
    EQ(poll(&p, 1, 0), 0);
    EQ(epoll_wait(ep, &got, 1, 0), 0);
    close(ep);
    OK(rmdir("d/one")); OK(rmdir("d/a-name-that-is-longer-than-sixteen"));
    /* a read that waits; the event is another process's */
    int flags = fcntl(ifd, F_GETFL);
    OK(fcntl(ifd, F_SETFL, flags & ~O_NONBLOCK));
    pid_t pid = fork();
    if (!pid) {
        msleep(20);
        _exit(mkdir("d/x", 0700) ? 1 : 0);
    }
    EQ(read(ifd, buf, sizeof buf), 32);
    STREQ(((struct inotify_event *)buf)->name, "x");
    EXITED(pid, 0);
    /* ... and a native write */
    int fd = OK(open("d/f", O_CREAT | O_WRONLY, 0600));
    OK(fcntl(ifd, F_SETFL, flags));
    events();
    watch("d", IN_MODIFY);
    OK(fcntl(ifd, F_SETFL, flags & ~O_NONBLOCK));
    pid = fork();
    if (!pid) {
        msleep(20);
        _exit(write(fd, "x", 1) == 1 ? 0 : 1);
    }
    EQ(poll(&p, 1, 5000), 1);
    EQ(read(ifd, buf, sizeof buf), 32);
    EXITED(pid, 0);
    close(fd);
    OK(unlink("d/f")); OK(rmdir("d/x")); OK(rmdir("d"));
}

static void overflow(void) {
    char name[32];
    int most = atoi(get_file("/proc/sys/fs/inotify/max_queued_events"));
    fresh("d");
    if (most > 20000) return;
    watch("d", IN_MOVE);
    put_file("d/0", "");
    for (int i = 0; i < most / 2 + 2; i++) {
        char to[32];
        sprintf(name, "d/%d", i);
        sprintf(to, "d/%d", i + 1);
        if (rename(name, to)) COMPLAIN("rename %s: errno %d", name, errno);
    }
    static char buf[1 << 20];
    int n = 0, overflows = 0, after = 0;
    ssize_t got;
    while ((got = read(ifd, buf, sizeof buf)) > 0)
        for (char *p = buf; p < buf + got; p += sizeof(struct inotify_event) + ((struct inotify_event *)p)->len) {
            struct inotify_event *e = (struct inotify_event *)p;
            n++;
            after += overflows;
            if (e->mask & IN_Q_OVERFLOW) { overflows++; EQ(e->wd, -1); }
        }
    EQ(n, most + 1);
    EQ(overflows, 1);
    EQ(after, 0);
    sprintf(name, "d/%d", most / 2 + 2);
    OK(unlink(name)); OK(rmdir("d"));
}

MAIN(CASE(names), CASE(attributes), CASE(bytes), CASE(self), CASE(masks), CASE(descriptor), CASE(overflow))
