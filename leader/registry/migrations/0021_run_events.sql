-- What a webhook is told of runs that ended: a row for each, with the id of its event.
-- It is told once; without an answer it is told again after next_at.
CREATE TABLE run_event (
	id       TEXT    NOT NULL PRIMARY KEY,
	subject  TEXT    NOT NULL,
	ended    INTEGER NOT NULL, -- end of the run, or of the last run of a group
	state    TEXT    NOT NULL, -- pending, sent or refused
	body     TEXT    NOT NULL, -- JSON, as it is sent; empty when it was taken
	at       INTEGER NOT NULL, -- when it was noted
	attempts INTEGER NOT NULL,
	next_at  INTEGER NOT NULL,
	error    TEXT    NOT NULL
) WITHOUT ROWID;
CREATE INDEX run_event_ended ON run_event (ended);
