// Package archive keeps each settled UTC day of a cluster as Parquet files: its
// minute rows, the facts that came or held in it, the energy and the meter readings
// of its boxes, and the registry's objects that held. A signed manifest names the
// files with their hashes, and the manifest before it, so that a cluster's manifests
// are a chain.
//
//	DIR/CLUSTER/2026/11/27/TABLE-REVISION.parquet
//	                       manifest-REVISION.json, manifest.json (the newest)
//
// It guarantees that a day is archived only when the ledger of it is folded and
// nothing of it is due, that rows which are not those that the journal names are not
// archived, that the same rows give the same files, and that a manifest is there only
// when its files are (temporary file, sync, rename). A day that is revised is archived
// again beside its older revisions, which stay. Memory is bounded by an hour's series
// and one row group, not by the day.
//
// Retention deletes minute rows from the centre's store only while they are, at their
// current revision, in an archive whose signature and hashes it has just verified. Work
// on a deleted day brings its rows back before it (Restore), and questions are answered
// from the files (Minutes). It computes no usage.
package archive
