// Command workload is a container's program for the test clusters: it holds
// memory, burns a share of a core, serves HTTP or asks for a page, and ends when
// it is told to.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"
)

func main() {
	listen := flag.String("listen", "", "address to serve HTTP on")
	memory := flag.Int("memory", 0, "MiB to hold")
	cpu := flag.Int("cpu", 0, "thousandths of a core to burn")
	ask := flag.String("get", "", "URL to ask for until it answers 200, for ten seconds at most; its certificate is not verified")
	last := flag.Duration("for", 0, "end after; 0 is never")
	flag.Parse()

	if *ask != "" {
		if err := get(*ask); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	held := make([]byte, *memory<<20)
	for i := 0; i < len(held); i += 4096 {
		held[i] = 1
	}
	if *cpu > 0 {
		go burn(*cpu)
	}
	if *listen != "" {
		go serve(*listen)
	}
	if *last == 0 {
		for {
			time.Sleep(time.Hour)
		}
	}
	time.Sleep(*last)
	fmt.Println("done", len(held))
}

// burn keeps one thread busy for so many thousandths of each tenth of a second.
func burn(thousandths int) {
	const period = 100 * time.Millisecond
	for {
		start := time.Now()
		for busy := period * time.Duration(thousandths) / 1000; time.Since(start) < busy; {
		}
		time.Sleep(period - time.Since(start))
	}
}

func serve(address string) {
	name, err := os.Hostname()
	if err != nil {
		name = err.Error()
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s %s\n", name, r.URL.Path)
	})
	fmt.Println(http.ListenAndServe(address, nil))
	os.Exit(1)
}

func get(url string) (err error) {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var response *http.Response
		if response, err = client.Get(url); err != nil {
			continue
		}
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return nil
		}
		err = fmt.Errorf("%s answers %s", url, response.Status)
	}
	return err
}
