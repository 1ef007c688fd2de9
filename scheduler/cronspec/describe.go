package cronspec

import (
	"fmt"
	"math/bits"
	"strings"
	"time"
)

// Describe reads the compiled sets, not the text, so it tells what will happen
// and not what was meant.
func (c *wallClock) Describe() string {
	cal := &c.calendar
	text := cal.describeClock()
	if days := cal.describeDays(); days != "" {
		text += " " + days
	}
	if cal.month != allMonths {
		text += " in " + list(uint64(cal.month), monthName, "and")
	}
	return text + " (" + c.zone.location.String() + ")"
}

const (
	maxListedTimes = 6 // clock times written out as hh:mm
	maxListed      = 5 // members of an even row before it is cut short
)

// describeClock says at which times of a day.
func (c *calendar) describeClock() string {
	seconds, minutes, hours := bits.OnesCount64(c.second), bits.OnesCount64(c.minute), bits.OnesCount32(c.hour)
	if seconds*minutes*hours <= maxListedTimes && hours < 24 {
		var times []string
		for t, ok := c.clock(0); ok; {
			times = append(times, c.clockText(t))
			if t == daySeconds-1 {
				break
			}
			t, ok = c.clock(t + 1)
		}
		text := "at " + join(times, "and")
		if c.dom == allDays && c.dow == allWeek && c.month == allMonths {
			text += " every day"
		}
		return text
	}

	var parts []string
	if c.second != 1 {
		parts = append(parts, progression(c.second, 60, "second"))
	}
	if at := len(parts) > 0 && strings.HasPrefix(parts[0], "at "); minutes < 60 || len(parts) == 0 || at {
		parts = append(parts, progression(c.minute, 60, "minute"))
	}
	if at := strings.HasPrefix(parts[len(parts)-1], "at "); hours < 24 || at {
		parts = append(parts, progression(uint64(c.hour), 24, "hour"))
	}
	return strings.Join(parts, " of ")
}

func (c *calendar) clockText(t int64) string {
	layout := "15:04"
	if c.second != 1 {
		layout = "15:04:05"
	}
	return time.Unix(t, 0).UTC().Format(layout)
}

func (c *calendar) describeDays() string {
	var dom, dow []string
	if c.dom != 0 && c.dom != allDays {
		dom = append(dom, plural("day", bits.OnesCount32(c.dom))+" "+list(uint64(c.dom), nil, "and"))
	}
	for _, back := range members(uint64(c.fromEnd)) {
		if back == 0 {
			dom = append(dom, "the last day")
		} else {
			dom = append(dom, fmt.Sprintf("the %s day before the last", ordinal(back)))
		}
	}
	for _, d := range members(uint64(c.near)) {
		if d == 0 {
			dom = append(dom, "the last weekday")
		} else {
			dom = append(dom, fmt.Sprintf("the weekday nearest to day %d", d))
		}
	}
	if c.dow != 0 && c.dow != allWeek {
		dow = append(dow, list(uint64(c.dow), weekdayName, "and"))
	}
	for k, set := range c.nth {
		if set != 0 {
			dow = append(dow, "the "+ordinal(k+1)+" "+list(uint64(set), weekdayName, "and")+" of the month")
		}
	}
	if c.lastDow != 0 {
		dow = append(dow, "the last "+list(uint64(c.lastDow), weekdayName, "and")+" of the month")
	}
	days, weekdays := join(dom, "and"), join(dow, "and")
	anyDay, anyWeekday := c.dom == allDays, c.dow == allWeek
	if days != "" {
		days += " of the month"
	}
	switch {
	case c.and && anyDay && anyWeekday, !c.and && (anyDay || anyWeekday):
		return ""
	case anyDay:
		return "on " + weekdays
	case anyWeekday:
		return "on " + days
	case c.and:
		return "on " + days + ", if that is also " + weekdays
	}
	return "on " + days + " and on " + weekdays
}

// progression says a set of a clock's units, as a step if it is one.
func progression(set uint64, size int, unit string) string {
	all := members(set)
	if len(all) == size {
		return "every " + unit
	}
	if len(all) > 2 && all[1]-all[0] > 1 {
		step := all[1] - all[0]
		if span(all[0], size-1, step) == set {
			text := fmt.Sprintf("every %d %ss", step, unit)
			if unit == "hour" {
				text = "every " + ordinal(step) + " hour"
			}
			if all[0] != 0 || size%step != 0 {
				text += fmt.Sprintf(" from %d", all[0])
			}
			return text
		}
	}
	if unit != "hour" {
		return fmt.Sprintf("at %s %s", plural(unit, len(all)), list(set, nil, "and"))
	}
	return fmt.Sprintf("%s %s", plural(unit, len(all)), list(set, nil, "and"))
}

// list says a set as "1, 3 and 5 to 9".
func list(set uint64, name func(int) string, conjunction string) string {
	if name == nil {
		name = func(n int) string { return fmt.Sprint(n) }
	}
	all := members(set)
	if n := len(all); n > maxListed && span(all[0], all[n-1], all[1]-all[0]) == set && all[1] > all[0]+1 {
		return fmt.Sprintf("%s, %s, %s ... %s", name(all[0]), name(all[1]), name(all[2]), name(all[n-1]))
	}
	var parts []string
	for i := 0; i < len(all); {
		end := i
		for end+1 < len(all) && all[end+1] == all[end]+1 {
			end++
		}
		if end-i < 2 {
			end = i
			parts = append(parts, name(all[i]))
		} else {
			parts = append(parts, name(all[i])+" to "+name(all[end]))
		}
		i = end + 1
	}
	return join(parts, conjunction)
}

func join(parts []string, conjunction string) string {
	if len(parts) < 2 {
		return strings.Join(parts, "")
	}
	last := len(parts) - 1
	return strings.Join(parts[:last], ", ") + " " + conjunction + " " + parts[last]
}

func plural(word string, n int) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprint(n) + suffix
}

func monthName(n int) string   { return time.Month(n).String() }
func weekdayName(n int) string { return time.Weekday(n).String() }
