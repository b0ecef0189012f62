package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"runtime/debug"
	"sync"
)

// Why an engine cannot do a transaction.
var (
	errTooMuch  = errors.New("it is too much for one transaction")
	errConflict = errors.New("others change the same records all the time")
)

// errStorage is in every error about writing or reading the database. The failed call
// stored nothing, unless the disk failed at the very last step, or etcd's answer got
// lost: then it may have.
var errStorage = errors.New("the database failed")

// engine keeps the records. It runs verbs in transactions.
type engine interface {
	view(s *store, verb func(*tx) error) error   // the verb only reads
	update(s *store, verb func(*tx) error) error // returns when what it wrote is safe
	most() int                                   // how many records a verb should go through at once
	shared() bool                                // by other servers
	close() error
}

// rows are what an engine has in a transaction, by bucket and key. A scan yields
// the keys that begin with prefix, with their values: in order from from on, or
// backwards from the last one below to. A verb scans no keys that it has written to:
// on etcd that is errTooMuch.
type rows interface {
	get(bucket, key []byte) []byte // nil if there is none
	put(bucket, key, value []byte) error
	delete(bucket, key []byte) error
	scan(bucket, prefix, from []byte) iter.Seq2[[]byte, []byte]
	back(bucket, prefix, to []byte) iter.Seq2[[]byte, []byte]
}

// tx is a transaction, and all that the verbs know of the engine: get, put,
// delete, and two ways along the keys of a bucket. A verb may run again, so it may
// only change things through tx, and variables that it sets anew each time. What
// tx returns is valid until the verb ends.
//
// Writes return no error. If one fails, the transaction fails, and all callers are
// told.
type tx struct {
	rows
	store  *store
	writes int
	failed error // the first write that failed
}

// put stores a record as JSON.
func (t *tx) put(bucket, key []byte, record any) {
	t.write(func() error {
		value, err := json.Marshal(record)
		if err != nil {
			return err
		}
		return t.rows.put(bucket, key, value)
	})
}

// delete removes a record, if it is there. To look first would be a round trip to
// etcd, and saves the file a commit that changes nothing.
func (t *tx) delete(bucket, key []byte) {
	if t.store.shared() || t.get(bucket, key) != nil {
		t.write(func() error { return t.rows.delete(bucket, key) })
	}
}

// write makes one write, unless an earlier one failed.
func (t *tx) write(write func() error) {
	t.writes++
	if t.failed == nil && t.store.fault != nil {
		t.failed = t.store.fault()
	}
	if t.failed == nil {
		t.failed = write()
	}
}

// noLimit asks for all.
const noLimit = -1

// keys returns the first keys that begin with prefix, at most limit.
func (t *tx) keys(bucket, prefix []byte, limit int) (keys [][]byte) {
	for key := range t.scan(bucket, prefix, nil) {
		if len(keys) == limit {
			break
		}
		keys = append(keys, key)
	}
	return keys
}

// keyed is a record that knows its key. The stored value does not repeat it.
type keyed interface{ setKey(key []byte) }

// decode returns the record in a value.
func decode[T any](bucket, key, value []byte) (*T, error) {
	record := new(T)
	if err := json.Unmarshal(value, record); err != nil {
		return nil, fmt.Errorf("%w: %s: record %+q: %w", errStorage, bucket, key[:min(len(key), 64)], err) // a damaged key may be very long
	}
	setKey(record, key)
	return record, nil
}

func setKey[T any](record *T, key []byte) {
	if r, ok := any(record).(keyed); ok {
		r.setKey(key)
	}
}

// read returns the record under key, or nil.
func read[T any](t *tx, bucket, key []byte) (*T, error) {
	value := t.get(bucket, key)
	if value == nil {
		return nil, nil
	}
	return decode[T](bucket, key, value)
}

// cache keeps parsed records by their bytes, so it is never out of date.
type cache[T any] struct {
	mu      sync.RWMutex
	records map[string]*T
}

// Each cache stays under 8 MB.
const (
	cachedRecords    = 1000
	cachedRecordSize = 4 << 10
)

// read returns a copy of the record under key, or nil. Slices in it are shared:
// they must not be changed in place.
func (c *cache[T]) read(t *tx, bucket, key []byte) (*T, error) {
	value := t.get(bucket, key)
	if value == nil {
		return nil, nil
	}
	c.mu.RLock()
	known := c.records[string(value)]
	c.mu.RUnlock()
	if known == nil {
		record, err := decode[T](bucket, key, value)
		if err != nil || len(value) > cachedRecordSize {
			return record, err
		}
		c.mu.Lock()
		if len(c.records)%cachedRecords == 0 {
			c.records = make(map[string]*T)
		}
		c.records[string(value)] = record
		c.mu.Unlock()
		known = record
	}
	record := *known
	setKey(&record, key) // two records under different keys can be the same bytes
	return &record, nil
}

func (t *tx) client(clientID string) (*client, error) {
	return t.store.clients.read(t, bucketClients, []byte(clientID))
}

func (t *tx) user(username string) (*user, error) {
	return t.store.users.read(t, bucketUsers, []byte(username))
}

// all returns the records of a bucket.
func all[T any](t *tx, bucket []byte) (records []*T, err error) {
	for key, value := range t.scan(bucket, nil, nil) {
		record, err := decode[T](bucket, key, value)
		if err != nil {
			return nil, err
		}
		records = append(records, record)
	}
	return records, nil
}

// view runs a verb that only reads and returns what it returns.
func view[T any](s *store, verb func(*tx) (T, error)) (result T, err error) {
	failed := s.engine.view(s, func(t *tx) error {
		result, err = verb(t)
		return nil
	})
	if failed != nil {
		return *new(T), failed
	}
	return result, err
}

// update runs verb in a transaction and returns when what it wrote is safe.
//
// A verb refuses by returning an error. It shares the transaction with others, so
// it must do so before its first write, or with a verdict. A later error, a failed
// write or a failed commit fails all of them. Verbs run one at a time.
func (s *store) update(verb func(*tx) error) error { return s.engine.update(s, verb) }

// batches lets callers share transactions.
type batches struct {
	mu      sync.Mutex
	waiting []*update     // not yet taken by a leader
	lead    chan struct{} // has a value for each caller that leads
}

func newBatches(leaders int) *batches { return &batches{lead: make(chan struct{}, leaders)} }

// update is one caller's share of a transaction.
type update struct {
	verb func(*tx) error
	err  error
	done chan struct{} // closed when err is the answer
}

// do runs verb in a transaction, together with those of others, and returns its
// error, or commit's.
//
// Callers that come while a transaction is being written share the next one: one
// of them leads, runs every waiting verb in one transaction and syncs once. There
// is no timer and no goroutine, so a lone caller only waits for its own sync, and
// a caller whose verb is done does not wait to lead.
func (b *batches) do(verb func(*tx) error, commit func([]*update) error) error {
	u := &update{verb: verb, done: make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, u)
	b.mu.Unlock()
	select {
	case <-u.done:
		return u.err
	case b.lead <- struct{}{}:
	}
	for range 3 {
		runtime.Gosched() // others who are about to call may join this batch
	}
	b.mu.Lock()
	batch := b.waiting
	b.waiting = nil
	b.mu.Unlock()
	// A panic in another caller's verb must not end the leader.
	if err := transact(func() error { return commit(batch) }); err != nil {
		for _, other := range batch {
			other.err = err
		}
	}
	for _, other := range batch {
		close(other.done)
	}
	<-b.lead
	<-u.done // another leader may have taken it
	return u.err
}

// run runs verbs one after the other. An error is for all of them.
func (t *tx) run(batch []*update) error {
	for _, u := range batch {
		before := t.writes
		u.err = u.verb(t)
		switch {
		case t.failed != nil:
			return t.failed
		case u.err != nil && t.writes != before && !errors.As(u.err, new(verdict)):
			return u.err
		}
	}
	return nil
}

// transact runs do, and returns its error as errStorage.
func transact(do func() error) error {
	if err := guarded(do); err != nil {
		return fmt.Errorf("%w: %w", errStorage, err)
	}
	return nil
}

// guarded turns what damaged pages and bugs cause into an error: panics, and faults
// in the memory that the file is mapped to.
func guarded(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it is damaged, or the server has a bug: %v", p)
		}
	}()
	return do()
}
