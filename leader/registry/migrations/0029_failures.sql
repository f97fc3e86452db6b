-- What was done about a node's failure: 0 of what is about none.
ALTER TABLE book_action ADD COLUMN failure INTEGER NOT NULL DEFAULT 0;
CREATE INDEX book_action_failure ON book_action (failure) WHERE failure <> 0;

-- What the pods of a dismissed failure had used, as it was summed, for the case that the
-- dismissal is taken back: later it could be summed from less.
CREATE TABLE book_dismissed_lost (
	failure   INTEGER NOT NULL REFERENCES book_failure (id),
	cluster   TEXT    NOT NULL,
	uid       TEXT    NOT NULL,
	namespace TEXT    NOT NULL,
	pod       TEXT    NOT NULL,
	started   INTEGER NOT NULL,
	ended     INTEGER NOT NULL,
	used      BLOB    NOT NULL,
	PRIMARY KEY (failure, cluster, uid)
) WITHOUT ROWID;
