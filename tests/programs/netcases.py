"""Real network programs and what is done with them; natively and in a guest they must print the same.

Layer: tests. Touches nothing by itself. Used by tests/programs/test_netprograms.py (what is quick and starts no
service of the system when it is installed) and tests/longsuites/netprograms.py (all of them).

Each is a bash script in an empty directory, with free ports in $P1 to $P4; what it starts, it ends.
"""

# ruff: noqa: E501  (scripts)
from __future__ import annotations

import socket
from dataclasses import dataclass

#: What each script begins with. `listening PORT` and `listening -u PORT` wait for a server.
PRELUDE = r"""
trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null' EXIT
listening() {
    kind=-t; [ "$1" = -u ] && { kind=-u; shift; }
    for _ in $(seq 400); do [ -n "$(ss -Hln $kind "sport = :$1")" ] && return; sleep .05; done
    echo "nothing came to listen on $1"; exit 1
}
fetch() { curl -sS --retry 50 --retry-all-errors --retry-delay 0 "$@" 2>/dev/null; }
"""


@dataclass(frozen=True)
class Case:
    """`needs` are its programs, `root` whether only root can; `short` goes into CI."""

    name: str
    needs: tuple[str, ...]
    script: str
    root: bool = False
    short: bool = False
    timeout: float = 120.0


def free_ports(count: int = 4) -> list[int]:
    """Ports of TCP that nobody listens on."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


#: haproxy on $P3 before two servers on $P1 and $P2, which answer in turn
_BALANCE = r"""cat > conf <<END
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
  retries 3
  option redispatch
listen l
  bind 127.0.0.1:$P3
  balance roundrobin
  server a 127.0.0.1:$P1 check inter 100
  server b 127.0.0.1:$P2 check inter 100
END
haproxy -q -f conf 2>/dev/null & listening $P3
until [ "$(for i in 1 2; do fetch http://127.0.0.1:$P3/; done | sort | uniq | wc -l)" = 2 ]; do sleep .1; done
for i in 1 2 3 4; do fetch http://127.0.0.1:$P3/; done | sort | uniq -c
"""

CASES = [
    Case("netcat", ("nc", "ss"), short=True, script=r"""
nc -l 127.0.0.1 $P1 > tcp & listening $P1; echo over tcp | nc -N 127.0.0.1 $P1; wait $!; cat tcp
nc -l ::1 $P2 > tcp6 & listening $P2; echo over tcp6 | nc -N ::1 $P2; wait $!; cat tcp6
nc -lU sock > unix & while ! [ -S sock ]; do sleep .05; done; echo over unix | nc -NU sock; wait $!; cat unix
nc -luW1 127.0.0.1 $P3 > udp & listening -u $P3; echo over udp | nc -u -w1 127.0.0.1 $P3; wait $!; cat udp
nc -zv 127.0.0.1 $P4 2>&1 | sed "s/$P4/PORT/"
nc -lk 127.0.0.1 $P4 > many & server=$!; listening $P4
for i in 1 2 3; do echo $i | nc -N 127.0.0.1 $P4; done; nc -zv 127.0.0.1 $P4 2>&1 | sed "s/$P4/PORT/"
while [ "$(wc -l < many)" != 3 ]; do sleep .05; done; cat many
"""),
    Case("socat", ("socat", "ss"), short=True, script=r"""
serve() { socat "$1,fork" EXEC:'tr a-z A-Z' & }
serve TCP-LISTEN:$P1,reuseaddr; serve UNIX-LISTEN:stream; serve TCP6-LISTEN:$P2,ipv6only; serve ABSTRACT-LISTEN:r3-$P1
socat TCP-LISTEN:$P3,fork,reuseaddr UNIX-CONNECT:stream &
socat UNIX-RECVFROM:dgram,fork EXEC:'tr a-z A-Z' &
listening $P1; listening $P2; listening $P3; while ! [ -S stream -a -S dgram ]; do sleep .05; done
ask() { echo "$1" | socat -t10 - "$2"; }
ask one TCP:127.0.0.1:$P1; ask two UNIX-CONNECT:stream; ask three "TCP6:[::1]:$P2"; ask four ABSTRACT-CONNECT:r3-$P1
ask five TCP:localhost:$P3; echo six | socat -t1 - UNIX-SENDTO:dgram,bind=mine
socat -u OPEN:/etc/services TCP:127.0.0.1:$P1 && echo sent
head -c 3000000 /dev/zero | tr '\0' q | socat -t10 - TCP:127.0.0.1:$P1 | md5sum
"""),
    Case("git", ("git", "python3", "ss", "curl"), short=True, script=r"""
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a
git init -q --bare served/r.git; git init -q work; seq 20000 > work/f; git -C work add f; git -C work commit -qm one
git -C work push -q ../served/r.git HEAD:refs/heads/master; git -C served/r.git update-server-info
git daemon --reuseaddr --base-path=served --export-all --enable=receive-pack --listen=127.0.0.1 --port=$P1 &
listening $P1; git clone -q git://127.0.0.1:$P1/r.git one && cmp one/f work/f && git -C one log --format=%s
echo more >> one/f; git -C one commit -qam two; git -C one push -q origin HEAD:master; git -C served/r.git update-server-info
(cd served; exec python3 -m http.server $P2 --bind 127.0.0.1 >/dev/null 2>&1) & listening $P2
git clone -q http://127.0.0.1:$P2/r.git two && git -C two log --format=%s
"""),
    Case("rsync", ("rsync", "ss"), short=True, script=r"""
mkdir src; cp -r /etc/default src/; seq 100000 > src/big
printf 'use chroot = no\n[m]\npath = %s/src\nread only = no\n' "$PWD" > conf
rsync --daemon --no-detach --config=conf --port=$P1 --address=127.0.0.1 & listening $P1
rsync rsync://127.0.0.1:$P1/; rsync -a rsync://127.0.0.1:$P1/m/ dst/ && diff -r src dst && echo same
echo changed >> dst/big; rsync -a --stats dst/ rsync://127.0.0.1:$P1/m/ | grep 'files transferred'; cmp src/big dst/big && echo up
"""),
    Case("nginx", ("nginx", "wrk", "curl", "ss"), script=r"""
chmod 755 .; mkdir www; echo hello > www/index.html; head -c 5000000 /dev/zero | tr '\0' x > www/big
cat > conf <<END
worker_processes 4; daemon off; pid $PWD/pid; error_log stderr crit; events { worker_connections 512; }
http { access_log off; client_body_temp_path $PWD/b; proxy_temp_path $PWD/p; fastcgi_temp_path $PWD/f;
uwsgi_temp_path $PWD/u; scgi_temp_path $PWD/s;
server { listen 127.0.0.1:$P1 reuseport; listen [::1]:$P1; root $PWD/www; location /p/ { proxy_pass http://127.0.0.1:$P1/; } } }
END
nginx -c $PWD/conf & server=$!; listening $P1
for u in 127.0.0.1:$P1/ 127.0.0.1:$P1/p/ [::1]:$P1/; do curl -sS http://$u; done; curl -sS http://127.0.0.1:$P1/p/big | md5sum
wrk -t2 -c32 -d2s http://127.0.0.1:$P1/ > out; grep -E 'Socket errors|Non-2xx' out; grep -c Requests/sec out
nginx -c $PWD/conf -s reload 2>/dev/null; curl -sS http://127.0.0.1:$P1/
nginx -c $PWD/conf -s quit 2>/dev/null; wait $server; echo ended $?
"""),
    Case("redis", ("redis-server", "redis-cli", "redis-benchmark", "ss"), script=r"""
redis-server --port $P1 --save '' --unixsocket $PWD/sock --logfile log & server=$!; listening $P1
redis-cli -p $P1 set a b; redis-cli -s sock get a; seq 1000 | sed 's/.*/SET k& v&/' | redis-cli -p $P1 --pipe | tail -1
redis-cli -p $P1 subscribe ch > sub & while ! grep -q subscribe sub; do sleep .05; done
redis-cli -p $P1 publish ch hello; while ! grep -q hello sub; do sleep .05; done; kill $!
redis-benchmark -p $P1 -n 5000 -q -t set,get > one; redis-benchmark -p $P1 -n 50000 -P 16 -q -t set,get > two
tr '\r' '\n' < two | grep -c 'requests per second'; redis-cli -p $P1 dbsize
redis-server --port $P2 --save '' --replicaof 127.0.0.1 $P1 --logfile log2 & listening $P2
while [ "$(redis-cli -p $P2 get k1000)" != v1000 ]; do sleep .05; done; echo replicated
redis-cli -p $P1 shutdown nosave; wait $server; echo ended $?
"""),
    Case("memcached", ("memcached", "nc", "ss"), script=r"""
memcached -u nobody -l 127.0.0.1 -p $P1 -U 0 & listening $P1
printf 'set k 0 0 5\r\nhello\r\nget k\r\nincr n 1\r\nquit\r\n' | nc -N 127.0.0.1 $P1
"""),
    Case("haproxy", ("haproxy", "python3", "curl", "ss"), script=r"""
for p in $P1 $P2; do mkdir h$p; done; echo first > h$P1/index.html; echo second > h$P2/index.html
for p in $P1 $P2; do (cd h$p; exec python3 -m http.server $p --bind 127.0.0.1 >/dev/null 2>&1) & listening $p; done
""" + _BALANCE),
    Case("mosquitto", ("mosquitto", "mosquitto_pub", "mosquitto_sub", "ss"), script=r"""
printf 'listener %s 127.0.0.1\nallow_anonymous true\n' $P1 > conf; mosquitto -c conf 2>log & listening $P1
stdbuf -oL mosquitto_sub -d -p $P1 -t a/b -C 3 -q 1 > got & sub=$!; until grep -q Subscribed got; do sleep .05; done
for m in one two three; do mosquitto_pub -p $P1 -q 1 -t a/b -m $m; done; wait $sub; grep -v '^Client\|Subscribed' got
"""),
    Case("openssh", ("ssh", "ssh-keygen", "scp", "rsync", "git", "/usr/sbin/sshd", "ss"), root=True, script=r"""
mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f hk; ssh-keygen -q -t ed25519 -N '' -f id; cp id.pub ak; chmod 600 ak
printf '%s\n' "Port $P1" 'ListenAddress 127.0.0.1' "HostKey $PWD/hk" "AuthorizedKeysFile $PWD/ak" 'StrictModes no' \
    'PidFile none' 'UsePAM no' 'PrintMotd no' 'Subsystem sftp internal-sftp' > conf
/usr/sbin/sshd -D -e -f conf 2>log & listening $P1
o="-o StrictHostKeyChecking=no -o UserKnownHostsFile=$PWD/kh -o LogLevel=ERROR -i $PWD/id -F none"
ssh $o -p $P1 root@127.0.0.1 'echo via ssh; id -u; tty'; ssh $o -p $P1 -tt root@127.0.0.1 'tty | cut -c1-9; exit 3'; echo status $?
seq 300000 > big; scp -q $o -P $P1 big root@127.0.0.1:$PWD/copy && cmp big copy && echo scp
rsync -a -e "ssh $o -p $P1" big root@127.0.0.1:$PWD/copy2 && cmp big copy2 && echo rsync
git init -q r; git -C r -c user.name=a -c user.email=b commit -q --allow-empty -m x
GIT_SSH_COMMAND="ssh $o -p $P1" git clone -q root@127.0.0.1:$PWD/r r2 && git -C r2 log --format=%s
ssh $o -p $P1 -N -L $P2:127.0.0.1:$P1 root@127.0.0.1 & forward=$!; listening $P2
exec 3<>/dev/tcp/127.0.0.1/$P2; read -r line <&3; echo "${line%%-Open*}"; exec 3>&-; kill $forward
ssh $o -p $P1 -N -D $P3 root@127.0.0.1 & listening $P3; ssh-keyscan -p $P1 127.0.0.1 2>/dev/null | grep -c ed25519
"""),
    Case("iperf3", ("iperf3", "ss"), script=r"""
run() { iperf3 -s -p $P1 -1 >/dev/null & listening $P1; iperf3 -c 127.0.0.1 -p $P1 -t 1 "$@" > out; grep -c receiver out; wait $!; }
run; run -R -P 4; run -u -b 20M
"""),
    Case("postgresql", ("psql", "runuser", "ss"), root=True, timeout=300.0, script=r"""
b=$(ls -d /usr/lib/postgresql/*/bin | tail -1); d=$PWD; chmod 755 .; mkdir data s; chown postgres data s
as() { (cd /; runuser -u postgres -- "$@"); }
as $b/initdb -D $d/data -A trust >log 2>&1 || cat log
as $b/pg_ctl -D $d/data -o "-p $P1 -k $d/s" -l $d/s/log -w start >/dev/null && echo started
psql -h 127.0.0.1 -p $P1 -U postgres -Atc 'select inet_server_addr(), inet_client_addr(), 6*7'
psql -h $d/s -p $P1 -U postgres -Atc 'select count(*) from pg_class where relkind = $$v$$'
$b/pgbench -h 127.0.0.1 -p $P1 -U postgres -i -q postgres >/dev/null 2>&1
$b/pgbench -h 127.0.0.1 -p $P1 -U postgres -c 4 -j 2 -t 50 postgres 2>/dev/null | grep -E 'failed|processed'
as $b/pg_ctl -D $d/data -m fast stop >/dev/null && echo stopped
"""),
    Case("curl-tls", ("curl", "openssl", "ss"), script=r"""
openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost 2>/dev/null
openssl s_server -quiet -accept 127.0.0.1:$P1 -key key -cert cert -WWW & echo hello > f; listening $P1
curl -sS --cacert cert https://localhost:$P1/f; curl -sS https://localhost:$P1/f 2>&1 | head -1 | cut -c1-25
"""),
    Case("netcat-more", ("nc", "ss"), short=True, script=r"""
nc -lkU s > many & while ! [ -S s ]; do sleep .05; done
for i in 1 2; do echo $i | nc -NU s; done; while [ "$(wc -l < many)" != 2 ]; do sleep .05; done; cat many
nc -luU d > dgram & while ! [ -S d ]; do sleep .05; done; echo over unix dgram | nc -uU -w1 d
while ! [ -s dgram ]; do sleep .05; done; cat dgram
nc -l -s 127.0.0.2 -p $P1 > far & listening $P1; wait=$!; echo from a port | nc -N -s 127.0.0.3 -p $P2 127.0.0.2 $P1; wait $wait; cat far
nc -z -w1 127.0.0.2 $P1 || echo closed; nc -zv -r 127.0.0.1 $P1-$P1 2>&1 | sed "s/$P1/PORT/g"
head -c 2000000 /dev/urandom > blob; nc -l -I 65536 127.0.0.1 $P3 > copy & listening $P3; nc -N -O 65536 127.0.0.1 $P3 < blob; wait $!
while ! cmp -s blob copy; do sleep .05; done; echo blob
nc -l 127.0.0.1 $P4 < blob > /dev/null & listening $P4; nc -d 127.0.0.1 $P4 | head -c 2000000 | cmp - blob && echo down
socks() { nc -X 5 -x 127.0.0.1:$P1 127.0.0.1 $P2 2>&1 </dev/null; echo proxy $?; }; socks
nc -46 -l 2>&1 | head -1 | cut -c1-10; nc -T lowdelay -zv 127.0.0.1 $P1 2>&1 | sed "s/$P1/PORT/"
"""),
    Case("socat-pairs", ("socat", "ss"), script=r"""
kinds="TCP4-LISTEN TCP6-LISTEN UNIX-LISTEN ABSTRACT-LISTEN UDP4-LISTEN UDP6-LISTEN SOCKETPAIR PTY PIPE"
target() { case $1 in
    TCP4*) echo "TCP4:127.0.0.1:$2";; TCP6*) echo "TCP6:[::1]:$2";; UNIX*) echo "UNIX-CONNECT:u$2";;
    ABS*) echo "ABSTRACT-CONNECT:a$2";; UDP4*) echo "UDP4:127.0.0.1:$2";; UDP6*) echo "UDP6:[::1]:$2";; esac; }
server() { case $1 in UNIX*) echo "$1:u$2";; ABS*) echo "$1:a$2";; *6-*) echo "$1:$2,ipv6only,reuseaddr";; *) echo "$1:$2,reuseaddr";; esac; }
up() { case $1 in TCP*) listening $2;; UDP*) listening -u $2;; UNIX*) while ! [ -S u$2 ]; do sleep .02; done;;
    *) while ! grep -q "@a$2" /proc/net/unix; do sleep .02; done;; esac; }
for a in $kinds; do case $a in SOCKETPAIR|PTY|PIPE) echo through $a | socat -t.3 - $a,rawer 2>/dev/null || echo through $a | socat -t.3 - $a; continue;; esac
    for b in TCP4-LISTEN TCP6-LISTEN UNIX-LISTEN ABSTRACT-LISTEN UDP4-LISTEN UDP6-LISTEN; do
        rm -f u$P1 u$P2
        socat -t1 "$(server $b $P2)" EXEC:'tr a-z A-Z' 2>/dev/null & back=$!; up $b $P2
        socat -t1 "$(server $a $P1)" "$(target $b $P2)" 2>/dev/null & front=$!; up $a $P1
        (echo "$a to $b"; sleep .1) | socat -t2 - "$(target $a $P1)"
        kill $front $back 2>/dev/null; wait $front $back 2>/dev/null
    done; done
"""),
    Case("python", ("python3", "openssl", "ss"), short=True, script=r"""
cat > t.py <<'END'
import asyncio, os, threading, http.server
P1, P2, P3 = (int(os.environ[f"P{i}"]) for i in (1, 2, 3))
async def serve(r, w):
    while line := await r.readline(): w.write(line.upper()); await w.drain()
    w.close()
class Udp(asyncio.DatagramProtocol):
    def connection_made(self, t): self.t = t
    def datagram_received(self, data, where): self.t.sendto(data[::-1], where)
async def ask(n, **where):
    r, w = await asyncio.open_connection(**where) if "host" in where else await asyncio.open_unix_connection(**where)
    w.write(b"line %d\n" % n); w.write_eof(); got = await r.read(); w.close(); await w.wait_closed(); return got
async def main():
    loop = asyncio.get_running_loop()
    servers = [await asyncio.start_server(serve, "127.0.0.1", P1), await asyncio.start_unix_server(serve, "s")]
    for where in ({"host": "127.0.0.1", "port": P1}, {"path": "s"}):
        print(sorted(await asyncio.gather(*(ask(n, **where) for n in range(200))))[7])
    await loop.create_datagram_endpoint(Udp, ("127.0.0.1", P2))
    done = loop.create_future()
    class Client(asyncio.DatagramProtocol):
        def connection_made(self, t): t.sendto(b"abc")
        def datagram_received(self, data, where): done.set_result(data)
    await loop.create_datagram_endpoint(Client, remote_addr=("127.0.0.1", P2)); print(await done)
    try: await asyncio.open_connection("127.0.0.1", P3)
    except OSError as e: print(type(e).__name__)
    for s in servers: s.close(); await s.wait_closed()
asyncio.run(main())
try: import requests
except ImportError: requests = None
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])); self.send_response(201)
        self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", P3), H); threading.Thread(target=server.serve_forever).start()
if requests:
    with requests.Session() as session:
        for n in range(50): answer = session.post(f"http://127.0.0.1:{P3}/", data=b"x" * n * 1000)
        print(answer.status_code, len(answer.content))
server.shutdown(); server.server_close()
END
/usr/bin/python3 -I t.py
"""),
    Case("go-http", ("go",), timeout=300.0, script=r"""
cat > main.go <<'END'
package main
import ("fmt"; "io"; "net"; "net/http"; "net/http/httptest"; "os"; "sync")
func main() {
    h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b, _ := io.ReadAll(r.Body); fmt.Fprintf(w, "%s %s %d", r.Method, r.Proto, len(b)) })
    plain := &http.Server{Addr: "127.0.0.1:" + os.Getenv("P1"), Handler: h}
    l, err := net.Listen("tcp", plain.Addr); if err != nil { panic(err) }
    go plain.Serve(l)
    two := httptest.NewUnstartedServer(h); two.EnableHTTP2 = true; two.StartTLS()
    var wait sync.WaitGroup; sums := make([]int, 40)
    for i := range sums { wait.Add(1); go func(i int) { defer wait.Done(); r, err := http.Get("http://" + plain.Addr); if err != nil { panic(err) }
        b, _ := io.ReadAll(r.Body); r.Body.Close(); sums[i] = len(b) }(i) }
    wait.Wait(); fmt.Println(sums)
    r, err := two.Client().Get(two.URL); if err != nil { panic(err) }
    b, _ := io.ReadAll(r.Body); fmt.Println(string(b)); two.Close(); plain.Close()
    _, err = net.Dial("tcp", plain.Addr); fmt.Println(err != nil)
    a, _ := net.InterfaceAddrs(); fmt.Println(len(a) > 0)
}
END
export GOCACHE=${XDG_CACHE_HOME}/go-build GOPATH=$PWD/go GO111MODULE=off; go build -o t main.go && ./t
"""),
    Case("node", ("node",), script=r"""
cat > t.js <<'END'
const http = require("http"), net = require("net"), dgram = require("dgram"), P = process.env;
let ws; try { ws = require("/usr/share/nodejs/ws"); } catch { ws = null; }
const get = (options) => new Promise((ok, bad) => http.get(options, (r) => { let b = ""; r.on("data", (d) => b += d); r.on("end", () => ok(r.statusCode + " " + b.length)); }).on("error", bad));
const server = http.createServer((q, r) => r.end("x".repeat(1000))).listen(P.P1, "127.0.0.1", async () => {
    const agent = new http.Agent({ keepAlive: true });
    console.log((await Promise.all([...Array(100)].map(() => get({ port: P.P1, host: "127.0.0.1", agent })))).filter((x) => x === "200 1000").length);
    agent.destroy();
    const local = http.createServer((q, r) => r.end("local")).listen("s");
    await new Promise((ok) => local.on("listening", ok)); console.log(await get({ socketPath: "s" })); local.close();
    await new Promise((ok) => net.connect(P.P4, "127.0.0.1").on("error", (e) => { console.log(e.code); ok(); }));
    const u = dgram.createSocket("udp4"); await new Promise((ok) => u.bind(P.P2, "127.0.0.1", ok));
    u.on("message", (m) => { console.log(String(m)); u.close(); }); dgram.createSocket("udp4").send("datagram", P.P2, "127.0.0.1", function () { this.close?.(); });
    if (ws) { const s = new ws.WebSocketServer({ server }); s.on("connection", (c) => c.on("message", (m) => c.send(String(m).toUpperCase())));
        const c = new ws.WebSocket(`ws://127.0.0.1:${P.P1}/`); c.on("open", () => c.send("web socket"));
        c.on("message", (m) => { console.log(String(m)); c.close(); s.close(); server.close(); }); } else server.close();
    setTimeout(() => process.exit(0), 1000);
});
END
node t.js
"""),
    Case("java", ("javac", "java"), script=r"""
cat > T.java <<'END'
import com.sun.net.httpserver.*; import java.net.*; import java.net.http.*; import java.nio.channels.*; import java.nio.file.*; import java.util.*; import java.util.stream.*;
public class T { public static void main(String[] a) throws Exception {
    var s = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("P1"))), 50);
    s.createContext("/", x -> { var b = x.getRequestBody().readAllBytes(); x.sendResponseHeaders(200, b.length + 1); x.getResponseBody().write(new byte[b.length + 1]); x.close(); }); s.start();
    var c = HttpClient.newHttpClient(); var u = URI.create("http://127.0.0.1:" + System.getenv("P1") + "/");
    var all = IntStream.range(0, 50).mapToObj(i -> c.sendAsync(HttpRequest.newBuilder(u).POST(HttpRequest.BodyPublishers.ofString("x".repeat(i * 100))).build(), HttpResponse.BodyHandlers.ofByteArray())).toList();
    int sum = 0; for (var f : all) sum += f.get().body().length; System.out.println(sum); s.stop(0);
    var l = ServerSocketChannel.open(StandardProtocolFamily.UNIX).bind(UnixDomainSocketAddress.of("s"));
    var k = SocketChannel.open(UnixDomainSocketAddress.of("s")); var p = l.accept(); k.write(java.nio.ByteBuffer.wrap("hello".getBytes()));
    var b = java.nio.ByteBuffer.allocate(9); System.out.println(p.read(b)); k.close(); p.close(); l.close();
    try { new Socket("127.0.0.1", Integer.parseInt(System.getenv("P2"))); } catch (ConnectException e) { System.out.println(e.getMessage()); }
    System.exit(0); } }
END
javac T.java && java -Xshare:auto T
"""),
    Case("dig", ("dig", "dnsmasq", "ss"), script=r"""
dnsmasq -k -C /dev/null -p $P1 -a 127.0.0.1 -z -R -u root --pid-file= --host-record=a.test,192.0.2.7,2001:db8::7 --cname=c.test,a.test \
    --txt-record=a.test,words --mx-host=a.test,mail.a.test,10 --srv-host=_x._tcp.a.test,a.test,80 & listening -u $P1; listening $P1
d() { dig +short +tries=1 -p $P1 @127.0.0.1 "$@"; }
d a.test; d AAAA a.test; d c.test; d TXT a.test; d MX a.test; d SRV _x._tcp.a.test; d -x 192.0.2.7; d +tcp a.test
dig -p $P1 @127.0.0.1 no.test | grep -o 'status: [A-Z]*'; dig +tries=1 +time=1 -p $P2 @127.0.0.1 a.test | grep -c refused
"""),
    Case("wget-tls", ("wget", "curl", "openssl", "nginx", "ss"), script=r"""
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca -days 2 -subj /CN=authority 2>/dev/null
openssl req -newkey rsa:2048 -nodes -keyout key -out csr -subj /CN=localhost 2>/dev/null
printf 'subjectAltName=DNS:localhost' > ext; openssl x509 -req -in csr -CA ca -CAkey ca.key -days 2 -extfile ext -out cert 2>/dev/null
chmod 755 .; mkdir -p www/d; for i in 1 2 3; do seq $i > www/d/$i; done; echo '<a href=1>1</a><a href=2>2</a>' > www/d/index.html; seq 300000 > www/big
cat > conf <<END
worker_processes 2; daemon off; pid $PWD/pid; error_log stderr crit; events { worker_connections 64; }
http { access_log off; client_body_temp_path $PWD/b; proxy_temp_path $PWD/p; fastcgi_temp_path $PWD/f; uwsgi_temp_path $PWD/u; scgi_temp_path $PWD/s;
server { listen 127.0.0.1:$P1; listen 127.0.0.1:$P2 ssl http2; ssl_certificate $PWD/cert; ssl_certificate_key $PWD/key; root $PWD/www; } }
END
nginx -c $PWD/conf & listening $P2
for u in http://localhost:$P1 https://localhost:$P2; do
    wget -q --ca-certificate=ca -O- $u/d/3; curl -sS --cacert ca $u/big | md5sum; curl -sS --cacert ca -r 10-19 $u/big; echo
    wget -q --ca-certificate=ca -r -np -nH -P got $u/d/ && ls got/d; rm -r got
done
wget -q -O- https://localhost:$P2/d/3; echo wget $?; curl -sS https://localhost:$P2/ 2>/dev/null; echo curl $?
curl -sS --cacert ca --http2 -o /dev/null -w '%{http_version} %{ssl_verify_result}\n' https://localhost:$P2/big
head -c 1000 www/big > part; wget -q -c -O part --ca-certificate=ca https://localhost:$P2/big && cmp part www/big && echo resumed
"""),
    Case("git-http", ("git", "python3", "ss"), script=r"""
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a
git init -q --bare r.git; git -C r.git config http.receivepack true; mkdir cgi-bin
printf '#!/bin/sh\nexport GIT_PROJECT_ROOT=%s GIT_HTTP_EXPORT_ALL=1 HTTP_CONTENT_ENCODING=$HTTP_CONTENT_ENCODING\nexec git http-backend\n' "$PWD" > cgi-bin/git; chmod 755 cgi-bin/git .
python3 -m http.server --cgi --bind 127.0.0.1 $P1 >/dev/null 2>&1 & listening $P1; u=http://127.0.0.1:$P1/cgi-bin/git/r.git
git clone -q $u one 2>&1; seq 30000 > one/f; git -C one add f; git -C one commit -qm one; git -C one push -q $u HEAD:refs/heads/master
git clone -q $u two && cmp one/f two/f && git -C two log --format=%s; git ls-remote $u | wc -l
"""),
    Case("haproxy-nginx", ("haproxy", "nginx", "wrk", "curl", "ss"), script=r"""
chmod 755 .
for p in $P1 $P2; do mkdir w$p; chmod 755 w$p; cat > n$p <<END
worker_processes 2; daemon off; pid $PWD/pid$p; error_log stderr crit; events { worker_connections 256; }
http { access_log off; client_body_temp_path $PWD/b$p; proxy_temp_path $PWD/p$p; fastcgi_temp_path $PWD/f$p; uwsgi_temp_path $PWD/u$p; scgi_temp_path $PWD/s$p;
server { listen 127.0.0.1:$p; root $PWD/w$p; } }
END
nginx -c $PWD/n$p & listening $p; done; first=$(jobs -p | head -1)
echo first > w$P1/index.html; echo second > w$P2/index.html
""" + _BALANCE + r"""wrk -t1 -c16 -d1s http://127.0.0.1:$P3/ > out; grep -E 'Socket errors|Non-2xx' out; grep -c Requests/sec out
nginx -c $PWD/n$P1 -s stop 2>/dev/null; wait $first
until [ "$(for i in 1 2 3; do fetch http://127.0.0.1:$P3/; done | sort | uniq)" = second ]; do sleep .1; done; echo one is left
"""),
]  # fmt: skip
