// Package logging takes what the program and its jobs have to say to where
// people look: to journald natively, to a terminal, or to JSON lines.
//
// # One set of names
//
// The constructors in fields.go are the only place where a field is named. A
// field is called the same everywhere, in the manner of the place:
//
//	constructor   console and JSON   journald
//	Legion        legion             LEGION
//	Job, Slot...  job, slot...       LEGION_JOB, LEGION_SLOT...
//	zap.Error     error              LEGION_ERROR
//
// In journald every line has LEGION_NODE, and SYSLOG_IDENTIFIER: legion-cron
// for the daemon, the job's name for what the job has written. So these work:
//
//	journalctl LEGION_JOB=backup LEGION_OUTCOME=failed
//	journalctl -t backup -f
//
// MESSAGE and console lines are for reading, and leave out what the sentence
// says already: the event, the outcome, the run's id unless something went
// wrong, and job and legion where the slot names them. At level debug they
// leave out nothing. The fields themselves are always complete.
//
// # Nobody waits for a log
//
// A journald that is stalled stalls who writes to it. So a line is rendered
// where it is logged and put in a queue, bounded in lines and bytes, that one
// goroutine empties. When the queue is full, lines are dropped and counted, and
// the first line that gets through afterwards says how many. What jobs write
// may fill half of the queue only: a job that floods its output cannot push out
// the daemon's own words. While journald is away (a restart) the queue holds.
//
// # Not promised
//
// Lines in the queue are lost when the process is killed. The output of a run
// is kept in its file whatever happens here.
package logging
