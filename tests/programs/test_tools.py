"""git, gcc and make, perl, sqlite3, tar, rsync, vim."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ptydriver import PtySession
from twin import Twin, age, big_tree, small_tree

GIT_ENV = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "A U Thor"), ("EMAIL", "a@example.org"), ("DATE", "2020-01-02T03:04:05Z"))
}


def needs(program: str, package: str) -> pytest.MarkDecorator:
    """Skips, with the reason printed, where a Debian package is missing."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed ({package})")


@needs("git", "git")
def test_git(twin: Twin) -> None:
    twin.shell(
        """
        set -e
        git init -q -b main repo; cd repo
        for i in $(seq 150); do mkdir -p d$((i % 7)); echo "file $i" >d$((i % 7))/f$i; done
        git add .; git commit -qm first; git rev-parse HEAD
        for i in 1 2 3 4 5; do echo more $i >>d1/f1; git commit -qam "change $i"; done
        git checkout -qb topic HEAD~3; echo topic >t; git add t; git commit -qm topic; git checkout -q main
        git merge -q -m merged topic; git rev-parse HEAD; git log --oneline --graph --stat | md5sum
        git status --short
        git gc -q; git fsck --strict; git count-objects -v | grep -v size; cd ..
        git clone -q repo copy; cd copy; git log --format='%H %s' | head -5; git diff HEAD~2 --stat
        git mv t t2; git rm -q d2/f2; git status --short; git stash -q; git stash list | wc -l; git tag v1
        git describe --tags
        git grep -n 'file 42'; git archive HEAD | tar t | wc -l; git blame d3/f3; git bundle create -q ../b main
        git worktree add -q ../wt HEAD~1; ls ../wt | wc -l; git -C ../wt log -1 --format=%s; git reflog | wc -l
        git checkout -qb pick HEAD~2; git cherry-pick main~1 -m 1 >/dev/null 2>&1 || git cherry-pick --abort
        git log -1 --format=%s
        """,
        env={**GIT_ENV, "GIT_CONFIG_NOSYSTEM": "1"},
        timeout=100,
    )


def c_project(top: Path) -> None:
    """Twelve C files, a library and a program, with a Makefile."""
    for number in range(12):
        (top / f"m{number}.c").write_text(
            f'#include <stdio.h>\n#include "all.h"\nint f{number}(int x) {{ printf("m{number} %d\\n", x); '
            f"return x + {number}; }}\n"
        )
    (top / "all.h").write_text("".join(f"int f{number}(int x);\n" for number in range(12)))
    calls = "".join(f"x = f{number}(x);" for number in range(12))
    main = f'#include "all.h"\nint main(void) {{ int x = 0; {calls} return x == 66 ? 0 : 1; }}\n'
    (top / "main.c").write_text(main)
    (top / "Makefile").write_text(
        "OBJ := $(patsubst %.c,%.o,$(filter-out main.c,$(sort $(wildcard *.c))))\n"
        "CFLAGS = -O2 -Wall\n"
        "prog: main.o libm.a\n\t@$(CC) -o $@ $^\n"
        "libm.a: $(OBJ)\n\t@$(AR) rcD $@ $^\n"
        "%.o: %.c all.h\n\t@$(CC) $(CFLAGS) -c -o $@ $<\n"
        "check: prog\n\t./prog\nclean:\n\trm -f *.o *.a prog\n"
    )
    age(top)


@needs("gcc", "gcc libc6-dev")
def test_gcc(twin: Twin) -> None:
    twin.shell(
        """
        cat >h.c <<'END'
#include <stdio.h>
#include <math.h>
int main(int argc, char **argv) { printf("hello %d %.3f\\n", argc, sqrt(argc)); return argc - 3; }
END
        gcc -O2 -o h h.c -lm && ./h a b; gcc -static -o hs h.c -lm && ./hs a b; sha256sum h hs
        gcc -shared -fPIC -o libh.so -xc - <<'END'
int answer(void) { return 42; }
END
        echo 'int answer(void); int main(void) { return answer() - 42; }' >u.c
        gcc -o u u.c -L. -lh -Wl,-rpath,$PWD; ./u; echo $?; gcc -S -o - u.c | grep -c main
        gcc -c bad.c 2>&1 | head -1; echo 'int main(void) { return }' >e.c; gcc e.c 2>&1 | head -2; ls
        """,
        timeout=90,
    )


@needs("make", "make gcc libc6-dev")
def test_make(twin: Twin) -> None:
    twin.shell(
        """
        make -j4 && make check && sha256sum prog libm.a && make -j4 && touch m3.c && make -j4 -n | wc -l && make clean
        ls
        """,
        c_project,
        timeout=100,
    )


@needs("perl", "perl")
def test_perl(twin: Twin) -> None:
    twin.both(
        [
            "/usr/bin/perl",
            "-we",
            r"""
use strict; use File::Find; use File::Temp qw(tempfile); use File::Copy; use Cwd; use Fcntl ':flock';
use POSIX qw(:sys_wait_h); use Storable; use Digest::MD5 qw(md5_hex); use List::Util qw(sum);
$| = 1;
open my $f, '>', 'a' or die; print $f "$_\n" for 1..1000; close $f;
open $f, '<', 'a'; my @l = <$f>; close $f; print sum(@l), ' ', md5_hex(join '', @l), "\n";
copy('a', 'b'); move('b', 'c'); print -s 'c', ' ', (-M 'c' < 1), ' ', (-e 'b' ? 1 : 0), "\n";
my @found; find(sub { push @found, $File::Find::name if -f }, 'src'); print join(',', sort @found), "\n";
my $pid = fork; if (!$pid) { exit 7 } waitpid $pid, 0; print $? >> 8, "\n";
open my $p, '-|', 'sort -rn a | head -2' or die; print <$p>; close $p;
print `echo backtick`; system('sh', '-c', 'exit 3'); print $? >> 8, "\n";
$SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 1; select undef, undef, undef, 5 }; print $@;
open my $k, '>', 'lock'; print flock($k, LOCK_EX) ? "locked\n" : "no\n"; store { a => [1, 2] }, 'st';
print retrieve('st')->{a}[1], "\n"; opendir my $d, '.'; print join(' ', sort grep !/^\./, readdir $d), "\n";
mkdir 'pd' or die; rename 'c', 'pd/c'; unlink 'pd/c'; rmdir 'pd' or die; print getcwd() =~ /work$/ ? "cwd\n" : "";
pipe my $r, my $w; if (!fork) { close $r; print $w "from child"; exit } close $w; print <$r>, "\n"; wait;
my $n = 0; $SIG{CHLD} = sub { $n++ while waitpid(-1, WNOHANG) > 0 }; for (1..5) { fork or exit } sleep 1 while $n < 5;
print "$n\n"; utime 1e9, 1e9, 'a'; print +(stat 'a')[9], "\n"; chmod 0600, 'a'; printf "%o\n", (stat 'a')[2];
""",
        ],
        small_tree,
    )


@needs("sqlite3", "sqlite3")
def test_sqlite_wal_from_two_processes(twin: Twin) -> None:
    twin.shell(
        """
        sqlite3 db 'pragma journal_mode=wal; create table t (who text, n integer);'
        writer() { for i in $(seq 25); do
            sqlite3 -cmd '.timeout 20000' db "insert into t values ('$1', $i);" || echo "failed $1 $i"; done; }
        writer a & writer b &
        sqlite3 -cmd '.timeout 20000' db 'select count(*) >= 0 from t; pragma journal_mode;'
        wait
        sqlite3 db 'select who, count(*), sum(n) from t group by who; pragma integrity_check;'
        sqlite3 db 'pragma wal_checkpoint(full);'
        sqlite3 db '.dump' | sort | md5sum; ls; stat -c %s db
        """,
        timeout=100,
    )


@needs("sqlite3", "sqlite3")
def test_sqlite_wal_shared_memory(twin: Twin) -> None:
    """Two connections live at once: the -shm file is one mapping for both."""
    twin.both(
        [
            "/usr/bin/python3",
            "-c",
            """
import os, sqlite3
c = sqlite3.connect('w.db', timeout=30); print(c.execute('pragma journal_mode=wal').fetchone(), flush=True)
c.execute('create table t (p, n)'); c.commit(); c.close()
pids = []
for who in range(2):
    pid = os.fork()
    if not pid:
        d = sqlite3.connect('w.db', timeout=30, isolation_level=None)
        for n in range(200): d.execute('insert into t values (?, ?)', (who, n))
        d.close(); os._exit(0)
    pids.append(pid)
print([os.waitpid(p, 0)[1] for p in pids])
c = sqlite3.connect('w.db')
print(c.execute('select p, count(*), sum(n) from t group by p').fetchall(), sorted(os.listdir('.')))
print(c.execute('pragma integrity_check').fetchone()); c.close(); print(sorted(os.listdir('.')))
""",
        ],
        timeout=90,
    )


def test_tar_of_2000_files(twin: Twin) -> None:
    twin.shell(
        """
        set -e
        tar --sort=name -cf t.tar tree; sha256sum t.tar; tar tf t.tar | wc -l
        mkdir out; tar xf t.tar -C out; diff -r tree out/tree && echo same
        find out -type f -printf '%p %s %T@ %m\\n' | sort | md5sum
        find out -type l -printf '%p %l\\n' | sort | md5sum
        tar --sort=name -C out -czf t2.tgz tree; tar xzOf t2.tgz tree/d03/e3/f0003 | head -1
        tar df t.tar && echo equal
        rm -r tree; ls
        """,
        big_tree,
        timeout=100,
    )


@needs("rsync", "rsync")
def test_rsync_of_2000_files(twin: Twin) -> None:
    twin.shell(
        """
        rsync -a tree/ copy/; diff -r tree copy && echo same
        find copy -printf '%P %y %m %T@ %l\\n' | sort | md5sum
        rsync -ai tree/ copy/; echo "again $?"
        echo changed >tree/d01/e1/f0001; rm -r tree/d02 tree/link2; echo new >tree/new
        rsync -ai --delete tree/ copy/ | sort | sed 's/^\\(.........\\)[^ ]*/\\1/' | head -80
        diff -r tree copy && echo same
        """,
        big_tree,
        timeout=100,
    )


@needs("vim.tiny", "vim-tiny")
def test_vim_on_a_terminal(twin: Twin) -> None:
    def drive(s: PtySession) -> bytes:
        s.expect("~")
        s.send("itext in vim\x1b")
        s.expect("text in vim")
        s.send(":wq\r")
        return s.expect("END:text in vim").group(0)

    twin.terminal(["/bin/sh", "-c", "vim.tiny -u NONE -n f; echo END:$(cat f)"], drive)
