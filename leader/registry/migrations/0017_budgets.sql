-- What was told of budgets: a row for each threshold that was passed in a period.
-- It is told once; without an answer it is told again after next_at.
CREATE TABLE budget_alert (
	budget   TEXT    NOT NULL,
	period   INTEGER NOT NULL, -- start
	percent  INTEGER NOT NULL,
	basis    TEXT    NOT NULL, -- actual or forecast
	state    TEXT    NOT NULL, -- noted (no webhook), pending, sent or refused
	body     TEXT    NOT NULL, -- JSON, as it is sent
	at       INTEGER NOT NULL, -- when it was passed
	attempts INTEGER NOT NULL,
	next_at  INTEGER NOT NULL,
	error    TEXT    NOT NULL,
	PRIMARY KEY (budget, period, percent, basis)
) WITHOUT ROWID;
