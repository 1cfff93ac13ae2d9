// Mounts made by the program itself, as root in a mount namespace of its own: mount(2), umount2(2), the API by
// descriptors, pivot_root(2), and what /proc/self/mountinfo says of it all.
// variants: dynamic
// places: cow tmpfs
#include "check.h"
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

#ifndef MNT_EXPIRE
#define MNT_EXPIRE 4
#endif
#define AT_RECURSIVE_ 0x8000
#ifndef SYS_statmount
#define SYS_statmount 457
#define SYS_listmount 458
#endif

#include "places.h"

/* The line of mountinfo for the mount point `place` (the last one), or "". */
static const char *info(const char *place) {
    static char found[4096];
    char line[4096], point[2048];
    FILE *f = fopen("/proc/self/mountinfo", "r");
    *found = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "%*d %*d %*s %*s %2047s", point) == 1 && !strcmp(point, place)) strcpy(found, line);
    if (f) fclose(f);
    return found;
}

static int count_mounts(void) {
    char line[4096];
    int n = 0;
    FILE *f = fopen("/proc/self/mountinfo", "r");
    while (f && fgets(line, sizeof line, f)) n++;
    if (f) fclose(f);
    return n;
}

static int has(const char *line, const char *word) { return strstr(line, word) != NULL; }

static void dir(const char *name) { mkdir(at(name), 0755); }

static void tmpfs(void) {
    struct statfs st;
    struct stat sb;
    dir("t");
    OK(mount("src", at("t"), "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,nr_inodes=10,mode=710,uid=5,gid=6"));
    OK(stat(at("t"), &sb));
    EQ(sb.st_mode, S_IFDIR | 0710);
    EQ(sb.st_uid, 5);
    EQ(sb.st_gid, 6);
    OK(statfs(at("t"), &st));
    EQ(st.f_type, 0x01021994);
    EQ(st.f_blocks, 16);
    EQ(st.f_files, 10);
    EQ(st.f_flags & 15, 2 | 4);
    const char *line = info(at("t"));
    CHECK(has(line, " / "));
    CHECK(has(line, "rw,nosuid,nodev,relatime"));
    CHECK(has(line, "- tmpfs src rw,size=64k,nr_inodes=10,mode=710,uid=5,gid=6"));
    put_file(at("t/f"), "x");
    static char big[70000];
    int fd = OK(open(at("t/big"), O_WRONLY | O_CREAT, 0600));
    CHECK(write(fd, big, sizeof big) < (ssize_t)sizeof big);
    FAILS(write(fd, big, sizeof big), ENOSPC);
    FAILS(umount(at("t")), EBUSY); /* fd is open */
    close(fd);
    OK(umount(at("t")));
    FAILS(access(at("t/f"), F_OK), ENOENT);
    FAILS(umount(at("t")), EINVAL);
    FAILS(mount("src", at("t"), "tmpfs", 0, "nosuch=1"), EINVAL);
    FAILS(mount("src", at("t"), "tmpfs", 0, "size=what"), EINVAL);
    FAILS(mount("src", at("t"), "nosuchfs", 0, ""), ENODEV);
    FAILS(mount("src", at("t"), NULL, 0, ""), EINVAL);
    FAILS(mount("src", at("missing"), "tmpfs", 0, ""), ENOENT);
    FAILS(mount("src", at("t"), "tmpfs", 1UL << 31, ""), EINVAL);
    put_file(at("plain"), "");
    FAILS(mount("src", at("plain"), "tmpfs", 0, ""), ENOTDIR);
    FAILS(umount2(at("t"), 64), EINVAL);
    FAILS(umount2(at("missing"), 0), ENOENT);
}

static void stacked(void) {
    dir("s");
    put_file(at("s/under"), "");
    OK(mount("one", at("s"), "tmpfs", 0, ""));
    put_file(at("s/one"), "");
    OK(mount("two", at("s"), "tmpfs", 0, ""));
    FAILS(access(at("s/one"), F_OK), ENOENT);
    dir("s/sub");
    OK(mount("three", at("s/sub"), "tmpfs", 0, ""));
    FAILS(umount(at("s")), EBUSY); /* something is mounted on it */
    FAILS(rmdir(at("s/sub")), EBUSY);
    FAILS(rename(at("s/sub"), at("s/sub2")), EBUSY);
    OK(umount(at("s/sub")));
    OK(umount(at("s")));
    OK(access(at("s/one"), F_OK));
    OK(umount(at("s")));
    OK(access(at("s/under"), F_OK));
}

static void binds(void) {
    dir("b"); dir("c"); dir("b/sub");
    put_file(at("b/file"), "text");
    OK(mount(at("b"), at("c"), NULL, MS_BIND, NULL));
    STREQ(get_file(at("c/file")), "text");
    put_file(at("c/new"), "new");
    STREQ(get_file(at("b/new")), "new");
    FAILS(rename(at("c/new"), at("b/moved")), EXDEV);
    FAILS(link(at("c/new"), at("b/linked")), EXDEV);
    OK(mount(NULL, at("c"), NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
    FAILS(open(at("c/new"), O_WRONLY), EROFS);
    FAILS(mkdir(at("c/dir"), 0700), EROFS);
    OK(mkdir(at("b/dir"), 0700));
    CHECK(has(info(at("c")), " ro,relatime"));
    OK(mount(NULL, at("c"), NULL, MS_REMOUNT | MS_BIND, NULL));
    OK(mkdir(at("c/dir2"), 0700));
    OK(umount(at("c")));
    put_file(at("plain"), "");
    OK(mount(at("b/file"), at("plain"), NULL, MS_BIND, NULL)); /* of a file */
    STREQ(get_file(at("plain")), "text");
    FAILS(unlink(at("plain")), EBUSY);
    OK(umount(at("plain")));
    FAILS(mount(at("b/file"), at("c"), NULL, MS_BIND, NULL), ENOTDIR);
    FAILS(mount(at("b"), at("plain"), NULL, MS_BIND, NULL), ENOTDIR);
    FAILS(mount(at("nothing"), at("c"), NULL, MS_BIND, NULL), ENOENT);
    FAILS(mount("", at("c"), NULL, MS_BIND, NULL), EINVAL);
    FAILS(mount(NULL, at("c"), NULL, MS_BIND, NULL), EINVAL);
    /* with and without what is mounted below */
    OK(mount("x", at("b/sub"), "tmpfs", 0, ""));
    put_file(at("b/sub/inner"), "");
    OK(mount(at("b"), at("c"), NULL, MS_BIND, NULL));
    FAILS(access(at("c/sub/inner"), F_OK), ENOENT);
    OK(umount(at("c")));
    OK(mount(at("b"), at("c"), NULL, MS_BIND | MS_REC, NULL));
    OK(access(at("c/sub/inner"), F_OK));
    FAILS(umount(at("c")), EBUSY);
    OK(umount2(at("c"), MNT_DETACH));
    OK(access(at("b/sub/inner"), F_OK));
    OK(mount(NULL, at("b/sub"), NULL, MS_UNBINDABLE, NULL));
    FAILS(mount(at("b/sub"), at("c"), NULL, MS_BIND, NULL), EINVAL);
    CHECK(has(info(at("b/sub")), " unbindable "));
    OK(umount(at("b/sub")));
    FAILS(mount(NULL, at("b"), NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), EINVAL); /* no mount point */
    FAILS(mount(NULL, at("b"), NULL, MS_REMOUNT, NULL), EINVAL);
    FAILS(mount(NULL, at("b"), NULL, MS_PRIVATE, NULL), EINVAL);
}

static void flags(void) {
    struct statfs st;
    dir("f");
    OK(mount("x", at("f"), "tmpfs", MS_NOATIME | MS_NODIRATIME | MS_NOEXEC, "size=512k"));
    CHECK(has(info(at("f")), "rw,noexec,noatime,nodiratime"));
    OK(mount(NULL, at("f"), NULL, MS_REMOUNT | MS_NOSUID, ""));
    CHECK(has(info(at("f")), "rw,nosuid,noatime,nodiratime"));
    OK(mount(NULL, at("f"), NULL, MS_REMOUNT | MS_STRICTATIME, ""));
    OK(statfs(at("f"), &st));
    EQ(st.f_flags & (1024 | 4096 | 2 | 8), 0);
    put_file(at("f/x"), "");
    OK(symlink("x", at("f/link")));
    OK(mount(NULL, at("f"), NULL, MS_REMOUNT | MS_RDONLY, ""));
    FAILS(unlink(at("f/x")), EROFS);
    CHECK(has(info(at("f")), "- tmpfs x ro"));
    OK(mount(NULL, at("f"), NULL, MS_REMOUNT, "nr_inodes=100,size=1m"));
    OK(statfs(at("f"), &st));
    EQ(st.f_files, 100);
    EQ(st.f_blocks, 256);
    FAILS(mount(NULL, at("f"), NULL, MS_REMOUNT, "nr_inodes=1"), EINVAL);
    OK(unlink(at("f/x")));
    OK(mount(NULL, at("f"), NULL, MS_REMOUNT | 256 /* MS_NOSYMFOLLOW */, ""));
    FAILS(open(at("f/link"), O_RDONLY), ELOOP);
    OK(mount(NULL, at("f"), NULL, MS_REMOUNT | MS_NODEV, ""));
    OK(mknod(at("f/null"), S_IFCHR | 0666, 0x103));
    FAILS(open(at("f/null"), O_RDONLY), EACCES);
    OK(umount(at("f")));
    OK(mount("x", at("f"), "tmpfs", MS_RDONLY, ""));
    FAILS(open(at("f/x"), O_CREAT | O_WRONLY, 0600), EROFS);
    OK(umount(at("f")));
}

static void moving(void) {
    dir("m"); dir("n"); dir("m/in");
    OK(mount("x", at("m"), "tmpfs", 0, ""));
    put_file(at("m/file"), "moved");
    dir("m/in");
    OK(mount("y", at("m/in"), "tmpfs", 0, ""));
    FAILS(mount(at("m"), at("m/in"), NULL, MS_MOVE, NULL), ELOOP);
    FAILS(mount(at("m/file"), at("n"), NULL, MS_MOVE, NULL), EINVAL);
    OK(mount(at("m"), at("n"), NULL, MS_MOVE, NULL));
    STREQ(get_file(at("n/file")), "moved");
    CHECK(has(info(at("n/in")), "- tmpfs y"));
    STREQ(info(at("m")), "");
    OK(umount(at("n/in")));
    OK(umount(at("n")));
}

static void lazy(void) {
    char buf[64];
    dir("l");
    OK(mount("x", at("l"), "tmpfs", 0, ""));
    put_file(at("l/file"), "still here");
    int fd = OK(open(at("l/file"), O_RDWR)), d = OK(open(at("l"), O_RDONLY | O_DIRECTORY));
    FAILS(umount(at("l")), EBUSY);
    FAILS(umount2(at("l"), MNT_EXPIRE), EBUSY);
    OK(umount2(at("l"), MNT_DETACH));
    FAILS(access(at("l/file"), F_OK), ENOENT);
    EQ(pread(fd, buf, sizeof buf, 0), 10);
    OK(faccessat(d, "file", F_OK, 0));
    int other = OK(openat(d, "other", O_CREAT | O_RDWR, 0600));
    close(other); close(fd); close(d);
    OK(mount("x", at("l"), "tmpfs", 0, ""));
    FAILS(umount2(at("l"), MNT_EXPIRE | MNT_DETACH), EINVAL);
    FAILS(umount2(at("l"), MNT_EXPIRE), EAGAIN);
    OK(umount2(at("l"), MNT_EXPIRE));
    OK(mount("x", at("l"), "tmpfs", 0, ""));
    OK(symlink("l", at("ln")));
    FAILS(umount2(at("ln"), 8 /* UMOUNT_NOFOLLOW */), EINVAL);
    OK(umount2(at("ln"), 0));
    /* a working directory keeps it busy, in any process */
    OK(mount("x", at("l"), "tmpfs", 0, ""));
    int ready[2], go[2];
    OK(pipe(ready)); OK(pipe(go));
    pid_t pid = fork();
    if (!pid) {
        if (chdir(at("l"))) _exit(1);
        close(go[1]);
        if (write(ready[1], "x", 1) != 1 || read(go[0], buf, 1) != 0) _exit(2);
        _exit(0);
    }
    close(go[0]);
    EQ(read(ready[0], buf, 1), 1);
    FAILS(umount(at("l")), EBUSY);
    close(go[1]);
    EXITED(pid, 0);
    close(ready[0]); close(ready[1]);
    OK(umount(at("l")));
}

static void namespaces(void) {
    char mine[64] = "", theirs[64] = "";
    dir("ns");
    OK(readlink("/proc/self/ns/mnt", mine, 63));
    int before = count_mounts();
    IN_CHILD({
        OK(unshare(CLONE_NEWNS));
        OK(readlink("/proc/self/ns/mnt", theirs, 63));
        CHECK(strcmp(mine, theirs));
        EQ(count_mounts(), before);
        OK(mount("x", at("ns"), "tmpfs", 0, ""));
        put_file(at("ns/inside"), "");
        EQ(count_mounts(), before + 1);
        IN_CHILD({ OK(access(at("ns/inside"), F_OK)); });
    });
    EQ(count_mounts(), before);
    FAILS(access(at("ns/inside"), F_OK), ENOENT);
    OK(rmdir(at("ns")));
    dir("ns");
    long pid = syscall(SYS_clone, CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0);
    if (!pid) _exit(mount("x", at("ns"), "tmpfs", 0, "") ? 1 : 0);
    EXITED(pid, 0);
    EQ(count_mounts(), before);
    FAILS(syscall(SYS_clone, CLONE_NEWNS | CLONE_FS | SIGCHLD, 0, 0, 0, 0), EINVAL);
    /* a name that is a mount point elsewhere may be removed here */
    int ready[2], go[2];
    char c;
    OK(pipe(ready)); OK(pipe(go));
    pid = fork();
    if (!pid) {
        close(go[1]);
        if (unshare(CLONE_NEWNS) || mount("x", at("ns"), "tmpfs", 0, "")) _exit(1);
        if (write(ready[1], "x", 1) != 1 || read(go[0], &c, 1) != 0) _exit(2);
        _exit(access(at("ns"), F_OK) ? 0 : 3);
    }
    close(go[0]);
    EQ(read(ready[0], &c, 1), 1);
    OK(rmdir(at("ns")));
    close(go[1]);
    EXITED(pid, 0);
    close(ready[0]); close(ready[1]);
}

static void nobody(void) {
    dir("t");
    IN_CHILD({
        OK(setresuid(65534, 65534, 65534));
        FAILS(mount("x", at("t"), "tmpfs", 0, ""), EPERM);
        FAILS(mount("x", at("missing"), "tmpfs", 0, ""), ENOENT);
        FAILS(umount2("/proc", 0), EPERM);
        FAILS(unshare(CLONE_NEWNS), EPERM);
        FAILS(syscall(SYS_fsopen, "tmpfs", 0), EPERM);
        FAILS(syscall(SYS_pivot_root, "/", "/"), EPERM);
        FAILS(syscall(SYS_open_tree, AT_FDCWD, "/", 1), EPERM);
        FAILS(syscall(SYS_clone, CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0), EPERM);
    });
}

static void overlay(void) {
    char data[4 * PATH_MAX + 200];
    char entry[64];
    dir("o");
    OK(mount("x", at("o"), "tmpfs", 0, ""));
    dir("o/low"); dir("o/low2"); dir("o/up"); dir("o/work"); dir("o/all"); dir("o/low/d");
    put_file(at("o/low/a"), "lower a");
    put_file(at("o/low/gone"), "gone");
    put_file(at("o/low2/b"), "lower b");
    snprintf(data, sizeof data, "lowerdir=%s:%s,upperdir=%s,workdir=%s", at("o/low"), at("o/low2"), at("o/up"), at("o/work"));
    OK(mount("over", at("o/all"), "overlay", 0, data));
    CHECK(has(info(at("o/all")), "- overlay over rw,"));
    STREQ(get_file(at("o/all/a")), "lower a");
    STREQ(get_file(at("o/all/b")), "lower b");
    put_file(at("o/all/a"), "changed");
    OK(unlink(at("o/all/gone")));
    STREQ(get_file(at("o/low/a")), "lower a");
    STREQ(get_file(at("o/up/a")), "changed");
    struct stat sb;
    OK(lstat(at("o/up/gone"), &sb));
    EQ(sb.st_mode & S_IFMT, S_IFCHR);
    EQ(sb.st_rdev, 0);
    FAILS(access(at("o/all/gone"), F_OK), ENOENT);
    OK(umount(at("o/all")));
    snprintf(data, sizeof data, "lowerdir=%s:%s", at("o/up"), at("o/low"));
    OK(mount("over", at("o/all"), "overlay", 0, data));
    STREQ(get_file(at("o/all/a")), "changed");
    FAILS(open(at("o/all/new"), O_CREAT | O_WRONLY, 0600), EROFS);
    OK(umount(at("o/all")));
    snprintf(data, sizeof data, "lowerdir=%s", at("o/missing"));
    CHECK(mount("over", at("o/all"), "overlay", 0, data) == -1);
    FAILS(mount("over", at("o/all"), "overlay", 0, ""), EINVAL);
    OK(umount(at("o")));
}

static void kernel_filesystems(void) {
    struct statfs st;
    char buf[64] = ""; /* readlink(2) ends no string */
    dir("k"); dir("k/proc"); dir("k/sys"); dir("k/dev"); dir("k/pts");
    OK(mount("proc", at("k/proc"), "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL));
    OK(statfs(at("k/proc"), &st));
    EQ(st.f_type, 0x9fa0);
    OK(readlink(at("k/proc/self"), buf, sizeof buf));
    EQ(atoi(buf), getpid());
    OK(mount("sysfs", at("k/sys"), "sysfs", 0, NULL));
    OK(access(at("k/sys/kernel"), F_OK));
    OK(mount("devpts", at("k/pts"), "devpts", 0, "newinstance,ptmxmode=0666,mode=620,gid=5"));
    OK(access(at("k/pts/ptmx"), F_OK));
    OK(mount("dev", at("k/dev"), "devtmpfs", 0, ""));
    OK(access(at("k/dev/null"), F_OK));
    FAILS(mount("sysfs", at("k/sys"), "sysfs", 0, NULL), EBUSY);
    FAILS(mount("proc", at("k/proc"), "proc", 0, "nosuch=1"), EINVAL);
    OK(umount(at("k/dev"))); OK(umount(at("k/pts"))); OK(umount(at("k/sys"))); OK(umount(at("k/proc")));
}

static void api(void) {
    char buf[256];
    dir("a"); dir("a2");
    FAILS(syscall(SYS_fsopen, "nosuchfs", 0), ENODEV);
    FAILS(syscall(SYS_fsopen, "tmpfs", 4), EINVAL);
    int fs = OK(syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC));
    EQ(fcntl(fs, F_GETFD), FD_CLOEXEC);
    FAILS(read(fs, buf, sizeof buf), ENODATA);
    FAILS(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "nosuch", "1", 0), EINVAL);
    ssize_t n = OK(read(fs, buf, sizeof buf));
    buf[n > 0 ? n : 0] = 0;
    STREQ(buf, "e tmpfs: Unknown parameter 'nosuch'\n");
    FAILS(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "size", NULL, 0), EINVAL);
    FAILS(syscall(SYS_fsconfig, fs, 77, NULL, NULL, 0), EOPNOTSUPP);
    FAILS(syscall(SYS_fsmount, fs, 0, 0), EINVAL);
    OK(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", "by-fd", 0));
    OK(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "0750", 0));
    OK(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
    FAILS(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), EBUSY);
    FAILS(syscall(SYS_fsmount, fs, 0, 0x4000), EINVAL);
    int m = OK(syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME));
    FAILS(syscall(SYS_fsmount, fs, 0, 0), EBUSY);
    close(fs);
    int f = OK(openat(m, "file", O_CREAT | O_RDWR, 0644)); /* while it is nowhere */
    EQ(write(f, "text", 4), 4);
    close(f);
    OK(syscall(SYS_move_mount, m, "", AT_FDCWD, at("a"), MOVE_MOUNT_F_EMPTY_PATH));
    STREQ(get_file(at("a/file")), "text");
    CHECK(has(info(at("a")), "rw,nodev,noatime - tmpfs by-fd rw"));
    close(m);
    OK(access(at("a/file"), F_OK));
    /* a copy */
    FAILS(syscall(SYS_open_tree, AT_FDCWD, at("a"), AT_RECURSIVE_), EINVAL);
    int tree = OK(syscall(SYS_open_tree, AT_FDCWD, at("a"), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC, .attr_clr = MOUNT_ATTR_NODEV};
    OK(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr));
    FAILS(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, 8), EINVAL);
    struct mount_attr bad = {.attr_set = MOUNT_ATTR_NOATIME};
    FAILS(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &bad, sizeof bad), EINVAL);
    OK(syscall(SYS_move_mount, tree, "", AT_FDCWD, at("a2"), MOVE_MOUNT_F_EMPTY_PATH));
    close(tree);
    CHECK(has(info(at("a2")), "ro,noexec,noatime - tmpfs"));
    FAILS(open(at("a2/file"), O_WRONLY), EROFS);
    OK(syscall(SYS_move_mount, AT_FDCWD, at("a2"), AT_FDCWD, at("t"), 0)); /* from one place to another */
    OK(umount(at("t")));
    /* reconfigure */
    FAILS(syscall(SYS_fspick, AT_FDCWD, at("a2"), 0), EINVAL);
    int pick = OK(syscall(SYS_fspick, AT_FDCWD, at("a"), FSPICK_CLOEXEC));
    OK(syscall(SYS_fsconfig, pick, FSCONFIG_SET_FLAG, "ro", NULL, 0));
    OK(syscall(SYS_fsconfig, pick, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0));
    FAILS(open(at("a/file"), O_WRONLY), EROFS);
    close(pick);
    /* a tree that is never attached goes with its descriptor */
    tree = OK(syscall(SYS_open_tree, AT_FDCWD, at("a"), OPEN_TREE_CLONE));
    OK(faccessat(tree, "file", F_OK, 0));
    close(tree);
    OK(umount(at("a")));
    FAILS(syscall(SYS_move_mount, AT_FDCWD, at("a"), AT_FDCWD, at("t"), 0), EINVAL);
    FAILS(syscall(SYS_move_mount, AT_FDCWD, at("a"), AT_FDCWD, at("t"), 0x1000), EINVAL);
    FAILS(syscall(SYS_fsconfig, 0, FSCONFIG_CMD_CREATE, NULL, NULL, 0), EINVAL);
    FAILS(syscall(SYS_fsconfig, 999, FSCONFIG_CMD_CREATE, NULL, NULL, 0), EBADF);
}

struct id_req { uint32_t size, spare; uint64_t id, param; };
struct stat_mount {
    uint32_t size, mnt_opts; uint64_t mask; uint32_t major, minor; uint64_t magic; uint32_t sb_flags, fs_type;
    uint64_t id, parent; uint32_t id_old, parent_old; uint64_t attr, propagation, group, master, from;
    uint32_t root, point; uint64_t ns; uint32_t subtype, source; uint64_t spare[48]; char str[2000];
};

static void statmounts(void) {
    uint64_t ids[500], again[500];
    struct statx sx;
    dir("q");
    OK(mount("quest", at("q"), "tmpfs", MS_NOSUID, "mode=700"));
    OK(syscall(SYS_statx, AT_FDCWD, at("q"), 0, 0x4000 /* STATX_MNT_ID_UNIQUE */, &sx));
    uint64_t id = sx.stx_mnt_id;
    CHECK(id > 1ULL << 31);
    OK(syscall(SYS_statx, AT_FDCWD, at("q"), 0, 0x1000 /* STATX_MNT_ID */, &sx));
    struct id_req req = {24, 0, id, 1 | 2 | 8 | 16 | 32 | 0x200};
    struct stat_mount *s = calloc(1, 4096);
    OK(syscall(SYS_statmount, &req, s, 2512, 0));
    EQ(s->mask, 1 | 2 | 8 | 16 | 32 | 0x200);
    EQ(s->id, id);
    EQ(s->id_old, sx.stx_mnt_id);
    EQ(s->attr, MOUNT_ATTR_NOSUID);
    EQ(s->magic, 0x01021994);
    EQ(s->propagation, MS_PRIVATE);
    STREQ(s->str + s->fs_type, "tmpfs");
    STREQ(s->str + s->root, "/");
    STREQ(s->str + s->point, at("q"));
    STREQ(s->str + s->source, "quest");
    FAILS(syscall(SYS_statmount, &req, s, 513, 0), EOVERFLOW);
    FAILS(syscall(SYS_statmount, &req, s, 2512, 128), EINVAL);
    struct id_req none = {24, 0, id + 1000000, 1}, low = {24, 0, 5, 1}, small = {8, 0, id, 1};
    FAILS(syscall(SYS_statmount, &none, s, 2512, 0), ENOENT);
    FAILS(syscall(SYS_statmount, &low, s, 2512, 0), EINVAL);
    FAILS(syscall(SYS_statmount, &small, s, 2512, 0), EINVAL);
    struct id_req all = {24, 0, ~0ULL, 0};
    int n = OK(syscall(SYS_listmount, &all, ids, 500, 0)), found = 0;
    EQ(n, count_mounts());
    for (int i = 0; i < n; i++) found += ids[i] == id;
    EQ(found, 1);
    all.param = ids[1];
    EQ(syscall(SYS_listmount, &all, again, 500, 0), n - 2);
    EQ(again[0], ids[2]);
    all.param = 0;
    EQ(syscall(SYS_listmount, &all, again, 2, 0), 2);
    EQ(syscall(SYS_listmount, &all, again, 500, 1), n);
    EQ(again[0], ids[n - 1]);
    struct id_req below = {24, 0, id, 0};
    EQ(syscall(SYS_listmount, &below, ids, 500, 0), 0);
    dir("q/in");
    OK(mount("deep", at("q/in"), "tmpfs", 0, ""));
    EQ(syscall(SYS_listmount, &below, ids, 500, 0), 1);
    OK(umount(at("q/in")));
    OK(umount(at("q")));
    free(s);
}

static void pivot(void) {
    dir("p");
    IN_CHILD({
        OK(unshare(CLONE_NEWNS));
        OK(mount("newroot", at("p"), "tmpfs", 0, ""));
        dir("p/old"); dir("p/proc"); dir("p/plain");
        put_file(at("p/marker"), "new root");
        FAILS(syscall(SYS_pivot_root, at("p/plain"), at("p/old")), EINVAL);
        FAILS(syscall(SYS_pivot_root, at("p"), "/"), EBUSY);
        FAILS(syscall(SYS_pivot_root, at("p/marker"), at("p")), ENOTDIR);
        char old[PATH_MAX + 64];
        OK(chdir(at("p")));
        OK(syscall(SYS_pivot_root, ".", "old"));
        OK(chdir("/"));
        STREQ(get_file("/marker"), "new root");
        snprintf(old, sizeof old, "/old%s/p/marker", base);
        CHECK(access(old, F_OK) == -1);
        OK(access("/old/proc/self", F_OK));
        OK(mount("proc", "/proc", "proc", 0, NULL));
        CHECK(has(info("/"), "- tmpfs newroot"));
        OK(umount2("/old", MNT_DETACH));
        FAILS(access("/old/proc", F_OK), ENOENT);
        EQ(count_mounts(), 2);
        OK(rmdir("/old"));
    });
    IN_CHILD({ /* switch_root's way */
        OK(unshare(CLONE_NEWNS));
        OK(mount("newroot", at("p"), "tmpfs", 0, ""));
        put_file(at("p/marker"), "moved");
        OK(chdir(at("p")));
        OK(mount(".", "/", NULL, MS_MOVE, NULL));
        OK(chroot("."));
        OK(chdir("/"));
        STREQ(get_file("/marker"), "moved");
        FAILS(access("/proc", F_OK), ENOENT);
    });
    OK(access("/proc/self", F_OK));
}

static int cases_main(int argc, char **argv) {
    static const struct check_case cases[] = {
        CASE(tmpfs), CASE(stacked), CASE(binds), CASE(flags), CASE(moving), CASE(lazy), CASE(namespaces), CASE(nobody),
        CASE(overlay), CASE(kernel_filesystems), CASE(api), CASE(statmounts), CASE(pivot),
    };
    return check_main(cases, sizeof cases / sizeof *cases, argc, argv);
}

int main(int argc, char **argv) {
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
        printf("SKIP no mount namespace of our own: %s\n", strerror(errno));
        return 77;
    }
    if (!getcwd(base, sizeof base)) return 1;
    strcat(base, "/mounts");
    mkdir(base, 0755);
    return cases_main(argc, argv);
}
