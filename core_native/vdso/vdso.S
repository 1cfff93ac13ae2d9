/*
 * The vDSO that guests see: a small ELF shared object, compiled on its own and carried inside the core (vdso_blob.S).
 * Layer: guest code; it runs on the guest's stack as any library.  Touches: the world page and the table of the host
 * vDSO's functions, which main.c fills in; neither can be written by it.
 *
 * Each function asks the world page whether its system call is hooked.  If so, or if the host has no such function, it
 * makes the system call, which the core sees; else it goes to the host's own function, at the cost of three instructions.
 * The symbols and their version are those of arch/x86/entry/vdso/vdso.lds.S.
 */
#include "gen_layout_asm.h"

	.macro function name, nr, index
	.globl __vdso_\name
	.type __vdso_\name, @function
	.balign 16
__vdso_\name:
	.cfi_startproc
	movabs RING3_WORLD_HOOKS + \nr / 64 * 8, %rax
	bt $(\nr % 64), %rax
	jc 1f
	movabs RING3_VDSO_TABLE + \index * 8, %rax
	test %rax, %rax
	jz 1f
	jmp *%rax
1:	mov $\nr, %eax
	syscall
	ret
	.cfi_endproc
	.size __vdso_\name, . - __vdso_\name
	.weak \name
	.set \name, __vdso_\name
	.endm

	.text
	function clock_gettime, 228, 0
	function gettimeofday, 96, 1
	function time, 201, 2
	function clock_getres, 229, 3
	function getcpu, 309, 4

	.section .note.GNU-stack,"",@progbits
