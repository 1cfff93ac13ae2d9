/* sighelp.h: what the signal programs share: handlers that record, and a child that sends a signal later. */
#ifndef SIGHELP_H
#define SIGHELP_H
#include "check.h"
#include <pthread.h>
#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <ucontext.h>

static volatile int hits, last_sig, depth, max_depth;
static siginfo_t last_info;

static void on_signal(int sig) {
    hits++;
    last_sig = sig;
}
static void on_info(int sig, siginfo_t *si, void *uc) {
    hits++;
    last_sig = sig;
    last_info = *si;
}

static void handle(int sig, void (*fn)(int), int flags) {
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = fn;
    sa.sa_flags = flags;
    sigaction(sig, &sa, NULL);
}
static void handle_info(int sig, void (*fn)(int, siginfo_t *, void *), int flags) {
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = fn;
    sa.sa_flags = flags | SA_SIGINFO;
    sigaction(sig, &sa, NULL);
}
static sigset_t set_of(int sig) {
    sigset_t s;
    sigemptyset(&s);
    if (sig) sigaddset(&s, sig);
    return s;
}

/* A child that sends us a signal a little later, n times. */
static pid_t kick(int sig, int n) {
    pid_t me = getpid(), pid = fork();
    if (!pid) {
        for (int i = 0; i < n; i++) {
            msleep(40);
            kill(me, sig);
        }
        _exit(0);
    }
    return pid;
}

#endif
