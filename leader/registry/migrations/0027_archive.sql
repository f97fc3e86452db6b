-- What a closed period rests on in the archive: of each cluster and UTC day the
-- revision, and the hash of its manifest. The statement, which is signed, has the
-- digest of the list.
CREATE TABLE book_seal (
	customer  TEXT    NOT NULL,
	statement INTEGER NOT NULL,
	cluster   TEXT    NOT NULL,
	day       TEXT    NOT NULL, -- 2026-11-27
	revision  INTEGER NOT NULL,
	manifest  TEXT    NOT NULL,
	unsettled TEXT    NOT NULL, -- why the day had not settled when it was archived; '' where it had
	PRIMARY KEY (customer, statement, cluster, day)
) WITHOUT ROWID;
CREATE TRIGGER book_seal_update BEFORE UPDATE ON book_seal
BEGIN SELECT RAISE(ABORT, 'what a closed period rests on does not change'); END;
CREATE TRIGGER book_seal_delete BEFORE DELETE ON book_seal
BEGIN SELECT RAISE(ABORT, 'what a closed period rests on is not deleted'); END;

-- Each revision of the archive, and the bucket in which all its files were found last.
CREATE TABLE archive_revision (
	cluster   TEXT    NOT NULL,
	day       INTEGER NOT NULL,
	revision  INTEGER NOT NULL,
	sequence  INTEGER NOT NULL,
	manifest  TEXT    NOT NULL,
	bytes     INTEGER NOT NULL,
	copied_to TEXT    NOT NULL DEFAULT '',
	copied_at INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (cluster, day, revision)
) WITHOUT ROWID;
INSERT INTO archive_revision (cluster, day, revision, sequence, manifest, bytes)
	SELECT cluster, day, revision, sequence, manifest, bytes FROM archive_day;
