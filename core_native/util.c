/* Helpers: memory, numbers, locks, bitmaps, guest copies, and dying aloud.  Layer: lowest C.  Touches: nothing of its own. */
#include "core.h"

struct mm mm;

void *memcpy(void *to, const void *from, size_t n)
{
	void *at = to;
	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(n) : : "memory");
	return to;
}

/* CLOCK_MONOTONIC in nanoseconds, by a call: a guest may have forbidden rdtsc, which the vDSO needs too (PR_SET_TSC). */
u64 clock_ns(void)
{
	u64 now[2];
	sys(NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, now);
	return now[0] * 1000000000 + now[1];
}

/* Are n bytes the same? */
int same_bytes(const u8 *a, const u8 *b, u64 n)
{
	for (; n >= 8; n -= 8, a += 8, b += 8) {
		u64 x, y;
		memcpy(&x, a, 8);
		memcpy(&y, b, 8);
		if (x != y)
			return 0;
	}
	for (; n; n--)
		if (*a++ != *b++)
			return 0;
	return 1;
}

void *memset(void *to, int c, size_t n)
{
	void *at = to;
	__asm__ volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(c) : "memory");
	return to;
}

void *memmove(void *to, const void *from, size_t n)
{
	u8 *d = to;
	const u8 *s = from;
	if (d <= s || d >= s + n)
		return memcpy(to, from, n);
	while (n--)
		d[n] = s[n];
	return to;
}

size_t strlen(const char *s)
{
	size_t n = 0;
	while (s[n])
		n++;
	return n;
}

s64 parse_number(const char *s)
{
	s64 value = 0;
	int negative = *s == '-';
	for (s += negative; *s >= '0' && *s <= '9'; s++)
		value = value * 10 + (*s - '0');
	return negative ? -value : value;
}

char *format_number(char *at, s64 value)
{
	char digits[24];
	int n = 0;
	u64 v = value < 0 ? -(u64)value : (u64)value;
	if (value < 0)
		*at++ = '-';
	do
		digits[n++] = '0' + v % 10;
	while (v /= 10);
	while (n)
		*at++ = digits[--n];
	*at = 0;
	return at;
}

/* An error of ours that leaves no way on: one line on stderr, then SIGKILL to the process itself. */
void die(const char *what, s64 value)
{
	char line[160] = "ring3: core: ", *at = line + 13;
	size_t n = strlen(what);
	memcpy(at, what, n);
	at += n;
	*at++ = ' ';
	at = format_number(at, value);
	*at++ = '\n';
	sys(NR_write, 2, line, at - line);
	sys(NR_kill, sys(NR_getpid), SIGKILL);
	for (;;)
		sys(NR_exit_group, 125);
}

/* A futex mutex (Drepper, "Futexes are tricky", mutex 2): 0 free, 1 held, 2 held and waited for. */
void lock(u32 *word)
{
	u32 seen = 0;
	if (__atomic_compare_exchange_n(word, &seen, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	while (__atomic_exchange_n(word, 2, __ATOMIC_ACQUIRE))
		sys(NR_futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 2, NULL);
}

void unlock(u32 *word)
{
	if (__atomic_exchange_n(word, 0, __ATOMIC_RELEASE) == 2)
		sys(NR_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
}

int bitmap_take(u64 *map, u32 bits)
{
	for (u32 i = 0; i < bits / 64; i++) {
		u64 word = __atomic_load_n(&map[i], __ATOMIC_RELAXED);
		while (~word) {
			u32 bit = __builtin_ctzl(~word);
			if (__atomic_compare_exchange_n(&map[i], &word, word | 1UL << bit, 0, __ATOMIC_ACQ_REL,
							__ATOMIC_RELAXED))
				return i * 64 + bit;
		}
	}
	return -1;
}

void bitmap_drop(u64 *map, u32 bit)
{
	__atomic_fetch_and(&map[bit / 64], ~(1UL << bit % 64), __ATOMIC_RELEASE);
}

s64 copy_in(void *to, u64 from, u64 n)
{
	if (touches_core(from, n))
		return -EFAULT;
	return copy_bytes(to, (const void *)from, n);
}

s64 copy_out(u64 to, const void *from, u64 n)
{
	if (touches_core(to, n))
		return -EFAULT;
	return copy_bytes((void *)to, from, n);
}

/* A guest string into `to`, NUL included: its length; `max` when longer than max - 1; -EFAULT. */
s64 copy_str(char *to, u64 from, u64 max)
{
	if (touches_core(from, 1))
		return -EFAULT;
	return copy_string(to, (const char *)from, max);
}
