package cronspec

import "math/bits"

// A label is what a wall clock shows, as the number of seconds from
// 1970-01-01 00:00:00 on that clock. Labels know nothing of zones: every day
// of theirs has 86,400 seconds. zone.go maps them to instants.
type label = int64

const (
	minuteSeconds = 60
	hourSeconds   = 3600
	daySeconds    = 86400

	// The Gregorian calendar repeats after 400 years, weekdays included: what
	// does not match in that time never matches.
	calendarCycle = 400 // years
)

// A calendar is the set of labels that the fields of a text match, as bit sets.
type calendar struct {
	second, minute uint64
	hour           uint32
	month          uint16   // bits 1 to 12
	dom            uint32   // bits 1 to 31
	fromEnd        uint32   // bit k: the k-th day before the last of the month
	near           uint32   // bit d: the weekday nearest to day d; bit 0: the last weekday
	dow            uint8    // bits 0 to 6, Sunday first
	nth            [5]uint8 // nth[k-1]: the k-th such weekday of the month
	lastDow        uint8    // the last such weekday of the month
	and            bool     // a day must match both day fields; else one of them
}

const (
	allSixty  = 1<<60 - 1
	allHours  = 1<<24 - 1
	allDays   = 1<<32 - 1<<1
	allMonths = 1<<13 - 1<<1
	allWeek   = 1<<7 - 1
)

// next is the first label at or after from that matches.
func (c *calendar) next(from label) (label, bool) {
	day := floorDiv(from, daySeconds)
	if c.dom == allDays && c.dow == allWeek && c.month == allMonths { // every day: no need to know which
		if clock, ok := c.clock(from - day*daySeconds); ok {
			return day*daySeconds + clock, true
		}
		first, _ := c.clock(0)
		return (day+1)*daySeconds + first, true
	}
	year, month, dom := civil(day)
	days := c.days(year, month, day-int64(dom-1))
	if days&(1<<dom) != 0 {
		if clock, ok := c.clock(from - day*daySeconds); ok {
			return day*daySeconds + clock, true
		}
	}
	days &^= 2<<dom - 1
	first, _ := c.clock(0)
	for range calendarCycle*12 + 1 {
		if days != 0 {
			return (day-int64(dom)+int64(bits.TrailingZeros32(days)))*daySeconds + first, true
		}
		if ahead := c.month >> (month + 1); ahead != 0 {
			month += 1 + bits.TrailingZeros16(ahead)
		} else {
			year, month = year+1, bits.TrailingZeros16(c.month)
		}
		day, dom = dayNumber(year, month, 1), 1
		days = c.days(year, month, day)
	}
	return 0, false
}

// clock is the first matching second of the day at or after second from.
func (c *calendar) clock(from int64) (int64, bool) {
	h, m, s := int(from/hourSeconds), int(from/minuteSeconds%60), int(from%60)
	if c.hour&(1<<h) != 0 {
		if c.minute&(1<<m) != 0 {
			if next := c.second >> s << s; next != 0 {
				return from - int64(s) + int64(bits.TrailingZeros64(next)), true
			}
		}
		if next := c.minute >> (m + 1) << (m + 1); next != 0 {
			return int64(h*hourSeconds + bits.TrailingZeros64(next)*minuteSeconds + bits.TrailingZeros64(c.second)), true
		}
	}
	next := c.hour >> (h + 1) << (h + 1)
	if next == 0 {
		return 0, false
	}
	return int64(bits.TrailingZeros32(next)*hourSeconds + bits.TrailingZeros64(c.minute)*minuteSeconds + bits.TrailingZeros64(c.second)), true
}

// days is the set of matching days of a month whose first day has number first.
func (c *calendar) days(year, month int, first int64) uint32 {
	if c.month&(1<<month) == 0 {
		return 0
	}
	length := monthLength(year, month)
	all := uint32(2)<<length - 2
	weekday := int(floorMod(first+4, 7)) // 1970-01-01 was a Thursday
	dom := c.dom
	if c.fromEnd|c.near != 0 {
		dom |= c.endings(length) | c.nearest(length, weekday)
	}
	dow := onDays(c.dow, weekday)
	if c.lastDow != 0 {
		dow |= onDays(c.lastDow, weekday) &^ (2<<(length-7) - 1)
	}
	for k, set := range c.nth {
		if set != 0 {
			dow |= onDays(set, weekday) & (0xfe << (7 * k))
		}
	}
	if c.and {
		return dom & dow & all
	}
	return (dom | dow) & all
}

// endings is the set of days counted from the end of the month.
func (c *calendar) endings(length int) (days uint32) {
	for set := c.fromEnd; set != 0; set &= set - 1 {
		if back := bits.TrailingZeros32(set); back < length {
			days |= 1 << (length - back)
		}
	}
	return days
}

// nearest is the set of weekdays nearest to the wanted days, never outside the month.
func (c *calendar) nearest(length, weekday int) (days uint32) {
	for set := c.near; set != 0; set &= set - 1 {
		d := bits.TrailingZeros32(set)
		last := d == 0
		if last {
			d = length
		}
		if d > length {
			continue
		}
		switch (weekday + d - 1) % 7 {
		case 6: // Saturday
			if d > 1 {
				d--
			} else {
				d = 3
			}
		case 0: // Sunday
			if last || d == length {
				d -= 2
			} else {
				d++
			}
		}
		days |= 1 << d
	}
	return days
}

// onDays spreads a set of weekdays over the days 1 to 31 of a month that
// begins on weekday.
func onDays(set uint8, weekday int) uint32 {
	week := uint64(set)>>weekday | uint64(set)<<(7-weekday)&allWeek
	return uint32(week * (1 | 1<<7 | 1<<14 | 1<<21 | 1<<28) << 1)
}

func monthLength(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// civil is the date of a day number (0 is 1970-01-01), after Howard Hinnant's
// days_from_civil: years begin in March, so that the leap day is the last.
func civil(day int64) (year, month, dom int) {
	day += 719468
	era := floorDiv(day, 146097)
	doe := day - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	dom = int(doy-(153*mp+2)/5) + 1
	year, month = int(era*400+yoe), int(mp)+3
	if month > 12 {
		year, month = year+1, month-12
	}
	return year, month, dom
}

// dayNumber is the inverse of civil.
func dayNumber(year, month, dom int) int64 {
	y, mp := int64(year), int64(month)-3
	if month < 3 {
		y, mp = y-1, mp+12
	}
	era := floorDiv(y, 400)
	yoe := y - era*400
	doy := (153*mp+2)/5 + int64(dom) - 1
	return era*146097 + yoe*365 + yoe/4 - yoe/100 + doy - 719468
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func floorMod(a, b int64) int64 { return a - floorDiv(a, b)*b }
