/*
 * Connected TCP sockets: what the pair that stands for one does not do by itself.
 * Layer: core functions.  Touches: the pair's SO_LINGER, which means nothing to the host kernel there.
 *
 * SO_LINGER of the pair keeps a few bits, so that whoever shares the socket sees them; the guest's own is kept by the
 * supervisor.  Where the descriptor is a TCP socket of the host's (netstack/publish.py) everything is the host kernel's.
 */
#include "core.h"

#define SO_ERROR 4
#define SO_LINGER 13
#define SO_DOMAIN 39
#define IPPROTO_TCP 6
#define TCP_NODELAY 1
#define TCP_CORK 3
#define POLLIN 1
#define POLLERR 8
#define POLLRDHUP 0x2000
#define CLOCK_MONOTONIC_COARSE 6

/* netstack/options.py hands the first two and the last down */
enum {
	BIT_NODELAY = 1,
	BIT_CORK = 2,
	BIT_SHUT = 4,  /* shutdown(SHUT_WR) */
	BIT_RESET = 8, /* the peer has answered with RST */
	BIT_ABORT = 16, /* close(2) is to reset: SO_LINGER with 0 */
	BIT_DEAF = 32,  /* shutdown(SHUT_RD), by which the peer's end is no longer heard of */
	BIT_EPIPE = 64  /* SO_ERROR is to tell of it: the RST came after the peer's end (tcp_reset()) */
};

/* What lies in a send buffer before the peer's RST is heard of (tcp_init_buffer_space() on loopback). */
#define SEND_BUFFER 2626560

struct linger_ {
	s32 on, bits;
};

static s64 option(s64 nr, int fd, int level, int name, void *value, s32 size)
{
	return nr == NR_getsockopt ? sys(nr, fd, level, name, value, &size) : sys(nr, fd, level, name, value, size);
}

static s32 get_bits(int fd)
{
	struct linger_ l = {0, 0};
	return option(NR_getsockopt, fd, SOL_SOCKET, SO_LINGER, &l, sizeof l) || !l.on ? 0 : l.bits;
}

static s64 set_bits(int fd, s32 bits)
{
	struct linger_ l = {1, bits};
	return option(NR_setsockopt, fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
}

static int is_pair(int fd)
{
	s32 domain = 0;
	return !option(NR_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &domain, sizeof domain) && domain == AF_UNIX;
}

static s64 change_bits(int fd, s32 bit, int on)
{
	s32 bits = get_bits(fd);
	return set_bits(fd, on ? bits | bit : bits & ~bit);
}

static int is_connection(struct thread *t, int fd)
{
	return !is_core_fd(t, fd) && fd_bits(t, fd) == (FD_NATIVE | CLASS_TCP);
}

/* What waits at `fd` of these; POLLERR in any case. */
static s32 waiting_at(int fd, int events)
{
	struct pollfd_ p = {fd, (short)events, 0};
	return sys(NR_poll, &p, 1, 0) > 0 ? p.revents : 0;
}

/* Is the pair's connection over (TCP_CLOSE): reset, or ended by both sides? */
static int is_closed(int fd)
{
	s32 bits = get_bits(fd), at = waiting_at(fd, POLLRDHUP);
	return (bits & BIT_RESET) || (at & POLLERR) || ((bits & (BIT_SHUT | BIT_DEAF)) == BIT_SHUT && (at & POLLRDHUP));
}

/* getpeername(2): the supervisor does not hear of the end of a connection. */
s64 fn_getpeername(struct thread *t, struct call *c)
{
	int fd = (int)c->a[0];
	if (is_connection(t, fd) && is_pair(fd) && is_closed(fd))
		return -ENOTCONN;
	return supervise(t, c, REQ_CALL);
}

/* -- TCP_NODELAY and TCP_CORK: servers set and clear them with every answer */

static int is_flag(struct thread *t, struct call *c)
{
	int name = (int)c->a[2];
	return (int)c->a[1] == IPPROTO_TCP && (name == TCP_NODELAY || name == TCP_CORK) && !is_core_fd(t, (int)c->a[0]) &&
	       (fd_bits(t, (int)c->a[0]) & CLASS_TCP);
}

static s32 flag_bit(struct call *c) { return (int)c->a[2] == TCP_NODELAY ? BIT_NODELAY : BIT_CORK; }

/* SO_LINGER is the supervisor's; whether closing resets is kept with the pair. */
static s64 set_linger(struct thread *t, struct call *c)
{
	struct linger_ wanted = {0, 0};
	int fd = (int)c->a[0];
	copy_in(&wanted, c->a[3], sizeof wanted);
	s64 r = supervise(t, c, REQ_CALL);
	return r || !is_pair(fd) ? r : change_bits(fd, BIT_ABORT, wanted.on && !wanted.bits);
}

s64 fn_setsockopt(struct thread *t, struct call *c)
{
	int fd = (int)c->a[0];
	s32 value;
	if ((int)c->a[1] == SOL_SOCKET && (int)c->a[2] == SO_LINGER && (s32)c->a[4] >= 8 && !is_core_fd(t, fd) &&
	    (fd_bits(t, fd) & CLASS_TCP))
		return set_linger(t, c);
	if (!is_flag(t, c) || (s32)c->a[4] < 4 || copy_in(&value, c->a[3], sizeof value))
		return supervise(t, c, REQ_CALL);
	if (fd_class(t, fd) != FD_NATIVE) { /* not connected: what a listener hands down is the supervisor's */
		struct call ask_too = *c;
		s64 r = supervise(t, &ask_too, REQ_CALL);
		if (r)
			return r;
	}
	s64 r = option(NR_setsockopt, fd, IPPROTO_TCP, (int)c->a[2], &value, sizeof value);
	if (r != -EOPNOTSUPP) /* the host's own */
		return r;
	return change_bits(fd, flag_bit(c), value);
}

/* SO_ERROR, which is told once. */
static s64 take_error(struct call *c)
{
	int fd = (int)c->a[0];
	s32 room, error = 0, bits = get_bits(fd);
	if (copy_in(&room, c->a[4], 4))
		return -EFAULT;
	if (room < 0)
		return -EINVAL;
	option(NR_getsockopt, fd, SOL_SOCKET, SO_ERROR, &error, sizeof error);
	if (error)
		set_bits(fd, bits | BIT_RESET);
	else if (bits & BIT_EPIPE) {
		set_bits(fd, bits & ~BIT_EPIPE);
		error = EPIPE;
	}
	room = room < 4 ? room : 4;
	return copy_out(c->a[3], &error, room) || copy_out(c->a[4], &room, 4) ? -EFAULT : 0;
}

s64 fn_getsockopt(struct thread *t, struct call *c)
{
	int fd = (int)c->a[0];
	s32 room, value = 0;
	if ((int)c->a[1] == SOL_SOCKET && (int)c->a[2] == SO_ERROR && is_connection(t, fd) && is_pair(fd))
		return take_error(c);
	if (!is_flag(t, c) || fd_class(t, fd) != FD_NATIVE || copy_in(&room, c->a[4], 4) || room < 0)
		return supervise(t, c, REQ_CALL);
	s64 r = option(NR_getsockopt, fd, IPPROTO_TCP, (int)c->a[2], &value, sizeof value);
	if (r == -EOPNOTSUPP) {
		value = (get_bits(fd) & flag_bit(c)) != 0;
		r = 0;
	}
	room = room < 4 ? room : 4;
	return r ? r : copy_out(c->a[3], &value, room) || copy_out(c->a[4], &room, 4) ? -EFAULT : 0;
}

/* -- sending and the end of it */

/*
 * A pair says at once that the peer is gone.  TCP lets one write go, and hears by the peer's RST; what the peer had not
 * read when it closed is a reset by itself (tcp_close(), tcp_reset()).
 */
static s64 broken(struct thread *t, struct call *c, u32 flags)
{
	int fd = (int)c->a[0];
	s32 bits = get_bits(fd), error = 0;
	if (is_pair(fd) && !(bits & BIT_SHUT)) {
		option(NR_getsockopt, fd, SOL_SOCKET, SO_ERROR, &error, sizeof error);
		s64 size = error ? 0 : message_size(t, c);
		if (size > SEND_BUFFER)
			size = SEND_BUFFER;
		if (!error && !(bits & BIT_DEAF) && !(waiting_at(fd, POLLRDHUP) & POLLRDHUP))
			return size; /* the peer will not read it, and has not closed */
		if (error || size > 0)
			set_bits(fd, bits & BIT_RESET ? bits & ~BIT_EPIPE : bits | BIT_RESET | (error ? 0 : BIT_EPIPE));
		if (error || !(bits & BIT_RESET))
			return error ? -(s64)error : size;
	}
	if (!(flags & MSG_NOSIGNAL))
		sys(NR_tgkill, t->proc->pid, t->tid, SIGPIPE);
	return -EPIPE;
}

/* A receiving call has told of a reset: what is sent from now on is EPIPE. */
void tcp_was_reset(int fd)
{
	if (is_pair(fd))
		set_bits(fd, get_bits(fd) | BIT_RESET);
}

/* write(2) and its like on a connected TCP socket: without the address, as the peer is the one that it has. */
s64 tcp_send(struct thread *t, struct call *c)
{
	struct call plain = *c;
	struct msghdr_ hdr = {.iov = c->a[1], .iovlen = c->a[2]};
	u32 flags = 0;
	if (in_core(c->a[1]))
		return -EFAULT;
	switch (c->nr) {
	case NR_write:
		plain.nr = NR_sendto;
		plain.a[3] = 0;
		break;
	case NR_writev:
		if (c->a[2] > UIO_MAXIOV)
			return -EINVAL;
		plain.nr = NR_sendmsg;
		break;
	case NR_sendto:
		flags = c->a[3];
		break;
	default:
		flags = c->a[2];
		if (copy_in(&hdr, c->a[1], sizeof hdr))
			return -EFAULT;
		hdr.name = hdr.namelen = 0;
		hdr.control = hdr.controllen = 0; /* descriptors do not go over TCP (sock_cmsg_send()) */
	}
	if (plain.nr == NR_sendmsg) {
		plain.a[1] = (u64)&hdr;
		plain.a[2] = flags | MSG_NOSIGNAL;
	} else {
		plain.a[3] = flags | MSG_NOSIGNAL;
		plain.a[4] = plain.a[5] = 0;
	}
	s64 r = native(t, &plain);
	return r == -EPIPE ? broken(t, c, flags) : r;
}

/* recvfrom(2) with MSG_TRUNC, which throws away what has come in, whatever the buffer (tcp(7)). */
s64 tcp_skip(struct thread *t, struct call *c)
{
	char scratch[1024];
	struct call part = *c;
	u64 done = 0;
	if (!is_pair((int)c->a[0]) || (c->a[3] & (MSG_PEEK | MSG_OOB)))
		return native(t, c);
	part.a[1] = (u64)scratch;
	part.a[3] &= ~(u64)MSG_TRUNC;
	while (done < c->a[2]) {
		part.a[2] = c->a[2] - done < sizeof scratch ? c->a[2] - done : sizeof scratch;
		s64 r = native(t, &part);
		if (r < 0 && !done)
			return r;
		if (r <= 0)
			break;
		done += (u64)r;
		if (!(c->a[3] & MSG_WAITALL))
			part.a[3] |= MSG_DONTWAIT;
	}
	return (s64)done;
}

/* Note that this side ended the connection, `first` or not: whoever did is left in TIME_WAIT (netstack/endings.py). */
static void note_end(struct thread *t, int fd, int first)
{
	struct ring3_proc_page *page = (struct ring3_proc_page *)t->proc->chan;
	struct kstat_ st;
	u64 now[2] = {0, 0};
	if (sys(NR_fstat, fd, &st))
		return;
	sys(NR_clock_gettime, CLOCK_MONOTONIC_COARSE, now);
	u64 i = __atomic_fetch_add(&page->closed_count, 1, __ATOMIC_RELAXED) % RING3_CLOSED_SOCKETS;
	page->closed_ino[i] = st.ino;
	page->closed_at[i] = ((now[0] * 1000000000 + now[1]) & ~1UL) | (u64)first;
}

/* shutdown(2): from then on EPIPE is the guest's own doing. */
s64 tcp_shutdown(struct thread *t, struct call *c)
{
	int fd = (int)c->a[0], how = (int)c->a[1], first = !(waiting_at(fd, POLLIN | POLLRDHUP) & POLLRDHUP);
	int pair = is_pair(fd), closed = pair && is_closed(fd);
	s64 r = native(t, c);
	if (r || !pair)
		return r;
	set_bits(fd, get_bits(fd) | (how ? BIT_SHUT : 0) | (first && how != 1 ? BIT_DEAF : 0));
	if (how && !closed)
		note_end(t, fd, first);
	return closed ? -ENOTCONN : 0; /* although the readers are woken (inet_shutdown()) */
}

/* A descriptor of a connection is about to be closed. */
void tcp_ends(struct thread *t, int fd)
{
	if (!is_pair(fd))
		return;
	s32 bits = get_bits(fd);
	if (bits & BIT_ABORT) { /* the supervisor sees to it that the peer hears of a reset, if it is the last one */
		struct call ask_for = {NR_close, {fd, 0, 0, 0, 0, 0}, 0, 0, NULL};
		put_call(t, &ask_for, REQ_CALL);
	} else if (!(bits & BIT_SHUT)) {
		note_end(t, fd, !waiting_at(fd, POLLIN | POLLRDHUP)); /* what was not read is a reset, after which nobody waits */
	}
}

/* All of them are. */
void tcp_exits(struct thread *t)
{
	struct proc *p = t->proc;
	if (!p->has_tcp)
		return;
	for (u32 fd = 0; fd < FD_TABLE && fd < p->soft_nofile; fd++)
		if (p->fd_class[fd] == (FD_NATIVE | CLASS_TCP))
			tcp_ends(t, fd);
}

s64 fn_exit_group(struct thread *t, struct call *c)
{
	tcp_exits(t);
	((struct ring3_proc_page *)t->proc->chan)->ends = 1;
	return native(t, c);
}
