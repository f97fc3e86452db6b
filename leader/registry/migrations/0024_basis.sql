-- What a correction was computed from, as leader/books packs it: the days as they
-- were then, which later revisions replace.
CREATE TABLE book_basis (
	correction INTEGER PRIMARY KEY REFERENCES book_correction (id),
	body       BLOB    NOT NULL
);
CREATE TRIGGER book_basis_update BEFORE UPDATE ON book_basis
BEGIN SELECT RAISE(ABORT, 'what a correction rests on does not change'); END;
CREATE TRIGGER book_basis_delete BEFORE DELETE ON book_basis
BEGIN SELECT RAISE(ABORT, 'what a correction rests on is not deleted'); END;
