// Package model holds Promela models of the protocol in package legion, and a
// test that has Spin search each of them: with every rule in force nothing bad
// may be reachable, and with any one rule taken away something must be.
// README.md says which rule, and where the code holds it.
//
// The models are of the rules, not of the code: nothing ties the two together
// but the names in README.md, which the test looks up. What the code itself
// does under faults is for the simulator to find out.
package model
