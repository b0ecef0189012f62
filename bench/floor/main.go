// Floor is what no server on net/http can be faster than: it parses the form
// of a request and answers with 150 bytes of JSON.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
)

func main() {
	answer := []byte(`{"` + strings.Repeat("x", 143) + `":1}`)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ParseForm() != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer)
	})))
}
