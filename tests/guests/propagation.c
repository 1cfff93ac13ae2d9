// Mount propagation: peers, slaves, private and unbindable mounts, across bind mounts and namespaces; setns(2).
// places: cow tmpfs
#include "check.h"
#include <sys/mount.h>
#include <sys/pidfd.h>

#include "places.h"

/* The optional fields of a mount point's last line in mountinfo, with groups numbered in the order of their sight. */
static const char *fields(const char *name) {
    static char out[4][256];
    static int turn, seen[64], count;
    char *result = out[turn++ & 3], line[4096], point[2048];
    const char *place = at(name);
    FILE *f = fopen("/proc/self/mountinfo", "r");
    strcpy(result, "(not mounted)");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%*d %*d %*s %*s %2047s", point) != 1 || strcmp(point, place)) continue;
        *result = 0;
        char *word = strtok(line, " ");
        for (int n = 0; word && strcmp(word, "-"); n++, word = strtok(NULL, " ")) {
            if (n < 6) continue;
            char *colon = strchr(word, ':');
            int id = colon ? atoi(colon + 1) : 0, i = 0;
            while (colon && i < count && seen[i] != id) i++;
            if (colon && i == count) seen[count++] = id;
            if (colon) sprintf(result + strlen(result), "%.*s%d ", (int)(colon - word), word, i);
            else sprintf(result + strlen(result), "%s ", word);
        }
    }
    if (f) fclose(f);
    return result;
}

static int mounted(const char *name) { return strcmp(fields(name), "(not mounted)") != 0; }

static void tmpfs(const char *name) {
    mkdir(at(name), 0755);
    OK(mount("none", at(name), "tmpfs", 0, NULL));
}

static void type(const char *name, unsigned long flags) { OK(mount(NULL, at(name), NULL, flags, NULL)); }

static void bind(const char *from, const char *to, unsigned long flags) {
    mkdir(at(to), 0755);
    OK(mount(at(from), at(to), NULL, MS_BIND | flags, NULL));
}

static void types(void) {
    tmpfs("t");
    STREQ(fields("t"), "");
    type("t", MS_SHARED);
    STREQ(fields("t"), "shared0 ");
    type("t", MS_SLAVE); /* of nobody: private */
    STREQ(fields("t"), "");
    type("t", MS_UNBINDABLE);
    STREQ(fields("t"), "unbindable ");
    mkdir(at("u"), 0755);
    FAILS(mount(at("t"), at("u"), NULL, MS_BIND, NULL), EINVAL);
    type("t", MS_SHARED);
    FAILS(mount(NULL, at("t"), NULL, MS_SHARED | MS_SLAVE, NULL), EINVAL);
    FAILS(mount(NULL, at("u"), NULL, MS_SHARED, NULL), EINVAL); /* no mount */
    bind("t", "u", 0);
    CHECK(!strcmp(fields("t"), fields("u")));
    type("u", MS_SLAVE);
    CHECK(strstr(fields("u"), "master"));
    type("u", MS_SHARED);
    CHECK(strstr(fields("u"), "master") && strstr(fields("u"), "shared"));
    type("u", MS_PRIVATE);
    STREQ(fields("u"), "");
    OK(umount(at("u")));
    OK(umount(at("t")));
}

/* a and b are peers, c a slave of theirs, d private, e a slave that is shared with f. */
static void setup(void) {
    tmpfs("a");
    type("a", MS_SHARED);
    bind("a", "b", 0);
    bind("a", "c", 0);
    type("c", MS_SLAVE);
    bind("a", "d", 0);
    type("d", MS_PRIVATE);
    bind("a", "e", 0);
    type("e", MS_SLAVE);
    type("e", MS_SHARED);
    bind("e", "f", 0);
    mkdir(at("a/x"), 0755);
}

static void takedown(void) {
    static const char *const names[] = {"f", "e", "d", "c", "b", "a"};
    for (int i = 0; i < 6; i++) OK(umount(at(names[i])));
}

static void travels(void) {
    setup();
    tmpfs("a/x");
    put_file(at("a/x/file"), "seen");
    CHECK(mounted("a/x") && mounted("b/x") && mounted("c/x") && !mounted("d/x") && mounted("e/x") && mounted("f/x"));
    STREQ(get_file(at("f/x/file")), "seen");
    CHECK(strstr(fields("a/x"), "shared"));
    CHECK(!strcmp(fields("a/x"), fields("b/x")));
    CHECK(strstr(fields("c/x"), "master") && !strstr(fields("c/x"), "shared"));
    CHECK(strstr(fields("e/x"), "master") && strstr(fields("e/x"), "shared"));
    CHECK(!strcmp(fields("e/x"), fields("f/x")));
    OK(umount(at("b/x"))); /* from a peer */
    CHECK(!mounted("a/x") && !mounted("b/x") && !mounted("c/x") && !mounted("e/x") && !mounted("f/x"));
    tmpfs("c/x"); /* on a slave it stays there */
    CHECK(!mounted("a/x") && !mounted("b/x") && mounted("c/x") && !mounted("e/x"));
    OK(umount(at("c/x")));
    tmpfs("f/x"); /* among the slaves that are peers */
    CHECK(!mounted("a/x") && mounted("e/x") && mounted("f/x") && !mounted("c/x"));
    OK(umount(at("e/x")));
    CHECK(!mounted("f/x"));
    takedown();
}

static void busy_elsewhere(void) {
    setup();
    tmpfs("a/x");
    put_file(at("a/x/file"), "x");
    int fd = OK(open(at("c/x/file"), O_RDONLY));
    FAILS(umount(at("a/x")), EBUSY);
    CHECK(mounted("a/x") && mounted("c/x"));
    OK(umount2(at("a/x"), MNT_DETACH));
    CHECK(!mounted("a/x") && !mounted("c/x"));
    close(fd);
    takedown();
}

static void trees_and_moves(void) {
    setup();
    tmpfs("src");
    mkdir(at("src/in"), 0755);
    tmpfs("src/in");
    put_file(at("src/in/f"), "deep");
    OK(mount(at("src"), at("a/x"), NULL, MS_BIND | MS_REC, NULL));
    STREQ(get_file(at("b/x/in/f")), "deep");
    STREQ(get_file(at("f/x/in/f")), "deep");
    FAILS(mount(at("a/x"), at("d/x"), NULL, MS_MOVE, NULL), EINVAL); /* out of a shared mount */
    OK(umount2(at("a/x"), MNT_DETACH));
    CHECK(!mounted("b/x") && !mounted("f/x/in"));
    OK(mount(at("src"), at("b/x"), NULL, MS_MOVE, NULL)); /* into one */
    STREQ(get_file(at("a/x/in/f")), "deep");
    STREQ(get_file(at("c/x/in/f")), "deep");
    CHECK(!mounted("src") && !mounted("d/x"));
    OK(umount2(at("b/x"), MNT_DETACH));
    CHECK(!mounted("a/x"));
    takedown();
}

static void the_last_peer_goes(void) {
    tmpfs("a");
    type("a", MS_SHARED);
    bind("a", "b", 0);
    type("b", MS_SLAVE);
    CHECK(strstr(fields("b"), "master"));
    type("a", MS_PRIVATE);
    STREQ(fields("b"), "");
    OK(umount(at("b")));
    OK(umount(at("a")));
}

static void namespaces(void) {
    setup();
    int p[2], q[2];
    OK(pipe(p));
    OK(pipe(q));
    char c, path[64];
    pid_t pid = fork();
    if (!pid) {
        check_bad = 0;
        OK(unshare(CLONE_NEWNS));
        type("c", MS_PRIVATE);
        CHECK(write(p[1], "1", 1) == 1);
        CHECK(read(q[0], &c, 1) == 1);
        CHECK(mounted("a/x") && mounted("b/x") && !mounted("c/x"));
        mkdir(at("a/y"), 0755);
        tmpfs("a/y");
        CHECK(write(p[1], "2", 1) == 1);
        CHECK(read(q[0], &c, 1) == 1);
        _exit(check_bad ? 1 : 0);
    }
    EQ(read(p[0], &c, 1), 1);
    tmpfs("a/x");
    EQ(write(q[1], "1", 1), 1);
    EQ(read(p[0], &c, 1), 1);
    CHECK(mounted("a/y") && mounted("b/y")); /* made in the other namespace */
    /* setns: into the other one and back */
    sprintf(path, "/proc/%d/ns/mnt", pid);
    int other = OK(open(path, O_RDONLY)), own = OK(open("/proc/self/ns/mnt", O_RDONLY));
    struct stat a, b;
    OK(fstat(other, &a));
    OK(fstat(own, &b));
    CHECK(a.st_ino != b.st_ino);
    FAILS(setns(other, CLONE_NEWUTS), EINVAL);
    int file = OK(open("/proc/self/stat", O_RDONLY));
    FAILS(setns(file, CLONE_NEWNS), EINVAL);
    FAILS(setns(file, 0), EINVAL);
    FAILS(setns(999, 0), EBADF);
    close(file);
    IN_CHILD({
        OK(setns(other, CLONE_NEWNS));
        char cwd[100];
        CHECK(getcwd(cwd, sizeof cwd));
        STREQ(cwd, "/");
        CHECK(mounted("a/x") && !mounted("c/x"));
        OK(setns(own, 0));
        CHECK(mounted("c/x"));
    });
    IN_CHILD({
        int fd = OK(pidfd_open(pid, 0));
        OK(setns(fd, CLONE_NEWNS));
        CHECK(!mounted("c/x"));
    });
    IN_CHILD({
        OK(setgid(1));
        OK(setuid(1));
        FAILS(setns(other, CLONE_NEWNS), EPERM);
    });
    close(own);
    EQ(write(q[1], "2", 1), 1);
    EXITED(pid, 0);
    IN_CHILD({ /* the descriptor keeps the namespace */
        OK(setns(other, CLONE_NEWNS));
        CHECK(mounted("a/x") && !mounted("c/x"));
    });
    close(other);
    OK(umount(at("a/x")));
    OK(umount(at("a/y")));
    close(p[0]);
    close(p[1]);
    close(q[0]);
    close(q[1]);
    takedown();
}

int main(int argc, char **argv) {
    static const struct check_case cases[] = {
        CASE(types), CASE(travels), CASE(busy_elsewhere), CASE(trees_and_moves), CASE(the_last_peer_goes),
        CASE(namespaces),
    };
    umask(022);
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
        printf("SKIP no mount namespaces here: errno %d\n", errno);
        return 77;
    }
    if (!getcwd(base, sizeof base)) return 3;
    return check_main(cases, sizeof cases / sizeof *cases, argc, argv);
}
