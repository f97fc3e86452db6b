-- Nodes that failed, by evidence of the watch or as somebody recorded it. One that
-- was dismissed stays, with who dismissed it and why.
CREATE TABLE book_failure (
	id               INTEGER PRIMARY KEY,
	cluster          TEXT    NOT NULL,
	node             TEXT    NOT NULL,
	at               INTEGER NOT NULL,
	source           TEXT    NOT NULL, -- watch or operator
	evidence         TEXT    NOT NULL,
	recorded_by      TEXT    NOT NULL, -- "" of the watch
	recorded_at      INTEGER NOT NULL,
	fingerprint      TEXT    NOT NULL DEFAULT '', -- of what the losses come from; '' before they were summed
	dismissed_by     TEXT    NOT NULL DEFAULT '',
	dismissed_reason TEXT    NOT NULL DEFAULT '',
	dismissed_at     INTEGER NOT NULL DEFAULT 0,
	UNIQUE (cluster, node, at)
);

-- The pods that died with a node, each with one failure only, and what they had used
-- since their start.
CREATE TABLE book_lost (
	cluster   TEXT    NOT NULL,
	uid       TEXT    NOT NULL,
	failure   INTEGER NOT NULL REFERENCES book_failure (id),
	namespace TEXT    NOT NULL,
	pod       TEXT    NOT NULL,
	started   INTEGER NOT NULL,
	ended     INTEGER NOT NULL, -- 0: no end was seen
	used      BLOB    NOT NULL, -- as leader/books packs it
	PRIMARY KEY (cluster, uid)
) WITHOUT ROWID;
CREATE INDEX book_lost_failure ON book_lost (failure);

-- What of it was given back, once: by customer, pod and month of use.
CREATE TABLE book_refunded (
	customer  TEXT    NOT NULL,
	cluster   TEXT    NOT NULL,
	uid       TEXT    NOT NULL,
	period    TEXT    NOT NULL, -- in which it was used
	failure   INTEGER NOT NULL,
	statement INTEGER NOT NULL,
	PRIMARY KEY (customer, cluster, uid, period)
) WITHOUT ROWID;
CREATE TRIGGER book_refunded_update BEFORE UPDATE ON book_refunded
BEGIN SELECT RAISE(ABORT, 'what was given back stays given back'); END;
CREATE TRIGGER book_refunded_delete BEFORE DELETE ON book_refunded
BEGIN SELECT RAISE(ABORT, 'what was given back stays given back'); END;
CREATE TRIGGER book_lost_refunded_update BEFORE UPDATE ON book_lost
WHEN EXISTS (SELECT 1 FROM book_refunded AS r WHERE r.cluster = old.cluster AND r.uid = old.uid)
BEGIN SELECT RAISE(ABORT, 'a statement rests on what this pod lost'); END;
CREATE TRIGGER book_lost_refunded_delete BEFORE DELETE ON book_lost
WHEN EXISTS (SELECT 1 FROM book_refunded AS r WHERE r.cluster = old.cluster AND r.uid = old.uid)
BEGIN SELECT RAISE(ABORT, 'a statement rests on what this pod lost'); END;
