// Command legion-cron runs cron jobs on a cluster: each job on the one node
// that is lord of its legion. `legion-cron agent` is the daemon; every other
// verb asks an agent over its control socket, or needs none.
//
// The package is main and one file per verb. A verb parses its flags, asks,
// and prints; what it asks is cmd/internal/control's or cmd/internal/daemon's
// to answer.
//
// Exit codes: 0 done; 1 refused or failed, the reason on stderr with a line
// "hint: ..." where there is one; 2 usage. `lord` has its own: 0 on the lord,
// 1 elsewhere, 2 unknown.
package main
