/*
 * Where the processor enters and leaves the core.
 * Layer: lowest.  Touches: registers and the core stack.  Every label that signal.c compares an interrupted
 * instruction pointer with is defined here.
 */
#include "gen_layout_asm.h"

	.file "entry.S" /* else the symbol table names the compiler's temporary file */
	.text

/* The kernel enters here after execveat; its stack will be the guest's, so the core moves off it at once. */
	.globl _start
_start:
	mov %rsp, %rdi
	lea boot_stack_top(%rip), %rsp
	xor %ebp, %ebp
	call core_start
	ud2

	.bss
	.balign 64
	.skip 32768
boot_stack_top:
	.text

/*
 * Syscall User Dispatch's SIGSYS.  rdx is the address of the ucontext, which lies 8 above the frame's start;
 * rt_sigreturn wants rsp there (the return address having been popped), and so rsp stays there throughout.
 */
	.globl sigsys_entry
sigsys_entry:
	cld
	mov %rdx, %rbx
	mov %rdx, %rsp
	call core_sigsys
	test %eax, %eax
	jne plain_return

/*
 * The tail: a signal that is recorded before this check is seen by it; one that interrupts between the check and the
 * return is recorded with rip put back to tail_start (signal.c), so none is ever left for the next call.
 */
	.globl tail_start
tail_start:
	mov %rbx, %rsp
	mov %rbx, %rax
	or $0xffff, %rax		/* thread_of(): the struct is the last KiB of the 64 KiB block */
	cmpl $0, -1023(%rax)
	jne 1f
	mov $15, %eax
	syscall
	.globl tail_end
tail_end:
	ud2
1:	mov %rbx, %rdi
	call core_boundary
	jmp tail_start

/*
 * The fast entry, for rewritten sites: a trampoline (loader/rewrite.py) jumps here with rcx = the address after the site's
 * syscall instruction and r11 = a syscall instruction in the trampoline, the slow way.  The guest's stack is not touched.
 * GS holds struct thread, unless the guest took GS for itself: then fast_target is fast_slow and every call traps.
 */
	.section .text.fast, "ax"
	.globl fast_entry
fast_entry:
	jmp *fast_target(%rip)

/* The registers of struct fast_frame, but for the last three. */
	.macro reload
	mov 0(%rsp), %r9
	mov 8(%rsp), %r8
	mov 16(%rsp), %r10
	mov 24(%rsp), %rdx
	mov 32(%rsp), %rsi
	mov 40(%rsp), %rdi
	mov 48(%rsp), %rax
	.endm

	.data
	.balign 8
	.globl fast_target
fast_target:
	.quad fast_path
	.text

	.globl fast_path, fast_slow, fast_tail, fast_last
fast_slow:
	jmp *%r11
fast_path:
	mov %rsp, %gs:8			/* guest_sp */
	mov %gs:16, %rsp		/* core_sp */
	pushfq
	push %rcx
	push %r11
	push %rax
	push %rdi
	push %rsi
	push %rdx
	push %r10
	push %r8
	push %r9
	cld
	mov %rsp, %rdi
	call core_fast
	test %eax, %eax
	jne fast_trap
/* As tail_start: a signal in [fast_tail, fast_last) is recorded and begins this anew; one at fast_last meets the guest's state. */
fast_tail:
	mov %gs:16, %rsp
	lea -80(%rsp), %rsp
	cmpl $0, %gs:0
	jne fast_pending
	reload
	mov 64(%rsp), %rcx
	mov 72(%rsp), %r11		/* syscall leaves the flags in r11 */
	pushq %r11
	popfq
	mov %gs:8, %rsp
fast_last:
	jmp *%rcx
/* A signal waits, and only a trap's frame holds the vector state: trap with a number that core_sigsys knows. */
fast_pending:
	movq $RING3_DELIVER, 48(%rsp)
/* The slow way: everything as it was at the site, and the trampoline's own syscall. */
fast_trap:
	reload
	mov 56(%rsp), %rcx
	mov %rcx, %gs:24		/* jump */
	pushq 72(%rsp)
	popfq
	mov %gs:8, %rsp
	jmp *%gs:24

/*
 * Page zero's slide ends here (zpoline.c): rax is a number, (%rsp) where the site goes on, if a site it was.  Flags, and rcx and r11
 * too, are the guest's until that is known.  zp_target is zp_slow where GS cannot be used.
 */
	.data
	.balign 8
	.globl zp_target
zp_target:
	.quad zp_path
	.text
	.globl zp_entry, zp_path, zp_load, zp_slow, zp_mark, zp_null, zp_null_end
zp_entry:
	jmp *zp_target(%rip)
zp_path:
	mov %rcx, %gs:32		/* zp_rcx */
	mov %r11, %gs:40		/* zp_r11 */
zp_load:
	mov (%rsp), %rcx
	lea zp_mark(%rip), %r11
	jmp fast_path
zp_slow:
	hlt				/* a fault, which zp_signal() looks into */
zp_mark:
	hlt				/* never reached: core_fast() knows by its address where a call came from */
zp_null:
	mov %gs:32, %rcx
	mov %gs:40, %r11
zp_null_end:
	hlt

/* Every other signal.  All but SIGSEGV, SIGBUS and SIGSYS are blocked here, so the plain return suffices. */
	.globl signal_entry
signal_entry:
	cld
	mov %rdx, %rbx
	mov %rdx, %rsp
	call core_signal
plain_return:
	mov %rbx, %rsp
	mov $15, %eax
	syscall
	ud2

/* s64 safe_syscall(nr, args, &pending): the syscall, or -ERESTARTSYS at once when a signal is recorded before it starts. */
	.globl safe_syscall, safe_begin, safe_insn, safe_abort
safe_syscall:
	mov %rdi, %rax
	mov %rdx, %r11
	mov 24(%rsi), %r10
	mov 32(%rsi), %r8
	mov 40(%rsi), %r9
	mov 16(%rsi), %rdx
	mov 0(%rsi), %rdi
	mov 8(%rsi), %rsi
safe_begin:
	cmpl $0, (%r11)
	jne safe_abort
safe_insn:
	syscall
	ret
safe_abort:
	mov $-512, %rax
	ret

/* s64 copy_bytes(to, from, n): 0, or -EFAULT when either side faults. */
	.globl copy_bytes, copy_string, copy_begin, copy_end, copy_fault
copy_begin:
copy_bytes:
	mov %rdx, %rcx
	rep movsb
	xor %eax, %eax
	ret
/* s64 copy_string(to, from, max): length without the NUL, max when there is none within max, or -EFAULT. */
copy_string:
	xor %eax, %eax
1:	cmp %rdx, %rax
	je 2f
	movb (%rsi,%rax), %cl
	movb %cl, (%rdi,%rax)
	test %cl, %cl
	je 2f
	inc %rax
	jmp 1b
2:	ret
copy_end:
copy_fault:
	mov $-14, %rax
	ret

/*
 * s64 clone_call(args, child, arg): clone; a child with a stack of its own runs child(arg) on it.  (Not clone3, whose flags
 * no filter can see.)  A child without one goes on as its parent does.
 */
	.globl clone_call
clone_call:
	push %rbx
	push %r12
	mov %rdi, %rax
	mov %rsi, %r9
	mov %rdx, %rbx
	mov (%rax), %rdi		/* args->flags */
	or 32(%rax), %rdi		/* args->exit_signal */
	mov 24(%rax), %rdx		/* args->parent_tid */
	test $0x1000, %edi		/* CLONE_PIDFD */
	je 1f
	mov 8(%rax), %rdx		/* args->pidfd */
1:	mov 16(%rax), %r10		/* args->child_tid */
	mov 56(%rax), %r8		/* args->tls */
	mov 40(%rax), %rsi		/* args->stack */
	mov %rsi, %r12
	add 48(%rax), %rsi		/* args->stack_size */
	mov $56, %eax
	syscall
	test %rax, %rax
	jne 2f
	test %r12, %r12
	je 2f
	xor %ebp, %ebp
	mov %rbx, %rdi
	and $-16, %rsp
	call *%r9
	ud2
2:	pop %r12
	pop %rbx
	ret

/* Return into the guest through the signal frame whose ucontext this is. */
	.globl sigreturn_to
sigreturn_to:
	mov %rdi, %rsp
	mov $15, %eax
	syscall
	ud2

/* The guest's first instruction, with the registers as ELF_PLAT_INIT leaves them (arch/x86/include/asm/elf.h). */
	.globl enter_guest
enter_guest:
	mov %rsi, %rsp
	push $0x202
	popfq
	mov %rdi, -8(%rsp)
	xor %eax, %eax
	xor %ebx, %ebx
	xor %ecx, %ecx
	xor %edx, %edx
	xor %esi, %esi
	xor %edi, %edi
	xor %ebp, %ebp
	xor %r8d, %r8d
	xor %r9d, %r9d
	xor %r10d, %r10d
	xor %r11d, %r11d
	xor %r12d, %r12d
	xor %r13d, %r13d
	xor %r14d, %r14d
	xor %r15d, %r15d
	jmp *-8(%rsp)

/* Leave this thread for good: once the block is marked free another thread may take it, so no stack from there on. */
	.globl exit_thread
exit_thread:
	movl $2, (%rdi)
	mov %esi, %edi
	mov $60, %eax
	syscall
	ud2

	.section .note.GNU-stack,"",@progbits
