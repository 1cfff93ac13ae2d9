/*
 * What the programs of the hostile battery share: cases by name, and calls by the core's own instruction, which is what a
 * program has that got around the core.
 *
 *     CASE(name, "what it tries", "what stands against it") { ... }
 *
 * PROGRAM NAME runs one case: it comes back when the attack has failed; broken() says that it has not, skip() that it
 * cannot be tried here.  tests/hostile/test_battery.py runs them all, docs/make_hostile.py lists them.
 */
#pragma once
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "gate.h"

#define CORE_BASE 0x210000000000UL
#define PROC_BASE 0x210400000000UL /* core_native/README.md: the process's block, then its channel */
#define CHANNEL (PROC_BASE + 0x100000UL)
#define CORE_END 0x211000000000UL

struct hostile_case {
	const char *name;
	void (*run)(void);
	struct hostile_case *next;
};
static struct hostile_case *hostile_cases;

#define CASE(name, tries, against) \
	static void case_##name(void); \
	__attribute__((constructor)) static void add_##name(void) \
	{ \
		static struct hostile_case one = {#name, case_##name, NULL}; \
		one.next = hostile_cases; \
		hostile_cases = &one; \
	} \
	static void case_##name(void)

__attribute__((noreturn, format(printf, 1, 2))) static void broken(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	printf("BROKEN ");
	vprintf(format, list);
	puts("");
	fflush(stdout);
	_exit(1);
}

__attribute__((noreturn)) static void skip(const char *why)
{
	printf("SKIP %s\n", why);
	fflush(stdout);
	_exit(77);
}

/* A call of libc's that has to fail. */
#define REFUSED(call) \
	do { \
		long result_ = (long)(call); \
		if (result_ != -1) \
			broken("%s gave %ld", #call, result_); \
	} while (0)

/* A number that the test gives: the supervisor's pid, a process of the host's. */
static long given(const char *name)
{
	const char *text = getenv(name);
	if (!text)
		skip("run by tests/hostile/test_battery.py only");
	return atol(text);
}

/* Did the host refuse a signal?  Landlock's scopes say EPERM; in a PID namespace there is no such process. */
static int refused(long result)
{
	return result == -EPERM || result == -ESRCH;
}
/* For what needs a process outside that is out of reach past the core. */
static void needs_out_of_reach(long pid)
{
	if (!refused(gate(SYS_kill, pid, 0)))
		skip("here are neither Landlock's scopes (Linux 6.12) nor a PID namespace");
}

/* Milliseconds that a process of its own has; it may have lost its core, so others end it. */
static int patience = 5000;

/* Run `f` in a process of its own; its wait status. */
static int apart(void (*f)(void *), void *what)
{
	int status = -1;
	fflush(stdout);
	pid_t pid = fork();
	if (pid < 0)
		broken("fork: %s", strerror(errno));
	if (!pid) {
		f(what);
		fflush(stdout);
		_exit(0);
	}
	struct pollfd end = {(int)syscall(SYS_pidfd_open, pid, 0), POLLIN, 0};
	if (poll(&end, 1, patience) == 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) { }
	close(end.fd);
	return status;
}

static int by_filter(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

/* The filter has to end the process that does this. */
static void must_end(void (*f)(void *), void *what)
{
	int status = apart(f, what);
	if (!by_filter(status))
		broken("the filter did not end it: status %#x", status);
}

/* What it says of itself with broken() counts; otherwise it may end as it likes. */
static void must_not_succeed(void (*f)(void *), void *what)
{
	int status = apart(f, what);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
		_exit(1);
}

/* The process can still ask the supervisor. */
static void still_served(void)
{
	struct stat st;
	char name[64];
	snprintf(name, sizeof name, "/tmp/hostile-none-%d", getpid());
	if (stat("/", &st) || stat(name, &st) != -1 || errno != ENOENT)
		broken("not served any more: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	for (struct hostile_case *c = hostile_cases; c && argc > 1; c = c->next)
		if (!strcmp(c->name, argv[1])) {
			c->run();
			printf("held\n");
			return 0;
		}
	fprintf(stderr, "no such case\n");
	return 2;
}
