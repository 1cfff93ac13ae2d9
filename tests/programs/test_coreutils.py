"""Debian's coreutils and findutils on files."""

from __future__ import annotations

from pathlib import Path

import hostfacts
import pytest
from harness import NOBODY, assert_same, changed, host_listing, run_native, run_ring3
from twin import Twin, small_tree

SCRIPTS = {
    "copy": """
        cp src/file03.txt c1; cp -a src c2; cp -r src/deep c3; cp -l src/file02.txt c4; cp -s $PWD/src/file02.txt c5
        cp -p run.sh c6; cp --sparse=always src/deep/data.bin c7; cp -u src/file01.txt c1; cp -b src/file05.txt c1
        cp -t empty src/file0*; cp --reflink=auto src/file11.txt c8; cp -d src/link c9; cp src/link c10
        cp src/file03.txt nowhere/x; echo $?; cp src empty; echo $?; cp -n src/file09.txt c1; echo $?
        cmp src/deep/data.bin c7 && echo cmp; stat -c '%a %s %F %h' c1 c2/file05.txt c6 c5 c9 c10
        stat -c %Y c2/file05.txt c6
        find c2 c3 empty | sort; stat -c '%h %i' src/file01.txt src/hard | awk '{print $1}'; readlink c5 c9
        """,
    "move": """
        mv src/file01.txt m1; mv m1 src/deep; mv src/deep moved; mv moved/er empty/; mv -n run.sh secret; cat secret
        mv src/nothing x; echo $?; mv src src/sub; echo $?; mv -v secret renamed; mv -t empty run.sh renamed
        find . | sort; mv empty/er/'with space' 'new name'; cat 'new name'; mv -b src/file02.txt src/file03.txt
        ls src; mv -T src src2; ls -d src2
        """,
    "remove": """
        rm src/file00.txt; rm -f nothing; rm nothing; echo $?; rm src; echo $?; rm -r src/deep; rmdir empty; rmdir src
        echo $?; rm -v run.sh; unlink secret; rm -rf src; ls -A; mkdir -p a/b/c/d; rmdir -p a/b/c/d; ls -A
        mkdir -p x/y; touch x/y/z; chmod 500 x; rm -rf x; ls -A; chmod -f 700 x || true
        """,
    "make": """
        mkdir d1 d1/d2; mkdir -p p/q/r; mkdir -m 700 priv; mkdir d1; echo $?; touch t1; touch -d @1000000000 t2
        touch -r t2 t3; touch -c nope; ln -s t1 sl; ln t1 hl; ln -sf t2 sl; ln t1 hl; echo $?; mkfifo ff
        mknod nod p; link t1 lk; install -m 751 -D run.sh deep/er/inst; mktemp -p . tmp.XXXXXX | wc -c
        mktemp -d -p . dir.XXXXXX | wc -c; truncate -s 1000 t4; truncate -s -10 t4; truncate -s %64 t4
        stat -c '%n %a %s %F %h' t1 t2 t3 t4 sl hl ff nod lk d1 priv p/q deep/er/inst; stat -c %Y t2 t3
        ln -s /does/not/exist dang; test -e dang || echo dangling; readlink -f sl dang p/../t1; realpath -m a/../b
        """,
    "attributes": """
        chmod 640 run.sh; chmod u+s,o+x run.sh; chmod -R g-w src; chmod +t empty; chown 12:34 secret; chgrp 56 secret
        chown -R 7 src 2>&1 | sort; chown -h 9 src/link; chmod --reference=run.sh src/file00.txt
        find . -printf '%m %U %G %p\\n' | sort -k4; stat -c '%A %a %u %g' run.sh secret src/link
        umask 0; touch wide; umask 077; touch narrow; stat -c %a wide narrow
        """,
    "text": """
        cat src/*.txt | sort | uniq -c; head -n 3 src/file11.txt; tail -n 2 src/file10.txt; tail -c 5 src/file09.txt
        wc src/*.txt; cut -d' ' -f2 src/file05.txt | sort -u; paste src/file01.txt src/file02.txt
        tr -d n <src/file01.txt
        split -l 20 src/file11.txt part-; ls part-*; csplit -s src/file10.txt 5 9; ls xx*; wc -l xx*
        nl src/file01.txt
        join src/file01.txt src/file01.txt | head -2; comm src/file01.txt src/file02.txt; fold -w 3 src/file00.txt
        fmt src/file01.txt; pr -t src/file00.txt; expand -t 4 src/file00.txt; unexpand -a src/file00.txt
        tac src/file01.txt
        shuf --random-source=src/deep/data.bin -n 4 src/file11.txt
        sort -R --random-source=src/deep/data.bin src/file01.txt
        tee t1 t2 <src/file02.txt | wc -l; cmp t1 t2; od -A d -t x1z src/deep/data.bin | head -3; rev src/file00.txt
        sort -S 1M -T . -o sorted src/*.txt; md5sum sorted; ptx src/file00.txt; echo a b b c | tsort
        """,
    "sums": """
        for s in md5sum sha1sum sha224sum sha256sum sha384sum sha512sum b2sum cksum sum; do $s src/deep/data.bin; done
        sha256sum src/*.txt >sums; sha256sum -c sums; echo x >>src/file00.txt; sha256sum -c --quiet sums; echo $?
        base64 src/deep/data.bin | md5sum; base32 src/file00.txt; basenc --base16 src/file00.txt
        """,
    "blocks": """
        dd if=src/deep/data.bin of=d1 bs=100 count=3 skip=2 2>/dev/null; wc -c d1
        dd if=/dev/zero of=d2 bs=1 seek=100000 count=1 2>/dev/null; stat -c %s d2; du --apparent-size -b d2
        dd if=d1 of=d2 conv=notrunc bs=50 seek=1 status=none; md5sum d2
        dd if=/dev/urandom bs=512 count=2 status=none | wc -c
        echo abc | dd of=d3 oflag=append conv=notrunc status=none; cat d3
        dd if=/dev/zero of=/dev/full count=1 status=none
        echo $?; shred -n1 -u d1; ls; sync d2; sync; du -s --apparent-size -b src/file11.txt; fallocate -l 5000 d4
        stat -c %s d4; cat /dev/null; head -c 5 /dev/zero | od -c; cat d2 >/dev/full; echo $?
        """,
    "names": """
        basename /a/b.c .c; dirname /a/b.c; pwd; realpath src/link; readlink src/link
        readlink -e src/dangling; echo $?
        pathchk -p src; pathchk "$(printf %300s x)"; echo $?
        test -f run.sh && test -x run.sh && test ! -s nothing && echo t
        [ src/file01.txt -ef src/hard ] && echo same; [ run.sh -nt nothing ] && echo newer
        test -L src/dangling && echo l
        namei -m src/link | tail -1; ls -1 src | head -3; ls -d */; dir src/deep; vdir src/deep/er | tail -1
        ls nothing; echo $?; ls --color=always -F src | head -3; ls -Q src/deep; ls -t src | wc -l
        ls -S src | head -4
        """,
    "system": """
        env -i A=1 env; nproc | wc -l; id -u; id -g; whoami; groups; uname -s -m; arch; nice -n 5 nice; printenv LANG
        timeout 0.1 sleep 5; echo $?; timeout -s KILL 0.1 sleep 5; echo $?; nohup echo n 2>/dev/null; sleep 0.01
        seq -s, 10; factor 1001; numfmt --to=iec 1048576; expr 2 + 3; printf '%05d\\n' 42; date -d @0 -u
        yes | head -2
        stty 2>&1; tty; echo $?; stdbuf -oL echo buffered; df . | wc -l; df --output=target /dev/null | wc -l
        hostid | wc -c; users | wc -l; true; false; echo $?; kill -l 9; kill -0 $$; echo $?; uptime | wc -l
        """,
    "chroot": """
        mkdir -p jail/bin jail/tmp; cp "$(command -v busybox)" jail/bin/ || exit 0
        chroot jail /bin/busybox sh -c 'cd ..; pwd; echo in >/tmp/f; /bin/busybox ls / /tmp; cat /../../tmp/f'
        chroot jail /bin/busybox ls /usr; echo $?; cat jail/tmp/f; chroot jail /no; echo $?; chroot nowhere x; echo $?
        """,
    "find": """
        find . -type f -newer run.sh; find src -name 'file0[1-3]*' -printf '%f %s %m %n %Y\\n' | sort
        find . -links 2 | sort
        find . -type f -exec grep -l 'line 5' {} + | sort; find . -depth -name 'er' -execdir pwd \\;
        find . -maxdepth 1 | sort; find . -perm /111 -type f; find -L src -type l; find src -size +2k | sort
        find . -name '*.txt' | xargs -n 3 echo | wc -l
        find . -print0 | sort -z | xargs -0 -P 4 -n 2 echo | wc -l; find src -samefile src/hard | sort
        find / -maxdepth 0
        """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_coreutils(twin: Twin, name: str) -> None:
    if name == "attributes" and (reason := hostfacts.few_users()):
        pytest.skip(f"chown(2) is EINVAL natively: {reason}")
    if name == "chroot" and (reason := hostfacts.no_chroot()):
        pytest.skip(f"natively {reason}")
    twin.shell(SCRIPTS[name], small_tree)


def test_tail_follows_a_growing_file(twin: Twin) -> None:
    twin.shell(
        """
        echo first >log
        tail -n +1 -f log >seen & t=$!
        for i in 1 2 3; do sleep 0.1; echo line $i >>log; done
        n=0; while [ "$(wc -l <seen)" -lt 4 ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
        kill $t; cat seen
        """,
        err=False,  # tail says so where it must poll, as it does without inotify
    )


def test_an_ordinary_user(twin: Twin) -> None:
    """Natively by setuid, in the guest by -u: an ordinary user on both sides."""

    def make(top: Path) -> None:
        small_tree(top)
        top.chmod(0o777)

    script = """
        id -u; id -g; cat secret; echo $?; echo x >secret; echo $?; echo mine >new; stat -c '%u %g %a' new
        rm -f run.sh; echo $?; chmod 777 src; echo $?; chown 0 new; echo $?; mkdir d && touch d/f && rm -r d
        ls src | wc -l
        touch src/no; echo $?; ls /root >/dev/null 2>&1; echo $?; cp -a src mine-src; echo $?
        """
    if reason := hostfacts.not_root():
        pytest.skip(f"becomes another user natively: {reason}")
    twin.fresh(make)
    native = run_native(["/bin/sh", "-c", script], cwd=twin.dir, uid=NOBODY)
    twin.fresh(make)
    before = host_listing(twin.dir)
    guest = run_ring3(["/bin/sh", "-c", script], "-u", f"{NOBODY}:{NOBODY}", cwd=twin.dir)
    assert not changed(before, host_listing(twin.dir))
    assert_same(native, guest)
