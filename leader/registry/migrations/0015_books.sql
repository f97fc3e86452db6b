-- What customers used by local day, cluster by cluster, in packed sums. A day that
-- was summed again is a new revision; those that a closed period rests on are
-- sealed and stay.
CREATE TABLE book_day (
	customer    TEXT    NOT NULL,
	cluster     TEXT    NOT NULL,
	from_at     INTEGER NOT NULL,
	to_at       INTEGER NOT NULL,
	revision    INTEGER NOT NULL,
	fingerprint TEXT    NOT NULL, -- of its inputs
	expected    INTEGER NOT NULL, -- node-windows
	received    INTEGER NOT NULL,
	complete    INTEGER NOT NULL,
	gaps        TEXT    NOT NULL, -- JSON
	cells       BLOB    NOT NULL,
	summed_at   INTEGER NOT NULL,
	sealed      INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (customer, cluster, from_at, revision)
) WITHOUT ROWID;
CREATE TRIGGER book_day_sealed_update BEFORE UPDATE ON book_day WHEN old.sealed = 1
BEGIN SELECT RAISE(ABORT, 'this day is sealed by a closed period: what is wrong with it becomes a correction'); END;
CREATE TRIGGER book_day_sealed_delete BEFORE DELETE ON book_day WHEN old.sealed = 1
BEGIN SELECT RAISE(ABORT, 'this day is sealed by a closed period: what is wrong with it becomes a correction'); END;

-- Price lists as days were summed with them, by a version that never means
-- something else.
CREATE TABLE book_list (
	version     TEXT    PRIMARY KEY,
	name        TEXT    NOT NULL,
	spec        TEXT    NOT NULL,
	recorded_by TEXT    NOT NULL,
	recorded_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER book_list_update BEFORE UPDATE ON book_list
BEGIN SELECT RAISE(ABORT, 'a version of a price list is not edited'); END;
CREATE TRIGGER book_list_delete BEFORE DELETE ON book_list
BEGIN SELECT RAISE(ABORT, 'a version of a price list is not deleted'); END;

-- Billing periods. A closed one does not change any more.
CREATE TABLE book_period (
	customer TEXT    NOT NULL,
	period   TEXT    NOT NULL, -- 2026-11
	from_at  INTEGER NOT NULL,
	to_at    INTEGER NOT NULL,
	zone     TEXT    NOT NULL,
	state    TEXT    NOT NULL, -- open, draft, review, approved, closed
	body     TEXT    NOT NULL, -- JSON: who did what when, the estimate, the statement's number
	draft    BLOB    NOT NULL, -- JSON, packed
	PRIMARY KEY (customer, period)
) WITHOUT ROWID;
CREATE TRIGGER book_period_update BEFORE UPDATE ON book_period WHEN old.state = 'closed'
BEGIN SELECT RAISE(ABORT, 'the period is closed: what is wrong with it becomes a correction'); END;
CREATE TRIGGER book_period_delete BEFORE DELETE ON book_period WHEN old.state = 'closed'
BEGIN SELECT RAISE(ABORT, 'the period is closed: what is wrong with it becomes a correction'); END;

-- The chain of each customer: hash = SHA-256 of previous, a line feed and text.
CREATE TABLE book_line (
	customer  TEXT    NOT NULL,
	seq       INTEGER NOT NULL, -- from 1, without a gap
	period    TEXT    NOT NULL,
	statement INTEGER NOT NULL,
	text      TEXT    NOT NULL, -- JSON
	previous  TEXT    NOT NULL,
	hash      TEXT    NOT NULL,
	signature BLOB    NOT NULL,
	PRIMARY KEY (customer, seq)
) WITHOUT ROWID;
CREATE INDEX book_line_period ON book_line (customer, period);
CREATE TRIGGER book_line_update BEFORE UPDATE ON book_line
BEGIN SELECT RAISE(ABORT, 'a closed line does not change: what is wrong with it becomes a correction'); END;
CREATE TRIGGER book_line_delete BEFORE DELETE ON book_line
BEGIN SELECT RAISE(ABORT, 'a closed line is not deleted: what is wrong with it becomes a correction'); END;
CREATE TRIGGER book_line_order BEFORE INSERT ON book_line
WHEN new.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM book_line WHERE customer = new.customer)
	OR new.previous <> coalesce((SELECT hash FROM book_line WHERE customer = new.customer ORDER BY seq DESC LIMIT 1), '')
BEGIN SELECT RAISE(ABORT, 'a line goes to the end of its chain only'); END;

-- Statements and credit notes, numbered by customer from 1 without a gap.
CREATE TABLE book_statement (
	customer  TEXT    NOT NULL,
	number    INTEGER NOT NULL,
	kind      TEXT    NOT NULL, -- statement or credit-note
	period    TEXT    NOT NULL,
	refers    INTEGER NOT NULL, -- to a statement, of a credit note; else 0
	text      TEXT    NOT NULL, -- JSON
	signature BLOB    NOT NULL,
	issued_at INTEGER NOT NULL,
	PRIMARY KEY (customer, number)
) WITHOUT ROWID;
CREATE TRIGGER book_statement_update BEFORE UPDATE ON book_statement
BEGIN SELECT RAISE(ABORT, 'a statement that was issued does not change: issue a credit note'); END;
CREATE TRIGGER book_statement_delete BEFORE DELETE ON book_statement
BEGIN SELECT RAISE(ABORT, 'a statement that was issued is not deleted: issue a credit note'); END;
CREATE TRIGGER book_statement_order BEFORE INSERT ON book_statement
WHEN new.number <> (SELECT coalesce(max(number), 0) + 1 FROM book_statement WHERE customer = new.customer)
BEGIN SELECT RAISE(ABORT, 'numbers of statements have no gap'); END;

-- Corrections of closed periods that were applied; they are billed by the next
-- close of the customer's, which notes its statement.
CREATE TABLE book_correction (
	id       INTEGER PRIMARY KEY,
	customer TEXT    NOT NULL,
	period   TEXT    NOT NULL, -- the closed one
	text     TEXT    NOT NULL, -- JSON
	at       INTEGER NOT NULL
);
CREATE TRIGGER book_correction_update BEFORE UPDATE ON book_correction
BEGIN SELECT RAISE(ABORT, 'a correction that was applied does not change: another one corrects it'); END;
CREATE TRIGGER book_correction_delete BEFORE DELETE ON book_correction
BEGIN SELECT RAISE(ABORT, 'a correction that was applied is not deleted: another one corrects it'); END;
CREATE TABLE book_billed (
	correction INTEGER PRIMARY KEY REFERENCES book_correction (id),
	statement  INTEGER NOT NULL
);
CREATE TRIGGER book_billed_update BEFORE UPDATE ON book_billed
BEGIN SELECT RAISE(ABORT, 'what was billed stays billed'); END;
CREATE TRIGGER book_billed_delete BEFORE DELETE ON book_billed
BEGIN SELECT RAISE(ABORT, 'what was billed stays billed'); END;

-- Who did what, with a period or beside one.
CREATE TABLE book_action (
	id       INTEGER PRIMARY KEY,
	at       INTEGER NOT NULL,
	by       TEXT    NOT NULL,
	action   TEXT    NOT NULL,
	customer TEXT    NOT NULL,
	period   TEXT    NOT NULL,
	detail   TEXT    NOT NULL
);
CREATE TRIGGER book_action_update BEFORE UPDATE ON book_action
BEGIN SELECT RAISE(ABORT, 'the log of the books does not change'); END;
CREATE TRIGGER book_action_delete BEFORE DELETE ON book_action
BEGIN SELECT RAISE(ABORT, 'the log of the books does not change'); END;
