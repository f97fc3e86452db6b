// Package rules runs the published rules of FOCUS over files as they were written:
// those of the validator's model of 1.2, and the columns of 1.4. The data are in
// testdata, made by ./generate of the published models; see testdata/README.md for
// whose they are.
//
// It is for tests: the product does not import it.
package rules
