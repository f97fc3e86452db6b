// Package usage is how usage is asked for and told: the keys, filters, windows
// and steps of a question, the exact numbers and the rows of an answer. The
// leader's API, the API of a follower and the command line share it, so that
// one question has one form on both ends and one answer the same units.
//
// It reads no store: leader/query and follower/answers do.
package usage
