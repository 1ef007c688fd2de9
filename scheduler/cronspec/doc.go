// Package cronspec turns schedule texts into Next(t): crontab(5) with the
// extensions of Jenkins and Quartz, uWSGI's integers, and descriptors. It is
// pure: no clock, no files but the zone tables, the same answer on every node
// that has the same tables.
//
// # What a schedule is
//
// A text is compiled once into bit sets over clock times (calendar.go), which
// know nothing of zones. zone.go maps clock times to instants:
//
//	text --parse--> calendar --next label--> label --zone and dst--> instant
//
// A label is what a wall clock shows. When clocks go forward some labels are
// jumped over (a gap), when they go back some are shown twice (a fold). Two
// kinds of schedules treat them differently, as in cronie:
//
//   - fixed: neither the minute nor the hour field begins with "*". Every label
//     counts once: when the clock first shows it or jumps over it. What a gap
//     swallows fires at the first instant after it, several slots as one; the
//     second pass through a fold is silent.
//   - wildcard: every real instant whose label matches. Nothing stands in for a
//     label that was jumped over, and a label shown twice fires twice.
//
// With dst = "skip" a fixed schedule loses what falls into a gap; with "utc"
// the fields are read in UTC and there is neither. Any change of a zone's
// offset counts, whether its table calls it daylight saving or not, and of any
// size, a whole day included. cronie's rule that a change of more than three
// hours is a correction is not followed: zone tables have no corrections.
//
// # Why not robfig's parser
//
// A Schedule is robfig's cron.Schedule, so either works where the other is
// expected. His parser is not used: its errors carry no position for a caret,
// it refuses 7 for Sunday, takes "*/2" for a restricted day field, takes "?"
// and "5/15", panics on "TZ=", and its SpecSchedule fires twice in folds, loses
// days without a midnight and gives up after five years. Nothing would remain
// of it but the splitting of lists.
//
// # Limits and failures
//
// Texts are at most 1024 bytes, lists 100 texts, slots whole seconds up to the
// year 9999. Whatever does not parse is an *Error with the place of the fault.
// A text that can never fire is refused. Next never loops: it gives up on
// slots more than a hundred years away, where no accepted text has any.
//
// # Not promised
//
// Zone tables are the system's, and the embedded ones where it has none; nodes
// with different tables disagree about slots near the changed rules. H and
// Jitter keep their values for good, for the same job name; a rename moves them.
package cronspec
