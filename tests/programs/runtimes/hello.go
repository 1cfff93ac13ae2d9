// For another architecture, under qemu-user: goroutines, a nil dereference, a file.
package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	out := make(chan int)
	for i := 0; i < 10; i++ {
		go func(i int) { out <- i * i }(i)
	}
	sum := 0
	for i := 0; i < 10; i++ {
		sum += <-out
	}
	func() {
		defer func() { fmt.Println(recover()) }()
		var none *[4]int
		fmt.Println(none[2])
	}()
	_, err := os.ReadFile("/no/such")
	fmt.Println(runtime.GOARCH, sum, err)
	os.Exit(2)
}
