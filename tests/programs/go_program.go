// A static Go program: goroutines, files, processes, nil dereference, signals. It says ok and exits 0.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"
)

func must(err error) {
	if err != nil {
		fmt.Println("FAIL", err)
		os.Exit(1)
	}
}

func nilRead() (said string) {
	defer func() { said = fmt.Sprint(recover()) }()
	var p *struct{ a, b int }
	return fmt.Sprint(p.b)
}

func main() {
	var wg sync.WaitGroup
	sums := make(chan int, 100)
	for i := 0; i < 50; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			name := fmt.Sprintf("g%02d", i)
			must(os.WriteFile(name, []byte(strings.Repeat(name, i)), 0o600))
			data, err := os.ReadFile(name)
			must(err)
			sums <- len(data)
		}(i)
	}
	wg.Wait()
	close(sums)
	total := 0
	for n := range sums {
		total += n
	}
	fmt.Println("total", total)
	names, err := filepath.Glob("g*")
	must(err)
	sort.Strings(names)
	fmt.Println(len(names), names[0], names[49])
	fmt.Println(nilRead())
	out, err := exec.Command("/bin/sh", "-c", "echo from sh; exit 3").Output()
	fmt.Printf("%q %v\n", out, err)
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	must(syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	select {
	case s := <-c:
		fmt.Println("signal", s)
	case <-time.After(5 * time.Second):
		fmt.Println("FAIL no signal")
		os.Exit(1)
	}
	r, w, err := os.Pipe()
	must(err)
	go func() { time.Sleep(20 * time.Millisecond); w.Write([]byte("late")); w.Close() }()
	b := make([]byte, 10)
	n, err := r.Read(b)
	must(err)
	fmt.Println(string(b[:n]))
	for i := 0; i < 20; i++ {
		runtime.GC()
	}
	must(filepath.Walk(".", func(p string, i os.FileInfo, err error) error { return err }))
	spin := make(chan bool)
	for i := 0; i < 4; i++ { // preemption of goroutines works by signals
		go func() {
			x := 0
			for j := 0; j < 30_000_000; j++ {
				x += j
			}
			spin <- x > 0
		}()
	}
	for i := 0; i < 4; i++ {
		<-spin
	}
	_, err = os.Stat("nowhere")
	fmt.Println(os.IsNotExist(err), runtime.NumCPU() > 0)
	fmt.Println("ok")
}
