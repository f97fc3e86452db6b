-- Rows that were not taken, of two kinds. foreign: it names another cluster;
-- point is the row as JSON. refused: the centre's store does not take it; line
-- is the row as it is to be written, of a window that came from a store.
-- superseded_at is when the window came again from another store, or, of a row
-- that was discarded, in another revision. An id is never given twice.
CREATE TABLE quarantine_kept (
	id            INTEGER PRIMARY KEY AUTOINCREMENT,
	cluster       TEXT    NOT NULL,
	tbl           TEXT    NOT NULL,
	kind          TEXT    NOT NULL,
	class         TEXT    NOT NULL,
	window_from   INTEGER NOT NULL,
	window_to     INTEGER NOT NULL,
	store         TEXT    NOT NULL,
	era           INTEGER NOT NULL DEFAULT 0,
	hash          INTEGER NOT NULL,
	reason        TEXT    NOT NULL,
	point         TEXT    NOT NULL,
	line          TEXT    NOT NULL,
	first_at      INTEGER NOT NULL,
	last_at       INTEGER NOT NULL,
	seen          INTEGER NOT NULL,
	superseded_at INTEGER,
	discarded_at  INTEGER,
	discarded_by  TEXT    NOT NULL DEFAULT '',
	discarded_for TEXT    NOT NULL DEFAULT '',
	UNIQUE (cluster, tbl, kind, window_from, hash)
);
INSERT INTO quarantine_kept (id, cluster, tbl, kind, class, window_from, window_to, store, hash, reason, point, line, first_at, last_at, seen)
	SELECT id, cluster, tbl, 'foreign', '', 0, 0, '', hash, reason, point, '', first_at, last_at, seen FROM quarantine;
DROP TABLE quarantine;
ALTER TABLE quarantine_kept RENAME TO quarantine;
CREATE INDEX quarantine_class ON quarantine (cluster, tbl, kind, class, discarded_at);
