// C++ exceptions across every kind of frame, threads that are cancelled, exceptions out of a signal handler.
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fcntl.h>
#include <future>
#include <memory>
#include <mutex>
#include <condition_variable>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <vector>

static int destroyed;
struct Guard {
	~Guard() { destroyed++; }
};

__attribute__((noinline)) static int nested(int depth)
{
	Guard guard;
	if (depth == 0)
		throw std::runtime_error("bottom");
	try {
		return nested(depth - 1) + 1;
	} catch (const std::logic_error &) {
		return -1;
	}
}

static void plain()
{
	int caught = 0;
	for (int i = 0; i < 200; i++)
		try {
			nested(50);
		} catch (const std::exception &e) {
			caught += !strcmp(e.what(), "bottom");
		}
	printf("plain %d %d\n", caught, destroyed);
}

// qsort's frames lie between.
static int compare(const void *, const void *) { throw 5; }
static void through_c()
{
	int numbers[] = {3, 1, 2}, caught = 0;
	try {
		qsort(numbers, 3, sizeof(int), compare);
	} catch (int n) {
		caught = n;
	}
	printf("through C %d\n", caught);
}

// -fnon-call-exceptions: the signal frame and the faulting instruction are unwound.
static void on_fault(int sig, siginfo_t *info, void *)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_UNBLOCK, &set, nullptr);
	if (info->si_addr == nullptr || sig == SIGFPE)
		throw std::runtime_error(sig == SIGFPE ? "division" : "null");
	_exit(99);
}
static volatile int zero;
__attribute__((noinline)) static int touch(int *where)
{
	Guard guard;
	return *where / zero;
}
static void out_of_a_handler()
{
	struct sigaction act = {};
	act.sa_sigaction = on_fault;
	act.sa_flags = SA_SIGINFO;
	sigaction(SIGSEGV, &act, nullptr);
	sigaction(SIGFPE, &act, nullptr);
	int null = 0, division = 0, one = 1;
	destroyed = 0;
	for (int i = 0; i < 100; i++)
		try {
			touch(i % 2 ? nullptr : &one);
		} catch (const std::runtime_error &e) {
			null += !strcmp(e.what(), "null");
			division += !strcmp(e.what(), "division");
		}
	signal(SIGSEGV, SIG_DFL);
	signal(SIGFPE, SIG_DFL);
	printf("handler %d %d %d\n", null, division, destroyed);
}

// The signal arrives in a system call: its frame, libc's wrapper and the caller's are unwound.
static void on_alarm(int, siginfo_t *, void *)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_UNBLOCK, &set, nullptr);
	throw 14;
}
__attribute__((noinline)) static long raw_read(int fd, char *at)
{
	Guard guard;
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "0"(0L), "D"((long)fd), "S"(at), "d"(1L) : "rcx", "r11", "memory");
	return r;
}
static void out_of_a_call()
{
	struct sigaction act = {};
	act.sa_sigaction = on_alarm;
	act.sa_flags = SA_SIGINFO | SA_RESTART;
	sigaction(SIGALRM, &act, nullptr);
	int ends[2], caught = 0;
	if (pipe(ends))
		_exit(98);
	destroyed = 0;
	for (int i = 0; i < 10; i++)
		try {
			Guard guard;
			timer_t timer;
			struct sigevent ev = {};
			ev.sigev_notify = SIGEV_SIGNAL;
			ev.sigev_signo = SIGALRM;
			timer_create(CLOCK_MONOTONIC, &ev, &timer);
			struct itimerspec at = {{0, 0}, {0, 3000000}};
			struct Delete {
				timer_t t;
				~Delete() { timer_delete(t); }
			} del{timer};
			timer_settime(timer, 0, &at, nullptr);
			char byte;
			if (i % 2)
				raw_read(ends[0], &byte);
			else if (read(ends[0], &byte, 1))
				_exit(97);
		} catch (int n) {
			caught += n;
		}
	signal(SIGALRM, SIG_DFL);
	printf("call %d %d\n", caught, destroyed);
}

static sem_t ready;
static int cancel_ends[2];
static void *cancelled(void *how)
{
	Guard guard;
	std::vector<std::unique_ptr<Guard>> many;
	for (int i = 0; i < 3; i++)
		many.emplace_back(new Guard);
	int type;
	char byte;
	try {
		sem_post(&ready);
		switch ((long)how) {
		case 0:
			if (read(cancel_ends[0], &byte, 1) < 0)
				break;
			break;
		case 1:
			for (;;)
				pause();
		case 2: {
			struct pollfd p = {cancel_ends[0], POLLIN, 0};
			poll(&p, 1, -1);
			break;
		}
		case 3: {
			static sem_t never;
			sem_init(&never, 0, 0);
			sem_wait(&never);
			break;
		}
		case 4: {
			static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
			static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
			pthread_mutex_lock(&mutex);
			struct Unlock {
				~Unlock() { pthread_mutex_unlock(&mutex); }
			} unlock;
			for (;;)
				pthread_cond_wait(&cond, &mutex);
		}
		case 5: {
			struct timespec long_time = {1000, 0};
			nanosleep(&long_time, nullptr);
			break;
		}
		case 6:
			pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
			for (;;)
				;
		case 7:
			for (;;) {
				pthread_testcancel();
				sched_yield();
			}
		}
	} catch (...) {
		destroyed += 100;
		throw;
	}
	return nullptr;
}
static void cancellation()
{
	if (pipe(cancel_ends))
		_exit(96);
	sem_init(&ready, 0, 0);
	for (int round = 0; round < 3; round++)
		for (long how = 0; how < 8; how++) {
			pthread_t id;
			void *result;
			destroyed = 0;
			pthread_create(&id, nullptr, cancelled, (void *)how);
			sem_wait(&ready);
			if (how != 6 && round == 1)
				usleep(2000);
			pthread_cancel(id);
			pthread_join(id, &result);
			if (result != PTHREAD_CANCELED || (how != 6 && destroyed != 104))
				printf("cancel %ld: %d\n", how, destroyed);
		}
	printf("cancelled\n");
}

static void threads()
{
	std::vector<std::future<int>> all;
	for (int i = 0; i < 16; i++)
		all.push_back(std::async(std::launch::async, [i]() -> int {
			if (i % 2)
				throw std::out_of_range(std::to_string(i));
			return i;
		}));
	int sum = 0;
	for (auto &one : all)
		try {
			sum += one.get();
		} catch (const std::out_of_range &e) {
			sum += 1000 * atoi(e.what());
		}
	thread_local Guard local;
	std::thread([] { static thread_local Guard other; (void)other; }).join();
	printf("threads %d\n", sum);
}

static ucontext_t main_context, other_context;
static void coroutine()
{
	for (int i = 0;; i++)
		try {
			nested(3);
		} catch (const std::runtime_error &) {
			if (i == 9)
				return;
			swapcontext(&other_context, &main_context);
		}
}
static void contexts()
{
	std::vector<char> stack(64 << 10);
	int swaps = 0;
	getcontext(&other_context);
	other_context.uc_stack.ss_sp = stack.data();
	other_context.uc_stack.ss_size = stack.size();
	other_context.uc_link = &main_context;
	makecontext(&other_context, coroutine, 0);
	for (; swaps < 10; swaps++)
		swapcontext(&main_context, &other_context);
	printf("contexts %d\n", swaps);
}

static void ends()
{
	fflush(stdout);
	if (fork() == 0) {
		std::set_terminate([] { _exit(33); });
		throw 1;
	}
	if (fork() == 0) {
		int null = open("/dev/null", O_WRONLY);
		dup2(null, 2);
		throw std::runtime_error("nobody catches it");
	}
	int status, all = 0;
	for (int i = 0; i < 2; i++) {
		wait(&status);
		all += status;
	}
	printf("ends %d\n", all);
}

int main()
{
	setvbuf(stdout, nullptr, _IOLBF, 0);
	plain();
	through_c();
	out_of_a_handler();
	out_of_a_call();
	cancellation();
	threads();
	contexts();
	ends();
	return 9;
}
