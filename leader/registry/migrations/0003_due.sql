-- Work that a processor has to do. seq grows with each time that an entry is
-- added, so that work on an older one does not take away a newer one.
CREATE TABLE due (
	processor TEXT    NOT NULL,
	scope     TEXT    NOT NULL,
	quarter   INTEGER NOT NULL,
	reason    TEXT    NOT NULL,
	seq       INTEGER NOT NULL,
	added_at  INTEGER NOT NULL,
	PRIMARY KEY (processor, scope, quarter)
) WITHOUT ROWID;
CREATE INDEX due_order ON due (processor, quarter, added_at);
CREATE TABLE due_seq (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL);
INSERT INTO due_seq (id, seq) VALUES (1, 0);

-- What a processor's last run of a scope and quarter was made of.
CREATE TABLE fingerprint (
	processor   TEXT    NOT NULL,
	scope       TEXT    NOT NULL,
	quarter     INTEGER NOT NULL,
	fingerprint TEXT    NOT NULL,
	at          INTEGER NOT NULL,
	PRIMARY KEY (processor, scope, quarter)
) WITHOUT ROWID;
