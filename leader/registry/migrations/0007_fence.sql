-- The number that this leader's writes to followers carry: higher at each start
-- than any before, so that a follower can refuse a leader that was replaced.
CREATE TABLE fence (
  id     INTEGER PRIMARY KEY CHECK (id = 1),
  number INTEGER NOT NULL
);
