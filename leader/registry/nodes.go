package registry

import (
	"bytes"
	"context"
	"database/sql"
	"math/bits"

	"github.com/accumulus-metering/accumulus/influxsync"
)

// nodeSet is a set of a cluster's nodes: bit n is the node of that number, the
// lowest bit first, without a zero byte at its end. nil is the empty set.
type nodeSet []byte

// with is the set with n; it may change s.
func (s nodeSet) with(n int) nodeSet {
	for len(s) <= n/8 {
		s = append(s, 0)
	}
	s[n/8] |= 1 << (n % 8)
	return s
}

func (s nodeSet) count() int {
	total := 0
	for _, b := range s {
		total += bits.OnesCount8(b)
	}
	return total
}

func (s nodeSet) equal(o nodeSet) bool { return bytes.Equal(s, o) }

// union is a new set.
func (s nodeSet) union(o nodeSet) nodeSet {
	if len(s) < len(o) {
		s, o = o, s
	}
	all := bytes.Clone(s)
	for i, b := range o {
		all[i] |= b
	}
	return all
}

// minus is a new set: those of s that are not in o.
func (s nodeSet) minus(o nodeSet) nodeSet {
	rest := bytes.Clone(s)
	for i := range min(len(s), len(o)) {
		rest[i] &^= o[i]
	}
	return nodeSet(rest).trimmed()
}

// and is a new set.
func (s nodeSet) and(o nodeSet) nodeSet {
	both := bytes.Clone(s[:min(len(s), len(o))])
	for i := range both {
		both[i] &= o[i]
	}
	return nodeSet(both).trimmed()
}

func (s nodeSet) trimmed() nodeSet {
	for len(s) > 0 && s[len(s)-1] == 0 {
		s = s[:len(s)-1]
	}
	return s
}

// each calls f with the numbers in the set, in order.
func (s nodeSet) each(f func(n int)) {
	for i, b := range s {
		for ; b != 0; b &= b - 1 {
			f(i*8 + bits.TrailingZeros8(b))
		}
	}
}

// numbering is which bit a node has.
type numbering map[string]int

// number is the node's, a new one where it has none.
func (n numbering) number(node string) int {
	at, ok := n[node]
	if !ok {
		at = len(n)
		n[node] = at
	}
	return at
}

// names are the nodes by number.
func (n numbering) names() []string {
	names := make([]string, len(n))
	for name, at := range n {
		names[at] = name
	}
	return names
}

func loadNumbers(ctx context.Context, q queryer, cluster string) (numbering, error) {
	numbers := make(numbering)
	err := each(ctx, q, func(scan func(...any) error) error {
		var node string
		var at int
		err := scan(&node, &at)
		numbers[node] = at
		return err
	}, "SELECT node, number FROM node_number WHERE cluster = ?", cluster)
	return numbers, err
}

// numberNodes gives each node that the windows name a number. Numbers have no
// gaps and stay.
func numberNodes(ctx context.Context, tx *sql.Tx, cluster string, windows []influxsync.Confirmed) (numbering, error) {
	numbers, err := loadNumbers(ctx, tx, cluster)
	if err != nil {
		return nil, err
	}
	for _, w := range windows {
		for _, node := range w.Values {
			if _, known := numbers[node]; known || node == "" {
				continue
			}
			_, err := tx.ExecContext(ctx, "INSERT INTO node_number (cluster, node, number) VALUES (?, ?, ?)", cluster, node, numbers.number(node))
			if err != nil {
				return nil, err
			}
		}
	}
	return numbers, nil
}

// of is the set of nodes that had rows in the window, as it is stored: nil (NULL)
// where they were not counted.
func (n numbering) of(w influxsync.Confirmed) any {
	if w.Values == nil && w.Rows > 0 {
		return nil
	}
	set := nodeSet{}
	for _, node := range w.Values {
		if node != "" {
			set = set.with(n[node])
		}
	}
	return []byte(set)
}
