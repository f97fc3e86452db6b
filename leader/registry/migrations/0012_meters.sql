-- How long the times of an electricity meter are behind usage, from since on,
-- and how that was found.
CREATE TABLE meter_lag (
	place       TEXT    NOT NULL,
	meter       TEXT    NOT NULL,
	since       INTEGER NOT NULL,
	lag         INTEGER NOT NULL,
	correlation REAL    NOT NULL,
	samples     INTEGER NOT NULL,
	at          INTEGER NOT NULL,
	PRIMARY KEY (place, meter, since)
) WITHOUT ROWID;
