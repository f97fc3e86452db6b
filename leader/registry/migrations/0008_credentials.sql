-- What the leader needs to reach a cluster, sealed: the registry cannot read it.
-- key_id names the key that sealed it, revision rises with each change.
CREATE TABLE credential (
  cluster    TEXT PRIMARY KEY,
  key_id     TEXT    NOT NULL,
  sealed     BLOB    NOT NULL,
  revision   INTEGER NOT NULL,
  changed_ns INTEGER NOT NULL
) WITHOUT ROWID;

-- Who this leader is, to others that find what it left in a cluster.
CREATE TABLE identity (
  id     INTEGER PRIMARY KEY CHECK (id = 1),
  leader TEXT NOT NULL
);
