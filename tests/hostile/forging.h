/*
 * The process's channel in the hands of a program that has taken over its core: requests made by hand, past the core.
 * gen_layout.h is what core_native/gen.py writes from kernel/layout.py.
 */
#pragma once
#include "hostile.h"

typedef uint8_t u8;
typedef uint32_t u32;
typedef int32_t s32;
typedef uint64_t u64;
typedef int64_t s64;
#undef FD_CLOEXEC /* both declare it, with the same value */
#include "gen_layout.h"

/* The first fields of struct proc (core_native/core.h). */
struct proc_head {
	u32 rx_lock, initial, has_tcp, split;
	int sock, exe, pid;
	u32 soft_nofile;
	u64 chan;
};

/* A channel: the process's own, or one that a fork was given. */
struct channel {
	int sock;
	u8 *base;
};

/* Find the channel as a program would that knows nothing: which pages of the core's are there, and which begin so. */
static struct channel own_channel(void)
{
	unsigned char there;
	for (u64 at = PROC_BASE; at < PROC_BASE + (128UL << 28); at += 0x100000) {
		if (gate(SYS_mincore, at, 4096, &there))
			continue;
		struct ring3_proc_page *page = (void *)at;
		if (page->version == RING3_VERSION && (int)page->pid == getpid())
			return (struct channel){page->core_fds[0], (u8 *)at};
	}
	broken("there is no channel to be found");
}

static struct ring3_slot *slot_of(const struct channel *c, u32 slot)
{
	return (void *)(c->base + (u64)RING3_SLOT_SIZE * (slot + 1));
}

static u8 *data_of(const struct channel *c, u32 slot)
{
	return (u8 *)slot_of(c, slot) + RING3_SLOT_DATA;
}

static long post(const struct channel *c, u32 kind, u32 slot, u64 a, u64 b, u64 d, u64 e)
{
	struct ring3_msg msg = {kind, slot, a, b, d, e};
	return gate(SYS_sendto, c->sock, &msg, sizeof msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Hand over what stands in the slot; does not wait.  The request's number. */
static u32 hand_over(const struct channel *c, u32 slot, u32 kind)
{
	struct ring3_slot *s = slot_of(c, slot);
	u32 number = s->req + 1;
	s->kind = kind;
	s->tid = (u32)gate(SYS_gettid);
	__atomic_store_n(&s->req, number, __ATOMIC_SEQ_CST);
	post(c, MSG_RING, slot, number, 0, 0, 0);
	return number;
}

/* Has the request been answered, within a second? */
static int answered(const struct channel *c, u32 slot, u32 number)
{
	struct ring3_slot *s = slot_of(c, slot);
	for (int i = 0; i < 10000; i++) {
		if (__atomic_load_n(&s->rep, __ATOMIC_ACQUIRE) == number)
			return 1;
		struct timespec pause = {0, 100000};
		gate(SYS_nanosleep, &pause, NULL);
	}
	return 0;
}

/* A call with arguments that are in the slot already: its result. */
static s64 make_request(const struct channel *c, u32 slot, u32 kind, s64 nr)
{
	struct ring3_slot *s = slot_of(c, slot);
	s->nr = nr;
	if (!answered(c, slot, hand_over(c, slot, kind)))
		broken("request %u of call %ld was not answered", kind, (long)nr);
	return s->r_result;
}

/* A request for a fork: the channel that the child would have.  Its base is 0 when none was given. */
static struct channel fork_channel(const struct channel *c, u32 slot, u64 *token)
{
	struct ring3_slot *s = slot_of(c, slot);
	struct channel child = {-1, NULL};
	s->args[0] = SIGCHLD;
	s64 r = make_request(c, slot, REQ_FORK, SYS_clone);
	if ((s->r_action & 0xff) != ACT_FD)
		return child;
	*token = r;
	struct ring3_fdmsg msg;
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(8 * sizeof(int))];
	} control;
	struct iovec iov = {&msg, sizeof msg};
	struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	if (gate(SYS_recvmsg, c->sock, &hdr, 0) != sizeof msg || hdr.msg_controllen < CMSG_LEN(2 * sizeof(int)))
		return child;
	int fds[2];
	memcpy(fds, CMSG_DATA(&control.head), sizeof fds);
	child.sock = fds[0];
	child.base = (u8 *)gate(SYS_mmap, 0, RING3_CHANNEL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
	return child;
}

/* The supervisor has closed its end. */
static int is_closed(const struct channel *c)
{
	char byte[64];
	for (int i = 0; i < 10000; i++) {
		long r = gate(SYS_recvfrom, c->sock, byte, sizeof byte, MSG_DONTWAIT);
		if (r == 0 || r == -ECONNRESET)
			return 1;
		struct timespec pause = {0, 100000};
		gate(SYS_nanosleep, &pause, NULL);
	}
	return 0;
}

static u64 random_word(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}
