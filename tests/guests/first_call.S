# A program without a libc, whose _start makes one raw syscall: the name of the host, by uname(2), printed; exit 0.
# variants: bare
# Prints "ok " and the node name; the test compares the name with what it told ring3, and with the host's natively.
        .globl _start
        .text
_start: mov     $63, %eax               # uname
        lea     buf(%rip), %rdi
        syscall
        test    %rax, %rax
        jnz     bad
        lea     buf+65(%rip), %rsi      # nodename
        xor     %edx, %edx
1:      cmpb    $0, (%rsi,%rdx)
        je      2f
        inc     %edx
        jmp     1b
2:      movb    $'\n', (%rsi,%rdx)
        inc     %edx
        movl    $0x206b6f0a, -4(%rsi)   # "ok " before the name
        sub     $3, %rsi
        add     $3, %edx
        mov     $1, %edi
        mov     $1, %eax
        syscall
        xor     %edi, %edi
        jmp     out
bad:    mov     $1, %edi
out:    mov     $231, %eax
        syscall
        hlt
        .bss
        .balign 16
buf:    .space  400
        .section .note.GNU-stack,"",@progbits
