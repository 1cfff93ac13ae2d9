/* Makes the file calls that it is told, in several processes, and says what came of each.
 *
 * Layer: tests. The same binary runs natively on a tmpfs and in a guest; tests/fsmodel/model.py writes one sequence
 * of calls to both and compares the answers. `servant DIR` works below DIR, which has to be empty; `servant -m DIR`
 * mounts a tmpfs there first, in a mount namespace of its own.
 *
 * stdin: a sequence is a line for each step, then "end". Each gets a fresh directory, which is the root of SLOTS
 * processes. A step is `SLOT CALL ARG...`; what an ARG may be is told above `parse`. stdout: a line for each step, the
 * lines of the tree that was left, and "end".
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { SLOTS = 4, OWN_FDS = 100, LINE = 4096, USER = 1001, OTHER = 1002, MAPS = 3, MAP_BYTES = 3 * 4096 };
enum { REAL_TIMES = 1500000000 }; /* earlier times were set by a step; later ones are the clock's */

static int ask[SLOTS][2], answer[SLOTS][2], slot, root_fd = -1;
static char *mapped[MAPS];
static sigjmp_buf fault;
static dev_t memfd_dev; /* of all memfds */
static char out[LINE * 64];
static size_t out_len;

static void die(const char *what) {
    dprintf(2, "servant: %s: %s\n", what, strerror(errno));
    _exit(3);
}

static void say(const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(out + out_len, sizeof out - out_len, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof out - out_len) die("a line too long");
    out_len += (size_t)n;
}

static void say_bytes(const void *data, size_t size) {
    const unsigned char *p = data;
    uint64_t hash = 1469598103934665603u;
    if (size > 48) {
        for (size_t i = 0; i < size; i++) hash = (hash ^ p[i]) * 1099511628211u; /* FNV-1a */
        say(" %zu:#%016llx", size, (unsigned long long)hash);
        return;
    }
    say(" %zu:", size);
    for (size_t i = 0; i < size; i++) {
        if (p[i] > ' ' && p[i] < 127 && p[i] != '%') say("%c", p[i]);
        else say("%%%02x", p[i]);
    }
}

static void fill(char *data, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++) data[i] = (char)('a' + (seed * 7 + i * (1 + seed % 5) + i / 512) % 26);
}

static void say_time(const char *name, int64_t sec, uint32_t nsec) {
    if (sec >= REAL_TIMES) say(" %s=now", name);
    else say(" %s=%lld.%09u", name, (long long)sec, nsec);
}

static void say_stat(const struct stat *st) {
    say(" dev=%llx ino=%llu mode=%o nlink=%llu uid=%u gid=%u rdev=%llx size=%lld blksize=%ld blocks=%lld",
        (unsigned long long)st->st_dev, (unsigned long long)st->st_ino, st->st_mode,
        (unsigned long long)st->st_nlink, st->st_uid, st->st_gid, (unsigned long long)st->st_rdev,
        (long long)st->st_size, (long)st->st_blksize, (long long)st->st_blocks);
    say_time("atime", st->st_atim.tv_sec, (uint32_t)st->st_atim.tv_nsec);
    say_time("mtime", st->st_mtim.tv_sec, (uint32_t)st->st_mtim.tv_nsec);
    say_time("ctime", st->st_ctim.tv_sec, (uint32_t)st->st_ctim.tv_nsec);
}

static void say_statx(const struct statx *x) {
    say(" mask=%x ino=%llu mode=%o nlink=%u uid=%u gid=%u size=%llu blksize=%u blocks=%llu", x->stx_mask & ~0x1000u,
        (unsigned long long)x->stx_ino, x->stx_mode, x->stx_nlink, x->stx_uid, x->stx_gid,
        (unsigned long long)x->stx_size, x->stx_blksize, (unsigned long long)x->stx_blocks);
    if (x->stx_mask & STATX_BTIME) say_time("btime", x->stx_btime.tv_sec, x->stx_btime.tv_nsec);
    say_time("atime", x->stx_atime.tv_sec, x->stx_atime.tv_nsec);
    say_time("mtime", x->stx_mtime.tv_sec, x->stx_mtime.tv_nsec);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Names that are separated by nul bytes, sorted, without the host's security labels. */
static void say_names(char *names, size_t size) {
    char *list[256];
    size_t n = 0;
    for (char *p = names; p < names + size && n < 256; p += strlen(p) + 1)
        if (strncmp(p, "security.", 9)) list[n++] = p;
    qsort(list, n, sizeof *list, by_name);
    for (size_t i = 0; i < n; i++) say(" %s", list[i]);
}

static int list_fd(int fd) {
    static char buf[65536], text[65536];
    char *list[1024];
    size_t n = 0, used = 0;
    long got;
    if (syscall(SYS_lseek, fd, 0L, SEEK_SET) < 0) return -1;
    while ((got = syscall(SYS_getdents64, fd, buf, sizeof buf)) > 0)
        for (long at = 0; at < got && n < 1024;) {
            struct dirent64 *d = (void *)(buf + at);
            unsigned long long ino = strcmp(d->d_name, "..") ? d->d_ino : 0; /* the root's parent is not its own */
            list[n++] = text + used;
            used += (size_t)snprintf(text + used, sizeof text - used, "%s/%d/ino=%llu", d->d_name, d->d_type, ino) + 1;
            at += d->d_reclen;
        }
    if (got < 0) return -1;
    qsort(list, n, sizeof *list, by_name);
    for (size_t i = 0; i < n; i++) say(" %s", list[i]);
    return (int)n;
}

/* Arguments: N a number; sPATH; bSIZE:SEED bytes to write; oSIZE room for bytes; vSIZE:SEED,... and wSIZE,... iovecs
 * to write and to read into; S a struct stat; X a struct statx; LSIZE room for names; qN a loff_t; tS,NS,S,NS two
 * timespecs; fTYPE,WHENCE,START,LEN a struct flock; hFLAGS,MODE,RESOLVE a struct open_how. */
enum { ARGS = 6, ROOM = 1 << 18 };
struct arg {
    char kind;
    size_t size;
    union {
        char *data;
        struct stat st;
        struct statx stx;
        int64_t number;
        struct timespec times[2];
        struct flock lock;
        uint64_t how[3];
        struct iovec iov[4];
    };
};
static char room[ARGS][ROOM];

static size_t number(const char **text, char separator) {
    char *end;
    long long value = strtoll(*text, &end, 0);
    *text = *end == separator ? end + 1 : end;
    return (size_t)value;
}

static long parse(struct arg *arg, const char *text, char *space) {
    arg->kind = *text;
    arg->data = space;
    const char *rest = text + 1;
    switch (*text++) {
    case 's': return (long)strcpy(space, text);
    case 'b':
        arg->size = number(&text, ':');
        if (arg->size > ROOM) die("too many bytes");
        fill(space, arg->size, (unsigned)number(&text, ' '));
        return (long)space;
    case 'L':
    case 'o':
        arg->size = number(&text, ' ');
        if (arg->size > ROOM) die("too much room");
        memset(space, 0x55, arg->size);
        return (long)space;
    case 'v':
    case 'w':
        for (arg->size = 0; *text && arg->size < 4; arg->size++) {
            size_t size = number(&text, arg->kind == 'v' ? ':' : ',');
            if (arg->kind == 'v') fill(space, size, (unsigned)number(&text, ','));
            else memset(space, 0x55, size);
            arg->iov[arg->size] = (struct iovec){space, size};
            space += size;
        }
        return (long)arg->iov;
    case 'S': memset(&arg->st, 0x55, sizeof arg->st); return (long)&arg->st;
    case 'X': memset(&arg->stx, 0x55, sizeof arg->stx); return (long)&arg->stx;
    case 'q': arg->number = (int64_t)number(&text, ' '); return (long)&arg->number;
    case 't':
        for (int i = 0; i < 2; i++) {
            arg->times[i].tv_sec = (time_t)number(&rest, ',');
            arg->times[i].tv_nsec = (long)number(&rest, ',');
        }
        return (long)arg->times;
    case 'f':
        memset(&arg->lock, 0, sizeof arg->lock);
        arg->lock.l_type = (short)number(&rest, ',');
        arg->lock.l_whence = (short)number(&rest, ',');
        arg->lock.l_start = (off_t)number(&rest, ',');
        arg->lock.l_len = (off_t)number(&rest, ',');
        return (long)&arg->lock;
    case 'h':
        for (int i = 0; i < 3; i++) arg->how[i] = number(&rest, ',');
        return (long)arg->how;
    default: arg->kind = 'i'; return strtoll(text - 1, NULL, 0);
    }
}

static void tell(const struct arg *arg, long result) {
    size_t left = result > 0 ? (size_t)result : 0;
    switch (arg->kind) {
    case 'o': say_bytes(arg->data, left < arg->size ? left : arg->size); break;
    case 'L': if (arg->size) say_names(arg->data, left); break;
    case 'w':
        for (size_t i = 0; i < arg->size; i++) {
            size_t n = left < arg->iov[i].iov_len ? left : arg->iov[i].iov_len;
            say_bytes(arg->iov[i].iov_base, n);
            left -= n;
        }
        break;
    case 'S': say_stat(&arg->st); break;
    case 'X': say_statx(&arg->stx); break;
    case 'q': say(" at=%lld", (long long)arg->number); break;
    case 'f':
        say(" type=%d whence=%d start=%lld len=%lld", arg->lock.l_type, arg->lock.l_whence,
            (long long)arg->lock.l_start, (long long)arg->lock.l_len);
        break;
    }
}

static const struct { const char *name; long number; } calls[] = {
#define C(name) {#name, SYS_##name}
    C(open), C(openat), C(openat2), C(creat), C(close), C(read), C(write), C(pread64), C(pwrite64), C(readv),
    C(writev), C(preadv2), C(pwritev2), C(lseek), C(truncate), C(ftruncate), C(fallocate), C(rename), C(renameat), C(renameat2),
    C(link), C(linkat), C(symlink), C(symlinkat), C(readlink), C(readlinkat), C(unlink), C(unlinkat), C(rmdir),
    C(mkdir), C(mkdirat), C(mknod), C(mknodat), C(chmod), C(fchmod), C(fchmodat), C(chown), C(lchown), C(fchown), C(fchownat),
    C(utimensat), C(stat), C(lstat), C(fstat), C(newfstatat), C(statx), C(access), C(faccessat), C(chdir),
    C(fchdir), C(getcwd), C(chroot), C(dup), C(dup2), C(dup3), C(fcntl), C(flock), C(setxattr), C(lsetxattr),
    C(getxattr), C(lgetxattr), C(fgetxattr), C(listxattr), C(llistxattr), C(flistxattr),
    C(removexattr), C(lremovexattr), C(fremovexattr), C(copy_file_range), C(sendfile), C(splice), C(umask), C(fsync),
    C(fdatasync), C(sync_file_range), C(syncfs), C(fadvise64), C(readahead), C(close_range), C(memfd_create),
    {"faccessat2", 439}, {"fchmodat2", 452},
};

static long set_user(void) {
    gid_t groups[] = {USER, OTHER};
    return setgroups(2, groups) || setresgid(USER, USER, USER) || setresuid(USER, USER, USER) ? -1 : 0;
}

static void on_fault(int sig) { siglongjmp(fault, sig); }

/* map INDEX FD PROT FLAGS, peek INDEX OFFSET, poke INDEX OFFSET SEED */
static long map_step(char *call, const long *value) {
    unsigned long which = (unsigned long)value[0] % MAPS;
    int sig = sigsetjmp(fault, 1);
    if (sig) { say(" signal=%d", sig); return -1; }
    errno = 0;
    if (!strcmp(call, "map")) {
        if (mapped[which]) munmap(mapped[which], MAP_BYTES);
        mapped[which] = mmap(NULL, MAP_BYTES, (int)value[2], (int)value[3], (int)value[1], 0);
        if (mapped[which] == MAP_FAILED) { mapped[which] = NULL; return -1; }
        return 0;
    }
    if (!mapped[which]) { errno = ENXIO; return -1; }
    char *place = mapped[which] + (unsigned long)value[1] % (MAP_BYTES - 16);
    if (!strcmp(call, "peek")) say_bytes(place, 16);
    else fill(place, 16, (unsigned)value[2]);
    return 0;
}

static void serve(void);

/* fork INTO: a child takes over another process's place. */
static long fork_step(long into) {
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        slot = (int)into;
        serve();
    }
    return 0;
}

/* creat(2) has no O_NONBLOCK: on a FIFO it would wait for a reader. */
static long creat_step(const char *path, mode_t mode) {
    struct stat st;
    if (!stat(path, &st) && S_ISFIFO(st.st_mode)) { errno = EAGAIN; return -1; }
    errno = 0;
    return syscall(SYS_creat, path, mode);
}

/* Outside of the root, getcwd(2) tells the way from the mount namespace's root, which is another on the two sides. */
static long getcwd_step(char *space, size_t size) {
    char whole[4096];
    if (syscall(SYS_getcwd, whole, sizeof whole) > 0 && *whole == '(') { say(" unreachable"); return 0; }
    errno = 0;
    return syscall(SYS_getcwd, space, size);
}

/* Attributes of memfds are refused in a guest (docs/filesystem.md), so that the two sides would differ from here on. */
static long fsetxattr_step(int fd, const char *name, const void *value, size_t size, int flags) {
    struct stat st;
    if (!fstat(fd, &st) && st.st_dev == memfd_dev) { errno = EOPNOTSUPP; return -1; }
    errno = 0;
    return fsetxattr(fd, name, value, size, flags);
}

static void step(char *line) {
    static struct arg args[ARGS];
    long value[ARGS] = {0};
    int n = 0;
    char *save, *call = strtok_r(line, " ", &save);
    memset(args, 0, sizeof args);
    for (char *word; n < ARGS && (word = strtok_r(NULL, " ", &save)); n++) value[n] = parse(&args[n], word, room[n]);
    out_len = 0;
    long result = -1;
    errno = 0;
    if (!strcmp(call, "fork")) result = fork_step(value[0]);
    else if (!strcmp(call, "creat")) result = creat_step((const char *)value[0], (mode_t)value[1]);
    else if (!strcmp(call, "getcwd")) result = getcwd_step((char *)value[0], (size_t)value[1]);
    else if (!strcmp(call, "fsetxattr"))
        result = fsetxattr_step((int)value[0], (char *)value[1], (void *)value[2], (size_t)value[3], (int)value[4]);
    else if (!strcmp(call, "list")) result = list_fd((int)value[0]);
    else if (!strcmp(call, "user")) result = set_user();
    else if (!strcmp(call, "nofile")) {
        struct rlimit limit = {(rlim_t)value[0], 4096};
        result = setrlimit(RLIMIT_NOFILE, &limit);
    } else if (!strcmp(call, "map") || !strcmp(call, "peek") || !strcmp(call, "poke")) result = map_step(call, value);
    else {
        size_t i = 0;
        while (i < sizeof calls / sizeof *calls && strcmp(calls[i].name, call)) i++;
        if (i == sizeof calls / sizeof *calls) { errno = 0; die(call); }
        struct stat st;
        int directory = n && !fstat((int)value[0], &st) && S_ISDIR(st.st_mode);
        /* What the size and the offsets of a directory are is its own affair. */
        if (directory && calls[i].number == SYS_fcntl && args[2].kind == 'f' && args[2].lock.l_whence == SEEK_END)
            args[2].lock.l_whence = SEEK_SET;
        errno = 0;
        result = syscall(calls[i].number, value[0], value[1], value[2], value[3], value[4], value[5]);
        if (directory && calls[i].number == SYS_lseek && result > 0) result = 1;
    }
    int error = result < 0 ? errno : 0;
    char rest[LINE * 8];
    size_t rest_len = out_len;
    if (rest_len > sizeof rest) die("an answer too long");
    memcpy(rest, out, rest_len);
    out_len = 0;
    say("%ld %s%.*s", result, error ? strerrorname_np(error) : "0", (int)rest_len, rest);
    if (result >= 0)
        for (int i = 0; i < n; i++) tell(&args[i], result);
    for (int i = 0; i < n; i++)
        if (result < 0 && args[i].kind == 'q') tell(&args[i], result);
    say("\n");
}

static void put(int fd, const char *data, size_t size) {
    for (ssize_t n; size; data += n, size -= (size_t)n)
        if ((n = write(fd, data, size)) <= 0) die("writing an answer");
}

/* One line of less than LINE bytes, without its end; 0 at the end of the file. */
static int get(int fd, char *line) {
    size_t n = 0;
    while (n < LINE) {
        ssize_t got = read(fd, line + n, 1);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return 0;
        if (line[n] == '\n') break;
        n++;
    }
    line[n] = 0;
    return 1;
}

/* The life of one process: requests come as whole messages of LINE bytes. */
static void serve(void) {
    char line[LINE];
    for (;;) {
        ssize_t got = read(ask[slot][0], line, LINE);
        if (got != LINE) _exit(0);
        if (!strcmp(line, "bye")) {
            for (int i = 0; i < MAPS; i++)
                if (mapped[i]) munmap(mapped[i], MAP_BYTES);
            close_range(0, OWN_FDS - 1, 0);
            put(answer[slot][1], "0 0\n", 4);
            _exit(0);
        }
        step(line);
        put(answer[slot][1], out, out_len);
    }
}

static void tell_slot(int which, const char *text, char *reply, size_t size) {
    char line[LINE] = {0};
    snprintf(line, sizeof line, "%s", text);
    put(ask[which][1], line, LINE);
    size_t n = 0;
    do {
        struct pollfd p = {answer[which][0], POLLIN, 0};
        if (poll(&p, 1, 30000) != 1) { errno = 0; dprintf(2, "servant: no answer to: %s\n", text); _exit(4); }
        ssize_t got = read(answer[which][0], reply + n, size - 1 - n);
        if (got <= 0) { errno = 0; dprintf(2, "servant: a process died at: %s\n", text); _exit(5); }
        n += (size_t)got;
    } while (reply[n - 1] != '\n');
    reply[n] = 0;
}

/* What is in a file: the segments that SEEK_DATA knows, by their content. */
static void say_content(int fd, off_t size) {
    static char data[1 << 16];
    uint64_t hash = 1469598103934665603u;
    for (off_t at = 0, end; (at = lseek(fd, at, SEEK_DATA)) >= 0 && at < size; at = end) {
        if ((end = lseek(fd, at, SEEK_HOLE)) < 0) end = size;
        for (off_t i = at; i < end;) {
            ssize_t n = pread(fd, data, sizeof data, i);
            if (n <= 0) break;
            for (ssize_t k = 0; k < n; k++)
                if (data[k]) hash = (hash ^ (uint64_t)(i + k) ^ (unsigned char)data[k]) * 1099511628211u;
            i += n;
        }
    }
    say(" content=%016llx", (unsigned long long)hash);
}

static void say_tree(int dir, const char *name) {
    char value[4096], path[64];
    char *list[512];
    size_t n = 0;
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY);
    DIR *d = fdopendir(fd);
    if (!d) die("listing the tree");
    for (struct dirent *e; (e = readdir(d)) && n < 512;)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) list[n++] = strdup(e->d_name);
    closedir(d);
    qsort(list, n, sizeof *list, by_name);
    for (size_t i = 0; i < n; i++) {
        struct stat st;
        out_len = 0;
        if (fstatat(dir, list[i], &st, AT_SYMLINK_NOFOLLOW)) die("stat of the tree");
        say("%s/%s", name, list[i]);
        say_stat(&st);
        if (S_ISLNK(st.st_mode)) {
            ssize_t size = readlinkat(dir, list[i], value, sizeof value);
            say_bytes(value, size < 0 ? 0 : (size_t)size);
        }
        int sub = S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) ? openat(dir, list[i], O_RDONLY | O_NOFOLLOW) : -1;
        if (S_ISREG(st.st_mode)) say_content(sub, st.st_size);
        if (sub >= 0) {
            ssize_t size = flistxattr(sub, value, sizeof value);
            if (size > 0) say_names(value, (size_t)size);
        }
        say("\n");
        put(1, out, out_len);
        if (S_ISDIR(st.st_mode)) {
            snprintf(path, sizeof path, "%.50s/%.12s", name, list[i]);
            say_tree(sub, path);
        }
        if (sub >= 0) close(sub);
        free(list[i]);
    }
}

/* The same start for every sequence: something of each kind. */
static void furnish(void) {
    char data[10000];
    fill(data, sizeof data, 1);
    umask(022);
    int a = open("a", O_CREAT | O_RDWR, 0644), f;
    put(a, data, 5000);
    if (mkdir("d", 0755) || mkdir("d/e", 0755) || mkdir("w", 0) || chmod("w", 0777) || mkdir("t", 0) ||
        chmod("t", 01777) || (f = open("d/f", O_CREAT | O_RDWR, 0666)) < 0 || symlink("d/f", "s") ||
        symlink("../w", "d/l") || mkfifo("p", 0666) || link("a", "h") || chown("d/f", USER, USER))
        die("furnishing");
    put(f, data, 10);
    close(f);
    close(a);
    int u = open("w/u", O_CREAT | O_RDWR, 0600);
    put(u, data, 3);
    if (fchown(u, USER, USER)) die("chown");
    close(u);
    struct timespec old[2] = {{1000, 1}, {1000, 2}};
    const char *names[] = {"a", "d/f", "w/u", "d/e", "d", "w", "t", "."};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (utimensat(AT_FDCWD, names[i], old, 0)) die("utimensat");
}

static void start_slots(void) {
    for (slot = 0; slot < SLOTS; slot++) {
        pid_t child = fork();
        if (child < 0) die("fork");
        if (child) continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close_range(0, OWN_FDS - 1, 0);
        /* The wish to die with its parent goes with a change of ids (prctl(2)): the end of its pipe tells it too. */
        for (int i = 0; i < SLOTS; i++) {
            close(ask[i][1]);
            close(answer[i][0]);
        }
        if (slot == 2 && set_user()) die("changing the user");
        if (open("/a", O_RDWR | O_NONBLOCK) != 0 && slot != 2) die("opening a");
        open("/d", O_RDONLY | O_DIRECTORY);
        open("/w", O_PATH);
        serve();
    }
}

static void empty(int dir) {
    DIR *d = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY));
    if (!d) die("emptying");
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (!unlinkat(dir, e->d_name, 0)) continue;
        int sub = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (sub < 0) die("emptying a directory");
        empty(sub);
        close(sub);
        if (unlinkat(dir, e->d_name, AT_REMOVEDIR)) die("removing a directory");
    }
    closedir(d);
}

/* One sequence, in a process of its own: a fresh root, the processes, the steps, the tree that is left. */
static void sequence(const char *first) {
    char line[LINE];
    static char reply[LINE * 64];
    if (mkdir("top", 0755) || chroot("top") || chdir("/")) die("a fresh root");
    furnish();
    start_slots();
    for (int i = 0; i < SLOTS; i++) tell_slot(i, "umask 18", reply, sizeof reply); /* it is ready when it answers */
    snprintf(line, sizeof line, "%s", first);
    do {
        if (!strcmp(line, "end")) break;
        char *rest;
        long which = strtol(line, &rest, 10);
        if (which < 0 || which >= SLOTS) die(line);
        long into = 0;
        if (sscanf(rest, " fork %ld", &into) == 1) tell_slot((int)into, "bye", reply, sizeof reply);
        tell_slot((int)which, rest + 1, reply, sizeof reply);
        put(1, reply, strlen(reply));
    } while (get(0, line));
    for (int i = 0; i < SLOTS; i++) tell_slot(i, "bye", reply, sizeof reply);
    say_tree(AT_FDCWD, "");
    put(1, "end\n", 4);
}

static void make_pipes(void) {
    for (int i = 0; i < SLOTS; i++)
        for (int which = 0; which < 2; which++) {
            int *pair = which ? answer[i] : ask[i], got[2];
            if (pipe(got)) die("pipe");
            for (int side = 0; side < 2; side++) {
                pair[side] = fcntl(got[side], F_DUPFD, OWN_FDS);
                if (pair[side] < 0) die("F_DUPFD");
                close(got[side]);
            }
        }
}

static void find_memfd_dev(void) {
    struct stat st;
    int fd = memfd_create("dev", 0);
    if (fd < 0 || fstat(fd, &st)) die("memfd_create");
    memfd_dev = st.st_dev;
    close(fd);
}

int main(int argc, char **argv) {
    char line[LINE];
    const char *dir = argv[argc - 1];
    if (argc == 3) {
        if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)) die("a mount namespace");
        if (mount("servant", dir, "tmpfs", 0, "mode=755")) die("mounting a tmpfs");
    }
    if (argc < 2 || chdir(dir)) die(dir);
    find_memfd_dev();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct sigaction act = {.sa_handler = on_fault};
    sigaction(SIGBUS, &act, NULL);
    sigaction(SIGSEGV, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    put(1, "ready\n", 6);
    while (get(0, line)) {
        make_pipes();
        pid_t child = fork();
        if (child < 0) die("fork");
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            signal(SIGCHLD, SIG_IGN);
            sequence(line);
            _exit(0);
        }
        for (int i = 0; i < SLOTS; i++)
            for (int side = 0; side < 2; side++) { close(ask[i][side]); close(answer[i][side]); }
        int status;
        if (waitpid(child, &status, 0) != child || status) _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 9);
        root_fd = open("top", O_RDONLY | O_DIRECTORY);
        empty(root_fd);
        close(root_fd);
        if (rmdir("top")) die("removing the root");
    }
    return 0;
}
