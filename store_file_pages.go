package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"

	bolt "go.etcd.io/bbolt"
)

// filePages are the pages of a file, as bbolt writes them: a header of 16 bytes, 16
// bytes for each record, then keys and values.
type filePages struct {
	file *os.File
	size int64 // of a page
	many uint64
	seen map[uint64]bool
}

var native = binary.NativeEndian

// checkPages checks what bbolt will read to find the free pages, if a killed server
// left no list of them. bbolt does it in a goroutine of its own, where a damaged
// page would end the process.
func checkPages(path string, tx *bolt.Tx) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	size := int64(tx.DB().Info().PageSize)
	list := make([]byte, 8) // where it is, in the meta page of this transaction
	if _, err := file.ReadAt(list, int64(tx.ID()%2)*size+48); err != nil || native.Uint64(list) != math.MaxUint64 {
		return err
	}
	p := &filePages{file, size, uint64(tx.Size() / size), make(map[uint64]bool)}
	return p.check(uint64(tx.Cursor().Bucket().Root()), nil, nil)
}

// check checks a page and all below it. Their keys are at least from and less than
// to; a nil to is no limit.
func (p *filePages) check(id uint64, from, to []byte) error {
	page, err := p.read(id)
	if err != nil {
		return err
	}
	leaf := native.Uint16(page[8:]) == 2
	for n := int(native.Uint16(page[10:])); n > 0; n-- {
		record := page[16*n:]
		// A branch has place and size of the key, and the page below. A leaf has flags,
		// place and size of the key, and the size of the value.
		place, value := record, uint64(0)
		if leaf {
			place, value = record[4:], uint64(native.Uint32(record[12:]))
		}
		start := uint64(native.Uint32(place))
		end := start + uint64(native.Uint32(place[4:]))
		if end+value > uint64(len(record)) {
			return damagedPage(id, "has a record that ends behind it")
		}
		key := record[start:end]
		if bytes.Compare(key, from) < 0 || to != nil && bytes.Compare(key, to) >= 0 {
			return damagedPage(id, "has keys that are not in order")
		}
		switch {
		case !leaf:
			err = p.check(native.Uint64(record[8:]), key, to)
		case native.Uint32(record)&1 == 0: // not a bucket
		case value < 16:
			return damagedPage(id, "has half a bucket")
		case native.Uint64(record[end:]) != 0: // not a small bucket, which is in the value
			err = p.check(native.Uint64(record[end:]), nil, nil)
		}
		if err != nil {
			return err
		}
		to = key
	}
	return nil
}

// read returns a page of records, with all the pages that it fills.
func (p *filePages) read(id uint64) ([]byte, error) {
	if id >= p.many {
		return nil, damagedPage(id, "is behind the end of the file")
	}
	header := make([]byte, 16)
	if _, err := p.file.ReadAt(header, int64(id)*p.size); err != nil {
		return nil, err
	}
	kind, count, more := native.Uint16(header[8:]), int64(native.Uint16(header[10:])), uint64(native.Uint32(header[12:]))
	size := p.size * int64(1+more)
	switch {
	case native.Uint64(header) != id:
		return nil, damagedPage(id, fmt.Sprintf("says that it is page %d", native.Uint64(header)))
	case kind != 2 && (kind != 1 || count == 0):
		return nil, damagedPage(id, "is not one of records")
	case id+more >= p.many || 16+16*count > size:
		return nil, damagedPage(id, "is not as large as it says")
	}
	for n := id; n <= id+more; n++ {
		if p.seen[n] {
			return nil, damagedPage(n, "is used twice")
		}
		p.seen[n] = true
	}
	page := make([]byte, size)
	_, err := p.file.ReadAt(page, int64(id)*p.size)
	return page, err
}

func damagedPage(page uint64, how string) error {
	return fmt.Errorf("it is damaged: page %d %s; restore a backup, or remove it to start over", page, how)
}
