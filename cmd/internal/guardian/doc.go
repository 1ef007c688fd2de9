// Package guardian is a tiny process beside each agent that does what the agent
// can no longer do: it ends the incarnation of an agent that was killed, so that
// others take over in milliseconds instead of a lease, and it stops what must
// not run on past the end of a lordship when the agent is frozen.
//
// # Authority
//
// None of its own. It holds the read end of a pipe whose only write end is the
// agent's. The end of that file is the kernel's word that no thread of the agent
// exists any more, and that no child is left between fork and exec, as such a
// child has the write end, too. Only then does it send what the agent has
// sealed in its lifetime: the death certificate of this very incarnation. A
// restarted agent is another incarnation, and nothing of this one's guardian
// concerns it.
//
// # States
//
//	            dismissed
//	watching --------------------------------------------> gone
//	 |    ^                                                 ^
//	 |    | a lordship has run out, and the agent           |
//	 |    '-- has not let go: kill its on_unlord="kill" runs|
//	 |        and call its unlord hooks                     |
//	 |                                                      |
//	 | end of file                                          |
//	 v                                                      |
//	1 kill the on_unlord="kill" runs and what hooks still run
//	2 call the unlord hooks of all reigns, side by side     |
//	3 send the certificate until a quorum has it            |
//	4 call the death hooks, kill all runs that are left ----'
//
// # What it is told
//
// Over the pipe, in frames of CBOR: who it guards (once); the certificate, one
// sealed datagram for each voter, anew whenever the electorate, an address or
// the keys change; each on_unlord="kill" run before it is forked, and when it
// has ended; the unlord hooks of a reign before its first lord hook begins, and
// when they have ended; until when the lordships of such runs and reigns last,
// at each beat; the death hooks; and that it is dismissed, by an agent that stops
// in an orderly way.
//
// # Hooks
//
// An agent that lives starts its unlord hooks at trustedUntil itself, and says
// so; the guardian gives it headStart for that before it calls them. One that
// thaws later calls them again: unlord hooks must be harmless when there is
// nothing left to undo. The certificate waits for the unlord hooks, each of which
// has hooks.Timeout, so that an address is gone before a successor takes it; it
// does not wait for the death hooks.
//
// # Clocks
//
// A lordship has run out by the first of CLOCK_BOOTTIME and CLOCK_MONOTONIC_RAW
// to say so, as for the agent itself. The timer runs on CLOCK_BOOTTIME, so it
// has rung when a suspended machine is awake again.
//
// # Failures
//
//   - The guardian is killed: the agent starts another one a second later. If
//     both are killed the lease decides, as when the host dies.
//   - The guardian hangs: a write to it that takes longer than writeTimeout has
//     it killed and replaced. The pipe is closed only when it is dead, as it
//     would take the end of file for the agent's death.
//   - The voters do not answer: it gives up after deliverTimeout; the lease is
//     over by then, and the runs of the incarnation are killed all the same.
//   - A run cannot be killed (it hangs in the kernel): the certificate waits
//     for it for killTimeout, by when the lease is over, too.
//   - A restarted agent looks for the same left-over runs at the same time:
//     both kill what they find, and both are content when nothing is left.
//
// # In the process table
//
// It is the agent's own binary (the one that runs, whatever an upgrade has put
// in its place), as "legion-cron guardian", in a session of its own: Ctrl-C in
// the agent's terminal does not reach it. It stays in the agent's cgroup and
// ignores TERM, INT and HUP, so that neither `systemctl kill` nor the TERM that
// systemd sends to what is left of a crashed unit (KillMode=control-group) keeps
// it from its work; it ends by itself within seconds of its agent. KILL ends it.
// With KillMode=mixed systemd kills the rest of a crashed unit at once, the
// guardian too: then a crash of the agent costs a lease. KillMode=process suits
// best, as the agent and the guardian see to the runs themselves.
//
// It opens no ledger and joins no gossip, and inherits none of the agent's files
// but standard error: no lock, no socket. Resident it takes 12.5 MiB, of which
// 2 MiB are its own and the rest pages of the binary that it shares with the
// agent. It asks for an OOM score that has the kernel kill any run, and the
// agent, before it.
//
// # Not promised
//
// Anything once the host dies, or once agent and guardian are killed together
// (a cgroup's memory.oom.group, systemctl kill --signal=KILL). A run without a
// cgroup that has cleaned its environment is not found.
package guardian
