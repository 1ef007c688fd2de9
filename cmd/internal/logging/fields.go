package logging

import (
	"strconv"
	"time"

	"go.uber.org/zap"
)

// The keys of our fields. Where they go decides how they are written there.
const (
	keyLegion  = "legion"
	keyEvent   = "event"
	keyTerm    = "term"
	keyJob     = "job"
	keySlot    = "slot"
	keyRun     = "run"
	keyAttempt = "attempt"
	keyStream  = "stream"
	keyOutcome = "outcome"
	keyExit    = "exit"
	keyNode    = "node"
	keyTook    = "took"
	keyDropped = "dropped"
	keyBoot    = "boot"
)

// Legion is the legion that the line is about. Empty: the line has no such field.
func Legion(name string) zap.Field { return text(keyLegion, name) }

// Event names what happened, for machines: "lord", "unlord", "run-ended". The
// message says it for people. Events are part of the interface: they do not change.
func Event(name string) zap.Field { return text(keyEvent, name) }

// Term is the number of the reign. 0: the line has no such field.
func Term(term uint64) zap.Field {
	if term == 0 {
		return zap.Skip()
	}
	return zap.Uint64(keyTerm, term)
}

// Job is the job's name. Empty: the line has no such field.
func Job(name string) zap.Field { return text(keyJob, name) }

// Slot is the slot's name, legion/job@time. Empty: the line has no such field.
func Slot(name string) zap.Field { return text(keySlot, name) }

// Run is the run's id. Empty: the line has no such field.
func Run(id string) zap.Field { return text(keyRun, id) }

// Attempt counts from 1. 0: the line has no such field.
func Attempt(n int) zap.Field {
	if n == 0 {
		return zap.Skip()
	}
	return zap.Int(keyAttempt, n)
}

// Stream is "stdout" or "stderr".
func Stream(name string) zap.Field { return text(keyStream, name) }

// Outcome is how a run ended or why a slot has none: "failed", "timed out".
func Outcome(outcome string) zap.Field { return text(keyOutcome, outcome) }

// Exit is the exit code of a run.
func Exit(code int) zap.Field { return zap.Int(keyExit, code) }

// Node is the node that the line is about. Every line has its own node's name
// already; this is for another's.
func Node(name string) zap.Field { return text(keyNode, name) }

// Boot is a moment by CLOCK_BOOTTIME, which all processes of a machine share and
// nobody sets: in seconds since the machine's start. A reign is from the boot
// of its "lord" line to that of its "unlord" line, however late they are written.
func Boot(at time.Duration) zap.Field {
	return zap.String(keyBoot, strconv.FormatFloat(at.Seconds(), 'f', 6, 64))
}

// Took is how long it took.
func Took(d time.Duration) zap.Field { return zap.Duration(keyTook, d) }

func text(key, value string) zap.Field {
	if value == "" {
		return zap.Skip()
	}
	return zap.String(key, value)
}
