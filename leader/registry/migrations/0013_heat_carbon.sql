-- Readings of heat sources as they were pushed: they live three days. Values are
-- in 1e-6 of the sensor's unit; NULL where it said nothing.
CREATE TABLE heat_reading (
	source    TEXT    NOT NULL,
	at        INTEGER NOT NULL,
	supply    INTEGER,
	back      INTEGER,
	store     INTEGER,
	flow      INTEGER,
	PRIMARY KEY (source, at)
) WITHOUT ROWID;
CREATE INDEX heat_reading_at ON heat_reading (at);

-- Useful heat of a source in a quarter. Those of a household live until their day
-- is final, and have no minutes.
CREATE TABLE heat_quarter (
	source      TEXT    NOT NULL,
	quarter     INTEGER NOT NULL,
	day         INTEGER NOT NULL,
	box         TEXT    NOT NULL,
	household   TEXT    NOT NULL,
	useful_mj   INTEGER NOT NULL,
	avoided_ug  INTEGER NOT NULL,
	minutes     TEXT, -- JSON
	covered_ms  INTEGER NOT NULL,
	full_ms     INTEGER NOT NULL,
	faulty_ms   INTEGER NOT NULL,
	reversed_ms INTEGER NOT NULL,
	gap_ms      INTEGER NOT NULL,
	implausible INTEGER NOT NULL,
	estimated   INTEGER NOT NULL,
	reference   TEXT    NOT NULL,
	PRIMARY KEY (source, quarter)
) WITHOUT ROWID;
CREATE INDEX heat_quarter_day ON heat_quarter (source, day);
CREATE INDEX heat_quarter_household ON heat_quarter (day) WHERE household <> '';
CREATE INDEX heat_quarter_box ON heat_quarter (box, quarter);

-- The sums of a UTC day. Kept.
CREATE TABLE heat_day (
	source      TEXT    NOT NULL,
	household   TEXT    NOT NULL,
	day         INTEGER NOT NULL,
	box         TEXT    NOT NULL,
	useful_mj   INTEGER NOT NULL,
	avoided_ug  INTEGER NOT NULL,
	covered_ms  INTEGER NOT NULL,
	full_ms     INTEGER NOT NULL,
	faulty_ms   INTEGER NOT NULL,
	reversed_ms INTEGER NOT NULL,
	gap_ms      INTEGER NOT NULL,
	implausible INTEGER NOT NULL, -- quarters
	estimated   INTEGER NOT NULL, -- quarters
	reference   TEXT    NOT NULL,
	PRIMARY KEY (source, household, box, day)
) WITHOUT ROWID;
CREATE INDEX heat_day_day ON heat_day (day);

-- CO2e of a kWh in a zone from at to until, by who said so.
CREATE TABLE grid_intensity (
	source    TEXT    NOT NULL, -- as a Grid names it: electricitymaps or imported
	zone      TEXT    NOT NULL,
	at        INTEGER NOT NULL,
	until     INTEGER NOT NULL CHECK (at < until),
	milligram INTEGER NOT NULL,
	estimated INTEGER NOT NULL,
	origin    TEXT    NOT NULL, -- for people
	recorded  INTEGER NOT NULL,
	PRIMARY KEY (source, zone, at)
) WITHOUT ROWID;
