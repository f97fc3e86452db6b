-- Which era of its journal a mark and a window are of: counted up when the
-- source is another store, or has lost what was known of its journal's end. A
-- window that comes in another era is taken, whatever its revision: the source
-- then is what it went back to. unexplained counts the extra rows of a window
-- that no earlier era can have left there.
ALTER TABLE mark ADD COLUMN era INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN era INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN unexplained INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_day ADD COLUMN unexplained INTEGER NOT NULL DEFAULT 0;
