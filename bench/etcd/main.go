// Etcd asks etcd as a server does that issues one token, or checks one, in one
// transaction of the same bytes: what one request of grantling can cost at least.
// It uses etcd's own client, and no JSON.
//
//	etcd ENDPOINT issue|check CONNECTIONS SECONDS
//
// It prints one line as request.lua does: requests, microseconds, failures, and
// the latency at 50 and 99 %.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	token  = `{"hash":"hv5SgqRFJGMssajt3P2dLA","client":"web AaIZO6Uqey2SQdN9i4Qv7A","scope":"read write","exp":1795723271}`
	client = `{"id":"01a2193b-a52a-7b2d-9241-d37d8b842fec","client_id":"web","redirect_uris":["https://cb.example/cb"],"scope":"read write","client_secret_hash":"dh/tnbsiQnvtvHPD8KuT//QRBKp36xRQJdARO+jANaM=","registered_by":"operator"}`
	mark   = `{"exp":1795806071,"commit":"%s"}`
)

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: etcd ENDPOINT issue|check CONNECTIONS SECONDS")
	}
	connections, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	lasting, err := time.ParseDuration(os.Args[4] + "s")
	if err != nil {
		log.Fatal(err)
	}
	ask := map[string]func(*clientv3.Client) func(context.Context) error{"issue": issuing, "check": checking}[os.Args[2]]
	latencies := make([][]time.Duration, connections)
	failures := make([]int, connections)
	var all sync.WaitGroup
	began := time.Now()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Args[1]}, DialTimeout: 5 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	for i := range connections {
		do := ask(c)
		all.Go(func() {
			for time.Since(began) < lasting {
				sent := time.Now()
				if err := do(context.Background()); err != nil {
					failures[i]++
				}
				latencies[i] = append(latencies[i], time.Since(sent))
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	sorted := slices.Sorted(slices.Values(slices.Concat(latencies...)))
	failed := 0
	for _, n := range failures {
		failed += n
	}
	at := func(percent int) int64 { return sorted[len(sorted)*percent/100].Microseconds() }
	fmt.Println(len(sorted), took.Microseconds(), failed, at(50), at(99))
}

// issuing returns what stores one token: it compares one record that is not there
// and a mark of its own, writes both, and would ask for the mark if it were refused.
func issuing(c *clientv3.Client) func(context.Context) error {
	own := key("marks")
	last := int64(0)
	return func(ctx context.Context) error {
		unchanged := clientv3.Compare(clientv3.ModRevision(own), "=", last)
		answer, err := c.Txn(ctx).
			If(unchanged).
			Then(clientv3.OpPut(key("access_tokens"), token),
				clientv3.OpDelete("bench/client_lists/unused"+strings.Repeat("x", 37)),
				clientv3.OpPut(own, fmt.Sprintf(mark, uuid.New()))).
			Else(clientv3.OpGet(own), clientv3.OpTxn([]clientv3.Cmp{unchanged}, []clientv3.Op{clientv3.OpPut(own, "{}")}, nil)).
			Commit()
		if err != nil || !answer.Succeeded {
			return fmt.Errorf("it was refused, or %w", err)
		}
		last = answer.Header.Revision
		return nil
	}
}

// checking returns what reads a token and its client.
func checking(c *clientv3.Client) func(context.Context) error {
	some := key("access_tokens")
	if _, err := c.Txn(context.Background()).Then(clientv3.OpPut(some, token), clientv3.OpPut("bench/clients/web", client)).Commit(); err != nil {
		log.Fatal(err)
	}
	return func(ctx context.Context) error {
		answer, err := c.Txn(ctx).Then(clientv3.OpGet(some), clientv3.OpGet("bench/clients/web")).Commit()
		if err == nil && len(answer.Responses[0].GetResponseRange().Kvs) != 1 {
			err = fmt.Errorf("the token is not there")
		}
		return err
	}
}

func key(bucket string) string {
	id := uuid.Must(uuid.NewV7())
	return "bench/" + bucket + "/" + string(id[:])
}
