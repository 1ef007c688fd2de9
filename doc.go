// Package root holds nothing but the tests of the house rules: which package
// may import which, and which packages may not touch the clock, the network
// or the operating system. The program is in cmd/legion-cron.
package root
