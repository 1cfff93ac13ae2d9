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
cat > conf <<END
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
listen l
  bind 127.0.0.1:$P3
  balance roundrobin
  server a 127.0.0.1:$P1 check inter 100
  server b 127.0.0.1:$P2 check inter 100
END
haproxy -q -f conf 2>/dev/null & listening $P3
until [ "$(for i in 1 2; do fetch http://127.0.0.1:$P3/; done | sort | uniq | wc -l)" = 2 ]; do sleep .1; done
for i in 1 2 3 4; do fetch http://127.0.0.1:$P3/; done | sort | uniq -c
"""),
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
]  # fmt: skip
