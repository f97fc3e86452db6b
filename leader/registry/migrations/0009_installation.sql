-- The follower's installation in each cluster: what is wanted and how far it is,
-- as JSON (registry.Installation).
CREATE TABLE installation (
  cluster TEXT PRIMARY KEY,
  body    TEXT NOT NULL
) WITHOUT ROWID;

-- Upgrades of many clusters in waves, with the plan and how far it is
-- (registry.Upgrade).
CREATE TABLE upgrade (
  id   INTEGER PRIMARY KEY AUTOINCREMENT,
  body TEXT NOT NULL
);
