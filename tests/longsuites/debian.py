"""A minimal Debian as an image: packages, users, archives with owners, all as virtual root of an ordinary user.

    python tests/longsuites/debian.py [--cache DIR] [--tree FILE.tar] [--verbose]

Layer: tests (long). Needs root (for the native side, and to become an ordinary user), and mmdebstrap or debootstrap
with their network, or the tar archive of such a tree. The tree is made once. One script runs natively in a chroot of
a copy, and in the guest, where ring3 runs as user 65534 and the tree is an OCI image. What it prints must be the same;
the exit status is 1 if it is not.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "programs"))

from harness import BASE_ENV, NOBODY, Result, begin_suite, run
from images import oci_layout

SUITE = "bookworm"
PACKAGE = "hello"
#: What root does with a system. Times and what only shows progress are left out of what it prints.
SCRIPT = r"""
exec 2>&1
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
say() { echo "== $*"; "$@"; echo "-> $?"; }
say id
say dpkg --audit
dpkg -l | grep -c ^ii
say apt-get -qq install -y /deb/package.deb </dev/null | tr '\r' '\n' | grep -v 'Reading database\|debconf:'
say hello
say dpkg -V hello
say dpkg -s hello | grep Status
say adduser --quiet --disabled-password --gecos '' ann
say id ann
say su ann -c 'id; touch ~/x; cat /etc/shadow; ls -n ~ | cut -c1-25; umask; kill -0 $PPID'
say useradd -m bob
say chown bob:ann /home/ann/x
say stat -c '%U:%G %a %h %F' /home/ann /home/ann/x /home/bob /etc/shadow
mkdir /t /u; cd /t
say install -o ann -g bob -m 4755 /bin/true suid
say install -d -o bob -m 2770 -g ann shared
say mknod null c 1 3
say mkfifo f
say ln suid hard
say ln -s suid soft
say su bob -c 'touch /t/shared/x; touch /t/no'
say tar -cf /t.tar .
cd /u
say tar -xpf /t.tar
find . -printf '%p %y %m %u:%g %n %l\n' | sort
say tar -df /t.tar
say cp -a /u /u2
say diff <(cd /u; find . -printf '%p %m %u %g\n' | sort) <(cd /u2; find . -printf '%p %m %u %g\n' | sort)
say dpkg -r hello | grep -v 'Reading database'
ls /usr/bin/hello
say passwd -d ann
say userdel -r bob
say groupadd crew
say usermod -aG crew ann
say id ann
say dpkg-divert --local --rename --add /bin/true
ls -l /bin/true.distrib | cut -c1-10
say dpkg-divert --rename --remove /bin/true
say apt-get -qq check
say dpkg --configure -a
say ldconfig
say update-alternatives --query awk
say chroot / /bin/echo inside
say perl -e 'print "perl $]\n"'
say find / -xdev -user ann -not -path '/proc/*' | sort
"""
#: process ids
_VARIES = re.compile(r"kill: \(\d+\)")


def make_tree(cache: Path) -> Path:
    """The tree as a tar archive, made with what is installed."""
    target = cache / f"debian-{SUITE}.tar"
    if target.exists():
        return target
    made = target.with_suffix(".new.tar")
    if shutil.which("mmdebstrap"):
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", SUITE, str(made)], check=True)
    elif shutil.which("debootstrap"):
        with tempfile.TemporaryDirectory(prefix="ring3-debian-", dir="/var/tmp") as top:
            subprocess.run(["debootstrap", "--variant=minbase", SUITE, top], check=True)
            subprocess.run(["tar", "-C", top, "--numeric-owner", "-cf", str(made), "."], check=True)
    else:
        sys.exit("needs mmdebstrap or debootstrap, or --tree")
    made.rename(target)
    return target


def download(cache: Path) -> Path:
    """The package to install."""
    if not (found := sorted(cache.glob(f"{PACKAGE}_*.deb"))):
        subprocess.run(["apt-get", "-q", "download", PACKAGE], cwd=cache, check=True)
        found = sorted(cache.glob(f"{PACKAGE}_*.deb"))
    return found[-1]


def usable(python: str) -> bool:
    """May user 65534 run ring3 with it?"""
    try:
        return (
            run([python, "-c", "import ring3.kernel.sandbox"], uid=NOBODY, env=BASE_ENV, cwd="/").status == 0
        )
    except OSError:
        return False


def native(tree: Path, package: Path, work: Path) -> Result:
    """In a chroot of a copy, with a mount namespace of its own, gone afterwards."""
    top = work / "native"
    top.mkdir()
    subprocess.run(["tar", "-C", str(top), "--numeric-owner", "-xpf", str(tree)], check=True)
    (top / "deb").mkdir()
    shutil.copy(package, top / "deb/package.deb")
    (top / "etc/hostname").write_text("box\n")
    mounts = (
        f'mount -t proc proc {top}/proc && mount --rbind /dev {top}/dev && exec chroot {top} bash -c "$0"'
    )
    return run(["unshare", "-m", "-p", "-f", "sh", "-c", mounts, SCRIPT], env=BASE_ENV, cwd="/", timeout=600)


def guest(tree: Path, package: Path, work: Path, python: str) -> Result:
    """As an ordinary user, with the tree as an image."""
    image = oci_layout(work / "image", [tree.read_bytes()], {"Cmd": ["bash"]})
    deb = work / "deb"
    deb.mkdir()
    shutil.copy(package, deb / "package.deb")
    home = work / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    env = {**BASE_ENV, "HOME": str(home), "XDG_CACHE_HOME": str(home)}
    subprocess.run(["chmod", "-R", "a+rX", str(work)], check=True)
    words = [
        python,
        "-m",
        "ring3",
        "run",
        "--image",
        str(image),
        "-v",
        f"{deb}:/deb",
        "-u",
        "0",
    ]
    return run([*words, "--", "bash", "-c", SCRIPT], env=env, uid=NOBODY, cwd="/", timeout=900)


def main() -> int:
    """Runs the script on both sides."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ring3-suites"
    parser.add_argument(
        "--cache", type=Path, default=default, help=f"where the tree is kept (default {default})"
    )
    parser.add_argument("--tree", type=Path, help="the tar archive of a Debian tree, instead of making one")
    parser.add_argument("--python", default=sys.executable, help="one that user 65534 may run ring3 with")
    parser.add_argument("-v", "--verbose", action="store_true", help="show what both sides printed")
    options = parser.parse_args()
    if os.geteuid():
        parser.error("needs root, to make the tree and to become an ordinary user")
    if not usable(options.python):
        parser.error(
            f"user 65534 cannot run ring3 with {options.python}: see --python (PYTHON=... sh setup.sh DIR)"
        )
    begin_suite()
    options.cache.mkdir(parents=True, exist_ok=True)
    tree, package = options.tree or make_tree(options.cache), download(options.cache)
    with tempfile.TemporaryDirectory(prefix="ring3-debian-", dir="/var/tmp") as name:
        work = Path(name)
        work.chmod(0o755)
        sides = [native(tree, package, work), guest(tree, package, work, options.python)]
    lines = [_VARIES.sub("kill: (N)", side.out.decode(errors="replace")).splitlines() for side in sides]
    if options.verbose:
        print("\n".join(lines[0]))
    different = list(difflib.unified_diff(*lines, "native", "guest", lineterm=""))
    print("\n".join(different))
    for side in sides:
        print(side.err.decode(errors="replace"), end="")  # ring3's own words, mount's complaints
        if side.status or side.left:
            print(side.describe()[-3000:])
    print(f"{len(lines[0])} lines, {sum(line[:1] in '+-' for line in different[2:])} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
