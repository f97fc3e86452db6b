-- What a cluster's follower was last told, and the number of that: a follower
-- takes no seed with a lower one than it has.
CREATE TABLE seed (
	cluster    TEXT    PRIMARY KEY,
	version    TEXT    NOT NULL,
	generation INTEGER NOT NULL
) WITHOUT ROWID;

-- A cluster's own nodes, without a look at anybody else's.
CREATE INDEX object_cluster ON object (spec ->> '$.cluster') WHERE kind = 'Node' AND superseded_at IS NULL;
