package legion

import "fmt"

// maxInstances bounds the instances whose starts are remembered.
const maxInstances = 4096

// A Started is what is known of an instance: the highest count of its starts,
// and which incarnation that was. It counts on now and then while it lives, or a
// backup of the life that was its last, put back, would look like a restart. That
// of a voter is remembered on disk: a backup may be put back when every other node
// was restarted meanwhile.
type Started struct {
	Instance    ID     `cbor:"1,keyasint"`
	Starts      uint64 `cbor:"2,keyasint"`
	Incarnation ID     `cbor:"3,keyasint"`
}

// startsOfVoters is what is known of the electorate's other voters.
func (c *Core) startsOfVoters() (known []Started) {
	for _, v := range c.electorate.Voters {
		if s, ok := c.starts[v.Instance]; ok {
			known = append(known, s)
		}
	}
	return known
}

// genuine reports whether an announcement is of the newest life of its
// instance. A state directory counts its starts; one that has counted fewer
// than was heard of before, or as many in another life, is a copy, or was
// restored: what it promised since then it has forgotten, so that its
// incarnation is as good as dead. It is told, and must become another instance.
func (c *Core) genuine(s *NodeState) bool {
	if s.Starts == 0 {
		return true
	}
	seen, ok := c.starts[s.Instance]
	if s.Instance == c.cfg.Instance {
		seen, ok = Started{s.Instance, c.cfg.Starts, c.cfg.Incarnation}, true
	}
	switch {
	case s.Incarnation == seen.Incarnation && s.Starts <= seen.Starts: // perhaps overtaken by a later one
	case s.Starts <= seen.Starts:
		if !c.dead[s.Incarnation] {
			c.bury(s.Incarnation)
			c.look = true
			c.note(Note{Event: "copy", Warn: true, Text: fmt.Sprintf(
				"the state directory of %s is a copy, or older than it was: it counts %d starts, and %d were seen", s.Name, s.Starts, seen.Starts)})
		}
		c.send(s.Name, Disown{s.Incarnation, seen.Starts}, sendOpts{to: s.Incarnation})
		return false
	case !ok && len(c.starts) >= maxInstances, s.Instance == c.cfg.Instance:
	case s.Starts > seen.Starts:
		c.starts[s.Instance] = Started{s.Instance, s.Starts, s.Incarnation}
		if c.electorate.names(s.Name, s.Instance) {
			c.write(Persist{Starts: c.startsOfVoters()})
		}
	}
	return true
}

// onDisown ends this incarnation: it stands for nothing it knows of.
func (c *Core) onDisown(h Header, b Disown) {
	if b.Incarnation != c.cfg.Incarnation || c.disowned {
		return
	}
	c.disowned = true
	c.diskTrouble("this state directory is a copy, or older than it was")
	c.do(Disowned{By: h.From, Starts: b.Starts})
}
