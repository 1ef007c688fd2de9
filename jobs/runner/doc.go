// Package runner runs one command and stops it, whatever the command does.
//
// # One run, one tree
//
// A run is a tree of processes. The direct child leads a session and process
// group of its own; where the host lets us make cgroups (v2) it is also born
// into a cgroup of its own (clone3 CLONE_INTO_CGROUP), so that not even the
// child of a fork storm can be outside of it. Without cgroups the tree is: the
// session, the process group, every process whose environment carries the
// run's LEGION_RUN, and the descendants of all these. A process that cleans
// its environment, starts a session of its own and loses its parent escapes
// that second net; it cannot escape a cgroup.
//
//	            exits                      +------------------------+
//	running ------------------------------>| ended: leave or reap   |
//	   |                                   |   what it left behind  |
//	   | timeout, Stop        tree empty   +------------------------+
//	   v                     +------------------------------^   ^
//	stopping (stop signal to +                                  |
//	   |      the whole tree)                                   |
//	   | grace is over, Kill         dead, or KillBound over    |
//	   v                                                        |
//	killing (KILL to the whole tree) ---------------------------+
//
// # When a run ends
//
// A run ends when its direct child exits, as in cron. What the child leaves
// running in the background decides about the rest:
//
//   - After a timeout, Stop or Kill nothing of the tree is left alive. The tree
//     has the whole grace to clean up, even if the shell at its top is gone at once.
//   - After an exit of its own accord, background processes live on: jobs that
//     restart a daemon the old way are common, and to kill that daemon with the
//     job that started it would break what worked in crontab for years. They
//     are moved to a cgroup of their own ("released"), and nobody looks for them
//     again. Their output goes nowhere: the pipes are closed Linger after the exit.
//   - Where two copies of the work must never live at once, a job says so with
//     exclusive or on_unlord = "kill" ([Spec.Reap]); then what is left is killed
//     as soon as the direct child has exited.
//
// Output is passed on line by line while it is written; a line is cut at
// [MaxLine]. After the exit, whatever still holds a pipe gets [Linger] (less
// after a kill), then the pipe is closed. So a run ends within its grace and
// one second after it was told to, whatever a grandchild does.
//
// # Killing the right process
//
// A pid may be given to another process at any time. The direct child is not
// reaped before its tree is dead, so its pid, group and session cannot be
// reused meanwhile. Other processes are signalled through a pidfd that was
// opened first and found to belong to the run afterwards; a cgroup is killed
// by the kernel (cgroup.kill).
//
// # After a crash
//
// Runs outlive an agent that is killed. [Host.Find] and [Host.Sweep] find them by
// cgroup and by environment; the caller knows from its ledger which runs were
// never finished and says which are to die.
//
// An agent that is PID 1 of a container inherits the orphans of its runs;
// [Host.ReapOrphans] buries them and leaves alone what others wait for.
//
// # Failures
//
// [Host.Start] either starts the command or returns an error that says in one
// line why not (no such user, directory or command); then nothing was started.
// A process in uninterruptible sleep cannot be killed by anyone: the run ends
// all the same, and its reason says so.
//
// # Not promised
//
// Effects of a killed command are not undone. A command with the rights to do
// so may leave its cgroup (pam_systemd moves a login session); its process
// group is killed all the same. Time spent in suspend does not count towards
// a timeout. Jobs run as users who are known to /etc/passwd or to getent(1).
package runner
