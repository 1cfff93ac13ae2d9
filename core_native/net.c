/*
 * Sockets that the host kernel does not serve alone: connections from a listener's queue, datagrams behind a header.
 * Layer: core functions.  Touches: the slot's data area as scratch, the class cache of the process.
 *
 * A guest's listener is one end of a pair.  A connection is a message on it: struct ring3_peer, and the new socket as
 * SCM_RIGHTS.  A datagram socket is such an end too: each datagram lies in its queue behind a struct ring3_peer.  Where
 * a datagram goes is the supervisor's to say; it lends the receiver's other end for the one sendmsg(2) (ACT_VIA).
 */
#include "core.h"

#define SOCK_NONBLOCK 04000
#define SOCK_CLOEXEC 02000000
#define MSG_ERRQUEUE 0x2000
#define RWF_NOWAIT 8u
#define MSG_WAITFORONE 0x10000
#define MSG_CMSG_COMPAT 0x80000000u
#define OPTMEM_MAX 131072 /* net.core.optmem_max, as /proc/sys shows it */
#define ENOBUFS 105
#define MAX_RW_COUNT 0x7ffff000UL

struct mmsghdr_ {
	struct msghdr_ hdr;
	u32 len, pad;
};

/* What a call that moves a message asks for, whichever it is. */
struct message {
	u64 name, name_size; /* where the address goes, and where its size is (0: not wanted) */
	u64 control, controllen;
	u64 iovlen, total;
	u32 flags;
};

/* The scratch area: one header, then the guest's buffers. */
static struct iovec_ *vectors(struct thread *t) { return (struct iovec_ *)slot_data(t); }

static s64 add_vector(struct thread *t, struct message *m, u64 base, u64 len)
{
	if ((s64)len < 0)
		return -EINVAL;
	if (len > MAX_RW_COUNT - m->total)
		len = MAX_RW_COUNT - m->total;
	if (len && touches_core(base, len))
		return -EFAULT;
	vectors(t)[++m->iovlen] = (struct iovec_){base, len};
	m->total += len;
	return 0;
}

static s64 add_vectors(struct thread *t, struct message *m, u64 iov, u64 count)
{
	if (count > UIO_MAXIOV)
		return -EINVAL;
	for (u64 i = 0; i < count; i++) {
		struct iovec_ v;
		s64 r = copy_in(&v, iov + i * sizeof v, sizeof v);
		if (!r)
			r = add_vector(t, m, v.base, v.len);
		if (r)
			return r;
	}
	return 0;
}

static s64 read_header(u64 at, struct msghdr_ *hdr)
{
	if (copy_in(hdr, at, sizeof *hdr))
		return -EFAULT;
	if (hdr->iovlen > UIO_MAXIOV)
		return -90; /* EMSGSIZE */
	if (hdr->name && (s32)hdr->namelen < 0)
		return -EINVAL;
	if (hdr->control && touches_core(hdr->control, hdr->controllen))
		return -EFAULT;
	return 0;
}

/* Understand a call of the read and the write family. */
static s64 describe_message(struct thread *t, struct call *c, struct message *m)
{
	struct msghdr_ hdr;
	memset(m, 0, sizeof *m);
	switch (c->nr) {
	case NR_preadv2:
	case NR_pwritev2:
		m->flags = c->a[5] & RWF_NOWAIT ? MSG_DONTWAIT : 0; /* sock_read_iter() */
		return add_vectors(t, m, c->a[1], (u32)c->a[2]);
	case NR_readv:
	case NR_writev:
		return add_vectors(t, m, c->a[1], (u32)c->a[2]); /* import_iovec() takes 32 bits of it */
	case NR_recvmsg:
	case NR_sendmsg: {
		s64 r = (u32)c->a[2] & MSG_CMSG_COMPAT ? -EINVAL : read_header(c->a[1], &hdr);
		if (r)
			return r;
		m->flags = c->a[2];
		m->name = hdr.namelen ? hdr.name : 0;
		m->name_size = c->nr == NR_recvmsg ? c->a[1] + __builtin_offsetof(struct msghdr_, namelen) : hdr.namelen;
		m->control = hdr.control;
		m->controllen = hdr.control ? hdr.controllen : 0;
		r = add_vectors(t, m, hdr.iov, hdr.iovlen);
		if (!r && c->nr == NR_sendmsg && hdr.controllen) /* ____sys_sendmsg(), before the socket is asked */
			r = hdr.controllen > OPTMEM_MAX ? -ENOBUFS : hdr.control ? 0 : -EFAULT;
		return r;
	}
	case NR_recvfrom:
	case NR_sendto:
		m->name = c->a[4];
		m->name_size = c->a[5];
		m->flags = c->a[3];
	}
	return add_vector(t, m, c->a[1], c->a[2]);
}

/* move_addr_to_user(): the address cut to the room there is, and its full length. */
static s64 give_address(const struct ring3_peer *peer, u64 to, u64 size_at, s32 room)
{
	u32 len = peer->len <= sizeof peer->addr ? peer->len : sizeof peer->addr;
	if (room < 0)
		return -EINVAL;
	if (to && room && copy_out(to, peer->addr, (u32)room < len ? (u32)room : len))
		return -EFAULT;
	return copy_out(size_at, &len, 4) ? -EFAULT : 0;
}

/* -- accept(2) */

/* A full descriptor table is found before a connection is taken from the queue. */
static s64 room_for_fd(int fd)
{
	s64 spare = sys(NR_fcntl, fd, F_DUPFD_CLOEXEC, 0);
	if (spare >= 0)
		sys(NR_close, spare);
	return spare < 0 ? spare : 0;
}

static s64 take_connection(struct thread *t, int listener, struct ring3_peer *peer, u32 flags)
{
	struct iovec_ iov = {(u64)peer, sizeof *peer};
	struct {
		struct cmsghdr_ head;
		int fd, pad;
	} control;
	struct msghdr_ hdr = {.iov = (u64)&iov, .iovlen = 1, .control = (u64)&control, .controllen = sizeof control};
	u64 args[6] = {listener, (u64)&hdr, flags & SOCK_CLOEXEC ? MSG_CMSG_CLOEXEC : 0, 0, 0, 0};
	s64 r = room_for_fd(listener);
	if (r)
		return r;
	r = safe_syscall(NR_recvmsg, args, &t->pending);
	if (r < 0)
		return r;
	if (r != sizeof *peer) /* the supervisor has closed its end: it listens no more */
		return -EINVAL;
	if (hdr.controllen < sizeof control.head || control.head.type != SCM_RIGHTS)
		return -EMFILE;
	if (flags & SOCK_NONBLOCK)
		sys(NR_fcntl, control.fd, F_SETFL, O_NONBLOCK);
	u8 internet = peer->addr[0] == AF_INET || peer->addr[0] == AF_INET6;
	t->proc->has_tcp |= internet;
	if ((u32)control.fd < FD_TABLE)
		t->proc->fd_class[control.fd] = FD_NATIVE | (internet ? CLASS_TCP : 0);
	return control.fd;
}

static s64 accept_call(struct thread *t, struct call *c)
{
	struct ring3_peer peer;
	u32 flags = c->nr == NR_accept4 ? c->a[3] : 0;
	s32 room = 0;
	s64 fd = take_connection(t, c->a[0], &peer, flags), r = 0;
	if (fd < 0 || !c->a[1])
		return fd;
	if (copy_in(&room, c->a[2], 4))
		r = -EFAULT;
	else
		r = give_address(&peer, c->a[1], c->a[2], room);
	if (r)
		sys(NR_close, fd);
	return r ? r : fd;
}

s64 fn_accept4(struct thread *t, struct call *c)
{
	int fd = (int)c->a[0];
	u32 flags = c->nr == NR_accept4 ? c->a[3] : 0;
	if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC))
		return -EINVAL;
	if (is_core_fd(t, fd))
		return -EBADF;
	return fd_bits(t, fd) & CLASS_LISTENER ? accept_call(t, c) : supervise(t, c, REQ_CALL);
}
s64 fn_accept(struct thread *t, struct call *c) { return fn_accept4(t, c); }

/* connect(2): the supervisor's; one that was connected and is no more gets a new pair at its number. */
s64 fn_connect(struct thread *t, struct call *c)
{
	int fd = (int)c->a[0];
	u8 *class = t->proc->fd_class;
	if (is_core_fd(t, fd))
		return -EBADF;
	s64 fresh = supervise(t, c, REQ_CALL);
	if (fresh <= 0)
		return fresh;
	s64 r = sys(NR_dup3, fresh, fd, sys(NR_fcntl, fd, F_GETFD, 0) & 1 /* FD_CLOEXEC */ ? O_CLOEXEC : 0);
	if (r >= 0 && (u32)fd < FD_TABLE)
		class[fd] = fresh < FD_TABLE ? class[fresh] : FD_UNKNOWN;
	if (fresh < FD_TABLE)
		class[fresh] = FD_UNKNOWN;
	sys(NR_close, fresh);
	return r < 0 ? r : 0;
}

/* -- receiving datagrams */

/* put_cmsg(): the control messages that came with the datagram, behind those of the host kernel's own. */
static s64 give_control(struct message *m, struct msghdr_ *hdr, const struct ring3_peer *peer)
{
	u64 left = m->controllen - hdr->controllen, at = m->control + hdr->controllen, from = 0;
	while (from + sizeof(struct cmsghdr_) <= peer->control_len && peer->control_len <= sizeof peer->control) {
		struct cmsghdr_ head;
		memcpy(&head, peer->control + from, sizeof head);
		u64 space = ALIGN_UP(head.len, 8), len = head.len;
		if (len < sizeof head || space > peer->control_len - from)
			break;
		if (left < sizeof head || !m->control) {
			hdr->flags |= MSG_CTRUNC;
			break;
		}
		if (left < len) {
			hdr->flags |= MSG_CTRUNC;
			len = left;
		}
		head.len = len;
		if (copy_out(at, &head, sizeof head) ||
		    copy_out(at + sizeof head, peer->control + from + sizeof head, len - sizeof head))
			return -EFAULT;
		from += space;
		if (space > left)
			space = left;
		at += space;
		left -= space;
		hdr->controllen += space;
	}
	return 0;
}

static s64 finish_receive(struct call *c, struct message *m, struct msghdr_ *hdr, struct ring3_peer *peer)
{
	s64 r = 0;
	s32 room = 0;
	if (c->nr == NR_recvmsg) {
		u64 at = c->a[1];
		if ((r = give_control(m, hdr, peer)))
			return r;
		s32 flags = hdr->flags & ~MSG_CMSG_CLOEXEC;
		if (m->name && (copy_in(&room, m->name_size, 4) || (r = give_address(peer, m->name, m->name_size, room))))
			return r ? r : -EFAULT;
		if (copy_out(at + __builtin_offsetof(struct msghdr_, flags), &flags, 4) ||
		    copy_out(at + __builtin_offsetof(struct msghdr_, controllen), &hdr->controllen, 8))
			return -EFAULT;
	} else if (m->name) {
		if (copy_in(&room, m->name_size, 4))
			return -EFAULT;
		r = give_address(peer, m->name, m->name_size, room);
	}
	return r;
}

/* The host's call for one message. */
static s64 message_call(struct thread *t, s64 nr, const u64 *args)
{
	static const u32 none;
	return safe_syscall(nr, args, t->heedless ? &none : &t->pending);
}

static s64 receive(struct thread *t, struct call *c)
{
	struct message m;
	struct ring3_peer peer = {.len = 0};
	s64 r = describe_message(t, c, &m);
	if (r)
		return r;
	if (m.flags & MSG_ERRQUEUE)
		return -EAGAIN;
	vectors(t)[0] = (struct iovec_){(u64)&peer, sizeof peer};
	struct msghdr_ hdr = {.iov = (u64)vectors(t), .iovlen = m.iovlen + 1, .control = m.control, .controllen = m.controllen};
	u64 args[6] = {c->a[0], (u64)&hdr, m.flags, 0, 0, 0};
	r = message_call(t, NR_recvmsg, args);
	if (r == 0 && ((m.flags & MSG_DONTWAIT) || (sys(NR_fcntl, c->a[0], F_GETFL) & O_NONBLOCK)))
		return -EAGAIN; /* after shutdown(SHUT_RD) only who waits hears of the end */
	if (r < (s64)sizeof peer)
		return r < 0 ? r : 0;
	if (peer.error)
		return -(s64)peer.error;
	s64 bad = finish_receive(c, &m, &hdr, &peer);
	return bad ? bad : r - (s64)sizeof peer;
}

/* -- sending */

/*
 * Control messages of the sender's own about the packet (its TTL or hop limit, its class) replace what the supervisor put
 * into the header from the socket's options.  The host kernel ignores them on a pair.
 */
static void override_control(const struct message *m, struct ring3_peer *header)
{
	u8 own[256];
	u64 len = m->controllen < sizeof own ? m->controllen : sizeof own;
	if (!header->control_len || header->control_len > sizeof header->control || copy_in(own, m->control, len))
		return;
	for (u64 i = 0; i + sizeof(struct cmsghdr_) + 4 <= len;) {
		struct cmsghdr_ ours, *want = (struct cmsghdr_ *)(own + i);
		if (want->len < sizeof *want + 4 || want->len > len - i)
			return;
		for (u64 j = 0; j + sizeof ours <= header->control_len; j += ALIGN_UP(ours.len, 8)) {
			memcpy(&ours, header->control + j, sizeof ours);
			u64 size = ours.len - sizeof ours;
			if (ours.len < sizeof ours)
				return;
			/* -1: the socket's own (ipv6(7)) */
			if (ours.level == want->level && ours.type == want->type && size <= 4 && *(s32 *)(want + 1) >= 0)
				memcpy(header->control + j + sizeof ours, own + i + sizeof ours, size);
		}
		i += ALIGN_UP(want->len, 8);
	}
}

/* Send a datagram over the descriptor that the supervisor lends. */
static s64 send_via(struct thread *t, struct call *c, struct message *m)
{
	struct ring3_slot *s = t->slot;
	struct ring3_peer header;
	int via = -1;
	u32 flags, add = MSG_NOSIGNAL, lossy = s->r_args[0];
	u32 offset = s->out_off[0];
	int there = offset <= RING3_SLOT_DATA_SIZE - sizeof header;
	if (there)
		memcpy(&header, slot_data(t) + offset, sizeof header);
	s64 r = receive_fds(t, &via, 1, &flags);
	if (r < 1 || !there)
		return r < 0 ? r : -EIO;
	r = describe_message(t, c, m); /* anew: the scratch area held the request meanwhile */
	if (!r) {
		if (m->controllen)
			override_control(m, &header);
		vectors(t)[0] = (struct iovec_){(u64)&header, sizeof header};
		struct msghdr_ hdr = {
			.iov = (u64)vectors(t), .iovlen = m->iovlen + 1, .control = m->control, .controllen = m->controllen};
		if (lossy || (m->flags & MSG_DONTWAIT) || (sys(NR_fcntl, c->a[0], F_GETFL) & O_NONBLOCK))
			add |= MSG_DONTWAIT;
		u64 args[6] = {via, (u64)&hdr, add, 0, 0, 0};
		r = message_call(t, NR_sendmsg, args);
		if (r >= (s64)sizeof header)
			r -= sizeof header;
		else if (r == -EAGAIN && lossy)
			r = m->total;
		else if (r == -32 /* EPIPE: closed since */ || r == -104)
			r = lossy ? (s64)m->total : -111; /* ECONNREFUSED */
	}
	sys(NR_close, via);
	return r;
}

/* How much a call that sends asks for, or an error. */
s64 message_size(struct thread *t, struct call *c)
{
	struct message m;
	s64 r = describe_message(t, c, &m);
	return r ? r : (s64)m.total;
}

/* The host kernel's send, without the address: the peer is the one that the pair has. */
static s64 send_native(struct thread *t, struct call *c)
{
	if (fd_bits(t, (int)c->a[0]) & CLASS_TCP)
		return tcp_send(t, c);
	struct call plain = *c;
	struct msghdr_ hdr;
	if (c->nr == NR_sendto)
		plain.a[4] = plain.a[5] = 0;
	if (c->nr == NR_sendmsg) {
		if (copy_in(&hdr, c->a[1], sizeof hdr))
			return -EFAULT;
		hdr.name = hdr.namelen = 0;
		plain.a[1] = (u64)&hdr;
	}
	return message_call(t, plain.nr, plain.a);
}

/* Every kind of sending is put to the supervisor as a sendto(2) without the bytes. */
static s64 send(struct thread *t, struct call *c)
{
	struct message m;
	s64 r = describe_message(t, c, &m);
	if (r || (c->nr == NR_writev && !m.total))
		return r;
	u64 name = c->nr == NR_sendto || c->nr == NR_sendmsg ? m.name : 0;
	struct call ask_for = {NR_sendto, {c->a[0], 0, m.total, m.flags, name, name ? m.name_size : 0}, c->ip, c->sp, c->uc};
	s64 action = put_call(t, &ask_for, REQ_CALL);
	if (action < 0)
		return action;
	if ((action & 0xff) == ACT_VIA)
		return send_via(t, c, &m);
	if ((action & 0xff) == ACT_NATIVE) {
		if ((action & ACT_NATIVE_FD) && c->a[0] < FD_TABLE)
			fd_connected(t, c->a[0]);
		return send_native(t, c);
	}
	return ask_finish(t, &ask_for, action);
}

s64 fn_sendto(struct thread *t, struct call *c)
{
	int fd = (int)c->a[0];
	if (is_core_fd(t, fd))
		return -EBADF;
	u32 bits = fd_bits(t, fd);
	if ((bits & CLASS_MASK) == FD_PLACEHOLDER && !(bits & CLASS_SOCKET))
		return supervise(t, c, REQ_CALL);
	if (bits == (FD_NATIVE | CLASS_TCP))
		return tcp_send(t, c);
	return (bits & CLASS_SOCKET) || (c->a[4] && (u32)c->a[5]) ? send(t, c) : native(t, c); /* as move_addr_to_kernel() */
}

/* A message may hand descriptors to another process. */
static s64 before_message(struct thread *t, u64 message)
{
	struct msghdr_ hdr;
	if (copy_in(&hdr, message, sizeof hdr) || !hdr.controllen)
		return 0;
	kept_drop(t->proc);
	return vdirs_real(t, 0);
}

s64 fn_sendmsg(struct thread *t, struct call *c)
{
	int fd = (int)c->a[0];
	struct msghdr_ hdr;
	if (is_core_fd(t, fd))
		return -EBADF;
	s64 r = t->proc->nkept || t->proc->ndrafts || t->proc->nvdirs ? before_message(t, c->a[1]) : 0;
	if (unlikely(r))
		return r;
	u32 bits = fd_bits(t, fd);
	if ((bits & CLASS_MASK) == FD_PLACEHOLDER && !(bits & CLASS_SOCKET))
		return supervise(t, c, REQ_CALL);
	if (bits == (FD_NATIVE | CLASS_TCP))
		return tcp_send(t, c);
	if (bits & CLASS_SOCKET)
		return send(t, c);
	r = read_header(c->a[1], &hdr);
	if (r)
		return sys(NR_fcntl, fd, F_GETFD) < 0 ? -EBADF : r;
	return hdr.name && hdr.namelen ? send(t, c) : message_call(t, c->nr, c->a);
}

/*
 * One message of several.  A signal that comes after the first waits until the call returns, as long as no message makes it
 * wait: net/socket.c looks for signals in neither loop.
 */
static s64 one_more(struct thread *t, struct call *one, u32 before, s64 (*message)(struct thread *, struct call *))
{
	s64 r = message(t, one);
	if (r != -ERESTARTSYS || !before)
		return r;
	one->a[2] |= MSG_DONTWAIT;
	t->heedless = 1;
	r = message(t, one);
	t->heedless = 0;
	return r;
}

/* sendmmsg(2): as many as go; an error only where not even the first does. */
s64 fn_sendmmsg(struct thread *t, struct call *c)
{
	u32 count = (u32)c->a[2] < UIO_MAXIOV ? (u32)c->a[2] : UIO_MAXIOV;
	int fd = (int)c->a[0];
	if ((u32)c->a[3] & MSG_CMSG_COMPAT)
		return -EINVAL;
	if (!count) { /* then only the descriptor can be wrong */
		struct kstat_ st;
		if (is_core_fd(t, fd) || sys(NR_fstat, fd, &st))
			return -EBADF;
		u32 bits = fd_bits(t, fd);
		return (st.mode & S_IFMT) == S_IFSOCK && ((bits & CLASS_SOCKET) || (bits & CLASS_MASK) != FD_PLACEHOLDER) ? 0 : -ENOTSOCK;
	}
	for (u32 i = 0; i < count; i++) {
		u64 at = c->a[1] + i * sizeof(struct mmsghdr_);
		struct call one = {NR_sendmsg, {c->a[0], at, c->a[3], 0, 0, 0}, c->ip, c->sp, c->uc};
		s64 r = one_more(t, &one, i, fn_sendmsg);
		u32 len = r;
		if (r >= 0 && copy_out(at + __builtin_offsetof(struct mmsghdr_, len), &len, 4))
			r = -EFAULT;
		if (r < 0)
			return i ? (s64)i : r;
	}
	return count;
}

/* What is left of a limit of {seconds, nanoseconds} that began then; 0 if nothing is. */
static int time_left(s64 left[2], const s64 limit[2], u64 began)
{
	u64 took = clock_ns() - began;
	left[0] = limit[0] - (s64)(took / 1000000000);
	left[1] = limit[1] - (s64)(took % 1000000000);
	if (left[1] < 0) {
		left[1] += 1000000000;
		left[0]--;
	}
	if (left[0] < 0)
		left[0] = left[1] = 0;
	return left[0] || left[1];
}

/* recvmmsg(2) of datagrams, until the limit, which is looked at between messages as Linux does (recvmmsg(2), BUGS). */
static s64 receive_until(struct thread *t, struct call *c, const s64 limit[2], s64 left[2])
{
	u32 count = (u32)c->a[2] < UIO_MAXIOV ? (u32)c->a[2] : UIO_MAXIOV, flags = c->a[3];
	u64 began = limit ? clock_ns() : 0;
	for (u32 i = 0; i < count; i++) {
		u64 at = c->a[1] + i * sizeof(struct mmsghdr_);
		struct call one = {NR_recvmsg, {c->a[0], at, flags & ~MSG_WAITFORONE, 0, 0, 0}, c->ip, c->sp, c->uc};
		s64 r = one_more(t, &one, i, receive);
		u32 len = r;
		if (r >= 0 && copy_out(at + __builtin_offsetof(struct mmsghdr_, len), &len, 4))
			r = -EFAULT;
		if (r < 0)
			return i ? (s64)i : r;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		if (limit && !time_left(left, limit, began))
			return i + 1;
	}
	return count;
}

static s64 receive_many(struct thread *t, struct call *c)
{
	s64 limit[2], left[2];
	if ((u32)c->a[3] & MSG_CMSG_COMPAT)
		return -EINVAL;
	if (!c->a[4])
		return receive_until(t, c, NULL, NULL);
	if (copy_in(limit, c->a[4], sizeof limit))
		return -EFAULT;
	if (limit[0] < 0 || (u64)limit[1] >= 1000000000)
		return -EINVAL;
	s64 r = receive_until(t, c, limit, left);
	return r > 0 && copy_out(c->a[4], left, sizeof left) ? -EFAULT : r;
}

/* FIONREAD: the length of the next datagram. */
s64 net_fionread(int fd, u64 to)
{
	s64 r = sys(NR_recvfrom, fd, NULL, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT, NULL, NULL);
	s32 n = r > (s64)sizeof(struct ring3_peer) ? r - (s64)sizeof(struct ring3_peer) : 0;
	return copy_out(to, &n, 4) ? -EFAULT : 0;
}

/* Flags of preadv2(2) that change nothing for a socket: HIPRI, DSYNC, SYNC, APPEND, NOAPPEND. */
#define RWF_OF_SOCKETS 0x37u

/* A call on a socket that is supervised. */
s64 net_call(struct thread *t, struct call *c)
{
	if ((c->nr == NR_readv || c->nr == NR_writev) && !(u32)c->a[2])
		return 0; /* nothing to do, whatever the socket's state */
	if (c->nr == NR_read && !c->a[2])
		return c->a[1] > TASK_SIZE ? -EFAULT : 0; /* sock_read_iter() */
	if (c->nr == NR_readv) {
		struct message m;
		s64 r = describe_message(t, c, &m);
		if (r || !m.total)
			return r; /* vfs_readv() asks no socket for nothing */
	}
	int datagram = c->a[0] < FD_TABLE && (t->proc->fd_class[c->a[0]] & CLASS_DATAGRAM);
	if (datagram && c->a[3] == ~0UL && !((u32)c->a[5] & ~(RWF_OF_SOCKETS | RWF_NOWAIT)) &&
	    (c->nr == NR_preadv2 || c->nr == NR_pwritev2)) {
		struct message m;
		s64 r = describe_message(t, c, &m);
		if (r || !m.total)
			return r;
		return c->nr == NR_preadv2 ? receive(t, c) : send(t, c);
	}
	switch (c->nr) {
	case NR_accept:
	case NR_accept4:
		return accept_call(t, c);
	case NR_read:
	case NR_readv:
	case NR_recvfrom:
	case NR_recvmsg:
		return datagram ? receive(t, c) : supervise(t, c, REQ_CALL);
	case NR_recvmmsg:
		return datagram || !(u32)c->a[2] ? receive_many(t, c) : supervise(t, c, REQ_CALL);
	case NR_write:
	case NR_writev:
		return send(t, c);
	}
	return supervise(t, c, REQ_CALL);
}
