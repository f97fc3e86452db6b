package registry

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// NodeFacts are what a cluster may know of one of its nodes in [From, To); zero
// times are open.
type NodeFacts struct {
	Node, Box                  string // Box is a name of this cluster's own
	CPUType, RAMType, DiskType string
	From, To                   time.Time
}

// Knowledge is what a cluster may know of the fleet.
type Knowledge struct {
	Nodes []NodeFacts // by node and start; of one node they do not overlap
	// Generation is higher than that of whatever else this cluster was told
	// before, and the same as long as it is told the same.
	Generation int64
}

// ofCluster is what keeps a cluster's knowledge to its own nodes.
const ofCluster = "spec ->> '$.cluster' = ?1"

// ownNodes are the versions of a cluster's nodes; a seed begins here.
const ownNodes = `SELECT id, valid_from, valid_to, spec ->> '$.node' AS node,
		coalesce(spec ->> '$.box', '') AS box, coalesce(spec ->> '$.hardware', '') AS hardware
	FROM object WHERE kind = 'Node' AND superseded_at IS NULL AND ` + ofCluster

// knowledgeQuery selects all that a cluster may know: of its own nodes the name,
// the box's name in this cluster and three words of the hardware. A version of a
// node is cut where its hardware begins or ceases to hold; neighbours that say
// the same become one, such as two versions that differ in something that the
// cluster may not know. A box that has no name yet is NULL. (CROSS JOIN looks up
// each node's hardware by name.)
const knowledgeQuery = `
WITH own AS MATERIALIZED (` + ownNodes + `),
part AS MATERIALIZED (
	SELECT own.id, h.valid_from, h.valid_to, h.spec
	FROM own CROSS JOIN object h ON h.kind = 'Hardware' AND h.name = own.hardware AND h.superseded_at IS NULL
		AND h.valid_from < own.valid_to AND h.valid_to > own.valid_from
),
cut AS (
	SELECT id, valid_from AS since FROM own
	UNION SELECT part.id, part.valid_from FROM part JOIN own USING (id) WHERE part.valid_from > own.valid_from
	UNION SELECT part.id, part.valid_to FROM part JOIN own USING (id) WHERE part.valid_to < own.valid_to
),
piece AS (
	SELECT id, since, lead(since) OVER (PARTITION BY id ORDER BY since) AS until FROM cut
),
fact AS (
	SELECT own.node, CASE own.box WHEN '' THEN '' ELSE named.id END AS box,
		coalesce(part.spec ->> '$.cpuType', '') AS cpu, coalesce(part.spec ->> '$.ramType', '') AS ram,
		coalesce(part.spec ->> '$.diskType', '') AS disk, piece.since, coalesce(piece.until, own.valid_to) AS until
	FROM piece JOIN own USING (id)
	LEFT JOIN part ON part.id = piece.id AND part.valid_from <= piece.since AND piece.since < part.valid_to
	LEFT JOIN box_id named ON named.cluster = ?1 AND named.box = own.box
),
compared AS (
	SELECT *, (since, box, cpu, ram, disk) IS NOT
		(lag(until) OVER before, lag(box) OVER before, lag(cpu) OVER before, lag(ram) OVER before, lag(disk) OVER before) AS fresh
	FROM fact WINDOW before AS (PARTITION BY node ORDER BY since)
),
runs AS (
	SELECT *, sum(fresh) OVER (PARTITION BY node ORDER BY since) AS run FROM compared
)
SELECT node, box, cpu, ram, disk, min(since), max(until) FROM runs GROUP BY node, run ORDER BY node, min(since)`

// unnamedQuery are the boxes that have no name in the cluster yet.
const unnamedQuery = `SELECT DISTINCT box FROM (` + ownNodes + `)
	WHERE box <> '' AND NOT EXISTS (SELECT 1 FROM box_id WHERE cluster = ?1 AND box_id.box = box) ORDER BY box`

// Knowledge is what a cluster may know of the fleet, with the whole history of
// its nodes' facts; version names what the rows say. Boxes that have no name in
// this cluster yet get one, and what differs from the last time a generation.
func (r *Registry) Knowledge(ctx context.Context, cluster string, version func([]NodeFacts) string) (Knowledge, error) {
	k, known, err := r.known(ctx, cluster, version)
	if err == nil && !known {
		k, err = r.learn(ctx, cluster, version)
	}
	if err != nil {
		return Knowledge{}, fmt.Errorf("what %s may know: %w", cluster, err)
	}
	return k, nil
}

// known is the knowledge if the cluster was told the same before.
func (r *Registry) known(ctx context.Context, cluster string, version func([]NodeFacts) string) (k Knowledge, known bool, err error) {
	tx, err := r.reader.BeginTx(ctx, nil)
	if err != nil {
		return Knowledge{}, false, err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	var unnamed bool
	if k.Nodes, unnamed, err = nodeFacts(ctx, tx, knowledgeQuery, cluster); err != nil || unnamed {
		return Knowledge{}, false, err
	}
	var last string
	err = tx.QueryRowContext(ctx, "SELECT version, generation FROM seed WHERE cluster = ?", cluster).Scan(&last, &k.Generation)
	if errors.Is(err, sql.ErrNoRows) {
		return Knowledge{}, false, nil
	}
	return k, err == nil && last == version(k.Nodes), err
}

// learn names boxes and gives the knowledge its generation: the present in Unix
// nanoseconds, so that it goes up also in a registry that was restored from a
// copy, and in any case above the last one.
func (r *Registry) learn(ctx context.Context, cluster string, version func([]NodeFacts) string) (Knowledge, error) {
	var k Knowledge
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		var boxes []string
		err := each(ctx, tx, func(scan func(...any) error) error {
			var box string
			err := scan(&box)
			boxes = append(boxes, box)
			return err
		}, unnamedQuery, cluster)
		if err != nil {
			return err
		}
		for _, box := range boxes {
			if _, err := tx.ExecContext(ctx, "INSERT INTO box_id (cluster, box, id) VALUES (?, ?, ?)", cluster, box, "box-"+rand.Text()); err != nil {
				return err
			}
		}
		if k.Nodes, _, err = nodeFacts(ctx, tx, knowledgeQuery, cluster); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `INSERT INTO seed (cluster, version, generation) VALUES (?1, ?2, ?3)
			ON CONFLICT (cluster) DO UPDATE SET version = ?2,
				generation = CASE version WHEN ?2 THEN generation ELSE max(generation + 1, ?3) END
			RETURNING generation`, cluster, version(k.Nodes), nanos(r.clock.Now())).Scan(&k.Generation)
	})
	return k, err
}

// RaiseSeed makes the cluster's generation higher than it is, and higher than
// above: for a registry that went back, behind what its followers have.
func (r *Registry) RaiseSeed(ctx context.Context, cluster string, above int64) error {
	err := r.write(ctx, synced, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO seed (cluster, version, generation) VALUES (?1, '', max(?2 + 1, ?3))
			ON CONFLICT (cluster) DO UPDATE SET generation = max(generation + 1, ?2 + 1, ?3)`, cluster, above, nanos(r.clock.Now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("raise the seed of %s: %w", cluster, err)
	}
	return nil
}

// nodeFacts runs the query of a cluster's knowledge; unnamed says that a box has
// no name in it.
func nodeFacts(ctx context.Context, q queryer, query, cluster string) (rows []NodeFacts, unnamed bool, err error) {
	err = each(ctx, q, func(scan func(...any) error) error {
		var n NodeFacts
		var box sql.NullString
		var from, to int64
		if err := scan(&n.Node, &box, &n.CPUType, &n.RAMType, &n.DiskType, &from, &to); err != nil {
			return err
		}
		n.Box, unnamed = box.String, unnamed || !box.Valid
		if from != always {
			n.From = moment(from)
		}
		if to != forever {
			n.To = moment(to)
		}
		rows = append(rows, n)
		return nil
	}, query, cluster)
	return rows, unnamed, err
}

// touchedQuery selects the clusters that may know something else since an entry
// of the audit: those whose nodes changed, and those with nodes of a type of
// hardware that changed. No other kind stands in what a cluster may know.
const touchedQuery = `
SELECT DISTINCT version.value ->> '$.spec.cluster' AS cluster
	FROM audit, json_each('[' || audit.before || ',' || audit.after || ']') line, json_each(line.value) version
	WHERE audit.id > ?1 AND audit.kind = 'Node'
UNION SELECT DISTINCT spec ->> '$.cluster' FROM object
	WHERE kind = 'Node' AND superseded_at IS NULL
	AND spec ->> '$.hardware' IN (SELECT name FROM audit WHERE id > ?1 AND kind = 'Hardware')
ORDER BY cluster`

// Touched are the clusters whose knowledge may differ since a revision.
func (r *Registry) Touched(ctx context.Context, since int64) ([]string, error) {
	clusters, err := names(ctx, r.reader, touchedQuery, since)
	if err != nil {
		return nil, fmt.Errorf("clusters touched since revision %d: %w", since, err)
	}
	return clusters, nil
}

// Revision is a number that every change of the fleet makes higher.
func (r *Registry) Revision(ctx context.Context) (int64, error) {
	var revision int64
	if err := r.reader.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM audit").Scan(&revision); err != nil {
		return 0, fmt.Errorf("revision of the fleet: %w", err)
	}
	return revision, nil
}
