// A new signal mask holds, whatever signals arrive while it is being set: by sigprocmask, by the return from a handler.
// variants: dynamic musl-static
// flags: -pthread
#include "sighelp.h"
#include <sys/syscall.h>

#define ROUNDS 3000

static volatile int over;
static volatile sig_atomic_t jumping;
static pid_t target;
static sigjmp_buf escape;
static pthread_t sender;
static sigset_t usr2;

static void *send(void *unused) {
    for (unsigned n = 1; !over; n = n * 1103515245 + 12345) { /* with gaps of all lengths: into whatever is being done */
        syscall(SYS_tgkill, getpid(), target, SIGUSR1);
        for (volatile unsigned i = n >> 16 & 4095; i; i--) { }
    }
    return unused;
}
static void back(int sig) {
    (void)sig;
    if (jumping) siglongjmp(escape, 1);
}
static int blocked(void) {
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    return sigismember(&now, SIGUSR2);
}

static void setup(void) {
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    handle(SIGUSR1, on_signal, 0);
    handle(SIGUSR2, back, 0);
    target = (pid_t)syscall(SYS_gettid);
    CHECK(!pthread_create(&sender, NULL, send, NULL));
}

static void set_by_calls(void) {
    int wrong = 0;
    for (int i = 0; i < ROUNDS; i++) {
        sigprocmask(SIG_BLOCK, &usr2, NULL);
        wrong += !blocked();
        sigprocmask(SIG_UNBLOCK, &usr2, NULL);
        wrong += blocked();
    }
    EQ(wrong, 0);
}

static void set_by_returns(void) {
    volatile int wrong = 0;
    for (volatile int i = 0; i < ROUNDS; i++) {
        jumping = 0;
        syscall(SYS_tgkill, getpid(), target, SIGUSR2); /* and back by rt_sigreturn */
        wrong += blocked();
        if (!sigsetjmp(escape, 1)) {
            jumping = 1;
            syscall(SYS_tgkill, getpid(), target, SIGUSR2);
        }
        wrong += blocked();
    }
    EQ(wrong, 0);
}

static void end(void) {
    over = 1;
    CHECK(!pthread_join(sender, NULL));
}

MAIN(CASE(setup), CASE(set_by_calls), CASE(set_by_returns), CASE(end))
