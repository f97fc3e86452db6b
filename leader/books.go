package leader

import (
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/prometheus/client_golang/prometheus"
)

// buildBooks makes the books, after the seeds' key is open. Prices of series are
// those of the registry.
func (l *Leader) buildBooks(metrics prometheus.Registerer) error {
	var err error
	_, issuer := l.config.Exports.Parties.Names()
	series, _ := any(l.registry).(books.Series) // none where the registry keeps no series
	l.books, err = books.New(books.Config{Issuer: issuer}, l.registry, l.query, series, l.seedKey, l.clock, l.log, metrics)
	return err
}
