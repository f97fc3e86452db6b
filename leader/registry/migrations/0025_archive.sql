-- The newest archived revision of each UTC day of a cluster. state is of what was
-- archived; checked_at is when it was last compared with what there is. gone says that
-- the day's minute rows are to be read from the archive, for they are, or were begun to
-- be, deleted from the store; deleted_at is when that was done, 0 before.
CREATE TABLE archive_day (
	cluster     TEXT    NOT NULL,
	day         INTEGER NOT NULL,
	revision    INTEGER NOT NULL,
	sequence    INTEGER NOT NULL,
	state       TEXT    NOT NULL,
	manifest    TEXT    NOT NULL,
	rows        INTEGER NOT NULL,
	bytes       INTEGER NOT NULL,
	archived_at INTEGER NOT NULL,
	checked_at  INTEGER NOT NULL,
	gone        INTEGER NOT NULL DEFAULT 0,
	deleted_at  INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (cluster, day)
) WITHOUT ROWID;
CREATE INDEX archive_gone ON archive_day (gone) WHERE gone <> 0;

-- The last manifest of each cluster, which the next one names.
CREATE TABLE archive_head (
	cluster  TEXT    NOT NULL PRIMARY KEY,
	sequence INTEGER NOT NULL,
	manifest TEXT    NOT NULL
) WITHOUT ROWID;
