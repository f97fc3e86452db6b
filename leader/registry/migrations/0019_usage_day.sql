-- A cluster's UTC days of which there is usage by quarter. usage, nodes and volumes
-- are its sums, packed, once the day has settled; NULL while they must be computed
-- (again). They go in the transaction that notes that a quarter of the day has
-- changed. seq grows with each such change, so that sums of what was before it are
-- not kept. Days from before there were sums wait to be computed.
CREATE TABLE usage_day (
	cluster TEXT    NOT NULL,
	day     INTEGER NOT NULL,
	seq     INTEGER NOT NULL,
	usage   BLOB,
	nodes   BLOB,
	volumes BLOB,
	PRIMARY KEY (cluster, day)
);
CREATE INDEX usage_day_open ON usage_day (cluster, day) WHERE usage IS NULL;
INSERT INTO usage_day (cluster, day, seq)
	SELECT DISTINCT scope, quarter - quarter % 86400000000000, 1 FROM fingerprint WHERE processor = 'usage';
