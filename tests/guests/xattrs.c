// POSIX ACLs as extended attributes, the calls of Linux 6.13, the four classes and their limits.
// variants: dynamic
// places: cow tmpfs
#include "check.h"
#include <sys/xattr.h>
#include <sys/socket.h>

#define ACCESS_ACL "system.posix_acl_access"
#define DEFAULT_ACL "system.posix_acl_default"
enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

struct entry { uint16_t tag, perm; uint32_t id; };
struct acl { uint32_t version; struct entry e[8]; };

/* Entries of "tag perm id" in threes, ended by 0. */
static size_t make(struct acl *a, const int *v) {
    int n = 0;
    a->version = 2;
    for (; v[3 * n]; n++) a->e[n] = (struct entry){v[3 * n], v[3 * n + 1], v[3 * n + 2]};
    return 4 + 8 * n;
}

static int put(const char *path, const char *name, const int *v) {
    struct acl a;
    size_t n = make(&a, v);
    return setxattr(path, name, &a, n, 0);
}

static const char *show(const char *path, const char *name) {
    static char text[4][300];
    static int turn;
    char *out = text[turn++ & 3];
    struct acl a;
    ssize_t n = getxattr(path, name, &a, sizeof a);
    *out = 0;
    if (n < 0) { sprintf(out, "errno %d", errno); return out; }
    char *p = out;
    for (int i = 0; i < (n - 4) / 8; i++) {
        p += sprintf(p, "%s%d:%d", i ? " " : "", a.e[i].tag, a.e[i].perm);
        if (a.e[i].tag & (USER | GROUP)) p += sprintf(p, ":%u", a.e[i].id);
    }
    return out;
}

static int mode(const char *path) {
    struct stat sb;
    return lstat(path, &sb) ? -1 : (int)(sb.st_mode & 07777);
}

/* What may uid/gid do with the file: bits 4 read, 2 write, 1 execute. */
static int may(const char *path, int uid, int gid) {
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        gid_t none[1];
        if (syscall(SYS_setgroups, 0, none) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid)) _exit(99);
        int r = 0;
        for (int bit = 1; bit <= 4; bit <<= 1) r |= access(path, bit) ? 0 : bit;
        _exit(r);
    }
    int st = 0;
    waitpid(pid, &st, 0);
    return WEXITSTATUS(st);
}

static const int base_acl[] = {USER_OBJ, 6, 0, USER, 6, 1000, GROUP_OBJ, 4, 0, GROUP, 3, 2000, MASK, 6, 0, OTHER, 0, 0, 0};

static void acl(void) {
    chmod(".", 0755);
    put_file("f", "x");
    OK(chmod("f", 0644));
    STREQ(show("f", ACCESS_ACL), "errno 61");
    OK(put("f", ACCESS_ACL, base_acl));
    EQ(mode("f"), 0660);
    STREQ(show("f", ACCESS_ACL), "1:6 2:6:1000 4:4 8:3:2000 16:6 32:0");
    EQ(may("f", 1000, 1000), 6);
    EQ(may("f", 1001, 1001), 0);
    EQ(may("f", 1001, 2000), 2); /* 3 and the mask 6 */
    EQ(may("f", 1001, 0), 4);
    char list[200];
    ssize_t n = OK(listxattr("f", list, sizeof list));
    CHECK(memmem(list, n, ACCESS_ACL, sizeof ACCESS_ACL));
    OK(chmod("f", 0741)); /* the group bits are the mask */
    STREQ(show("f", ACCESS_ACL), "1:7 2:6:1000 4:4 8:3:2000 16:4 32:1");
    EQ(may("f", 1000, 1000), 4);
    EQ(may("f", 1002, 1002), 1);
    static const int plain[] = {USER_OBJ, 6, 0, GROUP_OBJ, 4, 0, OTHER, 4, 0, 0};
    OK(put("f", ACCESS_ACL, plain));
    EQ(mode("f"), 0644);
    STREQ(show("f", ACCESS_ACL), "errno 61");
    OK(put("f", ACCESS_ACL, base_acl));
    OK(removexattr("f", ACCESS_ACL));
    EQ(mode("f"), 0660);
    STREQ(show("f", ACCESS_ACL), "errno 61");
    OK(removexattr("f", ACCESS_ACL));
    OK(unlink("f"));
}

static void inherited(void) {
    OK(mkdir("d", 0755));
    umask(077);
    OK(put("d", DEFAULT_ACL, base_acl));
    STREQ(show("d", ACCESS_ACL), "errno 61");
    close(OK(open("d/file", O_CREAT | O_WRONLY, 0666)));
    EQ(mode("d/file"), 0660);
    STREQ(show("d/file", ACCESS_ACL), "1:6 2:6:1000 4:4 8:3:2000 16:6 32:0");
    close(OK(open("d/small", O_CREAT | O_WRONLY, 0640)));
    EQ(mode("d/small"), 0640);
    STREQ(show("d/small", ACCESS_ACL), "1:6 2:6:1000 4:4 8:3:2000 16:4 32:0");
    OK(mkdir("d/sub", 0777));
    EQ(mode("d/sub"), 0660);
    STREQ(show("d/sub", DEFAULT_ACL), "1:6 2:6:1000 4:4 8:3:2000 16:6 32:0");
    STREQ(show("d/sub", ACCESS_ACL), "1:6 2:6:1000 4:4 8:3:2000 16:6 32:0");
    OK(mkfifo("d/fifo", 0666));
    EQ(mode("d/fifo"), 0660);
    static const int plain[] = {USER_OBJ, 7, 0, GROUP_OBJ, 5, 0, OTHER, 0, 0, 0};
    OK(put("d", DEFAULT_ACL, plain));
    STREQ(show("d", DEFAULT_ACL), "1:7 4:5 32:0");
    OK(mkdir("d/plain", 0777));
    EQ(mode("d/plain"), 0750);
    STREQ(show("d/plain", ACCESS_ACL), "errno 61");
    OK(removexattr("d", DEFAULT_ACL));
    close(OK(open("d/masked", O_CREAT | O_WRONLY, 0666)));
    EQ(mode("d/masked"), 0600);
    umask(022);
    FAILS(put("d/file", DEFAULT_ACL, base_acl), EACCES);
    OK(unlink("d/file")); OK(unlink("d/small")); OK(unlink("d/fifo")); OK(unlink("d/masked"));
    OK(rmdir("d/sub")); OK(rmdir("d/plain")); OK(rmdir("d"));
}

static void invalid(void) {
    struct acl a;
    put_file("f", "x");
    static const int unsorted[] = {GROUP_OBJ, 4, 0, USER_OBJ, 6, 0, OTHER, 0, 0, 0};
    static const int maskless[] = {USER_OBJ, 6, 0, USER, 6, 7, GROUP_OBJ, 4, 0, OTHER, 0, 0, 0};
    static const int twice[] = {USER_OBJ, 6, 0, GROUP_OBJ, 4, 0, OTHER, 0, 0, OTHER, 0, 0, 0};
    static const int bits[] = {USER_OBJ, 9, 0, GROUP_OBJ, 4, 0, OTHER, 0, 0, 0};
    FAILS(put("f", ACCESS_ACL, unsorted), EINVAL);
    FAILS(put("f", ACCESS_ACL, maskless), EINVAL);
    FAILS(put("f", ACCESS_ACL, twice), EINVAL);
    FAILS(put("f", ACCESS_ACL, bits), EINVAL);
    size_t n = make(&a, base_acl);
    a.version = 3;
    FAILS(setxattr("f", ACCESS_ACL, &a, n, 0), EOPNOTSUPP);
    FAILS(setxattr("f", ACCESS_ACL, &a, 4, 0), EOPNOTSUPP);
    a.version = 2;
    FAILS(setxattr("f", ACCESS_ACL, &a, n - 3, 0), EINVAL);
    OK(setxattr("f", ACCESS_ACL, &a, n, 0));
    OK(setxattr("f", ACCESS_ACL, &a, 4, 0));
    FAILS(getxattr("f", ACCESS_ACL, &a, sizeof a), ENODATA);
    OK(setxattr(".", DEFAULT_ACL, &a, 4, 0));
    FAILS(setxattr("f", "system.other", "x", 1, 0), EOPNOTSUPP);
    FAILS(getxattr("f", "system.other", &a, sizeof a), EOPNOTSUPP);
    OK(symlink("f", "ln"));
    FAILS(lsetxattr("ln", ACCESS_ACL, &a, n, 0), EOPNOTSUPP);
    FAILS(lgetxattr("ln", ACCESS_ACL, &a, sizeof a), EOPNOTSUPP);
    IN_CHILD({
        OK(setresuid(1000, 1000, 1000));
        FAILS(put("f", ACCESS_ACL, base_acl), EPERM);
        FAILS(removexattr("f", ACCESS_ACL), EPERM);
    });
    OK(unlink("ln")); OK(unlink("f"));
}

struct args { uint64_t value; uint32_t size, flags; };
#define SETXATTRAT 463

static void at_calls(void) {
    char buf[64];
    struct args a = {(uint64_t)(uintptr_t)"value", 5, 0}, g = {(uint64_t)(uintptr_t)buf, sizeof buf, 0};
    OK(mkdir("d", 0755));
    put_file("d/f", "x");
    int d = OK(open("d", O_RDONLY | O_DIRECTORY)), f = OK(open("d/f", O_RDWR)), p = OK(open("d/f", O_PATH));
    OK(syscall(SETXATTRAT, d, "f", 0, "user.one", &a, sizeof a));
    EQ(syscall(SETXATTRAT + 1, d, "f", 0, "user.one", &g, sizeof g), 5);
    CHECK(!memcmp(buf, "value", 5));
    EQ(syscall(SETXATTRAT + 1, f, "", AT_EMPTY_PATH, "user.one", &g, sizeof g), 5);
    EQ(syscall(SETXATTRAT + 1, f, NULL, AT_EMPTY_PATH, "user.one", &g, sizeof g), 5);
    FAILS(syscall(SETXATTRAT + 1, p, "", AT_EMPTY_PATH, "user.one", &g, sizeof g), EBADF);
    g.size = 2;
    FAILS(syscall(SETXATTRAT + 1, d, "f", 0, "user.one", &g, sizeof g), ERANGE);
    g.size = 0;
    EQ(syscall(SETXATTRAT + 1, d, "f", 0, "user.one", &g, sizeof g), 5);
    g.flags = 1;
    FAILS(syscall(SETXATTRAT + 1, d, "f", 0, "user.one", &g, sizeof g), EINVAL);
    EQ(syscall(SETXATTRAT + 2, d, "f", 0, buf, sizeof buf), 9);
    STREQ(buf, "user.one");
    a.flags = XATTR_CREATE;
    FAILS(syscall(SETXATTRAT, d, "f", 0, "user.one", &a, sizeof a), EEXIST);
    a.flags = XATTR_REPLACE;
    FAILS(syscall(SETXATTRAT, d, "f", 0, "user.two", &a, sizeof a), ENODATA);
    FAILS(syscall(SETXATTRAT, d, "f", 0x4000, "user.two", &a, sizeof a), EINVAL);
    FAILS(syscall(SETXATTRAT, d, "f", 0, "user.two", &a, 8), EINVAL);
    FAILS(syscall(SETXATTRAT, d, "none", 0, "user.two", &a, sizeof a), ENOENT);
    OK(syscall(SETXATTRAT + 3, d, "f", 0, "user.one"));
    FAILS(syscall(SETXATTRAT + 3, d, "f", 0, "user.one"), ENODATA);
    close(d); close(f); close(p);
    OK(unlink("d/f")); OK(rmdir("d"));
}

static void classes(void) {
    static char big[65537];
    char buf[100], name[300];
    put_file("f", "x");
    FAILS(setxattr("f", "user.big", big, 65537, 0), E2BIG);
    FAILS(setxattr("f", "user.x", "x", 1, 4), EINVAL);
    FAILS(setxattr("f", "", "x", 1, 0), ERANGE);
    memset(name, 'x', sizeof name);
    memcpy(name, "user.", 5);
    name[256] = 0;
    FAILS(setxattr("f", name, "x", 1, 0), ERANGE);
    FAILS(setxattr("f", "user.", "x", 1, 0), EINVAL);
    FAILS(setxattr("f", "bogus.x", "x", 1, 0), EOPNOTSUPP);
    OK(setxattr("f", "user.x", "", 0, 0));
    EQ(getxattr("f", "user.x", buf, sizeof buf), 0);
    OK(setxattr("f", "trusted.t", "t", 1, 0));
    OK(setxattr("f", "security.mine", "s", 1, 0));
    static const unsigned char cap[20] = {0, 0, 0, 2, 0, 4, 0, 0};
    OK(setxattr("f", "security.capability", cap, sizeof cap, 0));
    EQ(getxattr("f", "security.capability", buf, sizeof buf), 20);
    CHECK(!memcmp(buf, cap, 20));
    IN_CHILD({
        OK(setresuid(1000, 1000, 1000));
        FAILS(getxattr("f", "trusted.t", buf, sizeof buf), ENODATA);
        FAILS(setxattr("f", "trusted.t", "x", 1, 0), EPERM);
        FAILS(setxattr("f", "security.capability", cap, 20, 0), EPERM);
        FAILS(setxattr("f", "user.y", "x", 1, 0), EACCES);
        ssize_t n = OK(listxattr("f", name, sizeof name));
        CHECK(!memmem(name, n, "trusted", 7));
    });
    int fd = OK(open("f", O_WRONLY));
    EQ(write(fd, "y", 1), 1);
    close(fd);
    OK(mkfifo("ff", 0600));
    FAILS(setxattr("ff", "user.x", "x", 1, 0), EPERM);
    FAILS(getxattr("ff", "user.x", buf, sizeof buf), ENODATA);
    OK(unlink("ff")); OK(unlink("f"));
}

static void of_memfds(void) {
    char buf[10];
    int fd = OK(memfd_create("m", 0));
    FAILS(fgetxattr(fd, "trusted.t", buf, sizeof buf), ENODATA);
    FAILS(fremovexattr(fd, "trusted.t"), ENODATA);
    FAILS(fremovexattr(fd, "user."), EINVAL);
    FAILS(fgetxattr(fd, "user.", buf, sizeof buf), EINVAL);
    FAILS(fremovexattr(fd, "bogus.x"), EOPNOTSUPP);
    FAILS(fsetxattr(fd, "bogus.x", "x", 1, 0), EOPNOTSUPP);
    IN_CHILD({
        OK(setresuid(1000, 1000, 1000));
        FAILS(fremovexattr(fd, "trusted.t"), EPERM);
    });
    close(fd);
}

MAIN(CASE(acl), CASE(inherited), CASE(invalid), CASE(at_calls), CASE(classes), CASE(of_memfds))
