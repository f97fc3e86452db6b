-- Fleet objects, validity-dated. Times are Unix nanoseconds; an open end is the
-- least or greatest 64-bit integer. A version that is no longer true is not
-- deleted: superseded_at says when it was replaced.
CREATE TABLE object (
	id            INTEGER PRIMARY KEY,
	kind          TEXT    NOT NULL,
	name          TEXT    NOT NULL,
	valid_from    INTEGER NOT NULL,
	valid_to      INTEGER NOT NULL CHECK (valid_from < valid_to),
	spec          TEXT    NOT NULL,
	recorded_at   INTEGER NOT NULL,
	recorded_by   TEXT    NOT NULL,
	superseded_at INTEGER
);
CREATE UNIQUE INDEX object_current ON object (kind, name, valid_from) WHERE superseded_at IS NULL;

-- Every change, with the timeline of the object before and after it.
CREATE TABLE audit (
	id     INTEGER PRIMARY KEY,
	at     INTEGER NOT NULL,
	by     TEXT    NOT NULL,
	action TEXT    NOT NULL,
	kind   TEXT    NOT NULL,
	name   TEXT    NOT NULL,
	before TEXT    NOT NULL,
	after  TEXT    NOT NULL
);

-- The name of a box in a cluster: random, so that two clusters in one box
-- cannot tell.
CREATE TABLE box_id (
	cluster TEXT NOT NULL,
	box     TEXT NOT NULL,
	id      TEXT NOT NULL UNIQUE,
	PRIMARY KEY (cluster, box)
) WITHOUT ROWID;
