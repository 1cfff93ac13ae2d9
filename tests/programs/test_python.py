"""Debian's python3: imports, subprocess, multiprocessing, sqlite3, threads."""

from __future__ import annotations

import os

import pytest
from twin import Twin

PYTHON = "/usr/bin/python3"
pytestmark = pytest.mark.skipif(not os.path.exists(PYTHON), reason="/usr/bin/python3 is not installed")

MODULES = """abc argparse array ast asyncio base64 bisect bz2 calendar collections concurrent.futures
configparser contextlib copy csv ctypes dataclasses datetime decimal difflib email.message enum
fractions functools gzip hashlib heapq html.parser http.client inspect io itertools json logging
lzma math mmap multiprocessing pathlib pickle queue random re select shutil signal socket sqlite3
ssl statistics string struct subprocess tarfile tempfile textwrap threading time unittest
urllib.request uuid xml.etree.ElementTree zipfile zlib zoneinfo""".split()


def py(twin: Twin, code: str, **kw: object) -> None:
    twin.both([PYTHON, "-c", code], **kw)  # type: ignore[arg-type]


def test_imports(twin: Twin) -> None:
    assert len(MODULES) >= 50
    py(twin, f"import importlib\nfor m in {MODULES!r}: print(m, importlib.import_module(m).__name__)")


def test_subprocess(twin: Twin) -> None:
    py(
        twin,
        r"""
import os, signal, subprocess, sys
print(subprocess.run(['echo', 'hi'], capture_output=True))
print(subprocess.run('cat; exit 3', shell=True, input=b'in', stdout=subprocess.PIPE))
print(subprocess.run(['sh', '-c', 'kill -9 $$']).returncode)
p = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(p.communicate(b'x' * 300000)[0].__len__(), p.returncode)
try: subprocess.run(['sleep', '10'], timeout=0.2)
except subprocess.TimeoutExpired as e: print('timeout', e.cmd)
try: subprocess.run(['/no/such'])
except OSError as e: print(e)
try: subprocess.run(['ls'], cwd='/no/dir')
except OSError as e: print(e)
print(subprocess.run(['sh', '-c', 'exit 8'], start_new_session=True).returncode)
r, w = os.pipe()
print(subprocess.run(['sh', '-c', f'echo via >&{w}'], pass_fds=[w]).returncode, os.read(r, 10))
ps = [subprocess.Popen([sys.executable, '-S', '-c', f'print({i}*{i})'], stdout=subprocess.PIPE) for i in range(6)]
print([p.communicate()[0] for p in ps])
print(subprocess.getstatusoutput('exit 2'), subprocess.check_output(['sort'], input=b'b\na\n'))
p = subprocess.Popen(['sleep', '100']); p.send_signal(signal.SIGTERM); print(p.wait())
print(os.spawnlp(os.P_WAIT, 'sh', 'sh', '-c', 'exit 9'), os.system('exit 4') >> 8)
""",
    )


MULTI = r"""
import multiprocessing as mp, os
def square(x): return x * x
def put(q, n): q.put((n, os.getpid() != 0))
def add(v, lock):
    for _ in range(200):
        with lock: v.value += 1
def say(c): c.send(['x', 1])
if __name__ == '__main__':
    for method in ('fork', 'spawn', 'forkserver'):
        ctx = mp.get_context(method)
        with ctx.Pool(3) as pool: print(method, pool.map(square, range(20)), flush=True)
    q = mp.Queue(); ps = [mp.Process(target=put, args=(q, i)) for i in range(5)]
    [p.start() for p in ps]; print(sorted(q.get() for _ in ps), flush=True); [p.join() for p in ps]
    print([p.exitcode for p in ps], flush=True)
    v, lock = mp.Value('i', 0), mp.Lock(); ps = [mp.Process(target=add, args=(v, lock)) for _ in range(4)]
    [p.start() for p in ps]; [p.join() for p in ps]; print(v.value, flush=True)
    a, b = mp.Pipe()
    p = mp.Process(target=say, args=(b,)); p.start(); print(a.recv(), flush=True); p.join()
    from multiprocessing import shared_memory
    m = shared_memory.SharedMemory(create=True, size=100); m.buf[0] = 7
    n = shared_memory.SharedMemory(m.name); print(n.buf[0], flush=True); n.close(); m.close(); m.unlink()
    with mp.Manager() as mgr:
        d = mgr.dict(a=1); d['b'] = 2; print(dict(d))
"""


def test_multiprocessing(twin: Twin) -> None:
    def make(top: os.PathLike[str]) -> None:
        with open(os.path.join(top, "multi.py"), "w") as file:
            file.write(MULTI)

    twin.both([PYTHON, "-B", "multi.py"], make, timeout=90)


def test_sqlite3(twin: Twin) -> None:
    py(
        twin,
        r"""
import sqlite3, os
for name in (':memory:', 'db.sqlite'):
    c = sqlite3.connect(name)
    c.execute('create table t (a integer primary key, b text)')
    c.executemany('insert into t (b) values (?)', [(str(i) * 20,) for i in range(5000)])
    c.commit()
    print(c.execute('select count(*), sum(a), max(length(b)) from t').fetchone())
    c.execute('create index i on t (b)'); c.execute('delete from t where a % 3 = 0'); c.commit()
    print(c.execute('pragma integrity_check').fetchone(), c.execute('select count(*) from t').fetchone())
    c.execute('vacuum'); c.close()
print(os.path.getsize('db.sqlite'), sorted(os.listdir('.')))
""",
    )


def test_threads_and_files(twin: Twin) -> None:
    py(
        twin,
        r"""
import threading, os, tempfile, shutil, glob, mmap, fcntl, select, signal, socket, time, pathlib
def work(n):
    for i in range(20):
        p = pathlib.Path(f't{n}-{i}'); p.write_text(str(i)); assert p.read_text() == str(i); p.rename(f'r{n}-{i}')
ts = [threading.Thread(target=work, args=(n,)) for n in range(10)]
[t.start() for t in ts]; [t.join() for t in ts]
print(len(glob.glob('r*')), len(glob.glob('t*')))
d = tempfile.mkdtemp(dir='.'); open(d + '/x', 'w').write('x'); shutil.copytree(d, 'copy'); print(os.listdir('copy'))
shutil.make_archive('arc', 'gztar', 'copy'); print(shutil.disk_usage('.').total > 0)
with open('m', 'wb+') as f:
    f.truncate(8192); m = mmap.mmap(f.fileno(), 8192); m[0:5] = b'hello'; m.flush(); print(os.pread(f.fileno(), 5, 0))
a, b = socket.socketpair(); a.send(b'sp'); print(b.recv(9), select.select([a], [b], [], 0)[1] == [b])
signal.signal(signal.SIGALRM, lambda *_: print('alarm')); signal.setitimer(signal.ITIMER_REAL, .05); time.sleep(.2)
print(os.scandir('.').__next__() is not None, os.sched_getaffinity(0) != set(), os.cpu_count() > 0)
print(sorted(os.listdir('/proc/self/task')) == [str(os.getpid())], os.readlink('/proc/self/exe'))
e = os.open('.', os.O_TMPFILE | os.O_RDWR); os.write(e, b'z'); print(os.fstat(e).st_nlink)
""",
    )


def test_asyncio(twin: Twin) -> None:
    py(
        twin,
        r"""
import asyncio
async def main():
    p = await asyncio.create_subprocess_exec('sh', '-c', 'read x; echo got $x; exit 6', stdin=-1, stdout=-1)
    out, _ = await p.communicate(b'line\n'); print(out, p.returncode)
    await asyncio.gather(*(asyncio.sleep(0.01) for _ in range(100)))
    print(await asyncio.to_thread(sum, range(1000)))
    ps = await asyncio.gather(*(asyncio.create_subprocess_shell('exit %d' % i) for i in range(8)))
    print([await p.wait() for p in ps])
asyncio.run(main())
""",
    )
