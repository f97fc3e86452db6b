-- Refunds by hand: asked for by one person, decided by another one.
CREATE TABLE book_refund (
	id           INTEGER PRIMARY KEY,
	customer     TEXT    NOT NULL,
	statement    INTEGER NOT NULL, -- that it refers to
	amount       TEXT    NOT NULL,
	currency     TEXT    NOT NULL,
	reason       TEXT    NOT NULL,
	requested_by TEXT    NOT NULL,
	requested_at INTEGER NOT NULL,
	decision     TEXT    NOT NULL DEFAULT '', -- approved or declined
	decided_by   TEXT    NOT NULL DEFAULT '',
	decided_at   INTEGER NOT NULL DEFAULT 0,
	note         TEXT    NOT NULL DEFAULT '', -- why it was declined
	credit_note  INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX book_refund_customer ON book_refund (customer);
CREATE TRIGGER book_refund_update BEFORE UPDATE ON book_refund WHEN old.decision <> ''
BEGIN SELECT RAISE(ABORT, 'this refund is decided: ask for another one'); END;
CREATE TRIGGER book_refund_delete BEFORE DELETE ON book_refund
BEGIN SELECT RAISE(ABORT, 'what was asked for is not deleted'); END;
CREATE TRIGGER book_refund_four_eyes BEFORE UPDATE ON book_refund
WHEN new.decision = 'approved' AND lower(new.decided_by) = lower(old.requested_by)
BEGIN SELECT RAISE(ABORT, 'who asked for a refund does not approve it'); END;
