-- Named tokens. Only a hash is kept; the prefix, which a token begins with, finds
-- it. Times are Unix nanoseconds; 0 is never. A name may be used again when the
-- token that had it is revoked.
CREATE TABLE token (
	id         INTEGER PRIMARY KEY,
	name       TEXT    NOT NULL,
	prefix     TEXT    NOT NULL UNIQUE,
	hash       BLOB    NOT NULL,
	role       TEXT    NOT NULL,
	scope      TEXT    NOT NULL,
	created_at INTEGER NOT NULL,
	created_by TEXT    NOT NULL,
	expires_at INTEGER NOT NULL,
	used_at    INTEGER NOT NULL,
	revoked_at INTEGER NOT NULL,
	revoked_by TEXT    NOT NULL
);
CREATE UNIQUE INDEX token_name ON token (name) WHERE revoked_at = 0;

-- Who asked for which change, and what came of it: two entries for a request, one
-- before it is carried out and one after. The hash of an entry is that of the
-- entry before it and of the text.
CREATE TABLE audit_log (
	seq     INTEGER PRIMARY KEY,
	at      INTEGER NOT NULL,
	request TEXT    NOT NULL,
	entry   TEXT    NOT NULL,
	hash    BLOB    NOT NULL
);
CREATE INDEX audit_log_request ON audit_log (request);
CREATE INDEX audit_log_at ON audit_log (at);

-- The request that a change of an object came of; '' is the leader itself.
ALTER TABLE audit ADD COLUMN request TEXT NOT NULL DEFAULT '';
CREATE INDEX audit_request ON audit (request) WHERE request <> '';
