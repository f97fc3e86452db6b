-- How far each table of each cluster has been pulled.
CREATE TABLE mark (
	cluster TEXT    NOT NULL,
	tbl     TEXT    NOT NULL,
	store   TEXT    NOT NULL,
	time    INTEGER NOT NULL,
	hash    TEXT    NOT NULL,
	PRIMARY KEY (cluster, tbl)
) WITHOUT ROWID;

-- The journal as received: the newest entry of each window. overlaps counts
-- how often the window came again from a store with another id.
CREATE TABLE ledger (
	cluster     TEXT    NOT NULL,
	tbl         TEXT    NOT NULL,
	window_from INTEGER NOT NULL,
	window_to   INTEGER NOT NULL,
	quarter     INTEGER NOT NULL,
	store       TEXT    NOT NULL,
	revision    INTEGER NOT NULL,
	rows        INTEGER NOT NULL,
	digest      INTEGER NOT NULL,
	coverage    INTEGER NOT NULL,
	reason      TEXT    NOT NULL,
	entry_time  INTEGER NOT NULL,
	received_at INTEGER NOT NULL,
	overlaps    INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (cluster, tbl, window_from)
) WITHOUT ROWID;
CREATE INDEX ledger_quarter ON ledger (cluster, tbl, quarter);

-- What state a cluster's link was in, from when; one row per change.
CREATE TABLE cluster_state (
	cluster TEXT    NOT NULL,
	since   INTEGER NOT NULL,
	state   TEXT    NOT NULL,
	message TEXT    NOT NULL,
	PRIMARY KEY (cluster, since)
) WITHOUT ROWID;

-- Rows that were not taken, each once, with how often it came.
CREATE TABLE quarantine (
	id       INTEGER PRIMARY KEY,
	cluster  TEXT    NOT NULL,
	tbl      TEXT    NOT NULL,
	hash     INTEGER NOT NULL,
	reason   TEXT    NOT NULL,
	point    TEXT    NOT NULL,
	first_at INTEGER NOT NULL,
	last_at  INTEGER NOT NULL,
	seen     INTEGER NOT NULL,
	UNIQUE (cluster, tbl, hash)
);
CREATE TABLE quarantine_count (
	cluster TEXT    NOT NULL,
	tbl     TEXT    NOT NULL,
	rows    INTEGER NOT NULL,
	PRIMARY KEY (cluster, tbl)
) WITHOUT ROWID;

-- Rows of the table object of all clusters, for look-ups by label.
CREATE TABLE kube_object (
	cluster    TEXT    NOT NULL,
	kind       TEXT    NOT NULL,
	namespace  TEXT    NOT NULL,
	name       TEXT    NOT NULL,
	uid        TEXT    NOT NULL,
	time       INTEGER NOT NULL,
	valid_from INTEGER NOT NULL,
	valid_to   INTEGER NOT NULL,
	spec       TEXT    NOT NULL,
	reason     TEXT    NOT NULL,
	PRIMARY KEY (cluster, kind, namespace, name, uid, time)
) WITHOUT ROWID;
