# Perl: die across sort and regex, signals in sleep and read, fork, pipes, sockets, local handlers, alarm.
use strict; use warnings; use POSIX qw(:sys_wait_h :signal_h); use IO::Socket::INET; use Time::HiRes; use File::Temp 'tempdir';
$| = 1;
my $caught = 0;
for (1 .. 100) { eval { my @s = sort { die "in sort\n" } 3, 1, 2; 1 } or $caught += $@ eq "in sort\n" }
print "die $caught\n";
my $got = 0;
local $SIG{USR1} = sub { $got++ };
kill USR1 => $$ for 1 .. 20;
print "signals $got\n";
eval { POSIX::sigaction(SIGALRM, POSIX::SigAction->new(sub { die "alarm\n" })); Time::HiRes::ualarm(5000); pipe(my $r, my $w); sysread($r, my $b, 1) };
print "alarm ", $@ eq "alarm\n" ? "yes" : "no $@", "\n";
my @ends;
for my $i (1 .. 10) { my $pid = fork; if (!$pid) { POSIX::_exit($i) } waitpid $pid, 0; push @ends, $? >> 8 }
print "fork @ends\n";
my $pid = open my $to, "|-", "cat >/dev/null; exit 5"; print $to "x" x 200_000; close $to; print "pipe ", $? >> 8, "\n";
print "qx ", `echo out; exit 3`, $? >> 8, "\n";
my $server = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die $!;
if (!fork) { my $c = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $server->sockport); print $c "hello " x 1000; exit 0 }
my $peer = $server->accept; my $text = join '', <$peer>; wait; print "socket ", length $text, "\n";
my $dir = tempdir(CLEANUP => 1); open my $f, '>', "$dir/a" or die; print $f "data\n"; close $f; rename "$dir/a", "$dir/b"; print "files ", (stat "$dir/b")[7], " ", join(',', map { s/.*\///r } glob "$dir/*"), "\n";
my $mask = POSIX::SigSet->new(SIGUSR1); sigprocmask(SIG_BLOCK, $mask); kill USR1 => $$ for 1 .. 3; my $before = $got; sigprocmask(SIG_UNBLOCK, $mask); print "blocked ", $got - $before, "\n";
print "regex ", scalar(() = ("ab" x 5000) =~ /(a(?{1})b)/g), "\n";
exit 6;
