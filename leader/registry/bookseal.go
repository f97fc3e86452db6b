package registry

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// SealedDay is an archived UTC day of a cluster that a closed period rests on.
type SealedDay struct {
	Cluster  string `json:"cluster"`
	Day      string `json:"day"` // 2026-11-27
	Revision int64  `json:"revision"`
	Manifest string `json:"manifest"` // its hash
	// Unsettled is why the day had not settled when that revision was archived; "" where
	// it had. Of a lost day it is why.
	Unsettled string `json:"unsettled,omitempty"`
}

// Lost says that the day could not be archived: it has no revision.
func (d SealedDay) Lost() bool { return d.Revision == 0 }

// SealDigest is the digest of a list of archived days: SHA-256, in hex, of a line for
// each, by cluster and day, which has cluster, day, revision, manifest and what was
// unsettled, with tabs between. It sorts the list.
func SealDigest(days []SealedDay) string {
	slices.SortFunc(days, func(a, b SealedDay) int {
		return cmp.Or(strings.Compare(a.Cluster, b.Cluster), strings.Compare(a.Day, b.Day), cmp.Compare(a.Revision, b.Revision))
	})
	sum := sha256.New()
	for _, d := range days {
		_, _ = fmt.Fprintf(sum, "%s\t%s\t%d\t%s\t%s\n", d.Cluster, d.Day, d.Revision, d.Manifest, d.Unsettled) // a hash takes all
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// putSeal keeps what a statement's period rests on.
func putSeal(ctx context.Context, tx *sql.Tx, customer string, statement int64, days []SealedDay) error {
	for _, d := range days {
		if _, err := tx.ExecContext(ctx, "INSERT INTO book_seal (customer, statement, cluster, day, revision, manifest, unsettled) VALUES (?, ?, ?, ?, ?, ?, ?)",
			customer, statement, d.Cluster, d.Day, d.Revision, d.Manifest, d.Unsettled); err != nil {
			return err
		}
	}
	return nil
}

// BookSeal are the archived days that a statement's period rests on, by cluster and
// day.
func (r *Registry) BookSeal(ctx context.Context, customer string, statement int64) ([]SealedDay, error) {
	return r.sealedDays(ctx, "customer = ? AND statement = ?", customer, statement)
}

// SealedDays are the archived days that any closed period rests on; of a cluster and a
// day where these are not "".
func (r *Registry) SealedDays(ctx context.Context, cluster, day string) ([]SealedDay, error) {
	return r.sealedDays(ctx, "(?1 = '' OR cluster = ?1) AND (?2 = '' OR day = ?2)", cluster, day)
}

func (r *Registry) sealedDays(ctx context.Context, where string, args ...any) ([]SealedDay, error) {
	list := []SealedDay{}
	err := each(ctx, r.reader, func(scan func(...any) error) error {
		var d SealedDay
		err := scan(&d.Cluster, &d.Day, &d.Revision, &d.Manifest, &d.Unsettled)
		list = append(list, d)
		return err
	}, "SELECT DISTINCT cluster, day, revision, manifest, unsettled FROM book_seal WHERE "+where+" ORDER BY cluster, day, revision", args...)
	if err != nil {
		return nil, fmt.Errorf("archived days of closed periods: %w", err)
	}
	return list, nil
}
