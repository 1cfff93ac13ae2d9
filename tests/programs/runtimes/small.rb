# Ruby: exceptions across C frames, threads (its timer thread), fibers, fork, signals, sockets, stack overflow.
require "socket"
require "tmpdir"
require "open3"
$stdout.sync = true
ensured = 0
caught = (1..50).count { begin; [3, 1, 2].sort_by { |x| begin; raise "x" if x == 2; x; ensure; ensured += 1; end }; false; rescue RuntimeError; true; end }
puts "exceptions #{caught} #{ensured}"
def down(n) = down(n + 1) + 1
puts "overflow #{(1..3).count { begin; down(0); rescue SystemStackError; true; end }}"
queue = Queue.new
threads = 8.times.map { |i| Thread.new { 1000.times { |j| queue << i * j if j % 100 == 0 }; i } }
puts "threads #{threads.sum(&:value)} #{Array.new(queue.size) { queue.pop }.sum}"
spinning = Thread.new { loop {} }
sleeping = Thread.new { sleep }
Thread.pass until sleeping.stop?
[spinning, sleeping].each(&:kill).each(&:join)
puts "killed #{[spinning, sleeping].map(&:alive?)}"
fiber = Fiber.new { 5.times { |i| Fiber.yield i }; :done }
puts "fiber #{6.times.map { fiber.resume }}"
got = 0
trap("USR1") { got += 1 }
20.times { |i| Process.kill("USR1", $$); sleep 0.001 until got > i }
puts "signals #{got}"
pids = 5.times.map { |i| fork { exit!(i) } }
puts "fork #{pids.map { |pid| Process.wait2(pid)[1].exitstatus }}"
out, status = Open3.capture2("cat; exit 6", stdin_data: "x" * 100_000)
puts "popen #{out.size} #{status.exitstatus} #{`echo back`.strip}"
server = TCPServer.new("127.0.0.1", 0)
serve = Thread.new { 5.times { s = server.accept; s.write(s.read.size); s.close } }
puts "socket #{5.times.map { |i| s = TCPSocket.new("127.0.0.1", server.addr[1]); s.write("y" * i * 9999); s.close_write; s.read.to_i }.sum}"
serve.join
Dir.mktmpdir { |d| File.write("#{d}/a", "text"); File.rename("#{d}/a", "#{d}/b"); puts "files #{Dir.children(d)} #{File.read("#{d}/b")}" }
100.times { Array.new(1000) { "s" * 50 } }
GC.start
puts "gc #{GC.count > 0}"
require "timeout"
begin; Timeout.timeout(0.01) { sleep }; rescue Timeout::Error; puts "timeout"; end
exit 8
