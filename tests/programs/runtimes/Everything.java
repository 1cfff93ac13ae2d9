// What a JVM needs of a kernel: implicit null checks and safepoints by SIGSEGV, guard pages, threads, processes.
import java.io.*;
import java.net.*;
import java.nio.*;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

public class Everything {
    static final boolean QUICK = Boolean.getBoolean("quick");
    int field = 3;
    Everything next;

    static int read(Everything e) { return e.field; }
    static int deep(int n) { return n + deep(n + 1); }

    static String nulls() {
        // Enough rounds for the compiled code, whose null check is the fault itself.
        int caught = 0, rounds = QUICK ? 30_000 : 200_000;
        long sum = 0;
        Everything some = new Everything();
        for (int i = 0; i < rounds; i++) {
            try {
                sum += read(i % 1000 == 0 ? null : some);
            } catch (NullPointerException e) {
                caught++;
            }
        }
        int storm = 0;
        for (int i = 0; i < 2000; i++) {
            try {
                sum += read(null);
            } catch (NullPointerException e) {
                storm++;
            }
        }
        return caught + " " + storm + " " + sum;
    }

    static String overflows() {
        int caught = 0;
        for (int i = 0; i < 5; i++) {
            try {
                deep(0);
            } catch (StackOverflowError e) {
                caught++;
            }
        }
        return "" + caught;
    }

    static String arithmetic() {
        int caught = 0, zero = Integer.parseInt("0");
        for (int i = 0; i < 1000; i++) {
            try {
                caught += i / zero;
            } catch (ArithmeticException e) {
                caught++;
            }
        }
        return "" + caught;
    }

    static String garbage() throws Exception {
        int threads = 4, rounds = QUICK ? 20 : 100;
        ExecutorService pool = Executors.newFixedThreadPool(threads);
        List<Future<Long>> all = new ArrayList<>();
        for (int t = 0; t < threads; t++) {
            final int seed = t;
            all.add(pool.submit(() -> {
                Random random = new Random(seed);
                Map<Integer, byte[]> keep = new HashMap<>();
                long sum = 0;
                for (int i = 0; i < rounds * 50; i++) {
                    keep.put(random.nextInt(200), new byte[random.nextInt(20_000)]);
                    sum += keep.size();
                    if (i % 1000 == 0) System.gc();
                }
                return sum;
            }));
        }
        long sum = 0;
        for (Future<Long> one : all) sum += one.get();
        pool.shutdown();
        return "" + sum + " " + pool.awaitTermination(10, TimeUnit.SECONDS);
    }

    static String monitors() throws Exception {
        final Object lock = new Object();
        final int[] turn = {0};
        Thread[] threads = new Thread[3];
        for (int t = 0; t < 3; t++) {
            final int me = t;
            threads[t] = new Thread(() -> {
                synchronized (lock) {
                    for (int i = 0; i < 200; i++) {
                        while (turn[0] % 3 != me) {
                            try { lock.wait(); } catch (InterruptedException e) { return; }
                        }
                        turn[0]++;
                        lock.notifyAll();
                    }
                }
            });
            threads[t].start();
        }
        for (Thread thread : threads) thread.join();
        Thread sleeper = new Thread(() -> {
            try { Thread.sleep(100_000); } catch (InterruptedException e) { turn[0] += 1000; }
        });
        sleeper.start();
        sleeper.interrupt();
        sleeper.join();
        return "" + turn[0];
    }

    static String processes() throws Exception {
        StringBuilder out = new StringBuilder();
        for (int i = 0; i < (QUICK ? 3 : 10); i++) {
            ProcessBuilder builder = new ProcessBuilder("/bin/sh", "-c", "cat; echo $V; exit " + i);
            builder.environment().put("V", "v" + i);
            builder.redirectErrorStream(true);
            Process p = builder.start();
            try (OutputStream in = p.getOutputStream()) { in.write(("in" + i + " ").getBytes()); }
            out.append(new String(p.getInputStream().readAllBytes()).trim()).append(' ').append(p.waitFor()).append(';');
        }
        Process sleeper = new ProcessBuilder("/bin/sleep", "100").start();
        sleeper.destroy();
        out.append(sleeper.waitFor());
        try {
            new ProcessBuilder("/no/such/program").start();
        } catch (IOException e) {
            out.append(" none");
        }
        return out.toString();
    }

    static String network() throws Exception {
        try (ServerSocket server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress())) {
            Thread acceptor = new Thread(() -> {
                for (int i = 0; i < 20; i++) {
                    try (Socket s = server.accept()) {
                        byte[] in = s.getInputStream().readAllBytes();
                        s.getOutputStream().write(("got " + in.length).getBytes());
                    } catch (IOException e) {
                        System.out.println(e);
                    }
                }
            });
            acceptor.start();
            int good = 0;
            for (int i = 0; i < 20; i++) {
                try (Socket s = new Socket(server.getInetAddress(), server.getLocalPort())) {
                    s.getOutputStream().write(new byte[i * 5000]);
                    s.shutdownOutput();
                    if (new String(s.getInputStream().readAllBytes()).equals("got " + i * 5000)) good++;
                }
            }
            acceptor.join();
            return "" + good;
        }
    }

    static String files() throws Exception {
        Path dir = Files.createTempDirectory("everything");
        Path file = dir.resolve("mapped");
        Files.write(file, new byte[100_000]);
        long sum = 0;
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            MappedByteBuffer map = channel.map(FileChannel.MapMode.READ_WRITE, 0, 100_000);
            for (int i = 0; i < 100_000; i++) map.put(i, (byte) i);
            map.force();
        }
        for (byte b : Files.readAllBytes(file)) sum += b & 255;
        Files.delete(file);
        Files.delete(dir);
        return "" + sum;
    }

    interface Part { String run() throws Exception; }

    public static void main(String[] args) throws Exception {
        Map<String, Part> parts = new LinkedHashMap<>();
        parts.put("nulls", Everything::nulls);
        parts.put("overflows", Everything::overflows);
        parts.put("arithmetic", Everything::arithmetic);
        parts.put("garbage", Everything::garbage);
        parts.put("monitors", Everything::monitors);
        parts.put("processes", Everything::processes);
        parts.put("network", Everything::network);
        parts.put("files", Everything::files);
        for (Map.Entry<String, Part> part : parts.entrySet())
            System.out.println(part.getKey() + " " + part.getValue().run());
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook")));
        System.exit(7);
    }
}
