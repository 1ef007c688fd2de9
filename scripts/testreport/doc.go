// Command testreport reads `go test -json` on standard input and prints what
// a person wants to see of it: the line of each package, everything a failed
// test said, the names of skipped tests, and one closing line.
//
// It exits 1 if a test failed, if a package did not build, if nothing ran, or,
// with -noskip, if a test was skipped: a level of tests that quietly does not
// run is as bad as one that fails.
package main
