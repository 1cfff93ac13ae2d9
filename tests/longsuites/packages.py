"""Runs the test suites of Debian's source packages natively and in the guest, side by side, and prints what differs.

    python tests/longsuites/packages.py [--json FILE] [--only REGEX] [--cache DIR] SUITE...

Layer: tests (long). Sources are fetched by package name with a private apt configuration (nothing of the system's is
changed) into the cache directory, and built there once, natively. Natively a suite runs in a copy of the built tree;
in the guest in the built tree itself, whose changes ring3 keeps in memory. Suites that are to be run by an
ordinary user need root, to become one. The table has one line for a suite, then one for each test that does not
end alike. The exit status is 1 if a test that passes natively does not in the guest.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import BASE_ENV, NOBODY, Result, begin_suite, run_native, run_ring3

GOOD = {"PASS", "SKIP", "XFAIL"}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Suite:
    """How to build a source package and run (a part of) its tests.

    `package` is the source package; without one the build makes the tree out of what is installed.
    `run` is a bash script for the built tree; $ONLY is a regular expression of wanted tests. `line` finds (name,
    result) or (result, name) in a line of its output; `file` the script that the lines after it belong to. `words`
    are the results in the suite's own words.
    """

    package: str
    build: str
    run: str
    line: str
    words: dict[str, str]
    file: str = r"^@@FILE (\S+)"
    user: bool = False
    minutes: float = 60.0
    tree: str = ""


_AUTOMAKE_WORDS = {word: word for word in ("PASS", "FAIL", "SKIP", "XFAIL", "XPASS", "ERROR")}
#: One test after the other, each with a limit of its own; a test that does not pass shows the end of its log.
_AUTOMAKE = r"""
make -s -k check-TESTS subdirs= SUBDIRS=. RUN_EXPENSIVE_TESTS=no TEST_LOGS="$(
    for t in $TESTS; do printf '%s ' "${t%.*}.log"; done)" \
    SH_LOG_COMPILER="timeout -k 5 120 /bin/bash" LOG_COMPILER="timeout -k 5 120" >make.log 2>&1
for t in $TESTS; do
    trs=${t%.*}.trs
    result=$(sed -n 's/^:test-result: //p' "$trs" 2>/dev/null | head -1)
    echo "@@RESULT ${result%% *} $t"
    case $result in PASS*|XFAIL*) ;; SKIP*) tail -n 3 "${t%.*}.log" ;; *) tail -n 25 "${t%.*}.log" ;; esac
done
"""
_COREUTILS_BUILD = "./configure -q --disable-nls && make -s -j$(nproc)"
_COREUTILS_RESULT = {"line": r"^@@RESULT (?P<result>\w*) (?P<name>\S+)$", "words": _AUTOMAKE_WORDS}
_GIT_RUN = r"""
built=$(sed -n "s/^GIT_EXEC_PATH='\(.*\)'$/\1/p" bin-wrappers/git)
sed -i "s,$built,$PWD,g" bin-wrappers/*
cd t
for t in $FILES; do
    echo "$t" | grep -Eq -- "$ONLY" || continue
    echo "@@FILE $t"
    timeout -k 5 1800 bash ./$t --no-chain-lint </dev/null 2>&1
done
"""
_GIT_BUILD = "make -s -j$(nproc) NO_GETTEXT=1 NO_CURL=1 NO_TCLTK=1 NO_EXPAT=1 NO_OPENSSL=1 NO_PYTHON=1"
_GIT = {
    "package": "git",
    "build": _GIT_BUILD,
    "line": r"^(?P<result>ok|not ok) (?P<name>\d+)(?: - (?P<note>.*))?",
    "words": {"ok": "PASS", "not ok": "FAIL"},
    "user": True,
    "minutes": 240.0,
}

#: The tests of Go's network packages, from Debian's golang-src; those of one package end when one of them hangs.
_GO_BUILD = r"""
cp -rL "$(go env GOROOT)"/src/{net,testdata} .
for p in net net/http net/http/{httptest,httputil,cookiejar} net/{rpc,smtp,textproto,mail,url}; do
    go test -vet=off -c -o $p/it.test $p
done"""
_GO_RUN = r"""
for p in $(find net -name it.test | sort); do
    echo "$p" | grep -Eq -- "$ONLY" || continue
    echo "@@FILE $(dirname $p)"
    (cd $(dirname $p); ./it.test -test.v -test.timeout 15m 2>&1 </dev/null)
done"""
_GO_WORDS = {"--- PASS": "PASS", "--- FAIL": "FAIL", "--- SKIP": "SKIP"}

#: Debian's node beside another one that may be installed: unpacked, not installed. What it loads from /usr/share/nodejs
#: must be there: apt-get install --no-install-recommends node-undici node-cjs-module-lexer node-acorn.
_NODE_BUILD = r"""
mkdir -p unpacked; cd unpacked
apt-get download 'nodejs=18*' 'libnode108=18*' libuv1 libc-ares2 libnghttp2-14 libbrotli1 libicu72
for d in *.deb; do dpkg -x "$d" .; done"""
_NODE_RUN = r"""
export LD_LIBRARY_PATH=$PWD/unpacked/usr/lib/x86_64-linux-gnu NODE=$PWD/unpacked/usr/bin/node NODE_TEST_DIR=$TMPDIR
"$NODE" --version || exit 1
cd test/parallel
for t in test-{net,http,dgram,tls,https,http2,dns,cluster,child-process,stream-pipe,pipe}-*.js; do
    echo "$t" | grep -Eq -- "$ONLY" || continue
    said=$(timeout -k 5 60 "$NODE" $(sed -n 's,^// Flags: ,,p' $t) $t 2>&1 </dev/null); status=$?
    case $status:$said in
    0:1..0*Skipped*) echo "SKIP $t";;
    0:*) echo "PASS $t";;
    *) echo "FAIL $t"; echo "$said" | tail -n 15;;
    esac
done"""
#: The servers that are installed, of the source's version; all tests that need no second machine and no hours.
_REDIS_BUILD = r"""
for p in redis-server redis-cli redis-benchmark redis-check-aof redis-check-rdb redis-sentinel; do
    ln -sf "$(command -v $p || command -v redis-server)" src/$p
done"""
_REDIS_RUN = r"""
for t in $(ls tests/unit/*.tcl tests/unit/type/*.tcl tests/integration/*.tcl | sed 's,^tests/,,; s,\.tcl$,,'); do
    case $t in *convert*|*logging|*block-repl|unit/memefficiency|*ziplist|*large|*dismiss*) continue;; esac
    echo "$t" | grep -Eq -- "$ONLY" || continue
    echo "@@FILE $t"
    timeout -k 5 600 ./runtest --clients 1 --single $t --timeout 300 2>&1 </dev/null | sed 's/\x1b\[[0-9;]*m//g'
done"""

SUITES: dict[str, Suite] = {
    "coreutils": Suite(
        "coreutils",
        _COREUTILS_BUILD,
        r"""TESTS=$(make -s -f - print <<'END'
include Makefile
print:
	@for t in $(all_tests); do echo $$t; done
END
)
text='cut|sort|date|md5|sha|b2|cksum|base|numfmt|printf|seq|expr|od|uniq|tr\.|tac|wc|fold|expand|unexpand|join'
text="$text|head-|tail|factor|dircolors|dirname|comm|csplit|echo|paste|pathchk|test\.|test-N|stty"
TESTS=$(echo "$TESTS" | grep -Ev "tests/(pr|factor|fmt|misc/($text))" | grep -E -- "$ONLY")"""
        + _AUTOMAKE,
        user=True,
        **_COREUTILS_RESULT,  # type: ignore[arg-type]
    ),
    "coreutils-root": Suite(
        "coreutils",
        _COREUTILS_BUILD,
        r"""TESTS=$(make -s -f - print <<'END'
include Makefile
print:
	@for t in $(all_root_tests); do echo $$t; done
END
)
TESTS=$(echo "$TESTS" | grep -E -- "$ONLY")
export NON_ROOT_USERNAME=nobody NON_ROOT_GID=65534"""
        + _AUTOMAKE,
        **_COREUTILS_RESULT,  # type: ignore[arg-type]
    ),
    "tar": Suite(
        "tar",
        "./configure -q --disable-nls && make -s -j$(nproc) && make -s -C tests check TESTSUITEFLAGS=1",
        r"""cd tests
[ -f atconfig ] || exit 1
bash ./testsuite -C . $(bash ./testsuite -l 2>/dev/null | sed -n 's/^ *\([0-9]*\): .*/\1/p' | tr '\n' ' ')
cat testsuite.log 2>/dev/null | tail -n 3000""",
        r"^ *(?P<name>\d+): (?P<note>.*?)  +(?P<result>ok|FAILED|skipped|expected failure)\b",
        {"ok": "PASS", "FAILED": "FAIL", "skipped": "SKIP", "expected failure": "XFAIL"},
        user=True,
    ),
    "git-t0": Suite(run='FILES=$(ls t/t0*.sh | sed "s,.*/,,")' + _GIT_RUN, **_GIT),  # type: ignore[arg-type]
    "git-t1": Suite(run='FILES=$(ls t/t1*.sh | sed "s,.*/,,")' + _GIT_RUN, **_GIT),  # type: ignore[arg-type]
    "git-t3": Suite(run='FILES=$(ls t/t3*.sh | sed "s,.*/,,")' + _GIT_RUN, **_GIT),  # type: ignore[arg-type]
    "git-t7": Suite(run='FILES=$(ls t/t7*.sh | sed "s,.*/,,")' + _GIT_RUN, **_GIT),  # type: ignore[arg-type]
    "busybox": Suite(
        "busybox",
        "make -s defconfig && make -s -j$(nproc)",
        r"""cd testsuite; export PATH=$PWD/..:$PATH
sh ./runtest -v $(ls | sed -n 's/\.tests$//p; t; /^[a-z0-9]*$/p' | sort -u | grep -E -- "$ONLY") 2>&1""",
        r"^(?P<result>PASS|FAIL|SKIPPED|UNTESTED): (?P<name>.*)$",
        {"PASS": "PASS", "FAIL": "FAIL", "SKIPPED": "SKIP", "UNTESTED": "SKIP"},
    ),
    "rsync": Suite(
        "rsync",
        "./configure -q --disable-{xxhash,zstd,lz4,openssl} && make -s -j$(nproc) all testsuite/{chown-fake,"
        "devices-fake,xattrs-hlink}.test {tls,getgroups,getfsdev,testrun,trimslash,t_unsafe,t_chmod_secure,"
        "t_secure_relpath,wildtest,simdtest}",
        r"""mkdir -p testtmp; bash ./runtests.sh 2>&1""",
        r"^(?P<result>PASS|FAIL|SKIP|XFAIL) +(?P<name>\S+)",
        {"PASS": "PASS", "FAIL": "FAIL", "SKIP": "SKIP", "XFAIL": "XFAIL"},
    ),
    "go-net": Suite(
        "",
        _GO_BUILD,
        _GO_RUN,
        r"^(?P<result>--- \w+): (?P<name>\S+)",
        _GO_WORDS,
        tree="go-net",
    ),
    "node": Suite(
        "nodejs",
        _NODE_BUILD,
        _NODE_RUN,
        r"^(?P<result>PASS|FAIL|SKIP) (?P<name>test-\S+)$",
        {"PASS": "PASS", "FAIL": "FAIL", "SKIP": "SKIP"},
        minutes=120.0,
    ),
    "redis": Suite(
        "redis",
        _REDIS_BUILD,
        _REDIS_RUN,
        r"^\[(?P<result>ok|err|exception|ignore|skip)\]: (?P<name>.*?)(?: in tests/.*| \(\d+ ms\))?$",
        {"ok": "PASS", "err": "FAIL", "exception": "FAIL", "ignore": "SKIP", "skip": "SKIP"},
        user=True,
        minutes=120.0,
    ),
    "sqlite3": Suite(
        "sqlite3",
        "./configure -q --disable-shared && make -s -j$(nproc) testfixture",
        r"""shopt -s nullglob
for t in test/{lock*,pager*,journal*,wal*,io*,shared*,temp{db,file}*,nolock,exclusive*,syscall,oserror}.test \
    test/{symlink*,filectrl,mmap*,stat,bigfile*,sync*,trunc*}.test; do
    echo "$t" | grep -Eq -- "$ONLY" || continue
    printf '\n@@FILE %s\n' "$(basename "$t")"; timeout -k 5 900 ./testfixture "$t" --verbose=1 2>&1
done""",
        r"^(?P<name>[\w.-]+)\.\.\. *(?P<result>Ok|Omitted|$)",
        {"Ok": "PASS", "Omitted": "SKIP", "": "FAIL"},
        user=True,
    ),
}


class Unusable(Exception):
    """The suite cannot be fetched, built or run here; says why."""


def apt(cache: Path) -> list[str]:
    """apt-get with a configuration of our own: one source of source packages, lists of its own."""
    etc = cache / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (etc / name).mkdir(parents=True, exist_ok=True)
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)"]
    lines = subprocess.run(asked, text=True, capture_output=True, check=False).stdout
    found = next(
        (line.split() for line in lines.splitlines() if "debian" in line and "security" not in line), None
    )
    if found is None:
        raise Unusable("apt-get knows no source of Debian's packages (apt-get update)")
    signed = f" [signed-by={KEYRING}]" if Path(KEYRING).exists() else ""
    (etc / "sources.list").write_text(f"deb-src{signed} {found[0]} {found[1]} main\n")
    options = {
        "Dir::Etc::sourcelist": etc / "sources.list",
        "Dir::Etc::sourceparts": "/nonexistent",
        "Dir::State::lists": etc / "lists",
        "Dir::Cache": etc / "cache",
        "APT::Sandbox::User": "",
    }
    return ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]


def built(suite: Suite, cache: Path) -> Path:
    """The built tree of the suite's package; fetches and builds it if that was not done before."""
    name = suite.package or suite.tree
    tree, mark = cache / name, cache / f"{name}.built"
    if mark.exists() and mark.read_text() == suite.build:
        return tree
    log = cache / f"{name}.log"
    if not suite.package:
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir()
    command = apt(cache) if suite.package else []
    with log.open("wb") as out:
        steps: list[tuple[list[str], Path]] = []
        if not tree.exists():
            steps = [
                ([*command, "update"], cache),
                ([*command, "source", "--download-only", suite.package], cache),
            ]
        for argv, where in steps:
            if subprocess.run(argv, cwd=where, stdout=out, stderr=out, check=False).returncode:
                raise Unusable(f"{' '.join(argv[:1] + argv[-2:])} failed: see {log}")
        if not tree.exists():
            dsc = max(cache.glob(f"{suite.package}_*.dsc"))
            unpack = ["dpkg-source", "--no-check", "-x", dsc.name, str(tree)]
            subprocess.run(unpack, cwd=cache, stdout=out, stderr=out, check=True)
        env = {**os.environ, "FORCE_UNSAFE_CONFIGURE": "1"}
        words = ["nice", "bash", "-ec", suite.build]
        if subprocess.run(words, cwd=tree, env=env, stdout=out, stderr=out, check=False).returncode:
            raise Unusable(f"building {name} failed: see {log}")
    mark.write_text(suite.build)
    return tree


def results_of(suite: Suite, text: str) -> dict[str, tuple[str, str]]:
    """test -> (how it ended, what was said after it)."""
    found: dict[str, tuple[str, str]] = {}
    line_of, file_of = re.compile(suite.line), re.compile(suite.file)
    file = last = ""
    for line in text.splitlines():
        if match := file_of.match(line):
            file = match[1] + " "
            last = ""
        elif match := line_of.match(line):
            parts = match.groupdict()
            note = parts.get("note") or ""
            result = suite.words.get(parts["result"], "FAIL")
            if "# skip" in note.lower():
                result, note = "SKIP", note.split("#")[0]
            elif "# TODO" in note:
                result, note = "XFAIL", note.split("#")[0]
            last = file + parts["name"] + (f" {note.strip()}" if note else "")
            found[last] = (result, "")
        elif last and len(found[last][1]) < 3000:
            found[last] = (found[last][0], found[last][1] + line + "\n")
    return found


def run_side(suite: Suite, tree: Path, guest: bool, only: str, options: list[str]) -> Result:
    """Runs the suite natively in a copy of the tree, or in the guest in the tree itself."""
    # /tmp is the guest's own and may be closed to others, /var/tmp is neither.
    with tempfile.TemporaryDirectory(prefix="ring3-suite-", dir="/var/tmp") as scratch:
        os.chmod(scratch, 0o755)
        env = {
            **BASE_ENV,
            "ONLY": only or ".",
            "HOME": scratch,
            "TMPDIR": f"{scratch}/tmp",
            "SHELL": "/bin/bash",
        }
        uid = NOBODY if suite.user and os.geteuid() == 0 else None
        kw = {"env": env, "timeout": suite.minutes * 60}
        (Path(scratch) / "tmp").mkdir()
        where = Path(scratch) / tree.name
        shutil.copytree(tree, where, symlinks=True)
        if uid is not None:
            subprocess.run(["chown", "-R", f"{uid}:{uid}", scratch], check=True)
        script = ["bash", "-c", suite.run]
        if not guest:
            return run_native(script, cwd=where, uid=uid, **kw)  # type: ignore[arg-type]
        user = ["-u", f"{uid}:{uid}" if uid is not None else "0"]
        return run_ring3(script, *user, *options, "-w", str(where), cwd=where, **kw)  # type: ignore[arg-type]


def compare(
    native: dict[str, tuple[str, str]], guest: dict[str, tuple[str, str]]
) -> Iterator[dict[str, str]]:
    """The tests that end differently."""
    for name in sorted(native.keys() | guest.keys()):
        a, b = native.get(name, ("missing", "")), guest.get(name, ("missing", ""))
        if a[0] != b[0]:
            yield {"test": name, "native": a[0], "guest": b[0], "said": b[1]}


def summary(found: dict[str, tuple[str, str]]) -> str:
    """`12 PASS, 1 FAIL`"""
    counts = Counter(result for result, _ in found.values())
    return ", ".join(
        f"{number} {result}" for result, number in sorted(counts.items(), key=lambda item: -item[1])
    )


def main() -> int:
    """Runs the suites that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "suites", nargs="+", metavar="SUITE", choices=sorted(SUITES), help=", ".join(sorted(SUITES))
    )
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ring3-suites"
    parser.add_argument(
        "--cache", type=Path, default=default, help=f"for sources and builds (default {default})"
    )
    parser.add_argument("--only", default="", metavar="REGEX", help="only the tests whose file matches")
    parser.add_argument("--log", type=Path, help="a directory for what the suites print")
    parser.add_argument("--json", type=Path, help="write the results to a file")
    parser.add_argument(
        "--option", action="append", default=[], metavar="OPT", help="a further option for ring3 run"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="show what the guest said of tests that differ"
    )
    options = parser.parse_args()
    begin_suite()
    options.cache.mkdir(parents=True, exist_ok=True)
    if options.log:
        options.log.mkdir(parents=True, exist_ok=True)
    everything, worse = {}, 0
    for name in options.suites:
        suite = SUITES[name]
        try:
            tree = built(suite, options.cache.resolve())
        except Unusable as exc:
            print(f"{name}: left out: {exc}")
            continue
        sides = {}
        for side in ("native", "guest"):
            result = run_side(suite, tree, side == "guest", options.only, options.option)
            if options.log:
                (options.log / f"{name}.{side}.log").write_bytes(result.out + b"\n--- stderr\n" + result.err)
            sides[side] = results_of(suite, result.out.decode(errors="replace"))
            how = " (time limit)" if result.timed_out else ""
            print(f"{name:<16}{side:<8}{summary(sides[side])}{how}", flush=True)
            if result.left:
                print("  left behind:", *result.left)
        rows = list(compare(sides["native"], sides["guest"]))
        for row in rows:
            bad = row["native"] in GOOD and row["guest"] not in GOOD
            worse += bad
            print(
                f"{'-' if bad else ' '} {name}: {row['test']}: native {row['native']}, guest {row['guest']}"
            )
            if options.verbose:
                print("      " + row["said"].strip().replace("\n", "\n      "))
        everything[name] = {"differences": rows, "results": sides}
    print(f"\n{worse} tests are worse in the guest")
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1))
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
