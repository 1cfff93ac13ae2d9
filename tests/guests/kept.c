// Files that are opened again and again: each open gives a description of its own, whatever became of the last one.
// users: root nobody
// places: cow tmpfs
#include "check.h"
#include <pthread.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { TIMES = 6 };

/* A descriptor of a file that was opened and closed before. */
static int again(const char *path) {
    for (int i = 0; i < TIMES; i++) {
        char c;
        int fd = open(path, O_RDONLY);
        if (fd < 0 || lseek(fd, 0, SEEK_CUR) != 0 || read(fd, &c, 1) != 1 || close(fd)) COMPLAIN("open no. %d", i);
    }
    return OK(open(path, O_RDONLY));
}

static long where(int fd) { return lseek(fd, 0, SEEK_CUR); }

/* It is at its beginning, has no flags, and is the lowest one that was free. */
static void is_new(int fd, int lowest) {
    char c = 0;
    EQ(fd, lowest);
    EQ(where(fd), 0);
    EQ(fcntl(fd, F_GETFL) & ~0100000, O_RDONLY);
    EQ(fcntl(fd, F_GETFD), 0);
    EQ(read(fd, &c, 1), 1);
    EQ(c, 'a');
}

static int lowest(void) {
    int fd = OK(dup(0));
    close(fd);
    return fd;
}

static void over_and_over(void) {
    int low = lowest();
    for (int i = 0; i < 50; i++) {
        int fd = again("f");
        is_new(fd, low);
        close(fd);
    }
    int a = again("f"), b = OK(open("f", O_RDONLY | O_CLOEXEC)), c = OK(open("f", O_RDONLY));
    EQ(fcntl(b, F_GETFD), FD_CLOEXEC);
    EQ(lseek(a, 2, SEEK_SET), 2);
    EQ(where(b), 0);
    EQ(where(c), 0);
    close(b);
    EQ(where(a), 2);
    b = OK(open("f", O_RDONLY | O_CLOEXEC));
    EQ(fcntl(b, F_GETFD), FD_CLOEXEC);
    FAILS(write(b, "x", 1), EBADF);
    for (int i = 0; i < TIMES; i++) {
        close(b);
        b = OK(open("f", O_RDONLY | O_CLOEXEC));
        EQ(fcntl(b, F_GETFD), FD_CLOEXEC);
    }
    close(a);
    close(b);
    close(c);
}

static void changed_meanwhile(void) {
    char text[8] = "";
    put_file("c", "a1");
    int fd = again("c");
    int w = OK(open("c", O_WRONLY));
    EQ(pwrite(w, "a2", 2, 0), 2);
    close(w);
    EQ(pread(fd, text, 8, 0), 2);
    STREQ(text, "a2");
    close(fd);
    put_file("other", "a3");
    OK(rename("other", "c"));
    fd = again("c");
    EQ(read(fd, text, 8), 2);
    STREQ(text, "a3");
    close(fd);
    OK(unlink("c"));
    FAILS(open("c", O_RDONLY), ENOENT);
    OK(symlink("f", "c"));
    fd = again("c");
    is_new(fd, fd);
    close(fd);
    FAILS(open("c", O_RDONLY | O_NOFOLLOW), ELOOP);
    OK(unlink("c"));
    OK(mkdir("d", 0700));
    put_file("d/f", "a4");
    close(again("f"));
    OK(chdir("d"));
    fd = again("f");
    EQ(read(fd, text, 8), 2);
    STREQ(text, "a4");
    close(fd);
    OK(chdir(".."));
    fd = again("f");
    is_new(fd, fd);
    close(fd);
    OK(unlink("d/f"));
    OK(rmdir("d"));
}

static void permissions(void) {
    put_file("p", "abc");
    close(again("p"));
    OK(chmod("p", 0));
    if (getuid()) {
        FAILS(open("p", O_RDONLY), EACCES);
    } else {
        close(again("p"));
        OK(seteuid(65534));
        for (int i = 0; i < TIMES; i++) CHECK(!access("f", F_OK)); /* asked often enough to be known as that user */
        FAILS(open("p", O_RDONLY), EACCES);
        OK(seteuid(0));
        close(again("p"));
    }
    OK(unlink("p"));
}

static void duplicates(void) {
    int low = lowest(), fd;
    for (int way = 0; way < 4; way++) {
        fd = again("f");
        int two = OK(way == 0 ? dup(fd) : way == 1 ? fcntl(fd, F_DUPFD, 50) : way == 2 ? dup2(fd, 51) : dup3(fd, 52, 0));
        close(fd);
        EQ(lseek(two, 2, SEEK_SET), 2);
        fd = OK(open("f", O_RDONLY));
        is_new(fd, low);
        EQ(where(two), 2);
        close(two);
        close(fd);
    }
    fd = again("f");
    int p = OK(open("/dev/null", O_RDONLY)), other;
    OK(dup2(p, fd));
    EQ(read(fd, &other, 1), 0);
    close(p);
    other = again("f");
    is_new(other, p);
    close(other);
    close(fd);
    fd = again("f");
    OK(syscall(SYS_close_range, fd, fd, 0));
    FAILS(where(fd), EBADF);
    close(again("f"));
    OK(syscall(SYS_close_range, low, ~0U, 0));
    fd = OK(open("f", O_RDONLY));
    is_new(fd, low);
    OK(dup2(fd, low + 1));
    close(low + 1);
    close(fd);
    fd = again("f");
    is_new(fd, low);
    close(fd);
}

static void flags_and_locks(void) {
    int fd = again("f");
    OK(fcntl(fd, F_SETFL, O_NONBLOCK));
    close(fd);
    fd = again("f");
    is_new(fd, fd);
    int one = 1;
    OK(ioctl(fd, 0x5421 /* FIONBIO */, &one));
    close(fd);
    fd = again("f");
    is_new(fd, fd);
    OK(flock(fd, LOCK_EX));
    int w = OK(open("f", O_RDWR));
    FAILS(flock(w, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    close(fd);
    OK(flock(w, LOCK_EX | LOCK_NB));
    fd = again("f");
    FAILS(flock(fd, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    close(w);
    OK(flock(fd, LOCK_SH | LOCK_NB));
    close(fd);
}

static int locked(void) {
    int st = 0;
    pid_t pid = fork();
    if (!pid) {
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int fd = open("f", O_RDWR);
        _exit(fd < 0 || fcntl(fd, F_SETLK, &l));
    }
    waitpid(pid, &st, 0);
    return st != 0;
}

/* Only a close by the program takes away its record locks. */
static void locks_stay(void) {
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int a = again("f"), w = OK(open("f", O_RDWR));
    OK(fcntl(w, F_SETLK, &l));
    for (int i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "many%d", i);
        put_file(name, "a");
        close(again(name));
        OK(unlink(name));
    }
    CHECK(locked());
    close(a);
    CHECK(!locked());
    close(w);
}

static void record_locks(void) { IN_CHILD(locks_stay()); }

static void a_child_has_it(void) {
    int fd = again("f"), go[2], back[2];
    char c;
    OK(pipe(go));
    OK(pipe(back));
    pid_t pid = fork();
    if (!pid) {
        if (read(go[0], &c, 1) != 1) _exit(1);
        int wrong = where(fd) != 2;
        lseek(fd, 1, SEEK_SET);
        wrong |= where(open("f", O_RDONLY)) != 0;
        if (write(back[1], "", 1) != 1) _exit(1);
        _exit(wrong);
    }
    EQ(lseek(fd, 2, SEEK_SET), 2);
    close(fd);
    fd = OK(open("f", O_RDONLY));
    EQ(write(go[1], "", 1), 1);
    EQ(read(back[0], &c, 1), 1);
    EQ(where(fd), 0);
    EXITED(pid, 0);
    close(fd);
    for (int i = 0; i < 2; i++) close(go[i]), close(back[i]);
}

static void sent_to_somebody(void) {
    int fd = again("f"), pair[2], got = -1;
    char byte = 0, room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    struct cmsghdr *head = CMSG_FIRSTHDR(&m);
    *head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
    EQ(sendmsg(pair[0], &m, 0), 1);
    close(fd);
    fd = OK(open("f", O_RDONLY));
    EQ(lseek(fd, 2, SEEK_SET), 2);
    EQ(recvmsg(pair[1], &m, 0), 1);
    memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof got);
    EQ(where(got), 0);
    close(got);
    close(fd);
    close(pair[0]);
    close(pair[1]);
}

static void mapped(void) {
    int fd = again("f");
    char *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED && p[0] == 'a');
    close(fd);
    fd = again("f");
    is_new(fd, fd);
    close(fd);
    EQ(p[1], 'b');
    OK(munmap(p, 4096));
}

static void limits(void) {
    struct rlimit was, less;
    int low = lowest();
    close(again("f"));
    OK(getrlimit(RLIMIT_NOFILE, &was));
    less = was;
    less.rlim_cur = low;
    OK(setrlimit(RLIMIT_NOFILE, &less));
    for (int i = 0; i < TIMES; i++) FAILS(open("f", O_RDONLY), EMFILE);
    OK(setrlimit(RLIMIT_NOFILE, &was));
    int fd = again("f");
    is_new(fd, low);
    close(fd);
    for (int i = low; i < 2000; i++) FAILS(close(i), EBADF);
    close(again("f"));
    less.rlim_cur = was.rlim_max;
    OK(setrlimit(RLIMIT_NOFILE, &less));
    for (rlim_t i = was.rlim_cur; i < was.rlim_cur + 30 && i < was.rlim_max; i++) EQ(dup2(0, i), i);
    fd = again("f");
    is_new(fd, low);
    close(fd);
    for (rlim_t i = was.rlim_cur; i < was.rlim_cur + 30 && i < was.rlim_max; i++) OK(close(i));
    OK(setrlimit(RLIMIT_NOFILE, &was));
}

static void *reader(void *bad) {
    for (int i = 0; i < 2000; i++) {
        char text[4] = "";
        int fd = open("f", O_RDONLY | O_CLOEXEC);
        if (fd < 0 || read(fd, text, 3) != 3 || memcmp(text, "abc", 3) || close(fd)) ++*(int *)bad;
    }
    return NULL;
}

static void threads(void) {
    pthread_t t[4];
    int bad[4] = {0};
    for (int i = 0; i < 4; i++) EQ(pthread_create(&t[i], NULL, reader, &bad[i]), 0);
    for (int i = 0; i < 20; i++) {
        put_file("x", "y");
        OK(unlink("x"));
        IN_CHILD({
            int fd = open("f", O_RDONLY);
            EQ(where(fd), 0);
        });
    }
    for (int i = 0; i < 4; i++) {
        EQ(pthread_join(t[i], NULL), 0);
        EQ(bad[i], 0);
    }
}

static void prepare(void) { put_file("f", "abc"); }

MAIN(CASE(prepare), CASE(over_and_over), CASE(changed_meanwhile), CASE(permissions), CASE(duplicates), CASE(flags_and_locks),
     CASE(record_locks), CASE(a_child_has_it), CASE(sent_to_somebody), CASE(mapped), CASE(limits), CASE(threads))
