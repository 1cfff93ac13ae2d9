// Storms for tests/programs/test_storms.py: `storm fork N`, `storm threads N`, `storm exec N`, `storm work`.
// Without arguments a small one of each.
// flags: -pthread
#include "check.h"
#include <pthread.h>

static void fork_storm(int n) {
    /* in waves, each child with a little file work */
    for (int done = 0; done < n;) {
        pid_t pids[50];
        int wave = n - done < 50 ? n - done : 50;
        for (int i = 0; i < wave; i++) {
            pids[i] = fork();
            if (pids[i] < 0) COMPLAIN("fork %d: errno %d", done + i, errno);
            if (!pids[i]) {
                char name[32];
                snprintf(name, sizeof name, "f%d", getpid());
                int fd = open(name, O_CREAT | O_RDWR | O_EXCL, 0600);
                if (fd < 0 || write(fd, name, 8) != 8 || unlink(name)) _exit(1);
                _exit(i & 1 ? 7 : 0);
            }
        }
        for (int i = 0; i < wave; i++) EXITED(pids[i], i & 1 ? 7 : 0);
        done += wave;
    }
}

static pthread_barrier_t bar;
static void *worker(void *p) {
    char name[32], b[64];
    pthread_barrier_wait(&bar); /* all threads are alive at once */
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "t%ld-%d", (long)p, i);
        int fd = open(name, O_CREAT | O_RDWR, 0600);
        if (fd < 0 || write(fd, name, strlen(name)) < 0 || pread(fd, b, sizeof b, 0) != (ssize_t)strlen(name)) return p;
        struct stat st;
        if (close(fd) || stat(name, &st) || st.st_size != (off_t)strlen(name) || unlink(name)) return p;
    }
    return NULL;
}

static void thread_storm(int n) {
    pthread_t *t = calloc((size_t)n, sizeof *t);
    pthread_attr_t a;
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, 65536);
    pthread_barrier_init(&bar, NULL, (unsigned)n);
    for (int i = 0; i < n; i++) {
        int e = pthread_create(&t[i], &a, worker, (void *)(long)(i + 1));
        if (e) {
            COMPLAIN("thread %d: errno %d", i, e);
            exit(1);
        }
    }
    for (int i = 0; i < n; i++) {
        void *r = NULL;
        pthread_join(t[i], &r);
        if (r) COMPLAIN("thread %ld failed", (long)r);
    }
    free(t);
}

static void exec_storm(int n) {
    for (volatile int i = 0; i < n; i++) {
        pid_t pid = vfork();
        if (!pid) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        EXITED(pid, 0);
    }
}

/* Works for ever, to be killed at any moment: files, processes, threads, pipes, blocking calls. */
static void *churn(void *p) {
    for (;;) worker(p);
    return NULL;
}

static void work(void) {
    pthread_barrier_init(&bar, NULL, 1);
    pthread_t t;
    pthread_create(&t, NULL, churn, (void *)99999);
    put_file("started", "yes");
    for (int i = 0;; i++) {
        char name[32];
        snprintf(name, sizeof name, "w%d-%d", getpid(), i % 20);
        int fd = open(name, O_CREAT | O_RDWR, 0600), d = open(".", O_RDONLY), p[2];
        if (fd < 0 || d < 0 || pipe(p)) exit(1);
        if (write(fd, name, sizeof name) < 0) exit(1);
        pid_t pid = fork();
        if (!pid) {
            if (i % 3 == 0) execl("/bin/true", "true", (char *)NULL);
            if (i % 3 == 1) msleep(1);
            _exit(0);
        }
        waitpid(pid, NULL, 0);
        struct stat st;
        stat("no-such-name", &st);
        rename(name, "renamed");
        close(fd);
        close(d);
        close(p[0]);
        close(p[1]);
    }
}

int main(int argc, char **argv) {
    int n = argc > 2 ? atoi(argv[2]) : 20;
    const char *what = argc > 1 ? argv[1] : "all";
    check_name = what;
    if (!strcmp(what, "work")) work();
    if (!strcmp(what, "fork") || argc < 2) fork_storm(n);
    if (!strcmp(what, "threads") || argc < 2) thread_storm(n);
    if (!strcmp(what, "exec") || argc < 2) exec_storm(n);
    if (!check_bad) printf("ok %s %d\n", what, n);
    return check_bad ? 1 : 0;
}
