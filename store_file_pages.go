package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"

	bolt "go.etcd.io/bbolt"
)

// filePages are the pages of a file, as bbolt writes them: a header of 16 bytes, 16
// bytes for each record, then keys and values.
type filePages struct {
	file []byte
	size uint64 // of a page
	seen []bool // by page
}

var native = binary.NativeEndian

// checkPages checks that bbolt can read all pages, and that their keys are in order,
// if a killed server left no list of the free ones. bbolt then looks for them in a
// goroutine of its own, where a damaged page would end the process.
func checkPages(tx *bolt.Tx) error {
	info := tx.DB().Info()
	file := unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&info.Data))), tx.Size()) // where it is mapped to
	size := uint64(info.PageSize)
	if list := native.Uint64(file[uint64(tx.ID()%2)*size+48:]); list != math.MaxUint64 { // in the meta page of this transaction
		return nil
	}
	p := &filePages{file, size, make([]bool, uint64(len(file))/size)}
	_, err := p.check(uint64(tx.Cursor().Bucket().Root()), nil)
	return err
}

// check checks a page and all below it. Their keys begin at from, in order, and it
// returns the last one.
func (p *filePages) check(id uint64, from []byte) (last []byte, err error) {
	page, err := p.read(id)
	if err != nil {
		return nil, err
	}
	leaf := native.Uint16(page[8:]) == 2
	last = from
	for n := range native.Uint16(page[10:]) {
		record := page[16+16*int(n):]
		// A branch has place and size of the key, and the page below. A leaf has flags,
		// place and size of the key, and the size of the value.
		place, value := record, uint64(0)
		if leaf {
			place, value = record[4:], uint64(native.Uint32(record[12:]))
		}
		start := uint64(native.Uint32(place))
		end := start + uint64(native.Uint32(place[4:]))
		if end+value > uint64(len(record)) {
			return nil, damagedPage(id, "has a record that ends behind it")
		}
		key := record[start:end]
		if order := bytes.Compare(last, key); order > 0 || order == 0 && n > 0 {
			return nil, damagedPage(id, "has keys that are not in order")
		}
		last = key
		if !leaf {
			last, err = p.check(native.Uint64(record[8:]), key)
		} else if isBucket := native.Uint32(record)&1 != 0; isBucket {
			err = p.checkBucket(id, record[end:end+value])
		}
		if err != nil {
			return nil, err
		}
	}
	return last, nil
}

// checkBucket checks a bucket: its root, or 0 if it is so small that its one page is
// in the value, too.
func (p *filePages) checkBucket(id uint64, value []byte) (err error) {
	if len(value) < 16 || native.Uint64(value) == 0 && len(value) < 32 {
		return damagedPage(id, "has half a bucket")
	}
	if root := native.Uint64(value); root != 0 {
		_, err = p.check(root, nil)
	}
	return err
}

// read returns a page of records, with all the pages that it fills.
func (p *filePages) read(id uint64) ([]byte, error) {
	many := uint64(len(p.seen))
	if id >= many {
		return nil, damagedPage(id, "is behind the end of the file")
	}
	page := p.file[id*p.size:]
	kind, count, more := native.Uint16(page[8:]), uint64(native.Uint16(page[10:])), uint64(native.Uint32(page[12:]))
	switch {
	case native.Uint64(page) != id:
		return nil, damagedPage(id, fmt.Sprintf("says that it is page %d", native.Uint64(page)))
	case kind != 2 && (kind != 1 || count == 0):
		return nil, damagedPage(id, "is not one of records")
	case id+more >= many || 16+16*count > (1+more)*p.size:
		return nil, damagedPage(id, "is not as large as it says")
	}
	for n := id; n <= id+more; n++ {
		if p.seen[n] {
			return nil, damagedPage(n, "is used twice")
		}
		p.seen[n] = true
	}
	return page[:(1+more)*p.size], nil
}

func damagedPage(page uint64, how string) error {
	return fmt.Errorf("it is damaged: page %d %s; restore a backup, or remove it to start over", page, how)
}
