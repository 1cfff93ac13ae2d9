// Permissions, ownership, sticky directories, umask, times, statx, extended attributes.
// places: cow tmpfs
#include "check.h"
#include <sys/sysmacros.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

static void become(uid_t uid) {
    gid_t none[1] = {uid};
    if (syscall(SYS_setgroups, 0, none) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)) _exit(90);
}

static int mode_of(const char *p) {
    struct stat st;
    return stat(p, &st) ? -1 : (int)(st.st_mode & 07777);
}

static void as_ordinary_user(void) {
    OK(chmod(".", 0755));
    put_file("secret", "s");
    OK(chmod("secret", 0600));
    put_file("open", "o");
    OK(chmod("open", 0644));
    OK(mkdir("closed", 0700));
    put_file("closed/in", "i");
    OK(mkdir("noread", 0711));
    put_file("noread/in", "i");
    OK(mkdir("nox", 0744));
    put_file("nox/in", "i");
    IN_CHILD({
        become(1234);
        EQ(geteuid(), 1234);
        FAILS(open("secret", O_RDONLY), EACCES);
        OK(close(OK(open("open", O_RDONLY))));
        FAILS(open("open", O_RDWR), EACCES);
        FAILS(open("closed/in", O_RDONLY), EACCES);
        FAILS(open("closed", O_RDONLY), EACCES);
        FAILS(chdir("closed"), EACCES);
        OK(close(OK(open("noread/in", O_RDONLY))));
        FAILS(open("noread", O_RDONLY), EACCES);
        OK(close(OK(open("nox", O_RDONLY))));
        FAILS(open("nox/in", O_RDONLY), EACCES);
        struct stat st;
        FAILS(stat("nox/in", &st), EACCES);
        FAILS(open("new", O_CREAT | O_WRONLY, 0600), EACCES);
        FAILS(unlink("open"), EACCES);
        FAILS(rename("open", "moved"), EACCES);
        FAILS(mkdir("d", 0700), EACCES);
        FAILS(chmod("open", 0777), EPERM);
        FAILS(chown("open", 1234, -1), EPERM);
        FAILS(truncate("open", 0), EACCES);
        FAILS(utimensat(AT_FDCWD, "open", NULL, 0), EACCES);
        struct timespec ts[2] = {{1, 0}, {1, 0}};
        FAILS(utimensat(AT_FDCWD, "open", ts, 0), EPERM);
        FAILS(access("secret", R_OK), EACCES);
        OK(access("open", R_OK));
        FAILS(access("open", W_OK), EACCES);
        FAILS(access("open", X_OK), EACCES);
        FAILS(setuid(0), EPERM);
        FAILS(chroot("."), EPERM);
        FAILS(mknod("dev", S_IFCHR | 0600, makedev(1, 3)), EACCES);
        char *none[] = {"x", NULL};
        FAILS(execve("open", none, none), EACCES);
    });
    OK(access("secret", R_OK | W_OK));
    FAILS(access("secret", X_OK), EACCES);
    OK(access("closed", X_OK));
}

static void group_and_owner(void) {
    put_file("g", "g");
    OK(chown("g", 50, 60));
    OK(chmod("g", 0640));
    IN_CHILD({
        gid_t gs[2] = {60, 70};
        OK(syscall(SYS_setgroups, 2, gs));
        OK(setresgid(99, 99, 99));
        OK(setresuid(1234, 1234, 1234));
        EQ(getgroups(0, NULL), 2);
        OK(close(OK(open("g", O_RDONLY))));
        FAILS(open("g", O_WRONLY), EACCES);
    });
    OK(chmod("g", 0040)); /* the owner's bits decide for the owner, even when the group's would give more */
    IN_CHILD({
        gid_t gs[1] = {60};
        OK(syscall(SYS_setgroups, 1, gs));
        OK(setresgid(60, 60, 60));
        OK(setresuid(50, 50, 50));
        FAILS(open("g", O_RDONLY), EACCES);
        OK(chmod("g", 0400));
        OK(close(OK(open("g", O_RDONLY))));
        OK(chown("g", -1, 60));
        FAILS(chown("g", -1, 61), EPERM);
        FAILS(chown("g", 51, -1), EPERM);
    });
    OK(chmod("g", 06755));
    OK(chown("g", 50, 60)); /* drops the set-id bits */
    EQ(mode_of("g"), 0755);
    OK(chmod("g", 04755));
    IN_CHILD({
        become(50);
        int fd = OK(open("g", O_WRONLY | O_APPEND));
        EQ(write(fd, "x", 1), 1); /* a write by an ordinary user drops them as well */
        close(fd);
    });
    EQ(mode_of("g"), 0755);
}

static void effective_ids(void) {
    put_file("e", "e");
    OK(chmod("e", 0600));
    IN_CHILD({
        OK(setresuid(1234, 1234, 0));
        FAILS(open("e", O_RDONLY), EACCES);
        OK(seteuid(0));
        OK(close(OK(open("e", O_RDONLY))));
        FAILS(access("e", R_OK), EACCES); /* access(2) asks for the real uid */
        OK(faccessat(AT_FDCWD, "e", R_OK, AT_EACCESS));
        uid_t r, e, s;
        OK(getresuid(&r, &e, &s));
        EQ(r, 1234);
        EQ(e, 0);
        EQ(s, 0);
    });
}

static void sticky_directory(void) {
    OK(mkdir("st", 0777));
    OK(chmod("st", 01777));
    EQ(mode_of("st"), 01777);
    put_file("st/root", "r");
    IN_CHILD({
        become(1001);
        put_file("st/mine", "m");
        FAILS(unlink("st/root"), EPERM);
        FAILS(rename("st/root", "st/x"), EPERM);
        OK(rename("st/mine", "st/mine2"));
        FAILS(rename("st/mine2", "st/root"), EPERM);
    });
    IN_CHILD({
        become(1002);
        FAILS(unlink("st/mine2"), EPERM);
        put_file("st/other", "");
        OK(unlink("st/other"));
    });
    IN_CHILD({
        become(1001);
        OK(unlink("st/mine2"));
    });
}

static void setgid_directory(void) {
    OK(mkdir("sg", 0755));
    OK(chown("sg", 0, 77));
    OK(chmod("sg", 02755));
    put_file("sg/f", "");
    OK(mkdir("sg/d", 0755));
    struct stat st;
    OK(stat("sg/f", &st));
    EQ(st.st_gid, 77);
    OK(stat("sg/d", &st));
    EQ(st.st_gid, 77);
    EQ(st.st_mode & 07777, 02755);
}

static void umasks(void) {
    mode_t old = umask(027);
    OK(close(OK(open("u1", O_CREAT | O_WRONLY, 0666))));
    EQ(mode_of("u1"), 0640);
    OK(mkdir("ud", 0777));
    EQ(mode_of("ud"), 0750);
    OK(mkfifo("uf", 0666));
    EQ(mode_of("uf"), 0640);
    EQ(umask(0), 027);
    IN_CHILD({ umask(0777); });
    EQ(umask(0), 0);
    OK(close(OK(open("u2", O_CREAT | O_WRONLY, 0666))));
    EQ(mode_of("u2"), 0666);
    EQ(umask(0170022), 0);
    EQ(umask(old), 022);
    int fd = OK(open("u3", O_CREAT | O_WRONLY | O_EXCL, 0400));
    EQ(write(fd, "x", 1), 1); /* the mode binds later opens, not this one */
    close(fd);
}

static void times(void) {
    put_file("t", "t");
    struct timespec ts[2] = {{1000000000, 123456789}, {1100000000, 987654321}};
    OK(utimensat(AT_FDCWD, "t", ts, 0));
    struct stat st;
    OK(stat("t", &st));
    EQ(st.st_atim.tv_sec, 1000000000);
    EQ(st.st_mtim.tv_sec, 1100000000);
    EQ(st.st_mtim.tv_nsec, 987654321);
    ts[0].tv_nsec = UTIME_OMIT;
    ts[1].tv_nsec = UTIME_NOW;
    OK(utimensat(AT_FDCWD, "t", ts, 0));
    OK(stat("t", &st));
    EQ(st.st_atim.tv_sec, 1000000000);
    CHECK(st.st_mtim.tv_sec > 1100000000);
    ts[0].tv_nsec = 1000000000;
    FAILS(utimensat(AT_FDCWD, "t", ts, 0), EINVAL);
    OK(symlink("t", "tl"));
    struct timespec l[2] = {{5, 0}, {6, 0}};
    FAILS(syscall(SYS_utimensat, AT_FDCWD, NULL, l, AT_EMPTY_PATH), EFAULT);
    OK(utimensat(AT_FDCWD, "tl", l, AT_SYMLINK_NOFOLLOW));
    OK(lstat("tl", &st));
    EQ(st.st_mtim.tv_sec, 6);
    OK(stat("t", &st));
    CHECK(st.st_mtim.tv_sec > 1100000000);
    int fd = OK(open("t", O_RDONLY));
    OK(futimens(fd, l));
    OK(fstat(fd, &st));
    EQ(st.st_mtim.tv_sec, 6);
    close(fd);
    /* writing moves mtime and ctime; creating an entry moves the directory's */
    msleep(20);
    fd = OK(open("t", O_WRONLY));
    EQ(write(fd, "w", 1), 1);
    close(fd);
    OK(stat("t", &st));
    CHECK(st.st_mtim.tv_sec > 1000);
    OK(mkdir("td", 0755));
    OK(utimensat(AT_FDCWD, "td", l, 0));
    put_file("td/new", "");
    OK(stat("td", &st));
    CHECK(st.st_mtim.tv_sec > 1000);
    struct stat before, after;
    OK(stat("t", &before));
    msleep(20);
    OK(chmod("t", 0600));
    OK(stat("t", &after));
    CHECK(after.st_ctim.tv_sec > before.st_ctim.tv_sec ||
          (after.st_ctim.tv_sec == before.st_ctim.tv_sec && after.st_ctim.tv_nsec > before.st_ctim.tv_nsec));
    EQ(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
}

static void statx_call(void) {
    put_file("sx", "12345");
    struct statx sx;
    memset(&sx, 0xff, sizeof sx);
    OK(statx(AT_FDCWD, "sx", 0, STATX_BASIC_STATS, &sx));
    EQ(sx.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
    EQ(sx.stx_size, 5);
    EQ(sx.stx_nlink, 1);
    CHECK(S_ISREG(sx.stx_mode));
    struct stat st;
    OK(stat("sx", &st));
    EQ(sx.stx_ino, st.st_ino);
    EQ(makedev(sx.stx_dev_major, sx.stx_dev_minor), st.st_dev);
    EQ(sx.stx_mtime.tv_nsec, st.st_mtim.tv_nsec);
    EQ(sx.stx_uid, st.st_uid);
    int fd = OK(open("sx", O_RDONLY));
    OK(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &sx));
    EQ(sx.stx_size, 5);
    FAILS(statx(fd, "", 0, STATX_SIZE, &sx), ENOENT);
    FAILS(statx(AT_FDCWD, "none", 0, STATX_SIZE, &sx), ENOENT);
    FAILS(statx(AT_FDCWD, "sx", 0x40000000, STATX_SIZE, &sx), EINVAL);
    FAILS(statx(AT_FDCWD, "sx", 0, 0x80000000u, &sx), EINVAL);
    close(fd);
    OK(fstatat(AT_FDCWD, "sx", &st, 0));
    FAILS(fstatat(AT_FDCWD, "sx", &st, 0x40000000), EINVAL);
    OK(fstatat(AT_FDCWD, "", &st, AT_EMPTY_PATH));
    CHECK(S_ISDIR(st.st_mode));
    struct statfs fs;
    OK(statfs(".", &fs));
    CHECK(fs.f_bsize > 0 && fs.f_namelen == 255);
    FAILS(statfs("none", &fs), ENOENT);
}

static void chmod_rules(void) {
    put_file("c", "");
    OK(chmod("c", 07777));
    EQ(mode_of("c"), 07777);
    OK(fchmodat(AT_FDCWD, "c", 0123, 0));
    EQ(mode_of("c"), 0123);
    int fd = OK(open("c", O_RDONLY));
    OK(fchmod(fd, 0600));
    EQ(mode_of("c"), 0600);
    close(fd);
    FAILS(chmod("none", 0600), ENOENT);
    FAILS(fchmod(fd, 0600), EBADF);
    OK(symlink("c", "cl"));
    OK(chmod("cl", 0611));
    EQ(mode_of("c"), 0611);
    OK(lchown("cl", 3, 4));
    struct stat st;
    OK(lstat("cl", &st));
    EQ(st.st_uid, 3);
    OK(stat("c", &st));
    EQ(st.st_uid, 0);
    OK(chown("c", -1, -1));
    OK(fchownat(AT_FDCWD, "cl", 7, 8, 0));
    OK(stat("c", &st));
    EQ(st.st_uid, 7);
    EQ(st.st_gid, 8);
}

static void device_nodes(void) {
    int r = mknod("null", S_IFCHR | 0666, makedev(1, 3));
    if (r && errno == EPERM && !under_ring3()) return; /* a container without CAP_MKNOD */
    EQ(r, 0);
    struct stat st;
    OK(stat("null", &st));
    CHECK(S_ISCHR(st.st_mode));
    EQ(st.st_rdev, makedev(1, 3));
    OK(mknod("reg", S_IFREG | 0644, 0));
    OK(stat("reg", &st));
    CHECK(S_ISREG(st.st_mode));
    FAILS(mknod("reg", S_IFREG | 0644, 0), EEXIST);
    FAILS(mknod("dir", S_IFDIR | 0755, 0), EPERM);
}

MAIN(CASE(as_ordinary_user), CASE(group_and_owner), CASE(effective_ids), CASE(sticky_directory),
     CASE(setgid_directory), CASE(umasks), CASE(times), CASE(statx_call), CASE(chmod_rules), CASE(device_nodes))
