/* The guest's vDSO (vdso/vdso.S) as bytes of the core, on pages of their own, so that main.c maps them from the core's file. */
	.section .rodata.vdso, "a"
	.balign 4096
	.globl vdso_image, vdso_image_end
vdso_image:
	.incbin "vdso.so"
	.balign 4096
vdso_image_end:
	.section .note.GNU-stack,"",@progbits
