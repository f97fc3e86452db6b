-- What was measured of a hardware type's power by load, and on which node.
CREATE TABLE calibration (
	id          INTEGER PRIMARY KEY,
	hardware    TEXT    NOT NULL,
	cluster     TEXT    NOT NULL,
	node        TEXT    NOT NULL,
	at          INTEGER NOT NULL, -- when it was measured
	points      TEXT    NOT NULL, -- JSON
	firmware    TEXT    NOT NULL,
	governor    TEXT    NOT NULL,
	notes       TEXT    NOT NULL,
	recorded_at INTEGER NOT NULL,
	recorded_by TEXT    NOT NULL
);
CREATE INDEX calibration_hardware ON calibration (hardware, at);

-- The model of a hardware type, in a box or ('') in general, from valid_from on
-- until the next that was not replaced. An empty body is none from then on.
CREATE TABLE model (
	hardware      TEXT    NOT NULL,
	box           TEXT    NOT NULL,
	valid_from    INTEGER NOT NULL,
	known         TEXT    NOT NULL, -- digest of what its owner said of the type
	body          TEXT    NOT NULL, -- JSON
	recorded_at   INTEGER NOT NULL,
	superseded_at INTEGER
);
CREATE UNIQUE INDEX model_current ON model (hardware, box, valid_from) WHERE superseded_at IS NULL;

-- What a box drew by its meters while its nodes were loaded as they were: what
-- the models learn from.
CREATE TABLE lesson (
	box        TEXT    NOT NULL,
	at         INTEGER NOT NULL, -- its end
	milliwatts INTEGER NOT NULL,
	loads      TEXT    NOT NULL, -- JSON: by hardware type the nodes' utilisations, 1e-6
	PRIMARY KEY (box, at)
) WITHOUT ROWID;

-- How far a box's meters were learned from, and what came of it last.
CREATE TABLE learning (
	box     TEXT    PRIMARY KEY,
	taken   INTEGER NOT NULL,
	at      INTEGER NOT NULL,
	outcome TEXT    NOT NULL -- JSON
) WITHOUT ROWID;
