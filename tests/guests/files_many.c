// A directory of many entries: read in pieces while names come and go, and offsets that are kept.
// places: cow tmpfs
#include "check.h"
#include <dirent.h>

enum { MANY = 5000 };
static char seen[MANY];

struct entry {
    uint64_t ino;
    int64_t off;
    unsigned short len;
    unsigned char type;
    char name[];
};

static void name_of(char *to, int n) { sprintf(to, "m/f%05d", n); }

static void fill(void) {
    char name[32];
    OK(mkdir("m", 0700));
    put_file("one", "x");
    for (int n = 0; n < MANY; n++) {
        name_of(name, n);
        if (link("one", name)) COMPLAIN("link: errno %d", errno);
    }
}

/* Every entry once; what was there all the time is not missed. */
static void read_while_it_changes(void) {
    fill();
    int fd = OK(open("m", O_RDONLY | O_DIRECTORY));
    static char buf[8192] __attribute__((aligned(8)));
    memset(seen, 0, sizeof seen);
    long n, calls = 0, strange = 0;
    int victim = 0;
    char name[32];
    while ((n = OK(syscall(SYS_getdents64, fd, buf, sizeof buf))) > 0) {
        calls++;
        for (long at = 0; at < n;) {
            struct entry *e = (struct entry *)(buf + at);
            if (e->name[0] == 'f') {
                if (e->type != DT_REG) strange++;
                seen[atoi(e->name + 1)]++;
            }
            at += e->len;
        }
        /* one even name goes and a new one comes between any two calls */
        for (; victim < MANY && calls % 3 == 0; victim += 2) {
            name_of(name, victim);
            if (unlink(name)) COMPLAIN("unlink: errno %d", errno);
            victim += 2;
            break;
        }
        sprintf(name, "m/new%ld", calls);
        if (link("one", name)) COMPLAIN("link: errno %d", errno);
        if (calls > 100000) break; /* what comes may be shown, but not for ever */
    }
    EQ(strange, 0);
    int twice = 0, missed = 0;
    for (int i = 0; i < MANY; i++) {
        twice += seen[i] > 1;
        if (i & 1) missed += !seen[i];
    }
    EQ(twice, 0);
    EQ(missed, 0);
    close(fd);
}

/* A place that telldir() gave leads there again, though names before and after it are gone. */
static void places_are_kept(void) {
    DIR *d = opendir("m");
    CHECK(d);
    static long places[64];
    static char names[64][64];
    int kept = 0, n = 0;
    for (;;) {
        long place = telldir(d);
        struct dirent *e = readdir(d);
        if (!e) break;
        if (e->d_name[0] == 'f' && n++ % 100 == 50 && kept < 40) {
            places[kept] = place;
            strcpy(names[kept++], e->d_name);
        }
    }
    CHECK(kept > 20);
    char name[80];
    for (int i = 0; i < kept; i += 4) { /* every fourth of them goes */
        sprintf(name, "m/%.60s", names[i]);
        OK(unlink(name));
    }
    for (int i = kept - 1; i >= 0; i--) {
        seekdir(d, places[i]);
        struct dirent *e = readdir(d);
        CHECK(e);
        if (i % 4 && e) STREQ(e->d_name, names[i]);
    }
    closedir(d);
}

/* rm -r: remove what each read gives, until there is nothing. */
static void removed_while_read(void) {
    DIR *d = opendir("m");
    CHECK(d);
    long gone = 0;
    for (int round = 0; round < 3; round++) {
        struct dirent *e;
        while ((e = readdir(d)))
            if (e->d_name[0] != '.') gone += unlinkat(dirfd(d), e->d_name, 0) == 0;
        rewinddir(d);
    }
    CHECK(gone > MANY / 2);
    closedir(d);
    OK(rmdir("m"));
    OK(unlink("one"));
}

MAIN(CASE(read_while_it_changes), CASE(places_are_kept), CASE(removed_while_read))
