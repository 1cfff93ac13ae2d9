<?php
// PHP: exceptions, generators, processes, sockets, files, PCRE's JIT.
function deep($n) { if ($n == 0) throw new RuntimeException("bottom"); try { return deep($n - 1); } finally { $GLOBALS["finally"]++; } }
$finally = 0;
$caught = 0;
for ($i = 0; $i < 50; $i++) try { deep(20); } catch (RuntimeException $e) { $caught++; }
echo "exceptions $caught $finally\n";
try { echo intdiv(1, 0); } catch (DivisionByZeroError $e) { echo get_class($e), "\n"; }
function naturals() { for ($i = 0;; $i++) yield $i; }
$sum = 0;
foreach (naturals() as $n) { if ($n > 100000) break; $sum += $n; }
echo "generator $sum\n";
$text = str_repeat("ab12cd345 ", 20000);
echo "pcre ", preg_match_all('/([a-z]+)(\d+)(?=cd)/', $text, $m), " ", md5(preg_replace_callback('/\d+/', fn($m) => $m[0] + 1, $text)), "\n";
for ($i = 0; $i < 5; $i++) {
    $p = proc_open(["/bin/sh", "-c", "cat; exit $i"], [["pipe", "r"], ["pipe", "w"]], $pipes);
    fwrite($pipes[0], "in$i"); fclose($pipes[0]);
    echo "process ", stream_get_contents($pipes[1]), " ", proc_close($p), "\n";
}
echo "shell ", trim(shell_exec("echo from the shell")), "\n";
$server = stream_socket_server("tcp://127.0.0.1:0");
$client = stream_socket_client("tcp://" . stream_socket_get_name($server, false));
$peer = stream_socket_accept($server);
fwrite($client, str_repeat("z", 5000)); stream_socket_shutdown($client, STREAM_SHUT_WR);
echo "socket ", strlen(stream_get_contents($peer)), "\n";
$dir = sys_get_temp_dir() . "/php" . getmypid(); mkdir($dir);
file_put_contents("$dir/a", "one"); file_put_contents("$dir/a", "two", FILE_APPEND | LOCK_EX); rename("$dir/a", "$dir/b");
echo "files ", file_get_contents("$dir/b"), " ", implode(",", array_diff(scandir($dir), [".", ".."])), "\n";
unlink("$dir/b"); rmdir($dir);
if (function_exists("pcntl_fork")) {
    pcntl_async_signals(true);
    $got = 0;
    pcntl_signal(SIGUSR1, function () { $GLOBALS["got"]++; });
    for ($i = 0; $i < 10; $i++) posix_kill(posix_getpid(), SIGUSR1);
    $pid = pcntl_fork();
    if ($pid == 0) exit(3);
    pcntl_waitpid($pid, $status);
    echo "pcntl $got ", pcntl_wexitstatus($status), "\n";
}
exit(4);
