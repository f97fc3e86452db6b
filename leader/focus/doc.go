// Package focus writes cost and usage as FOCUS, the FinOps Open Cost and Usage
// Specification, in the versions 1.4 and 1.2: CSV, gzip CSV or Parquet, with
// metadata and a manifest of SHA-256 sums; and as OpenCost's CSV.
//
//	Source ──rows──► Check ──► CSV · gzip · Parquet ──► files ──► Sink (directory, bucket, tar)
//
// Guarantees: a row that breaks a rule of the specification is not written, the
// error names the row, the column and the rule. The same rows give the same bytes,
// whenever they are written. The manifest is put last, so that who reads the
// files by it never sees half of an export.
//
// It does not rate: what a row costs is its Source's to say, and is multiplied
// out here with nothing rounded. docs/focus.md has each column and what fills it.
package focus
