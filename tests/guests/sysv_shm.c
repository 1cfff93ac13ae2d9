// System V shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2).
// variants: dynamic static
// users: root nobody
#include "check.h"
#include <sys/ipc.h>
#include <sys/shm.h>

static unsigned long attached(int id) {
    struct shmid_ds ds;
    OK(shmctl(id, IPC_STAT, &ds));
    return ds.shm_nattch;
}

static void sharing(void) {
    int id = (int)OK(shmget(IPC_PRIVATE, 5000, 0600));
    struct shmid_ds ds;
    OK(shmctl(id, IPC_STAT, &ds));
    EQ(ds.shm_segsz, 5000);
    EQ(ds.shm_nattch, 0);
    EQ(ds.shm_perm.mode, 0600);
    EQ(ds.shm_perm.uid, geteuid());
    EQ(ds.shm_perm.cgid, getegid());
    EQ(ds.shm_cpid, getpid());
    EQ(ds.shm_atime, 0);
    char *a = shmat(id, NULL, 0), *b = shmat(id, NULL, SHM_RDONLY);
    CHECK(a != (void *)-1 && b != (void *)-1 && a != b);
    EQ(attached(id), 2);
    strcpy(a, "hello");
    STREQ(b, "hello");
    EQ(b[8191], 0);
    IN_CHILD({
        STREQ(a, "hello");
        EQ(attached(id), 4);
        strcpy(a, "child");
    });
    STREQ(b, "child");
    EQ(attached(id), 2);
    OK(shmdt(b));
    FAILS(shmdt(b), EINVAL);
    FAILS(shmdt(a + 4096), EINVAL);
    OK(shmctl(id, IPC_STAT, &ds));
    EQ(ds.shm_nattch, 1);
    EQ(ds.shm_lpid, getpid());
    CHECK(ds.shm_atime && ds.shm_dtime && ds.shm_ctime);
    OK(shmctl(id, IPC_RMID, NULL)); // lives on while attached
    STREQ(a, "child");
    OK(shmctl(id, IPC_STAT, &ds));
    EQ(ds.shm_perm.mode, 0600 | SHM_DEST);
    OK(shmdt(a));
    FAILS(shmctl(id, IPC_STAT, &ds), EINVAL);
}

static void identifiers(void) {
    int first = (int)OK(shmget(IPC_PRIVATE, 1, 0600)), id = first;
    struct shmid_ds ds;
    if (geteuid()) {
        FAILS((long)shmat(id, NULL, SHM_EXEC), EACCES);
        FAILS((long)shmat(id, NULL, SHM_EXEC | SHM_RDONLY), EACCES);
    }
    for (int i = 0; i < 100; i++) { // the lowest bits are an index, the others say how often it was used
        OK(shmctl(id, IPC_RMID, NULL));
        int next = (int)OK(shmget(IPC_PRIVATE, 1, 0600));
        CHECK((next & 0x7fff) > (id & 0x7fff) ? next >> 15 == id >> 15 : next >> 15 == (id >> 15) + 1);
        id = next;
    }
    CHECK(id >> 15 > first >> 15);
    EQ(shmctl(id & 0x7fff, SHM_STAT, &ds), id);
    OK(shmctl(id, IPC_RMID, NULL));
    FAILS(shmctl(id & 0x7fff, SHM_STAT, &ds), EINVAL);
}

static void keys(void) {
    key_t key = 0x52330000 | (getpid() & 0xffff);
    FAILS(shmget(key, 100, 0), ENOENT);
    int id = (int)OK(shmget(key, 100, IPC_CREAT | IPC_EXCL | 0600));
    EQ(shmget(key, 100, 0), id);
    EQ(shmget(key, 0, IPC_CREAT | 0600), id);
    FAILS(shmget(key, 100, IPC_CREAT | IPC_EXCL), EEXIST);
    FAILS(shmget(key, 101, 0), EINVAL);
    FAILS(shmget(IPC_PRIVATE, 0, 0600), EINVAL);
    FAILS(shmget(IPC_PRIVATE, 1UL << 63, 0600), EINVAL); // no file is as large
    FAILS(shmget(IPC_PRIVATE, ~(1UL << 24), 0600), EINVAL);
    FAILS(shmget(IPC_PRIVATE, 4096, SHM_HUGETLB | 5 << 26 | 0600), EINVAL); // no such pages
    if (getuid())
        FAILS(shmget(IPC_PRIVATE, 4096, SHM_HUGETLB | 0600), EPERM);
    struct shmid_ds ds;
    OK(shmctl(id, IPC_STAT, &ds));
    EQ(ds.shm_perm.__key, key);
    ds.shm_perm.mode = 0640;
    OK(shmctl(id, IPC_SET, &ds));
    OK(shmctl(id, IPC_STAT, &ds));
    EQ(ds.shm_perm.mode, 0640);
    OK(shmctl(id, IPC_RMID, NULL));
    FAILS(shmget(key, 100, 0), ENOENT);
    FAILS(shmctl(id, IPC_RMID, NULL), EINVAL);
    FAILS(shmctl(-1, IPC_STAT, &ds), EINVAL);
    FAILS((long)shmat(id, NULL, 0), EINVAL);
}

static void placing(void) {
    int id = (int)OK(shmget(IPC_PRIVATE, 8192, 0600));
    char *hole = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FAILS((long)shmat(id, hole + 1, 0), EINVAL);
    FAILS((long)shmat(id, hole, 0), EINVAL); // something is there
    FAILS((long)shmat(id, NULL, SHM_REMAP), EINVAL);
    CHECK(shmat(id, hole, SHM_REMAP) == hole);
    hole[5] = 7;
    munmap(hole + 65536, (1 << 20) - 65536);
    char *again = shmat(id, hole + 65536 + 100, SHM_RND);
    CHECK(again == hole + 65536);
    EQ(again[5], 7);
    OK(shmdt(hole));
    OK(shmdt(again));
    EQ(attached(id), 0);
    OK(shmctl(id, IPC_RMID, NULL));
}

static void permissions(void) {
    if (geteuid()) return;
    int id = (int)OK(shmget(IPC_PRIVATE, 100, 0640));
    IN_CHILD({
        if (setgid(65534) || setuid(65534)) _exit(9);
        struct shmid_ds ds;
        FAILS(shmctl(id, IPC_STAT, &ds), EACCES);
        FAILS((long)shmat(id, NULL, SHM_RDONLY), EACCES);
        FAILS(shmctl(id, IPC_RMID, NULL), EPERM);
    });
    OK(shmctl(id, IPC_RMID, NULL));
}

MAIN(CASE(sharing), CASE(identifiers), CASE(keys), CASE(placing), CASE(permissions))
