-- Dynamic prices by series, in quarters of an hour, as they were pushed or read. What
-- was replaced stays, with when.
CREATE TABLE price_slot (
	series   TEXT    NOT NULL,
	quarter  INTEGER NOT NULL,
	value    TEXT    NOT NULL, -- a decimal, of the lists' currency per their unit; may be below 0
	origin   TEXT    NOT NULL, -- who said so
	recorded INTEGER NOT NULL,
	replaced INTEGER,          -- NULL holds
	PRIMARY KEY (series, quarter, recorded)
) WITHOUT ROWID;
CREATE UNIQUE INDEX price_slot_now ON price_slot (series, quarter) WHERE replaced IS NULL;

-- Why a change was made, in the words of who made it.
ALTER TABLE audit ADD COLUMN reason TEXT NOT NULL DEFAULT '';
