-- What the ledger knows of a window besides its journal entry. nodes is the set
-- of nodes that had rows in it: bits by node_number, no zero byte at its end;
-- NULL where that was not counted. refused counts rows that the centre's store
-- did not take, extra rows that only the centre has. A window was audited since
-- it came where audited_at >= received_at.
ALTER TABLE ledger ADD COLUMN nodes BLOB;
ALTER TABLE ledger ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN extra INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN audited_at INTEGER NOT NULL DEFAULT 0;

-- The bit of each node of a cluster in sets of nodes.
CREATE TABLE node_number (
	cluster TEXT    NOT NULL,
	node    TEXT    NOT NULL,
	number  INTEGER NOT NULL,
	PRIMARY KEY (cluster, node),
	UNIQUE (cluster, number)
) WITHOUT ROWID;

-- A UTC day of a cluster's table that has settled: all its windows in packed,
-- none of them in ledger. The sums say what can be told without unpacking:
-- nodes_all are the nodes of every window, nodes_any those of any, unnamed
-- counts windows whose nodes were not counted.
CREATE TABLE ledger_day (
	cluster     TEXT    NOT NULL,
	tbl         TEXT    NOT NULL,
	day         INTEGER NOT NULL,
	window_from INTEGER NOT NULL,
	window_to   INTEGER NOT NULL,
	windows     INTEGER NOT NULL,
	unnamed     INTEGER NOT NULL,
	nodes_all   BLOB    NOT NULL,
	nodes_any   BLOB    NOT NULL,
	audited     INTEGER NOT NULL,
	rows        INTEGER NOT NULL,
	revisions   INTEGER NOT NULL,
	coverage    INTEGER NOT NULL,
	refused     INTEGER NOT NULL,
	extra       INTEGER NOT NULL,
	overlaps    INTEGER NOT NULL,
	newest      INTEGER NOT NULL,
	packed      BLOB    NOT NULL,
	PRIMARY KEY (cluster, tbl, day)
) WITHOUT ROWID;

-- When a cluster's table began to come from another store, or from one that
-- had lost the end of its journal: then both are the same.
CREATE TABLE era (
	cluster      TEXT    NOT NULL,
	tbl          TEXT    NOT NULL,
	began_at     INTEGER NOT NULL,
	former_store TEXT    NOT NULL,
	store        TEXT    NOT NULL,
	PRIMARY KEY (cluster, tbl, began_at)
) WITHOUT ROWID;

-- When the leader was last known to run.
CREATE TABLE heartbeat (id INTEGER PRIMARY KEY CHECK (id = 1), at INTEGER NOT NULL);
