package leader

import (
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/accumulus-metering/accumulus/leader/meters"
	"github.com/prometheus/client_golang/prometheus"
)

// buildBooks makes the books, after the seeds' key is open and the archive is built.
func (l *Leader) buildBooks(metrics prometheus.Registerer) error {
	_, issuer := l.config.Exports.Parties.Names()
	var err error
	l.books, err = books.New(books.Config{Issuer: issuer, FailedAfter: l.config.FailedAfter, OnePerson: l.config.OnePersonBooks, Readings: meters.NewStore(l.store), Archive: l.archive}, l.registry, l.query, l.seedKey, l.clock, l.log, metrics)
	return err
}
