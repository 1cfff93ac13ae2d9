// What Go's runtime needs of a kernel: preemption by SIGURG, faults that become panics, timers, its poller, exec.
// Prints one line for each part, always the same.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type node struct{ next *node; value int }

// A loop without a call in it can be stopped by a signal only.
func preemption() string {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	var stop, sink int64
	var wg sync.WaitGroup
	for i := 0; i < 3; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			x := int64(1)
			for atomic.LoadInt64(&stop) == 0 {
				for j := 0; j < 1000000; j++ {
					x = x*6364136223846793005 + 1
				}
			}
			atomic.AddInt64(&sink, x&1)
		}()
	}
	before := debug.GCStats{}
	debug.ReadGCStats(&before)
	for i := 0; i < 5; i++ {
		var keep [][]byte
		for j := 0; j < 64; j++ {
			keep = append(keep, make([]byte, 16<<10))
		}
		runtime.GC()
		runtime.KeepAlive(keep)
	}
	after := debug.GCStats{}
	debug.ReadGCStats(&after)
	atomic.StoreInt64(&stop, 1)
	wg.Wait()
	return fmt.Sprint(after.NumGC-before.NumGC >= 5)
}

func dereference(n *node) (s string) {
	defer func() {
		if e, ok := recover().(runtime.Error); ok {
			s = e.Error()
		}
	}()
	return fmt.Sprint(n.next.value)
}

func faults() string {
	seen := map[string]int{}
	for i := 0; i < 500; i++ {
		seen[dereference(nil)]++
	}
	var zero int
	func() {
		defer func() { seen[fmt.Sprint(recover())]++ }()
		fmt.Println(1 / zero)
	}()
	var wg sync.WaitGroup
	var count int64
	for i := 0; i < 8; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := 0; j < 50; j++ {
				if strings.Contains(dereference(nil), "nil pointer") {
					atomic.AddInt64(&count, 1)
				}
			}
		}()
	}
	wg.Wait()
	return fmt.Sprint(seen, count)
}

func web() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err.Error()
	}
	var served int64
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		atomic.AddInt64(&served, 1)
		fmt.Fprintf(w, "%s %s %d", r.Method, r.URL.Path, len(body))
	})}
	go server.Serve(listener)
	base := "http://" + listener.Addr().String()
	var wg sync.WaitGroup
	var good int64
	for i := 0; i < 8; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			for j := 0; j < 10; j++ {
				size := 1 + i*j*1000
				reply, err := http.Post(fmt.Sprintf("%s/%d/%d", base, i, j), "text/plain", strings.NewReader(strings.Repeat("x", size)))
				if err != nil {
					fmt.Println(err)
					continue
				}
				text, _ := io.ReadAll(reply.Body)
				reply.Body.Close()
				if string(text) == fmt.Sprintf("POST /%d/%d %d", i, j, size) {
					atomic.AddInt64(&good, 1)
				}
			}
		}(i)
	}
	wg.Wait()
	err = server.Close()
	return fmt.Sprint(served, good, err)
}

func commands() string {
	var wg sync.WaitGroup
	out := make([]string, 8)
	for i := range out {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf("cat; exit %d", i))
			cmd.Stdin = strings.NewReader(fmt.Sprint("in", i))
			text, err := cmd.Output()
			out[i] = fmt.Sprint(string(text), err)
		}(i)
	}
	wg.Wait()
	_, err := exec.Command("/no/such/program").Output()
	killed := exec.Command("/bin/sleep", "100")
	killed.Start()
	killed.Process.Kill()
	return fmt.Sprint(out, err, killed.Wait())
}

func timers() string {
	ticker := time.NewTicker(time.Millisecond)
	ticks := 0
	timeout := time.After(10 * time.Second)
	for ticks < 20 {
		select {
		case <-ticker.C:
			ticks++
		case <-timeout:
			return "late"
		}
	}
	ticker.Stop()
	fired := make(chan int, 100)
	for i := 0; i < 100; i++ {
		i := i
		time.AfterFunc(time.Duration(i%10)*time.Millisecond, func() { fired <- i })
	}
	sum := 0
	for i := 0; i < 100; i++ {
		sum += <-fired
	}
	return fmt.Sprint(ticks, sum)
}

func notify() string {
	c := make(chan os.Signal, 100)
	signal.Notify(c, syscall.SIGUSR1, syscall.SIGWINCH)
	defer signal.Stop(c)
	got := map[string]int{}
	for i := 0; i < 20; i++ {
		which := []syscall.Signal{syscall.SIGUSR1, syscall.SIGWINCH}[i%2]
		syscall.Kill(os.Getpid(), which)
		got[(<-c).String()]++
	}
	return fmt.Sprint(got)
}

func stacks() string {
	var deep func(int) int
	deep = func(n int) int {
		var room [256]byte
		room[n%256] = byte(n)
		if n == 0 {
			return 0
		}
		return deep(n-1) + int(room[n%256])&1
	}
	out := make(chan int)
	for i := 0; i < 4; i++ {
		go func() { out <- deep(20000) }()
	}
	sum := 0
	for i := 0; i < 4; i++ {
		sum += <-out
	}
	return fmt.Sprint(sum)
}

func main() {
	for _, part := range []struct {
		name string
		run  func() string
	}{{"preemption", preemption}, {"faults", faults}, {"web", web}, {"commands", commands}, {"timers", timers},
		{"notify", notify}, {"stacks", stacks}, {"extra", extra}} {
		fmt.Println(part.name, part.run())
	}
}
