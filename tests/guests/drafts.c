// Files that are made one after the other, by a program that may have the directory lent: each is like any other.
// users: root nobody
// places: cow tmpfs
#include "check.h"
#include <dirent.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/socket.h>

static int make(const char *path) { return OK(open(path, O_WRONLY | O_CREAT | O_EXCL, 0666)); }

/* Make and remove so many files that whoever may lend does. */
static void warm(void) {
    for (int i = 0; i < 12; i++) {
        char name[16];
        sprintf(name, "w%d", i);
        close(make(name));
        OK(unlink(name));
    }
}

static int is_there(const char *path) {
    struct stat st;
    int r = lstat(path, &st);
    EQ(access(path, F_OK), r);
    EQ(faccessat(AT_FDCWD, path, F_OK, 0), r);
    return !r;
}

static int same_time(struct timespec a, struct timespec b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

static int earlier(struct timespec a, struct timespec b) {
    return a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec < b.tv_nsec);
}

static void same_stat(const struct stat *a, const struct stat *b) {
    EQ(a->st_dev, b->st_dev);
    EQ(a->st_ino, b->st_ino);
    EQ(a->st_mode, b->st_mode);
    EQ(a->st_nlink, b->st_nlink);
    EQ(a->st_uid, b->st_uid);
    EQ(a->st_gid, b->st_gid);
    EQ(a->st_rdev, b->st_rdev);
    EQ(a->st_size, b->st_size);
    EQ(a->st_blksize, b->st_blksize);
    CHECK(same_time(a->st_atim, b->st_atim));
    CHECK(same_time(a->st_mtim, b->st_mtim));
    CHECK(same_time(a->st_ctim, b->st_ctim));
}

static void a_moment(void) {
    struct timespec t = {0, 20000000};
    nanosleep(&t, NULL);
}

static void what_fstat_says(void) {
    struct stat st, again, other;
    warm();
    umask(027);
    warm();
    int a = make("a"), b = make("b");
    umask(0);
    OK(fstat(a, &st));
    OK(fstat(b, &other));
    EQ(st.st_mode, S_IFREG | 0640);
    EQ(st.st_nlink, 1);
    EQ(st.st_uid, geteuid());
    EQ(st.st_gid, getegid());
    EQ(st.st_size, 0);
    EQ(st.st_blocks, 0);
    CHECK(st.st_ino != other.st_ino);
    EQ(st.st_dev, other.st_dev);
    CHECK(same_time(st.st_atim, st.st_mtim));
    CHECK(same_time(st.st_ctim, st.st_mtim));
    OK(stat("a", &again));
    same_stat(&st, &again);
    warm();
    close(a);
    a = make("c");
    a_moment();
    EQ(write(a, "hello", 5), 5);
    OK(fstat(a, &st));
    EQ(st.st_size, 5);
    CHECK(earlier(st.st_atim, st.st_mtim));
    OK(fstatat(a, "", &again, AT_EMPTY_PATH));
    same_stat(&st, &again);
    OK(stat("c", &again));
    same_stat(&st, &again);
    close(a);
    close(b);
    OK(unlink("a"));
    OK(unlink("b"));
    OK(unlink("c"));
}

static void attributes(void) {
    struct stat st, again;
    struct timespec times[2] = {{1000, 5}, {2000, 7}}, omit[2] = {{0, UTIME_OMIT}, {3000, 9}};
    for (int way = 0; way < 8; way++) {
        warm();
        int fd = make("a");
        EQ(write(fd, "hello", 5), 5);
        a_moment();
        if (way & 1) OK(fchmod(fd, 0751));
        if (way & 2) OK(fchown(fd, geteuid(), -1));
        if (way & 4) OK(futimens(fd, times));
        if (way == 7) EQ(write(fd, "!", 1), 1);
        OK(fstat(fd, &st));
        EQ(st.st_mode & 07777, way & 1 ? 0751 : 0666);
        EQ(st.st_uid, geteuid());
        EQ(st.st_size, 5 + (way == 7));
        if (way & 4) EQ(st.st_atim.tv_sec, 1000);
        if (way & 4) EQ(st.st_atim.tv_nsec, 5);
        if (way == 4) EQ(st.st_mtim.tv_sec, 2000);
        if (way == 7) CHECK(st.st_mtim.tv_sec > 3000);
        if (way) CHECK(earlier(st.st_atim, st.st_ctim));
        OK(stat("a", &again));
        same_stat(&st, &again);
        if (way == 4) OK(futimens(fd, omit));
        if (way == 4) OK(fstat(fd, &st));
        if (way == 4) EQ(st.st_atim.tv_sec, 1000);
        if (way == 4) EQ(st.st_mtim.tv_sec, 3000);
        close(fd);
        OK(stat("a", &again));
        same_stat(&st, &again);
        OK(unlink("a"));
    }
    warm();
    int fd = make("a");
    OK(fchmod(fd, 04755));
    OK(fstat(fd, &st));
    EQ(st.st_mode & 07777, 04755);
    if (getuid()) {
        FAILS(fchown(fd, 0, -1), EPERM);
    } else {
        OK(fchown(fd, 12, 34));
        OK(fstat(fd, &st));
        EQ(st.st_uid, 12);
        EQ(st.st_gid, 34);
        int other = make("b");
        OK(fchown(other, 12, -1));
        OK(stat("b", &st));
        EQ(st.st_uid, 12);
        EQ(st.st_gid, getegid());
        close(other);
        OK(unlink("b"));
    }
    times[0].tv_nsec = 1000000000;
    FAILS(futimens(fd, times), EINVAL);
    OK(futimens(fd, NULL));
    OK(fstat(fd, &st));
    CHECK(st.st_mtim.tv_sec > 3000);
    close(fd);
    OK(unlink("a"));
}

static void over_and_over(void) {
    int low = OK(dup(0));
    close(low);
    for (int i = 0; i < 60; i++) {
        char c;
        CHECK(!is_there("f"));
        FAILS(open("f", O_RDONLY), ENOENT);
        FAILS(unlink("f"), ENOENT);
        int fd = OK(open("f", O_RDWR | O_CREAT | (i & 1 ? O_CLOEXEC : O_TRUNC), 0600));
        EQ(fd, low);
        EQ(fcntl(fd, F_GETFD), i & 1 ? FD_CLOEXEC : 0);
        EQ(fcntl(fd, F_GETFL) & ~0100000, O_RDWR);
        EQ(lseek(fd, 0, SEEK_CUR), 0);
        EQ(read(fd, &c, 1), 0);
        EQ(write(fd, "some words", 10), 10);
        EQ(lseek(fd, 0, SEEK_END), 10);
        if (i % 3 == 0) EQ(is_there("f"), 1);
        close(fd);
        FAILS(open("f", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
        if (i % 5 == 0) EQ(is_there("f"), 1);
        OK(i & 2 ? unlinkat(AT_FDCWD, "f", 0) : unlink("f"));
    }
}

static void the_directory(void) {
    struct stat before, after;
    warm();
    OK(stat(".", &before));
    a_moment();
    close(make("x"));
    OK(stat(".", &after));
    CHECK(earlier(before.st_mtim, after.st_mtim));
    CHECK(same_time(after.st_mtim, after.st_ctim));
    EQ(after.st_nlink, before.st_nlink);
    OK(unlink("x"));
    warm();
    OK(stat(".", &before));
    a_moment();
    warm();
    OK(stat(".", &after));
    CHECK(earlier(before.st_mtim, after.st_mtim));
    OK(mkdir("d", 0700));
    OK(chdir("d"));
    warm();
    char seen[100] = "";
    for (int i = 0; i < 100; i++) {
        char name[16];
        sprintf(name, "%d", i);
        int fd = make(name);
        EQ(write(fd, name, strlen(name)), (long)strlen(name));
        close(fd);
        if (i % 7 == 3) OK(unlink(name));
        if (i % 7 == 3) seen[i] = 1;
    }
    DIR *d = opendir(".");
    for (struct dirent *e; (e = readdir(d));) {
        if (*e->d_name == '.') continue;
        int n = atoi(e->d_name);
        CHECK(n < 100 && !seen[n]);
        seen[n] = 1;
        EQ(e->d_type, DT_REG);
    }
    closedir(d);
    for (int i = 0; i < 100; i++) {
        char name[16], text[16] = "";
        EQ(seen[i], 1);
        sprintf(name, "%d", i);
        if (i % 7 == 3) continue;
        int fd = OK(open(name, O_RDONLY));
        EQ(read(fd, text, 15), (long)strlen(name));
        STREQ(text, name);
        close(fd);
        if (i < 90) OK(unlink(name));
    }
    OK(chdir(".."));
    FAILS(rmdir("d"), ENOTEMPTY);
    for (int i = 90; i < 100; i++) {
        char name[16];
        sprintf(name, "d/%d", i);
        if (i % 7 != 3) OK(unlink(name));
    }
    OK(rmdir("d"));
}

static void names(void) {
    char text[8] = "";
    warm();
    int fd = make("a");
    EQ(write(fd, "1", 1), 1);
    close(fd);
    OK(rename("a", "b"));
    CHECK(!is_there("a"));
    close(make("a"));
    OK(link("b", "c"));
    warm();
    fd = make("e");
    EQ(write(fd, "2", 1), 1);
    OK(rename("e", "b"));
    close(fd);
    FAILS(open("e", O_RDONLY), ENOENT);
    fd = OK(open("b", O_RDONLY));
    EQ(read(fd, text, 8), 1);
    STREQ(text, "2");
    close(fd);
    OK(symlink("s", "e"));
    FAILS(open("e", O_WRONLY | O_CREAT | O_EXCL, 0666), EEXIST);
    fd = OK(open("e", O_WRONLY | O_CREAT, 0666));
    EQ(is_there("s"), 1);
    close(fd);
    OK(unlink("s"));
    OK(unlink("e"));
    OK(mkdir("e", 0700));
    FAILS(open("e", O_WRONLY | O_CREAT, 0666), EISDIR);
    FAILS(unlink("e"), EISDIR);
    OK(rmdir("e"));
    close(make("e"));
    FAILS(mkdir("e", 0700), EEXIST);
    FAILS(open("e/f", O_WRONLY | O_CREAT, 0666), ENOTDIR);
    OK(unlink("e"));
    OK(unlink("a"));
    OK(unlink("b"));
    OK(unlink("c"));
    warm();
    char longer[300];
    memset(longer, 'n', sizeof longer);
    longer[200] = 0;
    close(make(longer));
    EQ(is_there(longer), 1);
    OK(unlink(longer));
    longer[200] = 'n';
    longer[256] = 0;
    FAILS(open(longer, O_WRONLY | O_CREAT, 0666), ENAMETOOLONG);
    FAILS(open("", O_WRONLY | O_CREAT, 0666), ENOENT);
    FAILS(open(".", O_WRONLY | O_CREAT, 0666), EISDIR);
    FAILS(open("nowhere/x", O_WRONLY | O_CREAT, 0666), ENOENT);
}

static void other_flags(void) {
    char text[16] = "";
    warm();
    int fd = OK(open("a", O_WRONLY | O_CREAT | O_APPEND, 0666));
    EQ(fcntl(fd, F_GETFL) & ~0100000, O_WRONLY | O_APPEND);
    EQ(write(fd, "12", 2), 2);
    close(fd);
    fd = OK(open("a", O_WRONLY | O_CREAT | O_APPEND, 0666));
    EQ(write(fd, "3", 1), 1);
    FAILS(read(fd, text, 1), EBADF);
    close(fd);
    fd = OK(open("a", O_RDWR | O_CREAT, 0666));
    EQ(read(fd, text, 8), 3);
    STREQ(text, "123");
    close(fd);
    warm();
    fd = OK(open("a", O_WRONLY | O_CREAT | O_TRUNC, 0666));
    EQ(lseek(fd, 0, SEEK_END), 0);
    close(fd);
    OK(unlink("a"));
    warm();
    fd = OK(open("a", O_RDONLY | O_CREAT, 0666));
    FAILS(write(fd, "x", 1), EBADF);
    close(fd);
    OK(unlink("a"));
    warm();
    fd = OK(open("a", O_WRONLY | O_CREAT | O_NONBLOCK | O_NOCTTY, 0));
    EQ(fcntl(fd, F_GETFL) & ~0100000, O_WRONLY | O_NONBLOCK);
    struct stat st;
    OK(fstat(fd, &st));
    EQ(st.st_mode, S_IFREG);
    close(fd);
    if (getuid()) FAILS(open("a", O_RDONLY), EACCES);
    OK(unlink("a"));
}

/* What is done with a descriptor; then the file goes, and another one comes. */
static void still_there(int way) {
    char text[8] = "";
    int pair[2], pipes[2], st, fd, two = -1;
    char *map = NULL;
    pid_t pid = 0;
    warm();
    fd = OK(open("f", O_RDWR | O_CREAT | O_EXCL, 0600));
    close(fd);
    OK(unlink("f"));
    fd = OK(open("f", O_RDWR | O_CREAT | O_EXCL, 0600));
    for (int i = 0; i < 4; i++) {
        char name[8];
        sprintf(name, "g%d", i);
        int other = OK(open(name, O_RDWR | O_CREAT | O_EXCL, 0600));
        EQ(write(other, "other", 5), 5);
        close(other);
        OK(unlink(name));
    }
    EQ(write(fd, "words", 5), 5);
    OK(pipe(pipes));
    switch (way) {
    case 0: two = OK(dup(fd)); break;
    case 1: two = OK(fcntl(fd, F_DUPFD, 30)); break;
    case 2: two = OK(dup2(fd, 40)); break;
    case 3: map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0); break;
    case 4: map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0); break;
    case 5:
        OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
        union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control;
        struct iovec iov = {"x", 1};
        struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control};
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
        OK(sendmsg(pair[0], &m, 0));
        break;
    case 6:
        pid = OK(fork());
        if (!pid) {
            close(pipes[1]);
            int bad = read(pipes[0], text, 1) != 0 || pread(fd, text, 8, 0) != 5 || strcmp(text, "words");
            _exit(bad);
        }
        break;
    }
    close(fd);
    OK(unlink("f"));
    for (int i = 0; i < 20; i++) { /* whatever is used again is used now */
        fd = OK(open("f", O_RDWR | O_CREAT | O_EXCL, 0600));
        EQ(write(fd, "new", 3), 3);
        close(fd);
        OK(unlink("f"));
    }
    if (way == 5) {
        struct iovec iov = {text, 1};
        union { char space[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control;
        struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control};
        EQ(recvmsg(pair[1], &m, 0), 1);
        memcpy(&two, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof two);
        close(pair[0]);
        close(pair[1]);
    }
    if (two >= 0) {
        struct stat info;
        EQ(pread(two, text, 8, 0), 5);
        STREQ(text, "words");
        OK(fstat(two, &info));
        EQ(info.st_nlink, 0);
        close(two);
    }
    if (map) {
        CHECK(map != MAP_FAILED && !memcmp(map, "words", 5));
        munmap(map, 4096);
    }
    close(pipes[1]);
    if (pid) {
        OK(waitpid(pid, &st, 0));
        EQ(st, 0);
    }
    close(pipes[0]);
}

static void held_elsewhere(void) {
    for (int way = 0; way < 7; way++) still_there(way);
}

static void open_and_removed(void) {
    struct stat st;
    char text[8] = "";
    warm();
    int fd = OK(open("f", O_RDWR | O_CREAT | O_EXCL, 0600));
    close(fd);
    OK(unlink("f"));
    fd = OK(open("f", O_RDWR | O_CREAT | O_EXCL, 0600));
    EQ(write(fd, "words", 5), 5);
    OK(unlink("f"));
    OK(fstat(fd, &st));
    EQ(st.st_nlink, 0);
    int other = OK(open("f", O_RDWR | O_CREAT | O_EXCL, 0600));
    EQ(write(other, "others", 6), 6);
    EQ(pread(fd, text, 8, 0), 5);
    STREQ(text, "words");
    OK(dup2(other, fd));
    close(other);
    EQ(pread(fd, text, 8, 0), 6);
    OK(unlink("f"));
    close(fd);
    fd = OK(open("f", O_RDWR | O_CREAT | O_EXCL, 0600));
    OK(close_range(fd, fd, 0));
    FAILS(fstat(fd, &st), EBADF);
    EQ(is_there("f"), 1);
    OK(unlink("f"));
}

static int locked(const char *path, int whole) {
    int st = 0;
    pid_t pid = fork();
    if (!pid) {
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int fd = open(path, O_RDWR);
        _exit(fd < 0 || (whole ? flock(fd, LOCK_EX | LOCK_NB) : fcntl(fd, F_SETLK, &l)));
    }
    waitpid(pid, &st, 0);
    return st != 0;
}

static void locks(void) {
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    for (int whole = 0; whole < 2; whole++) {
        warm();
        int fd = OK(open("f", O_RDWR | O_CREAT | O_EXCL, 0600));
        close(fd);
        OK(unlink("f"));
        fd = OK(open("f", O_RDWR | O_CREAT | O_EXCL, 0600));
        OK(whole ? flock(fd, LOCK_EX) : fcntl(fd, F_SETLK, &l));
        EQ(locked("f", whole), 1);
        warm();
        EQ(locked("f", whole), 1);
        close(fd);
        EQ(locked("f", whole), 0);
        OK(unlink("f"));
        warm();
        fd = OK(open("f", O_RDWR | O_CREAT | O_EXCL, 0600));
        close(fd);
        fd = OK(open("f", O_RDWR)); /* another description, of what was made a moment ago */
        OK(whole ? flock(fd, LOCK_EX) : fcntl(fd, F_SETLK, &l));
        warm();
        warm();
        EQ(locked("f", whole), 1);
        close(fd);
        EQ(locked("f", whole), 0);
        OK(unlink("f"));
    }
}

/* Two processes take turns: each sees what the other has done. */
static void two_processes(void) {
    int there[2], back[2], st;
    OK(mkdir("d", 0777));
    OK(chdir("d"));
    OK(pipe(there));
    OK(pipe(back));
    pid_t pid = OK(fork());
    int out = pid ? there[1] : back[1], in = pid ? back[0] : there[0];
    close(pid ? there[0] : there[1]);
    close(pid ? back[1] : back[0]);
    for (int round = 0; round < 12; round++) {
        char name[32], text[32] = "", c = 'x';
        if (pid) {
            warm();
            for (int i = 0; i < 5; i++) {
                sprintf(name, "p%d.%d", round, i);
                int fd = make(name);
                EQ(write(fd, name, strlen(name)), (long)strlen(name));
                close(fd);
            }
            sprintf(name, "c%d", round);
            EQ(is_there(name), 0);
            EQ(write(out, &c, 1), 1);
            EQ(read(in, &c, 1), 1);
            EQ(is_there(name), 1);
            FAILS(open(name, O_WRONLY | O_CREAT | O_EXCL, 0666), EEXIST);
            sprintf(name, "p%d.1", round);
            EQ(is_there(name), 0);
            close(make(name));
            OK(unlink(name));
            continue;
        }
        if (read(in, &c, 1) != 1) _exit(1);
        for (int i = 0; i < 5; i++) {
            sprintf(name, "p%d.%d", round, i);
            int fd = open(name, O_RDONLY);
            if (fd < 0 || read(fd, text, 31) != (long)strlen(name) || strcmp(name, text)) _exit(2);
            close(fd);
        }
        sprintf(name, "p%d.1", round);
        if (unlink(name) || !access(name, F_OK)) _exit(3);
        sprintf(name, "c%d", round);
        close(open(name, O_WRONLY | O_CREAT | O_EXCL, 0666));
        if (write(out, &c, 1) != 1) _exit(4);
    }
    if (!pid) _exit(0);
    OK(waitpid(pid, &st, 0));
    EQ(st, 0);
    close(out);
    close(in);
    for (int round = 0; round < 12; round++)
        for (int i = 0; i < 6; i++) {
            char name[32];
            sprintf(name, i == 5 ? "c%d" : "p%d.%d", round, i);
            if (i != 1) OK(unlink(name));
        }
    OK(chdir(".."));
    OK(rmdir("d"));
}

/* Whoever makes the file has the lock: nobody else does meanwhile. */
static void lock_files(void) {
    enum { PROCESSES = 3, ROUNDS = 150 };
    volatile int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = OK(fork());
        if (pids[i]) continue;
        char mine[16];
        sprintf(mine, "mine%d", i);
        for (int round = 0; round < ROUNDS; round++) {
            int fd;
            while ((fd = open("lock", O_WRONLY | O_CREAT | O_EXCL, 0600)) < 0) {
                if (errno != EEXIST) _exit(1);
                sched_yield();
            }
            if (shared[1]++) _exit(2);
            shared[0]++;
            if (write(fd, mine, 5) != 5 || close(fd)) _exit(3);
            shared[1]--;
            if (unlink("lock")) _exit(4);
            fd = open(mine, O_WRONLY | O_CREAT | O_EXCL, 0600);
            if (fd < 0 || (round & 1 && fchmod(fd, 0640)) || close(fd)) _exit(5);
            if (round % 3 && access(mine, F_OK)) _exit(6);
            if (unlink(mine) || !access(mine, F_OK)) _exit(7);
        }
        _exit(0);
    }
    for (int i = 0; i < PROCESSES; i++) EXITED(pids[i], 0);
    EQ(shared[0], PROCESSES * ROUNDS);
    EQ(is_there("lock"), 0);
    munmap((void *)shared, 4096);
}

/* It ends in the midst of it: what it has made stays. */
static void ends(void) {
    for (int way = 0; way < 3; way++) {
        int st;
        struct stat info;
        pid_t pid = OK(fork());
        if (!pid) {
            warm();
            int fd = make("left");
            if (write(fd, "words", 5) != 5) _exit(1);
            fchmod(fd, 0604);
            if (way) close(fd);
            if (way == 2) raise(SIGKILL);
            _exit(0);
        }
        OK(waitpid(pid, &st, 0));
        EQ(st, way == 2 ? SIGKILL : 0);
        OK(stat("left", &info));
        EQ(info.st_size, 5);
        EQ(info.st_mode, S_IFREG | 0604);
        OK(unlink("left"));
    }
}

static void somewhere_else(void) {
    OK(mkdir("one", 0777));
    OK(mkdir("two", 0777));
    for (int round = 0; round < 3; round++) {
        OK(chdir("one"));
        warm();
        close(make("x"));
        OK(chdir("../two"));
        EQ(is_there("x"), 0);
        close(make("x"));
        OK(unlink("x"));
        OK(chdir(".."));
        EQ(is_there("one/x"), 1);
        EQ(is_there("two/x"), 0);
        OK(unlink("one/x"));
    }
    int d = OK(open("one", O_RDONLY | O_DIRECTORY));
    for (int i = 0; i < 8; i++) {
        int fd = OK(openat(d, "y", O_WRONLY | O_CREAT | O_EXCL, 0666));
        close(fd);
        EQ(is_there("one/y"), 1);
        OK(unlinkat(d, "y", 0));
        fd = OK(open("two/y", O_WRONLY | O_CREAT | O_EXCL, 0666));
        close(fd);
        FAILS(openat(d, "y", O_RDONLY), ENOENT);
        OK(unlink("two/y"));
    }
    for (int i = 0; i < 6; i++) {
        int fd = OK(openat(d, "y", O_WRONLY | O_CREAT | O_EXCL, 0666));
        close(fd);
        if (i < 5) OK(unlinkat(d, "y", 0));
    }
    OK(rename("one", "three"));
    int fd = OK(openat(d, "z", O_WRONLY | O_CREAT | O_EXCL, 0666));
    close(fd);
    OK(mkdir("one", 0777));
    EQ(is_there("three/y") + is_there("three/z"), 2);
    EQ(is_there("one/z"), 0);
    close(OK(open("one/z", O_WRONLY | O_CREAT | O_EXCL, 0666)));
    OK(unlink("one/z"));
    OK(unlink("three/z"));
    OK(unlink("three/y"));
    close(d);
    OK(rmdir("one"));
    OK(rmdir("two"));
    OK(rmdir("three"));
}

static void permissions(void) {
    OK(mkdir("d", 0777));
    OK(chdir("d"));
    warm();
    OK(chmod(".", 0555));
    if (getuid()) {
        FAILS(open("x", O_WRONLY | O_CREAT, 0666), EACCES);
    } else {
        close(make("x"));
        OK(unlink("x"));
        warm();
        OK(seteuid(65534));
        FAILS(open("x", O_WRONLY | O_CREAT, 0666), EACCES);
        OK(seteuid(0));
        OK(chmod(".", 0777));
        warm();
        OK(setegid(65534));
        OK(seteuid(65534));
        close(make("x"));
        OK(seteuid(0));
        OK(setegid(0));
        struct stat st;
        OK(stat("x", &st));
        EQ(st.st_uid, 65534);
        EQ(st.st_gid, 65534);
        OK(unlink("x"));
    }
    OK(chmod(".", 0777));
    OK(chdir(".."));
    OK(rmdir("d"));
}

static void *one_of_many(void *arg) {
    for (int i = 0; i < 30; i++) {
        char name[16];
        sprintf(name, "t%ld.%d", (long)arg, i);
        close(make(name));
        EQ(is_there(name), 1);
        OK(unlink(name));
    }
    return NULL;
}

static void threads(void) {
    pthread_t t[3];
    warm();
    int fd = make("before");
    for (long i = 0; i < 3; i++) EQ(pthread_create(&t[i], NULL, one_of_many, (void *)i), 0);
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
    EQ(write(fd, "x", 1), 1);
    close(fd);
    warm();
    EQ(is_there("before"), 1);
    OK(unlink("before"));
}

static void no_descriptor_left(void) {
    struct rlimit old, few = {0};
    warm();
    int low = make("a");
    OK(getrlimit(RLIMIT_NOFILE, &old));
    few = old;
    few.rlim_cur = low + 3;
    OK(setrlimit(RLIMIT_NOFILE, &few));
    int b = make("b"), c = make("c");
    EQ(b, low + 1);
    EQ(c, low + 2);
    FAILS(open("d", O_WRONLY | O_CREAT, 0666), EMFILE);
    close(b);
    EQ(make("e"), b);
    OK(setrlimit(RLIMIT_NOFILE, &old));
    for (int fd = low; fd <= c; fd++) close(fd);
    OK(unlink("a"));
    OK(unlink("b"));
    OK(unlink("c"));
    OK(unlink("e"));
    unlink("d");
}

static void prepare(void) { umask(0); }

MAIN(CASE(prepare), CASE(what_fstat_says), CASE(attributes), CASE(over_and_over), CASE(the_directory), CASE(names),
     CASE(other_flags), CASE(held_elsewhere), CASE(open_and_removed), CASE(locks), CASE(two_processes), CASE(lock_files),
     CASE(ends),     CASE(somewhere_else), CASE(permissions), CASE(threads), CASE(no_descriptor_left))
