// Package probe looks at what health checks are about, and runs the engine of
// package checks on the clock of the machine.
//
// # Probes
//
// A [Probe] is one look: nil, or an error whose text is one line for people.
// It gets a context that ends at the check's timeout, keeps nothing between two
// looks, and may be called by several goroutines. Everything that it reads or
// waits for is bounded: connections are closed after one question, bodies and
// outputs are read up to a limit, commands die as a tree at their timeout.
//
//	Ping       an answer to one of three echo requests
//	Process    a living process of a name (Named), of a command line (Matching), or of a pid file
//	TCP        a connection
//	HTTP       a status, and a text in the body
//	Exec       exit status 0
//	Unit       active, as systemctl says
//	File       there, and changed lately
//	Disk       space that a user without privileges may still use
//	Load       the one-minute average, per CPU
//	Memory     what new programs could get without swapping
//
// # The watch
//
//	          Configure            Step               a goroutine each
//	config ------------> Watch <--------> checks.Engine ....> probes
//	                       |  changes                           |
//	 legion, log  <--------+ <----------------------------------+
//
// One goroutine ([Watch.Run]) steps the engine and tells of changes; each probe
// is a goroutine of its own, so that a slow one delays no other. None of this
// shares a lock with the protocol: whatever probes do, beats are not late.
//
// # Failures
//
// File system calls on a dead network file system cannot be interrupted. Such a
// probe is given up a second after its timeout: its goroutine stays until the
// kernel lets go, it is counted, there is at most one for each check and
// checks.MaxStuck in all, and Run does not wait for it.
//
// # Not promised
//
// Processes are looked up by what /proc shows: in containers that share the
// host's view, those of others count too. A pid file may name a process that
// got the number of a dead one. Load and memory are the host's, not a cgroup's.
package probe
