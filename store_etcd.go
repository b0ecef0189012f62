package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// etcd is the engine of several servers. It keeps the records in etcd v3, and speaks
// JSON over HTTP to its members. The key of a record is prefix/bucket/key.
//
// Verbs that come together share a transaction, as those of the file do. They read
// the database at one revision, and their writes wait. In the end one transaction of
// etcd writes, unless something that was read has changed. Then the verbs run again.
//
// No read waits for etcd: what was not fetched yet looks as if it were not there.
// When the verbs have ended, all of it is fetched at once, and they run again. So it
// takes as many round trips as reads depend on each other.
type etcd struct {
	etcdAddress
	member         atomic.Uint32          // the one to ask, modulo their number
	token          atomic.Pointer[string] // for the user
	client         *http.Client
	views, updates *batches

	// Each transaction of this process replaces this record. It tells whether one was
	// committed although its answer was lost, and keeps it from being committed later.
	id     uuid.UUID // of this process
	mark   []byte    // its key
	marked int64     // the revision of its last change; only the leader of updates needs it
}

const (
	etcdOps      = 127         // of a kind in one transaction: 128, less one for the transaction in it
	etcdBytes    = 1 << 20     // to write in one transaction
	etcdPage     = 500         // records that a scan fetches at once
	memberTime   = time.Second // for a member to answer
	verbTime     = 5 * time.Second
	etcdTransact = "/v3/kv/txn"
)

// openEtcd opens the database, and makes it if nothing is there. It refuses
// another's, and leaves it unchanged.
func openEtcd(address etcdAddress, config *tls.Config) (*store, error) {
	e := &etcd{etcdAddress: address, id: uuid.New(), views: newBatches(4), updates: newBatches(1)} // a slow view must not stop all others
	e.client = &http.Client{Transport: &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 16}}
	s := &store{engine: e, id: e.id}
	e.mark = []byte(e.key(bucketMarks, s.id[:]))
	ctx, cancel := context.WithTimeout(context.Background(), verbTime/3) // a member may still take memberTime after that
	defer cancel()
	answer, err := e.transact(ctx, &etcdTransaction{Success: []etcdOp{
		{Range: &etcdRange{Key: []byte(e.key(bucketMeta, metaFormat))}},
		{Range: &etcdRange{Key: []byte(e.prefix), End: keyAfterAll(e.prefix), Limit: 1}},
	}})
	if err != nil {
		return nil, err
	}
	format, some := answer.Responses[0].Range.Records, answer.Responses[1].Range.Records
	if len(some) == 0 {
		return s, s.update(func(t *tx) error {
			t.write(func() error { return t.rows.put(bucketMeta, metaFormat, fileFormat) })
			return nil
		})
	}
	if err = errForeign; len(format) > 0 {
		err = checkFormat(format[0].Value)
	}
	if err != nil {
		return nil, fmt.Errorf("etcd, under %s: %w", e.prefix, err)
	}
	return s, nil
}

func (e *etcd) key(bucket, key []byte) string { return e.prefix + string(bucket) + "/" + string(key) }

// keyAfterAll is the first key after all that begin with prefix, which is not all 0xff.
func keyAfterAll(prefix string) []byte {
	end := bytes.TrimRight([]byte(prefix), "\xff")
	end[len(end)-1]++
	return end
}

func (e *etcd) most() int    { return 40 } // each record may need several others to be read
func (e *etcd) shared() bool { return true }
func (e *etcd) close() error { e.client.CloseIdleConnections(); return nil }

func (e *etcd) view(s *store, verb func(*tx) error) error   { return e.run(s, e.views, verb) }
func (e *etcd) update(s *store, verb func(*tx) error) error { return e.run(s, e.updates, verb) }

func (e *etcd) run(s *store, shared *batches, verb func(*tx) error) error {
	// It includes the wait to lead, and the leader's counts for the whole batch.
	ctx, cancel := context.WithTimeout(context.Background(), verbTime)
	defer cancel()
	return shared.do(verb, func(batch []*update) error {
		rest, err := e.commit(ctx, s, batch)
		for _, u := range rest {
			u.err = fmt.Errorf("%w: %w", errStorage, err)
		}
		return nil
	})
}

// commit runs verbs until they are done, in as many transactions as they need. It
// returns those that are not, and why.
func (e *etcd) commit(ctx context.Context, s *store, batch []*update) ([]*update, error) {
	now, size := newSnapshot(), len(batch)
	for tries := 0; len(batch) > 0; tries++ {
		a := &etcdAttempt{etcd: e, at: now, reads: make(map[string]etcdRecord), writes: make(map[string][]byte)}
		t, ran, failed := &tx{rows: a, store: s}, 0, error(nil)
		for ; ran < size && failed == nil && !a.mustSplit(); ran++ {
			a.own = make(map[string]bool)
			failed = guarded(func() error { return t.run(batch[ran : ran+1]) })
		}
		if a.mustSplit() {
			if size = ran - 1; size == 0 {
				batch[0].err = fmt.Errorf("%w: %w", errStorage, errTooMuch)
				batch, size = batch[1:], len(batch)-1
			}
			continue
		}
		if failed != nil {
			clear(a.writes)
		}
		done, err := a.finish(ctx)
		switch {
		case done && failed != nil:
			return batch, failed
		case done:
			batch = batch[size:]
			now, size, tries = newSnapshot(), len(batch), 0
		case errors.Is(err, errConflict) && ctx.Err() == nil: // others write the same: let one of them be first
			now = newSnapshot()
			time.Sleep(rand.N(time.Duration(tries+1) * time.Millisecond))
		case err != nil || tries > 5 && ctx.Err() != nil: // a leader's time may be over when it begins
			return batch, cmp.Or(err, ctx.Err())
		}
	}
	return nil, nil
}

// etcdAttempt is one run of verbs: what they read, and what they would write.
type etcdAttempt struct {
	*etcd
	at      *snapshot
	reads   map[string]etcdRecord // by key; zero: it is not there
	spans   []etcdRange           // all that is in them was read
	writes  map[string][]byte     // nil: delete
	size    int                   // of what is written
	missing []etcdRange           // of what was read
	own     map[string]bool       // what the verb that runs has written
	mixed   bool                  // it reads what one before it has written, so they cannot share a transaction
}

// snapshot is the database at one revision, as far as it was fetched.
type snapshot struct {
	revision int64 // 0: the next fetch decides
	found    map[[3]string]etcdFound
}

func newSnapshot() *snapshot { return &snapshot{found: make(map[[3]string]etcdFound)} }

// mustSplit reports whether the verbs that ran cannot share one transaction, which has
// the mark, too.
func (a *etcdAttempt) mustSplit() bool {
	return a.mixed || a.size > etcdBytes || len(a.writes) > 0 && max(len(a.reads)+len(a.spans), len(a.writes)) >= etcdOps
}

func (a *etcdAttempt) get(bucket, key []byte) []byte {
	name := a.key(bucket, key)
	if value, ok := a.writes[name]; ok {
		a.mixed = a.mixed || !a.own[name]
		return value
	}
	if _, ok := a.reads[name]; !ok {
		a.reads[name] = append(a.find(etcdRange{Key: []byte(name)}).Records, etcdRecord{})[0]
	}
	return a.reads[name].Value
}

func (a *etcdAttempt) put(bucket, key, value []byte) error {
	name := a.key(bucket, key)
	a.writes[name], a.own[name] = value, true
	a.size += len(name) + len(value)
	return nil
}

func (a *etcdAttempt) delete(bucket, key []byte) error { return a.put(bucket, key, nil) }

func (a *etcdAttempt) scan(bucket, prefix, from []byte) iter.Seq2[[]byte, []byte] {
	start := max(a.key(bucket, prefix), a.key(bucket, from))
	return a.walk(etcdRange{Key: []byte(start), End: keyAfterAll(a.key(bucket, prefix))}, bucket)
}

func (a *etcdAttempt) back(bucket, prefix, to []byte) iter.Seq2[[]byte, []byte] {
	return a.walk(etcdRange{Key: []byte(a.key(bucket, prefix)), End: []byte(a.key(bucket, to)), Order: "DESCEND"}, bucket)
}

// walk yields the records of a range, page by page.
func (a *etcdAttempt) walk(r etcdRange, bucket []byte) iter.Seq2[[]byte, []byte] {
	r.Limit = etcdPage
	skip := len(a.key(bucket, nil))
	return func(yield func(key, value []byte) bool) {
		for name := range a.writes {
			a.mixed = a.mixed || string(r.Key) <= name && name < string(r.End)
		}
		a.spans = append(a.spans, r)
		for span := len(a.spans) - 1; ; {
			page := a.find(r)
			for _, record := range page.Records {
				a.reads[string(record.Key)] = record
				more := yield(record.Key[skip:], record.Value)
				if r.Order != "" {
					r.End = record.Key
				} else if r.Key = append(bytes.Clone(record.Key), 0); !more {
					a.spans[span].End = r.Key
				}
				if !more {
					return
				}
			}
			if !page.More {
				return
			}
		}
	}
}

// find returns what is in a range or, if that was not fetched yet, nothing.
func (a *etcdAttempt) find(r etcdRange) etcdFound {
	found, ok := a.at.found[r.name()]
	if !ok {
		a.missing = append(a.missing, r)
	}
	return found
}

// finish fetches what is missing or, if nothing is, compares and writes. It reports
// whether it committed. If not, the verbs run again, after errConflict on a new snapshot.
func (a *etcdAttempt) finish(ctx context.Context) (done bool, err error) {
	switch {
	case len(a.missing) > 0:
		return false, a.fetch(ctx)
	case len(a.writes) == 0:
		return true, nil
	}
	delete(a.writes, string(a.mark)) // if everything is removed: it is written once
	request := new(etcdTransaction)
	for name, read := range a.reads {
		request.compare([]byte(name), nil, "EQUAL", read.Revision)
	}
	for _, s := range a.spans {
		request.compare(s.Key, s.End, "LESS", a.at.revision+1)
	}
	for name, value := range a.writes {
		if value == nil {
			request.Success = append(request.Success, etcdOp{Delete: &etcdRange{Key: []byte(name)}})
		} else {
			request.Success = append(request.Success, etcdOp{Put: &etcdRecord{Key: []byte(name), Value: value}})
		}
	}
	expires := unixTime(realTime().Unix()).after(24 * 60 * 60)
	mine := must(json.Marshal(mark{Expires: expires, Server: a.id, Commit: uuid.New()}))
	request.compare(a.mark, nil, "EQUAL", a.marked)
	request.Success = append(request.Success, etcdOp{Put: &etcdRecord{Key: a.mark, Value: mine}})
	never := &etcdTransaction{Success: []etcdOp{{Put: &etcdRecord{Key: a.mark, Value: must(json.Marshal(mark{Expires: expires}))}}}}
	never.compare(a.mark, nil, "EQUAL", a.marked)
	request.Failure = []etcdOp{{Range: &etcdRange{Key: a.mark}}, {Transaction: never}}
	answer, err := a.transact(ctx, request)
	if err != nil {
		return false, err
	}
	// The mark changes once: with the writes, or alone, so that they are never committed later.
	was := append(answer.Responses[0].Range.Records, etcdRecord{})[0]
	if answer.Succeeded || was.Revision == a.marked {
		was.Revision = answer.Header.Revision
	}
	if a.marked = was.Revision; answer.Succeeded || bytes.Equal(was.Value, mine) {
		return true, nil // now, or before an answer that was lost
	}
	return false, errConflict
}

func (a *etcdAttempt) fetch(ctx context.Context) error {
	for some := range slices.Chunk(a.missing, etcdOps) {
		request := new(etcdTransaction)
		for _, r := range some {
			r.Revision, r.Serializable = a.at.revision, a.at.revision != 0
			request.Success = append(request.Success, etcdOp{Range: &r})
		}
		answer, err := a.transact(ctx, request)
		if err != nil {
			return err
		}
		a.at.revision = cmp.Or(a.at.revision, answer.Header.Revision)
		for i, r := range some {
			a.at.found[r.name()] = answer.Responses[i].Range
		}
	}
	return nil
}

// etcdTransaction and those below are what etcd's gateway takes and answers in JSON.
type etcdTransaction struct {
	Compare []etcdCompare `json:"compare,omitempty"`
	Success []etcdOp      `json:"success,omitempty"`
	Failure []etcdOp      `json:"failure,omitempty"`
}

type etcdCompare struct {
	Key      []byte `json:"key"`
	End      []byte `json:"range_end,omitempty"`
	Target   string `json:"target"`
	Result   string `json:"result"`
	Revision int64  `json:"mod_revision,string"`
}

func (t *etcdTransaction) compare(key, end []byte, result string, revision int64) {
	t.Compare = append(t.Compare, etcdCompare{key, end, "MOD", result, revision})
}

type etcdOp struct {
	Range       *etcdRange       `json:"request_range,omitempty"`
	Put         *etcdRecord      `json:"request_put,omitempty"`
	Delete      *etcdRange       `json:"request_delete_range,omitempty"`
	Transaction *etcdTransaction `json:"request_txn,omitempty"`
}

type etcdRange struct {
	Key          []byte `json:"key"`
	End          []byte `json:"range_end,omitempty"` // absent: the key alone
	Limit        int64  `json:"limit,omitempty,string"`
	Revision     int64  `json:"revision,omitempty,string"`
	Order        string `json:"sort_order,omitempty"` // of keys; absent: ascending
	Serializable bool   `json:"serializable,omitempty"`
}

func (r etcdRange) name() [3]string { return [3]string{string(r.Key), string(r.End), r.Order} }

type etcdAnswer struct {
	Header struct {
		Revision int64 `json:",string"`
	}
	Succeeded bool
	Responses []struct {
		Range etcdFound `json:"response_range"`
	}
}

type etcdFound struct {
	Records []etcdRecord `json:"kvs"`
	More    bool
}

type etcdRecord struct {
	Key      []byte `json:"key"`
	Value    []byte `json:"value"`
	Revision int64  `json:"mod_revision,omitempty,string"` // of its last change
}

func (e *etcd) transact(ctx context.Context, request *etcdTransaction) (answer etcdAnswer, err error) {
	err = e.ask(ctx, etcdTransact, request, func(content []byte) bool {
		answer = etcdAnswer{}
		err, ops := json.Unmarshal(content, &answer), request.Success
		if len(request.Compare) > 0 && !answer.Succeeded {
			ops = request.Failure
		}
		return err == nil && answer.Header.Revision > 0 && len(answer.Responses) == len(ops)
	})
	return answer, err
}

// ask sends a request to the members in turn, until take takes what one answers. Others
// may have done what it asks for, too.
func (e *etcd) ask(ctx context.Context, path string, request any, take func(content []byte) bool) error {
	body := must(json.Marshal(request))
	for {
		if e.password != "" && e.token.Load() == nil && path == etcdTransact {
			var granted struct{ Token string }
			login := map[string]string{"name": e.user, "password": e.password}
			if err := e.ask(ctx, "/v3/auth/authenticate", login, func(content []byte) bool {
				return json.Unmarshal(content, &granted) == nil && granted.Token != ""
			}); err != nil {
				return err
			}
			e.token.Store(&granted.Token)
		}
		at := e.member.Load()
		err, again := e.askOne(e.members[int(at)%len(e.members)]+path, body, take)
		if err == nil || !again || ctx.Err() != nil {
			return err
		}
		e.member.CompareAndSwap(at, at+1)
		time.Sleep(50 * time.Millisecond / time.Duration(len(e.members)))
	}
}

// askOne sends a request to one member. again is whether another may answer it.
func (e *etcd) askOne(url string, body []byte, take func([]byte) bool) (err error, again bool) {
	ctx, cancel := context.WithTimeout(context.Background(), memberTime) // so an error says more than that all time is over
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err, false
	}
	if token := e.token.Load(); token != nil {
		r.Header.Set("Authorization", *token)
	}
	reply, err := e.client.Do(r)
	if err != nil {
		return fmt.Errorf("no answer from etcd: %w", err), true
	}
	defer reply.Body.Close()
	content, err := io.ReadAll(io.LimitReader(reply.Body, 64<<20))
	if err != nil {
		return err, true
	}
	var refusal struct {
		Error string
		Code  int
	}
	if reply.StatusCode == http.StatusOK && take(content) {
		return nil, false
	}
	json.Unmarshal(content, &refusal)
	switch err = fmt.Errorf("%s: %s", url, refusal.Error); {
	case refusal.Code == 0:
		return fmt.Errorf("%s does not answer as etcd does: %s: %.200s", url, reply.Status, content), true
	case refusal.Code == 11: // out of range: the revision is not there any more, or not yet
		return errConflict, false
	case refusal.Code == 16 || strings.Contains(refusal.Error, "auth store is old"): // the token is no longer good
		e.token.Store(nil)
		return err, e.password != ""
	default: // another member, or another moment, may not have these; a full database (8) stays full
		return err, slices.Contains([]int{1, 2, 4, 10, 13, 14}, refusal.Code)
	}
}
