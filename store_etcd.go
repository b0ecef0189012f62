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
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// etcd is the engine of several servers. It keeps the records in etcd v3, and speaks
// JSON over HTTP to its members. The key of a record is prefix/bucket/key.
//
// Verbs that come together share a transaction, as those of the file do. They read
// the database at one revision, and their writes wait. In the end one transaction of
// etcd compares the revisions of all that was read, and writes. If something else is
// there by now, nothing is written, and the verbs run again.
//
// A read does not wait for etcd: what was not fetched yet looks as if it were not
// there, and when the verbs have ended, all of it is fetched at once, and they run
// again. So it takes as many round trips as reads depend on each other.
type etcd struct {
	members        []string      // their URLs
	member         atomic.Uint32 // the one to ask, modulo their number
	prefix         string
	user, password string
	token          atomic.Pointer[string] // for the user
	client         *http.Client

	views, updates *batches

	// A record that each transaction of this process replaces. It tells whether one
	// came true whose answer was lost, and keeps it from coming true later.
	mark   string
	marks  sync.Mutex
	marked int64 // the revision of its last change, or unknown
}

// errConflict is for what has to run again, because something else is there by now.
var errConflict = errors.New("other servers change the same records")

const (
	etcdScheme  = "etcd://"
	etcdsScheme = "etcds://" // with TLS

	etcdOps   = 128     // of a kind in one transaction
	etcdBytes = 1 << 20 // to write in one transaction
	etcdPage  = 500     // records that a scan fetches at once
	etcdMost  = 40      // records that one verb goes through: each may depend on others

	memberTime = time.Second // for a member to answer
	verbTime   = 5 * time.Second
	openTime   = 2500 * time.Millisecond

	unknown = -1 // no revision
)

func isEtcd(db string) bool {
	return strings.HasPrefix(db, etcdScheme) || strings.HasPrefix(db, etcdsScheme)
}

// newEtcd reads an address, etcd://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…][/PREFIX].
func newEtcd(address string, config *tls.Config) (*etcd, error) {
	e := &etcd{views: newBatches(), updates: newBatches()}
	e.client = &http.Client{Transport: &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 16}}
	scheme, rest, _ := strings.Cut(address, "://")
	hosts, prefix, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(hosts, '@'); at >= 0 {
		e.user, e.password, _ = strings.Cut(hosts[:at], ":")
		if hosts = hosts[at+1:]; e.user == "" || e.password == "" {
			return nil, errors.New("-db: before the @ must be USER:PASSWORD")
		}
	}
	for host := range strings.SplitSeq(hosts, ",") {
		if name, port, err := net.SplitHostPort(host); err != nil || name == "" || port == "" {
			return nil, fmt.Errorf("-db: %q must be HOST:PORT", host)
		}
		e.members = append(e.members, strings.Replace(scheme, "etcd", "http", 1)+"://"+host)
	}
	e.prefix = cmp.Or(strings.Trim(prefix, "/"), "grantling") + "/"
	return e, nil
}

// openEtcd opens the database at an address, and makes it if nothing is there. It
// refuses another's, and leaves it unchanged.
func openEtcd(address string, config *tls.Config) (*store, error) {
	e, err := newEtcd(address, config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	answer, err := e.transact(ctx, &etcdTransaction{Success: []etcdOp{
		{Range: &etcdRange{Key: []byte(e.key(bucketMeta, metaFormat))}},
		{Range: &etcdRange{Key: []byte(e.prefix), End: keyAfterAll(e.prefix), Limit: 1}},
	}})
	if err != nil {
		return nil, err
	}
	s := &store{engine: e, id: uuid.New()}
	e.mark = e.key(bucketMarks, s.id[:])
	switch format, some := answer.Responses[0].Range.Records, answer.Responses[1].Range.Records; {
	case len(some) == 0:
		return s, s.update(func(t *tx) error {
			t.write(func() error { return t.rows.put(bucketMeta, metaFormat, fileFormat) })
			return nil
		})
	case len(format) == 0:
		return nil, fmt.Errorf("under %s: %w", e.prefix, errForeign)
	default:
		return s, checkFormat(format[0].Value)
	}
}

func (e *etcd) key(bucket, key []byte) string { return e.prefix + string(bucket) + "/" + string(key) }

// keyAfterAll is the first key after all that begin with prefix. That has a letter in it.
func keyAfterAll(prefix string) []byte {
	end := bytes.TrimRight([]byte(prefix), "\xff")
	end[len(end)-1]++
	return end
}

func (e *etcd) most() int    { return etcdMost }
func (e *etcd) shared() bool { return true }

func (e *etcd) close() error { e.client.CloseIdleConnections(); return nil }

func (e *etcd) view(s *store, verb func(*tx) error) error {
	return e.views.do(verb, func(batch []*update) error { return e.commit(s, batch) })
}

func (e *etcd) update(s *store, verb func(*tx) error) error {
	return e.updates.do(verb, func(batch []*update) error { return e.commit(s, batch) })
}

// commit runs verbs until they are done, in as many transactions as they need.
func (e *etcd) commit(s *store, batch []*update) error {
	ctx, cancel := context.WithTimeout(context.Background(), verbTime)
	defer cancel()
	now, size := newSnapshot(), len(batch)
	for tries := 0; len(batch) > 0; tries++ {
		a := &etcdAttempt{etcd: e, at: now, reads: make(map[string]etcdRecord), writes: make(map[string][]byte)}
		t, ran, failed := &tx{rows: a, store: s}, 0, error(nil)
		for ; ran < size && failed == nil && !a.full(); ran++ {
			failed = t.run(batch[ran : ran+1])
		}
		if a.full() {
			if size = ran - 1; size == 0 {
				return errors.New("it is too much for one transaction of etcd")
			}
			continue
		}
		if failed != nil {
			clear(a.writes)
		}
		done, err := a.finish(ctx)
		switch {
		case done:
			if failed != nil {
				return failed
			}
			batch = batch[size:]
			now, size, tries = newSnapshot(), len(batch), 0
		case errors.Is(err, errConflict): // others write the same: let one of them be first
			now = newSnapshot()
			time.Sleep(rand.N(time.Duration(tries+1) * time.Millisecond))
		case err != nil:
			return err
		}
		if ctx.Err() != nil && len(batch) > 0 {
			return fmt.Errorf("it took longer than %v", verbTime)
		}
	}
	return nil
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
}

// snapshot is the database at one revision, as far as it was fetched.
type snapshot struct {
	revision int64 // 0: the next fetch decides
	found    map[[3]string]*etcdFound
}

func newSnapshot() *snapshot { return &snapshot{found: make(map[[3]string]*etcdFound)} }

// full reports whether it is too much for one transaction, which has the mark, too.
func (a *etcdAttempt) full() bool {
	compares := len(a.reads) + len(a.spans)
	return len(a.writes) > 0 && compares >= etcdOps || len(a.writes) >= etcdOps || a.size > etcdBytes
}

func (a *etcdAttempt) get(bucket, key []byte) []byte {
	name := a.key(bucket, key)
	if value, ok := a.writes[name]; ok {
		return value
	}
	if _, ok := a.reads[name]; !ok {
		a.reads[name] = etcdRecord{}
		for _, record := range a.find(etcdRange{Key: []byte(name)}).Records {
			a.reads[name] = record
		}
	}
	return a.reads[name].Value
}

func (a *etcdAttempt) put(bucket, key, value []byte) error {
	name := a.key(bucket, key)
	a.writes[name] = value
	a.size += len(name) + len(value)
	return nil
}

func (a *etcdAttempt) delete(bucket, key []byte) error { return a.put(bucket, key, nil) }

func (a *etcdAttempt) scan(bucket, prefix, from []byte) iter.Seq2[[]byte, []byte] {
	if bytes.Compare(from, prefix) < 0 {
		from = prefix
	}
	return a.walk(etcdRange{Key: []byte(a.key(bucket, from)), End: keyAfterAll(a.key(bucket, prefix))}, bucket)
}

func (a *etcdAttempt) back(bucket, prefix, to []byte) iter.Seq2[[]byte, []byte] {
	return a.walk(etcdRange{Key: []byte(a.key(bucket, prefix)), End: []byte(a.key(bucket, to)), Order: "DESCEND"}, bucket)
}

// walk yields the records of a range, page by page.
func (a *etcdAttempt) walk(r etcdRange, bucket []byte) iter.Seq2[[]byte, []byte] {
	r.Limit = etcdPage
	skip := len(a.key(bucket, nil))
	return func(yield func(key, value []byte) bool) {
		for page, more := a.find(r), true; more; page = a.find(r) {
			rest := r
			for _, record := range page.Records {
				a.reads[string(record.Key)] = record
				rest = r.beyond(record.Key)
				if more = yield(record.Key[skip:], record.Value); !more {
					break
				}
			}
			if more && !page.More {
				a.spans = append(a.spans, r)
				return
			}
			a.spans = append(a.spans, r.without(rest))
			r = rest
		}
	}
}

// find returns what is in a range or, if that was not fetched yet, nothing.
func (a *etcdAttempt) find(r etcdRange) *etcdFound {
	found := a.at.found[r.name()]
	if found == nil {
		a.missing = append(a.missing, r)
		return new(etcdFound)
	}
	return found
}

// finish fetches what is missing or, if nothing is, compares and writes. It reports
// whether that came true: otherwise the verbs have to run again, after errConflict
// on a new snapshot.
func (a *etcdAttempt) finish(ctx context.Context) (done bool, err error) {
	switch {
	case len(a.missing) > 0:
		return false, a.fetch(ctx)
	case len(a.writes) == 0:
		return true, nil
	}
	delete(a.writes, a.mark) // the sweeper's: it is written anyway
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
	a.marks.Lock()
	defer a.marks.Unlock()
	mine, _ := json.Marshal(mark{Expires: unixTime(realTime().Unix()).after(24 * 60 * 60), Commit: uuid.New()})
	name := []byte(a.mark)
	request.compare(name, nil, "EQUAL", a.marked)
	request.Success = append(request.Success, etcdOp{Put: &etcdRecord{Key: name, Value: mine}})
	request.Failure = []etcdOp{{Range: &etcdRange{Key: name}}, {Put: &etcdRecord{Key: name, Value: []byte("{}")}}}
	answer, err := a.transact(ctx, request)
	if err != nil {
		a.marked = unknown
		return false, err
	}
	a.marked = answer.Header.Revision
	if answer.Succeeded {
		return true, nil
	}
	for _, r := range answer.Responses[0].Range.Records {
		if bytes.Equal(r.Value, mine) {
			return true, nil // it came true before, and the answer was lost
		}
	}
	return false, errConflict
}

// fetch fetches what is missing.
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
			a.at.found[r.name()] = &answer.Responses[i].Range
		}
	}
	return nil
}

// What etcd's JSON gateway takes and answers: []byte is base64, and numbers are text.

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
	Range  *etcdRange  `json:"request_range,omitempty"`
	Put    *etcdRecord `json:"request_put,omitempty"`
	Delete *etcdRange  `json:"request_delete_range,omitempty"`
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

// beyond is the rest of a range beyond a key.
func (r etcdRange) beyond(key []byte) etcdRange {
	if r.Order != "" {
		r.End = key
	} else {
		r.Key = append(bytes.Clone(key), 0)
	}
	return r
}

// without is the part of a range before its rest.
func (r etcdRange) without(rest etcdRange) etcdRange {
	if r.Order != "" {
		r.Key = rest.End
	} else {
		r.End = rest.Key
	}
	return r
}

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

// transact sends a transaction. It may come true more than once, unless it compares
// the mark.
func (e *etcd) transact(ctx context.Context, t *etcdTransaction) (answer *etcdAnswer, err error) {
	if e.password != "" && e.token.Load() == nil {
		var granted struct{ Token string }
		err := e.ask(ctx, "/v3/auth/authenticate", map[string]string{"name": e.user, "password": e.password}, &granted)
		if err != nil {
			return nil, err
		}
		e.token.Store(&granted.Token)
	}
	err = e.ask(ctx, "/v3/kv/txn", t, &answer)
	return answer, err
}

// ask sends a request to the members in turn, until one answers it.
func (e *etcd) ask(ctx context.Context, path string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	for tries := 1; ; tries++ {
		at := e.member.Load()
		err, again := e.askOne(ctx, e.members[int(at)%len(e.members)]+path, body, answer)
		if err == nil || !again || ctx.Err() != nil {
			return err
		}
		e.member.CompareAndSwap(at, at+1)
		if tries%len(e.members) == 0 {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// The codes of etcd's errors (google.golang.org/grpc/codes).
const (
	codeOutOfRange      = 11 // the revision is not there any more, or not yet
	codeUnauthenticated = 16
)

// codesOfMember are of errors that another member, or another moment, may not have.
var codesOfMember = []int{1, 2, 4, 8, 10, 13, 14}

// askOne sends a request to one member. again is whether another may answer it.
func (e *etcd) askOne(ctx context.Context, url string, body []byte, answer any) (err error, again bool) {
	ctx, cancel := context.WithTimeout(ctx, memberTime)
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
		return err, true
	}
	defer reply.Body.Close()
	content, err := io.ReadAll(reply.Body)
	if err != nil {
		return err, true
	}
	if reply.StatusCode == http.StatusOK {
		return json.Unmarshal(content, answer), false
	}
	var refusal struct {
		Error string
		Code  int
	}
	switch json.Unmarshal(content, &refusal); {
	case refusal.Code == codeOutOfRange:
		return errConflict, false
	case refusal.Code == codeUnauthenticated && e.token.Swap(nil) != nil:
		return errConflict, false
	case refusal.Error == "":
		return fmt.Errorf("%s does not answer as etcd does: %s", url, reply.Status), false
	}
	return fmt.Errorf("%s: %s", url, refusal.Error), slices.Contains(codesOfMember, refusal.Code)
}
